//! Tells one server what to announce here, in the order in which it was decided.

use std::sync::{Mutex, MutexGuard};

use fred::clients::Client;
use fred::prelude::*;
use futures::StreamExt;
use tidings_protocol::Channel;
use tokio::sync::{Notify, mpsc};
use tracing::debug;

use super::keys::Keys;
use super::receiver::Report;
use crate::broker::{Interest, Wanted};

/// Changes that wait for the connection; further channels are asked for again a little later.
pub(super) const INTERESTS_MAX: usize = 16_384;

/// Channels in one command; sharded ones have a command each, and so many of them are under way at once.
const CHANNELS_PER_COMMAND: usize = 256;

/// What the node wants to hear of, where the receiver finds it.
#[derive(Default)]
pub(super) struct WantedHere {
    wanted: Mutex<Wanted>,
    changed: Notify,
}

impl WantedHere {
    /// The channel is wanted, or is not any more.
    pub(super) fn set(&self, channel: &Channel, wanted: bool) -> Option<u64> {
        let number = self.locked().set(channel, wanted);
        self.changed.notify_one();
        number
    }

    /// Returns once something may have changed since it returned last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What changed since the last look: the number under which a channel is wanted, `None` where it is not any more.
    pub(super) fn take(&self) -> impl IntoIterator<Item = (Channel, Option<u64>)> + use<> {
        self.locked().take()
    }

    fn locked(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().expect("nothing panics while it holds what is wanted")
    }
}

/// A change, and the state of the link that it was decided for.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) interest: Interest,
    /// How many links there were before. What is confirmed on an earlier one is worth nothing.
    pub(super) link: u64,
}

/// The one task that subscribes and unsubscribes on a server.
pub(super) struct Interests {
    pub(super) client: Client,
    pub(super) keys: Keys,
    /// The number of the server.
    pub(super) shard: u64,
    /// Whether the server announces what it holds alone.
    pub(super) is_sharded: bool,
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
                let shard = self.shard;
                let report = if listens {
                    let (listening, refused) = self.listen(channels).await;
                    Report::Listening { listening, refused, shard, link }
                } else if self.unlisten(&channels).await {
                    Report::Unlistened { channels, shard, link }
                } else {
                    continue;
                };
                if self.reports.send(report).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Returns when the server has confirmed all, or has not: which it announces for certain, and which not.
    async fn listen(&self, channels: Vec<Channel>) -> (Vec<Channel>, Vec<Channel>) {
        if !self.is_sharded {
            return match self.listen_together(&channels).await {
                Ok(()) => (channels, Vec::new()),
                Err(error) => {
                    debug!(%error, channels = channels.len(), "redis was not told what to announce");
                    (Vec::new(), channels)
                }
            };
        }
        // The answer to each names no more than one channel, and they come in the order of the commands.
        let asked = channels.into_iter().map(|channel| async move {
            match self.client.ssubscribe(self.keys.announcements(&channel)).await {
                Ok(()) => Ok(channel),
                Err(error) => {
                    debug!(%error, %channel, "redis was not told what to announce");
                    Err(channel)
                }
            }
        });
        let answers: Vec<_> = futures::stream::iter(asked).buffered(CHANNELS_PER_COMMAND).collect().await;
        let (listening, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let all = |answers: Vec<Result<Channel, Channel>>| {
            answers.into_iter().map(|answer| answer.unwrap_or_else(|channel| channel)).collect()
        };
        (all(listening), all(refused))
    }

    async fn listen_together(&self, channels: &[Channel]) -> FredResult<()> {
        self.client.subscribe(self.names(channels)).await?;
        // The library does not wait for what `SUBSCRIBE` answers; the answer to what follows on this connection proves it.
        self.client.ping(None).await
    }

    /// Whether the server was told. If not, the intake has it told again.
    async fn unlisten(&self, channels: &[Channel]) -> bool {
        let done = if self.is_sharded {
            let names = self.names(channels).into_iter();
            futures::future::try_join_all(names.map(|name| self.client.sunsubscribe(name))).await.map(|_| ())
        } else {
            self.client.unsubscribe(self.names(channels)).await
        };
        done.inspect_err(|error| {
            debug!(%error, channels = channels.len(), "redis goes on announcing what nobody listens to");
        })
        .is_ok()
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
