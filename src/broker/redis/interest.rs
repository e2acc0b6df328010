//! Tells one server what to announce here, in the order in which it was decided.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use fred::clients::Client;
use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand};
use futures::StreamExt;
use tidings_protocol::Channel;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::directory::run;
use super::keys::Keys;
use super::receiver::Report;
use crate::broker::{Interest, Wanted};

/// Changes that wait for the connection; further channels are asked for again a little later.
pub(super) const INTERESTS_MAX: usize = 16_384;

/// Channels in one command; sharded ones have a command each, and so many of them are under way at once.
const CHANNELS_PER_COMMAND: usize = 256;

/// How often the server is asked how much it announces here: one short command for each server.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
    /// What the server confirmed on the present link, where it announces what it holds alone.
    pub(super) listening: HashSet<Channel>,
    /// The present link.
    pub(super) link: u64,
}

/// Nobody is interested any more.
struct ReceiverGone;

impl Interests {
    pub(super) async fn run(mut self) {
        let mut changes = Vec::with_capacity(CHANNELS_PER_COMMAND);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                count = self.changes.recv_many(&mut changes, CHANNELS_PER_COMMAND) => match count {
                    0 => return,
                    _ => self.apply(changes.drain(..).peekable()).await,
                },
                // A server drops nobody's subscriptions but those of slots that leave it.
                _ = looks.tick(), if self.is_sharded => self.look().await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Fails when the receiver is gone.
    async fn apply(&mut self, mut rest: Peekable<impl Iterator<Item = Change>>) -> Result<(), ReceiverGone> {
        while let Some(first) = rest.next() {
            let (link, listens) = (first.link, matches!(first.interest, Interest::Listen(_)));
            let mut channels = vec![channel_of(first.interest)];
            let alike =
                |next: &Change| next.link == link && matches!(next.interest, Interest::Listen(_)) == listens;
            while let Some(next) = rest.next_if(alike) {
                channels.push(channel_of(next.interest));
            }
            if std::mem::replace(&mut self.link, link) != link {
                self.listening.clear();
            }
            if !listens {
                for channel in &channels {
                    self.listening.remove(channel);
                }
                if self.unlisten(&channels).await {
                    self.report(Report::Unlistened { channels, shard: self.shard, link }).await?;
                }
                continue;
            }
            let (listening, refused) = self.listen(channels).await;
            if self.is_sharded {
                self.listening.extend(listening.iter().cloned());
            }
            self.report(Report::Listening { listening, refused, shard: self.shard, link }).await?;
        }
        Ok(())
    }

    async fn report(&self, report: Report) -> Result<(), ReceiverGone> {
        self.reports.send(report).await.map_err(|_| ReceiverGone)
    }

    /// Compares the number of subscriptions that the server counts of this connection with what it was asked for: those of a
    /// slot that left it are taken back with no more than a message, which the library keeps to itself. The slot may be back
    /// before anybody sees it elsewhere.
    async fn look(&self) -> Result<(), ReceiverGone> {
        let counted = match run(&self.client, "CLIENT", vec!["INFO".into()]).await {
            Ok(info) => info.as_str().and_then(|info| subscriptions_in(&info)),
            Err(error) => {
                debug!(%error, "redis does not say how much it announces");
                None
            }
        };
        match counted {
            Some(counted) if counted < self.listening.len() => {
                let listening = self.listen_again(counted).await;
                warn!(
                    shard = self.shard,
                    channels = listening.len(),
                    "redis had stopped announcing channels"
                );
                // Confirmed a second time, they say by themselves that something is lost between the two.
                let (shard, link) = (self.shard, self.link);
                self.report(Report::Listening { listening, refused: Vec::new(), shard, link }).await
            }
            _ => Ok(()),
        }
    }

    /// Asks for everything once more; returns what the server announced no more.
    async fn listen_again(&self, mut counted: usize) -> Vec<Channel> {
        let channels: Vec<Channel> = self.listening.iter().cloned().collect();
        let mut dropped = Vec::new();
        for channels in channels.chunks(CHANNELS_PER_COMMAND) {
            let pipeline = self.client.pipeline();
            for channel in channels {
                let command = CustomCommand::new_static("SSUBSCRIBE", ClusterHash::Random, false);
                let name: Value = self.keys.announcements(channel).into();
                let queued: FredResult<()> = pipeline.custom(command, vec![name]).await;
                if let Err(error) = queued {
                    debug!(%error, "a command cannot be queued");
                }
            }
            let answers = pipeline.try_all::<Value>().await;
            let answers = answers.into_iter().map(|answer| answer.ok().and_then(count_in));
            counted = newly_counted(counted, channels.iter().zip(answers), &mut dropped);
        }
        dropped
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

/// The subscriptions to channels of slots, among what `CLIENT INFO` says of a connection.
fn subscriptions_in(info: &str) -> Option<usize> {
    info.split_ascii_whitespace().find_map(|field| field.strip_prefix("ssub="))?.parse().ok()
}

/// How many subscriptions there are now, as an answer to `SSUBSCRIBE` says.
fn count_in(answer: Value) -> Option<usize> {
    answer.into_array().last()?.as_u64().map(|count| count as usize)
}

/// Adds the channels whose answers, in the order of the commands, raised the count: it did not hold them. Returns the count
/// after all. What was refused raises nothing; the channel is on another server, or is asked for again the next time.
fn newly_counted<'a>(
    counted: usize,
    answers: impl Iterator<Item = (&'a Channel, Option<usize>)>,
    dropped: &mut Vec<Channel>,
) -> usize {
    answers.fold(counted, |counted, (channel, now)| {
        let now = now.unwrap_or(counted);
        dropped.extend((now > counted).then(|| channel.clone()));
        now
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_stopped_announcing_is_told_by_its_count() {
        let channels = ["a", "b", "c", "d"].map(|name| Channel::parse(name).unwrap());
        let mut dropped = Vec::new();
        let answers = [Some(2), Some(3), None, Some(4)];
        assert_eq!(newly_counted(2, channels.iter().zip(answers), &mut dropped), 4);
        assert_eq!(dropped, [channels[1].clone(), channels[3].clone()]);
        let info = "id=7 addr=127.0.0.1:5 name= db=0 sub=1 psub=0 ssub=20 multi=-1 resp=3";
        assert_eq!(subscriptions_in(info), Some(20));
        assert_eq!(subscriptions_in("id=7 sub=1 psub=0 multi=-1"), None, "before 7.0.3");
        let answer = Value::Array(vec!["ssubscribe".into(), "tidings:{a}".into(), 20.into()]);
        assert_eq!((count_in(answer), count_in(Value::Null)), (Some(20), None));
    }
}
