//! Tells Redis what to announce here, in the order in which it was decided.

use fred::clients::Client;
use fred::prelude::*;
use tidings_protocol::Channel;
use tokio::sync::mpsc;
use tracing::debug;

use super::keys::Keys;
use super::receiver::Report;
use crate::broker::Interest;

/// Changes that wait for the connection; the receiver waits beyond.
pub(super) const INTERESTS_MAX: usize = 1_024;

/// Channels in one command.
const CHANNELS_PER_COMMAND: usize = 256;

/// A change, and the state of the link that it was decided for.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) interest: Interest,
    /// How many links there were before. What is confirmed on an earlier one is worth nothing.
    pub(super) link: u64,
}

/// The one task that subscribes and unsubscribes.
pub(super) struct Interests {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) changes: mpsc::Receiver<Change>,
    pub(super) reports: mpsc::Sender<Report>,
}

impl Interests {
    pub(super) async fn run(mut self) {
        let mut changes = Vec::with_capacity(CHANNELS_PER_COMMAND);
        while self.changes.recv_many(&mut changes, CHANNELS_PER_COMMAND).await > 0 {
            let mut rest = changes.drain(..).peekable();
            while let Some(first) = rest.next() {
                let (link, listens) = (first.link, matches!(first.interest, Interest::Listen(_)));
                let mut channels = vec![channel_of(first.interest)];
                let alike = |next: &Change| {
                    next.link == link && matches!(next.interest, Interest::Listen(_)) == listens
                };
                while let Some(next) = rest.next_if(alike) {
                    channels.push(channel_of(next.interest));
                }
                let done =
                    if listens { self.listen(&channels).await } else { self.unlisten(&channels).await };
                let report = match done {
                    Ok(()) => Report::Listening { channels, link },
                    Err(error) => {
                        debug!(%error, channels = channels.len(), "redis was not told what to announce");
                        Report::NotListening { channels, link }
                    }
                };
                // What is announced although nobody needs it any more is passed over.
                if listens && self.reports.send(report).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Returns when Redis has confirmed all.
    async fn listen(&self, channels: &[Channel]) -> FredResult<()> {
        if self.client.is_clustered() {
            for channel in channels {
                self.client.ssubscribe(self.keys.announcements(channel)).await?;
            }
            return Ok(());
        }
        self.client.subscribe(self.names(channels)).await?;
        // The library does not wait for what `SUBSCRIBE` answers; the answer to what follows on this connection proves it.
        self.client.ping(None).await
    }

    async fn unlisten(&self, channels: &[Channel]) -> FredResult<()> {
        if !self.client.is_clustered() {
            return self.client.unsubscribe(self.names(channels)).await;
        }
        for channel in channels {
            self.client.sunsubscribe(self.keys.announcements(channel)).await?;
        }
        Ok(())
    }

    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.keys.announcements(channel)).collect()
    }
}

fn channel_of(interest: Interest) -> Channel {
    match interest {
        Interest::Listen(channel) | Interest::Unlisten(channel) => channel,
    }
}
