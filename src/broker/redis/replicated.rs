//! What is acknowledged once replicas have it.
//!
//! Redis's `WAIT` counts the replicas that have what *its own connection* wrote, and holds the connection up meanwhile. So
//! these writes have a connection of their own: many scripts in a row, then one `WAIT` for all of them. Whoever asked is answered
//! in time whatever the replicas do: a `WAIT` lasts no longer than the first of those it is for can wait, so that while a
//! replica is stopped the ones who queued behind it are told soon after.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures::future::join_all;
use tidings_protocol::{Ack, Position};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::answer::Failed;
use super::links::CONFIRM_TIMEOUT;
use super::store::RedisStore;
use super::write::Write;
use crate::broker::BrokerError;
use crate::clock::Clock;
use crate::hub::{Published, Time};

/// Writes that wait for their turn; more are refused.
const WAITING_MAX: usize = 4_096;

/// Writes that one `WAIT` confirms: some 20 ms of a Redis.
const WRITES_PER_WAIT: usize = 512;

/// From its arrival a write may wait for so long, for its turn and for replicas.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// A `WAIT` for writes whose time is over: replicas that are well have confirmed by then.
const CONFIRM_AT_LEAST: Duration = Duration::from_millis(50);

/// By then everybody has an answer, whatever Redis does: all else about it is answered within 2 s.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_900);

type Outcome = Result<Published, Failed>;

struct Job {
    write: Write,
    arrived: Time,
    done: oneshot::Sender<Outcome>,
}

/// Where such writes to one server are handed in.
pub(super) struct Replicated {
    jobs: mpsc::Sender<Job>,
    clock: Clock,
}

impl Replicated {
    /// Writes on `client` until dropped; each waits for `replicas`.
    pub(super) fn start(
        client: Client,
        store: Arc<RedisStore>,
        replicas: usize,
        clock: Clock,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let reconnects = client.reconnect_rx();
        tasks.spawn(Lane { client, store, replicas, clock, waiting, reconnects }.run());
        Replicated { jobs, clock }
    }

    /// Written and confirmed, or why not.
    pub(super) async fn put(&self, write: Write) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let job = Job { write, arrived: self.clock.now(), done };
        self.jobs.try_send(job).map_err(|_| Failed::Broker(BrokerError::Overloaded))?;
        match timeout(ANSWER_TIMEOUT, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Failed::Broker(BrokerError::OutcomeUnknown)),
        }
    }
}

struct Lane {
    client: Client,
    store: Arc<RedisStore>,
    replicas: usize,
    clock: Clock,
    waiting: mpsc::Receiver<Job>,
    reconnects: broadcast::Receiver<Server>,
}

impl Lane {
    async fn run(mut self) {
        let mut jobs = Vec::with_capacity(WRITES_PER_WAIT);
        while self.waiting.recv_many(&mut jobs, WRITES_PER_WAIT).await > 0 {
            // Who gave up waiting for its turn wants nothing written any more.
            jobs.retain(|job| !job.done.is_closed());
            let Some(first) = jobs.iter().map(|job| job.arrived).min() else { continue };
            self.has_reconnected();
            let (client, store) = (&self.client, &self.store);
            let outcomes = join_all(jobs.iter().map(|job| store.put(client, &job.write, true))).await;
            let is_confirmed = self.confirm(patience_left(self.clock.now().0.saturating_sub(first.0))).await;
            for (job, outcome) in jobs.drain(..).zip(outcomes) {
                let outcome = outcome.and_then(|published| settle(published, is_confirmed));
                // Whoever asked may be gone by now.
                job.done.send(outcome).ok();
            }
        }
    }

    /// Whether enough replicas have all that was written on this connection, or will have within this time.
    async fn confirm(&mut self, within: Duration) -> bool {
        let args: Vec<Value> = vec![self.replicas.to_string().into(), within.as_millis().to_string().into()];
        let command = CustomCommand::new_static("WAIT", ClusterHash::Random, false);
        let answer: Result<Value, _> = self.client.custom(command, args).await;
        let answer = answer.map_err(|error| debug!(%error, "replicas did not confirm"));
        let count = answer.ok().and_then(|count| count.as_u64());
        // A new connection has written nothing, so all replicas have all of it: that proves nothing.
        count.is_some_and(|count| count >= self.replicas as u64) && !self.has_reconnected()
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
}

/// How long replicas are waited for, where the first of the writes has waited for `waited` already.
fn patience_left(waited: Duration) -> Duration {
    PATIENCE.saturating_sub(waited).clamp(CONFIRM_AT_LEAST, CONFIRM_TIMEOUT)
}

fn settle(published: Published, is_confirmed: bool) -> Outcome {
    match is_confirmed {
        true => Ok(Published { ack: Ack::Replicated, ..published }),
        false => {
            let position = published.position.map(Box::<Position>::new);
            Err(Failed::Broker(BrokerError::ReplicationUnconfirmed(position)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_waited_for_as_long_as_the_first_write_can_wait_and_always_a_little() {
        let left = |waited| patience_left(Duration::from_millis(waited)).as_millis();
        assert_eq!([0, 400, 500, 1_000, 1_460, 5_000].map(left), [1_000, 1_000, 1_000, 500, 50, 50]);
        assert!(PATIENCE + CONFIRM_AT_LEAST < ANSWER_TIMEOUT);
    }
}
