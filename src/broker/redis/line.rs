//! The connection by which one server announces.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::prelude::*;
use fred::types::Message;
use fred::types::config::Server;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
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

/// Announcements of all lines that wait for the receiver; beyond, they wait in the library's buffer, which overflows.
pub(super) const HEARD_MAX: usize = 4_096;

/// What comes by a line.
#[derive(Debug)]
pub(super) enum Heard {
    /// It is another connection than before.
    Renewed,
    /// Something was announced.
    Message(Message),
    /// So many were dropped here.
    Dropped(u64),
}

/// The same, with the number of the server.
pub(super) type FromLine = (u64, Heard);

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
        heard: mpsc::Sender<FromLine>,
        reports: mpsc::Sender<Report>,
        now: Time,
    ) -> Line {
        let (client, number) = (shard.subscriber.clone(), shard.number);
        let (changes, changed) = mpsc::channel(INTERESTS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(number, client.message_rx(), client.reconnect_rx(), heard));
        let interests = Interests {
            client: client.clone(),
            keys: keys.clone(),
            shard: number,
            is_sharded: shard.server.is_some(),
            changes: changed,
            reports,
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

    /// Gives a deaf line up.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if !self.hears(now) {
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

/// Hands everything on until the receiver is gone.
async fn listen(
    shard: u64,
    mut messages: broadcast::Receiver<Message>,
    mut reconnects: broadcast::Receiver<Server>,
    heard: mpsc::Sender<FromLine>,
) {
    loop {
        let next = tokio::select! {
            biased;
            reconnected = reconnects.recv() => match reconnected {
                Ok(_) | Err(RecvError::Lagged(_)) => Heard::Renewed,
                Err(RecvError::Closed) => return,
            },
            message = messages.recv() => match message {
                Ok(message) => Heard::Message(message),
                Err(RecvError::Lagged(count)) => Heard::Dropped(count),
                Err(RecvError::Closed) => return,
            },
        };
        if heard.send((shard, next)).await.is_err() {
            return;
        }
    }
}
