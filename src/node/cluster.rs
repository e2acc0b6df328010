//! This instance among the others: what it asks of all, and what it does when another asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tidings_protocol::{ClusterAnswer, ClusterAsk, ClusterMessage, Code, Problem};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout_at;
use tracing::warn;

use super::connections::Connections;
use super::inquiry::{Findings, Inquiry};
use crate::broker::{Broker, BrokerError, InstanceCard, Peer};
use crate::clock::Clock;
use crate::hub::Time;

/// Questions that are out at once; a further one is refused. Each keeps 1,000 connections, which take 150 KiB.
const INQUIRIES_MAX: usize = 64;

/// Questions of others that are worked on at once. Further ones get no answer, and who asked reports this instance missing.
const ANSWERS_MAX: usize = 64;

/// One instance, as it takes part in the cluster.
pub(super) struct Cluster {
    card: Arc<InstanceCard>,
    broker: Arc<dyn Broker>,
    connections: Arc<Connections>,
    clock: Clock,
    pending: Mutex<BTreeMap<u64, Pending>>,
    next_number: AtomicU64,
    answering: Arc<Semaphore>,
}

/// A question that is out, and who waits for its end.
struct Pending {
    inquiry: Inquiry,
    over: Option<oneshot::Sender<()>>,
}

/// The place of a question that is out; dropping it takes the question back.
struct Place<'a> {
    cluster: &'a Cluster,
    number: u64,
    until: Time,
}

impl Cluster {
    /// An instance that asked nothing yet.
    pub(super) fn new(
        card: Arc<InstanceCard>,
        broker: Arc<dyn Broker>,
        connections: Arc<Connections>,
        clock: Clock,
    ) -> Self {
        Cluster {
            card,
            broker,
            connections,
            clock,
            pending: Mutex::default(),
            next_number: AtomicU64::new(1),
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// What this instance says of itself.
    pub(super) fn card(&self) -> &InstanceCard {
        &self.card
    }

    /// The instances that are known, this one always among them, as it is now.
    pub(super) fn instances(&self) -> Vec<Peer> {
        let mut peers = self.broker.peers();
        let here = self.card.info();
        match peers.iter_mut().find(|peer| peer.info.id == here.id) {
            Some(peer) => peer.info = here,
            None => peers.push(Peer::new(here, self.clock.now())),
        }
        peers
    }

    /// Has every instance do something, this one first: it can even where the broker is lost. Those that did not answer in
    /// time are named.
    pub(super) async fn ask(&self, ask: ClusterAsk) -> Result<Findings, Problem> {
        let (place, over) = self.begin(&ask)?;
        let (me, number) = (self.card.id().clone(), place.number);
        self.handle_answer(number, &me, self.connections.perform(&me, &ask));
        let asked = async {
            match self.broker.tell(ClusterMessage::Ask { from: me, number, ask }).await {
                Ok(()) | Err(BrokerError::OutcomeUnknown) => over.await.unwrap_or_default(),
                // Nobody was asked: then nobody will answer.
                Err(error) => warn!(%error, "the other instances could not be asked"),
            }
        };
        // Whoever has not answered by then is missing, and the findings say so.
        timeout_at(self.clock.instant(place.until), asked).await.unwrap_or_default();
        Ok(place.finish())
    }

    /// A message of an instance came.
    pub(super) fn handle_message(self: &Arc<Self>, message: ClusterMessage) {
        match message {
            // Beacons are for the broker, which has read them.
            ClusterMessage::Beacon(_) => {}
            // This one has done what it asked for before it asked.
            ClusterMessage::Ask { from, .. } if from == *self.card.id() => {}
            ClusterMessage::Ask { from, number, ask } => self.answer(from, number, ask),
            ClusterMessage::Answer { to, number, from, answer } if to == *self.card.id() => {
                self.handle_answer(number, &from, answer);
            }
            ClusterMessage::Answer { .. } => {}
        }
    }

    /// Does what another instance asks, in a task of its own: the event loop has deliveries to make.
    fn answer(self: &Arc<Self>, to: Arc<str>, number: u64, ask: ClusterAsk) {
        let Ok(permit) = self.answering.clone().try_acquire_owned() else {
            return warn!(%to, "too many questions at once: one gets no answer");
        };
        let cluster = self.clone();
        tokio::spawn(async move {
            let from = cluster.card.id().clone();
            let answer = cluster.connections.perform(&from, &ask);
            if let Err(error) = cluster.broker.tell(ClusterMessage::Answer { to, number, from, answer }).await
            {
                warn!(%error, "an answer to another instance was not sent");
            }
            drop(permit);
        });
    }

    fn begin(&self, ask: &ClusterAsk) -> Result<(Place<'_>, oneshot::Receiver<()>), Problem> {
        let others = self.broker.peers().into_iter().map(|peer| (peer.info.id, peer.is_silent));
        let limit = match ask {
            ClusterAsk::List { limit, .. } => *limit,
            ClusterAsk::Disconnect { .. } | ClusterAsk::Revoke(_) => 0,
        };
        let inquiry = Inquiry::new(self.card.id(), others, limit, self.clock.now());
        let (number, until) = (self.next_number.fetch_add(1, Ordering::Relaxed), inquiry.until());
        let (sender, over) = oneshot::channel();
        let mut pending = self.pending();
        if pending.len() >= INQUIRIES_MAX {
            let message = format!("{INQUIRIES_MAX} requests wait for other instances: try again in a moment");
            return Err(Problem::new(Code::Overloaded, message));
        }
        pending.insert(number, Pending { inquiry, over: Some(sender) });
        Ok((Place { cluster: self, number, until }, over))
    }

    fn handle_answer(&self, number: u64, from: &Arc<str>, answer: ClusterAnswer) {
        let mut pending = self.pending();
        // An answer that comes too late finds nobody who waits for it.
        let Some(Pending { inquiry, over }) = pending.get_mut(&number) else { return };
        inquiry.handle_answer(from, answer);
        if inquiry.is_over(self.clock.now())
            && let Some(over) = over.take()
        {
            // Whoever asked may be gone.
            over.send(()).ok();
        }
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<u64, Pending>> {
        self.pending.lock().expect("nothing panics while it holds the questions")
    }
}

impl Place<'_> {
    fn finish(self) -> Findings {
        let pending = self.cluster.pending().remove(&self.number);
        pending.expect("a question keeps its place until it is finished").inquiry.finish()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.cluster.pending().remove(&self.number);
    }
}
