//! The connection by which one server announces.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::prelude::*;
use fred::types::Message;
use fred::types::config::Server;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use super::interest::{Change, INTERESTS_MAX, Interests};
use super::keys::Keys;
use super::receiver::Report;
use super::shard::Shard;
use crate::broker::Interest;
use crate::hub::Time;

/// A line on which not even this instance's own beacons arrive for so long is given up. Beacons come each second, and a lost
/// line is to be noticed within 2.5 s.
const DEAF_AFTER: Duration = Duration::from_millis(2_200);

/// What comes by a line.
#[derive(Debug)]
pub(super) enum Heard {
    /// It is another connection than before.
    Renewed,
    /// Something was announced; its bytes count until it is taken in.
    Message(Message, OwnedSemaphorePermit),
    /// So many were dropped here.
    Dropped(u64),
}

/// The same, with the number of the server.
pub(super) type FromLine = (u64, Heard);

/// The bytes of announcements that wait for the receiver; a permit is a KiB.
#[derive(Clone, Debug)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    all: usize,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let all = bytes.div_ceil(1_024);
        Room { free: Arc::new(Semaphore::new(all)), all }
    }

    /// Room for an announcement, if there is some.
    fn take(&self, message: &Message) -> Option<OwnedSemaphorePermit> {
        let bytes = message.value.as_bytes().map_or(0, <[u8]>::len) + message.channel.len();
        // One alone fits, however large it is.
        let kib = u32::try_from(bytes.div_ceil(1_024).min(self.all)).ok()?;
        self.free.clone().try_acquire_many_owned(kib).ok()
    }
}

pub(super) struct Line {
    /// The number of the server.
    shard: u64,
    client: Client,
    cluster: String,
    changes: mpsc::Sender<Change>,
    /// How many connections there were.
    pub(super) link: u64,
    /// When this instance last heard itself, or gave the line up.
    heard_self: Time,
    /// Since when the server has answered all the time.
    awaited_since: Time,
    /// Whether it was given up because nothing came by it, and nothing has come since.
    is_suspect: bool,
    /// Whether nothing came by the connection that followed, too: somebody keeps announcements from this instance.
    pub(super) is_deaf: bool,
    giving_up: Option<JoinHandle<()>>,
    _tasks: JoinSet<()>,
}

impl Line {
    /// Listens to what the server's instances tell each other, and to what else is asked for.
    pub(super) fn open(
        shard: &Arc<Shard>,
        keys: &Keys,
        (heard, room): (mpsc::Sender<FromLine>, Room),
        reports: mpsc::Sender<Report>,
        now: Time,
    ) -> Line {
        let (client, number) = (shard.subscriber.clone(), shard.number);
        let (changes, changed) = mpsc::channel(INTERESTS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(number, client.message_rx(), client.reconnect_rx(), heard, room));
        let interests = Interests {
            client: client.clone(),
            keys: keys.clone(),
            shard: number,
            is_sharded: shard.server.is_some(),
            changes: changed,
            reports,
            listening: HashSet::new(),
            link: 0,
        };
        tasks.spawn(interests.run());
        let cluster = keys.cluster();
        let line = Line {
            shard: number,
            client,
            cluster,
            changes,
            link: 0,
            heard_self: now,
            awaited_since: now,
            is_suspect: false,
            is_deaf: false,
            giving_up: None,
            _tasks: tasks,
        };
        line.join_cluster();
        line
    }

    /// Hands a change on; gives it back where there is no room for it.
    pub(super) fn ask(&self, interest: Interest) -> Result<(), Interest> {
        let change = Change { interest, link: self.link };
        self.changes.try_send(change).map_err(|refused| refused.into_inner().interest)
    }

    /// The connection is another one.
    pub(super) fn renew(&mut self, now: Time) {
        self.link += 1;
        self.heard_self = now;
        self.join_cluster();
    }

    /// Whether this instance heard itself lately.
    pub(super) fn hears(&self, now: Time) -> bool {
        self.heard_self.after(DEAF_AFTER) > now
    }

    /// This instance's own beacon came.
    pub(super) fn handle_own_beacon(&mut self, now: Time) {
        self.heard_self = now;
        (self.is_suspect, self.is_deaf) = (false, false);
    }

    /// Gives a deaf line up: one by which nothing comes though its server answers. While the server does not, it is silence that
    /// is to be expected.
    pub(super) fn handle_timeout(&mut self, answers: bool, now: Time) {
        if !answers {
            self.awaited_since = now;
        } else if self.heard_self.max(self.awaited_since).after(DEAF_AFTER) <= now {
            // The first time the connection is the suspect.
            self.is_deaf = std::mem::replace(&mut self.is_suspect, true);
            self.give_up(now);
        }
    }

    /// Makes another connection, unless that is under way.
    pub(super) fn give_up(&mut self, now: Time) {
        if self.giving_up.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        warn!(shard = self.shard, "the redis connection for announcements is given up");
        self.heard_self = now;
        let client = self.client.clone();
        self.giving_up = Some(tokio::spawn(async move {
            if let Err(error) = client.force_reconnection().await {
                debug!(%error, "no new connection for announcements");
            }
        }));
    }

    /// Subscribes to what instances tell each other. If that fails this instance does not hear itself, and tries another link.
    fn join_cluster(&self) {
        let (client, name) = (self.client.clone(), self.cluster.clone());
        tokio::spawn(async move {
            if let Err(error) = client.subscribe(name).await {
                debug!(%error, "cannot listen to the other instances");
            }
        });
    }
}

/// Hands everything on until the receiver is gone. It never waits with an announcement in its hands: those for which there is
/// no room are dropped and counted, so that no more wait in the library's buffer, which knows no bytes.
async fn listen(
    shard: u64,
    mut messages: broadcast::Receiver<Message>,
    mut reconnects: broadcast::Receiver<Server>,
    heard: mpsc::Sender<FromLine>,
    room: Room,
) {
    let (mut is_renewed, mut dropped) = (false, 0);
    loop {
        tokio::select! {
            biased;
            reconnected = reconnects.recv() => match reconnected {
                Ok(_) | Err(RecvError::Lagged(_)) => is_renewed = true,
                Err(RecvError::Closed) => return,
            },
            place = heard.reserve(), if is_renewed || dropped > 0 => {
                let Ok(place) = place else { return };
                match std::mem::take(&mut is_renewed) {
                    true => place.send((shard, Heard::Renewed)),
                    false => place.send((shard, Heard::Dropped(std::mem::take(&mut dropped)))),
                }
            }
            message = messages.recv() => match message {
                // Nothing overtakes what must be known before it.
                Ok(_) if is_renewed || dropped > 0 => dropped += 1,
                Ok(message) => match (room.take(&message), heard.try_reserve()) {
                    (Some(room), Ok(place)) => place.send((shard, Heard::Message(message, room))),
                    (_, Err(TrySendError::Closed(()))) => return,
                    (None, _) | (_, Err(TrySendError::Full(()))) => dropped += 1,
                },
                Err(RecvError::Lagged(count)) => dropped += count,
                Err(RecvError::Closed) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::types::{MessageKind, Value};

    const KIB: usize = 1_024;

    fn message(bytes: usize) -> Message {
        let (kind, server) = (MessageKind::Message, Server::new("127.0.0.1", 6_379));
        Message { channel: "c".into(), value: Value::Bytes(vec![0; bytes].into()), kind, server }
    }

    #[tokio::test]
    async fn announcements_that_wait_are_bounded_by_bytes_and_by_number_and_what_is_dropped_is_told() {
        for (bytes, room, number, kept) in [(KIB - 1, 4 * KIB, 64, 4), (1, 64 * KIB, 4, 4)] {
            let (library, messages) = broadcast::channel(64);
            let (_reconnect, reconnects) = broadcast::channel(4);
            let (speaker, mut heard) = mpsc::channel(number);
            let task = tokio::spawn(listen(1, messages, reconnects, speaker, Room::new(room)));
            for _ in 0..10 {
                library.send(message(bytes)).expect("somebody listens");
            }
            while !library.is_empty() {
                tokio::task::yield_now().await;
            }
            let mut waiting = Vec::new();
            let mut dropped = 0;
            while waiting.len() as u64 + dropped < 10 {
                match heard.recv().await.expect("it goes on") {
                    (_, Heard::Dropped(count)) => dropped += count,
                    (_, message) => waiting.push(message),
                }
            }
            assert_eq!(waiting.len(), kept);
            drop(waiting);
            library.send(message(bytes)).expect("somebody listens");
            assert!(matches!(heard.recv().await, Some((1, Heard::Message(..)))), "there is room again");
            task.abort();
        }
    }
}
