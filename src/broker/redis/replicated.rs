//! Publishes that are acknowledged once replicas have them.
//!
//! Redis's `WAIT` counts the replicas that have what *its own connection* wrote, and holds the connection up meanwhile. So
//! these publishes have a connection of their own: many scripts in a row, then one `WAIT` for all of them.

use std::collections::HashMap;
use std::sync::Arc;

use fred::clients::Client;
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface};
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures::future::join_all;
use tidings_protocol::{Ack, Position, PublishCommand};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::debug;

use super::links::CONFIRM_TIMEOUT;
use super::store::RedisStore;
use crate::broker::BrokerError;
use crate::hub::{Published, Retention};

/// Publishes that wait for their turn; more are refused.
const WAITING_MAX: usize = 4_096;

/// Publishes that one `WAIT` confirms.
const PUBLISHES_PER_WAIT: usize = 256;

type Outcome = Result<Published, BrokerError>;

struct Job {
    command: PublishCommand,
    retention: Retention,
    done: oneshot::Sender<Outcome>,
}

/// Where such publishes are handed in.
pub(super) struct Replicated {
    jobs: mpsc::Sender<Job>,
}

impl Replicated {
    /// Publishes on `client` until dropped; each waits for `replicas`.
    pub(super) fn start(
        client: Client,
        store: Arc<RedisStore>,
        replicas: usize,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let reconnects = client.reconnect_rx();
        tasks.spawn(Lane { client, store, replicas, waiting, reconnects }.run());
        Replicated { jobs }
    }

    /// Stored and confirmed, or why not.
    pub(super) async fn publish(&self, command: PublishCommand, retention: Retention) -> Outcome {
        let (done, outcome) = oneshot::channel();
        self.jobs.try_send(Job { command, retention, done }).map_err(|_| BrokerError::Overloaded)?;
        outcome.await.map_err(|_| BrokerError::OutcomeUnknown)?
    }
}

struct Lane {
    client: Client,
    store: Arc<RedisStore>,
    replicas: usize,
    waiting: mpsc::Receiver<Job>,
    reconnects: broadcast::Receiver<Server>,
}

impl Lane {
    async fn run(mut self) {
        let mut jobs = Vec::with_capacity(PUBLISHES_PER_WAIT);
        while self.waiting.recv_many(&mut jobs, PUBLISHES_PER_WAIT).await > 0 {
            // Who gave up waiting for its turn wants nothing published any more.
            jobs.retain(|job| !job.done.is_closed());
            self.has_reconnected();
            let (client, store) = (&self.client, &self.store);
            let publishes = jobs.iter().map(|job| store.publish(client, &job.command, &job.retention));
            let outcomes = join_all(publishes).await;
            let servers: Vec<_> = jobs.iter().map(|job| self.server_of(job)).collect();
            let confirmed = self.confirm(&servers).await;
            for ((job, outcome), server) in jobs.drain(..).zip(outcomes).zip(servers) {
                let outcome = outcome.and_then(|published| settle(published, confirmed[&server]));
                // Whoever asked may be gone by now.
                job.done.send(outcome).ok();
            }
        }
    }

    /// Which servers had their replicas confirm all that was written on this connection.
    async fn confirm(&mut self, servers: &[Option<Server>]) -> HashMap<Option<Server>, bool> {
        let mut confirmed: HashMap<_, _> = servers.iter().map(|server| (server.clone(), false)).collect();
        for (server, is_confirmed) in &mut confirmed {
            let count = self.wait(server.as_ref()).await;
            *is_confirmed = count.is_some_and(|count| count >= self.replicas as u64);
        }
        if self.has_reconnected() {
            // A new connection has written nothing, so all replicas have all of it: that proves nothing.
            confirmed.values_mut().for_each(|is_confirmed| *is_confirmed = false);
        }
        confirmed
    }

    async fn wait(&self, server: Option<&Server>) -> Option<u64> {
        let args: Vec<Value> =
            vec![self.replicas.to_string().into(), CONFIRM_TIMEOUT.as_millis().to_string().into()];
        let command = CustomCommand::new_static("WAIT", ClusterHash::Random, false);
        let answer: Result<Value, _> = match server {
            Some(server) => self.client.with_cluster_node(server).custom(command, args).await,
            None => self.client.custom(command, args).await,
        };
        answer.map_err(|error| debug!(%error, "replicas did not confirm")).ok()?.as_u64()
    }

    /// Whether the connection is another one than when this was last asked.
    fn has_reconnected(&mut self) -> bool {
        let mut is_new = false;
        loop {
            match self.reconnects.try_recv() {
                Ok(_) | Err(TryRecvError::Lagged(_)) => is_new = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return is_new,
            }
        }
    }

    fn server_of(&self, job: &Job) -> Option<Server> {
        let cluster = self.client.cached_cluster_state()?;
        let slot = ClusterHash::FirstKey.hash(&[self.store.keys.meta(&job.command.channel).into()])?;
        cluster.get_server(slot).cloned()
    }
}

fn settle(published: Published, is_confirmed: bool) -> Outcome {
    let Published { position, .. } = published;
    match is_confirmed {
        true => Ok(Published { position, ack: Ack::Replicated }),
        false => Err(BrokerError::ReplicationUnconfirmed(position.map(Box::<Position>::new))),
    }
}
