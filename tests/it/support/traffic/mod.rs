//! Real traffic whose history can be judged: publishers that try until they know, and readers that come back.
//!
//! ```text
//!   publishers ── HTTP ──▶ instances ── WebSockets, event streams ──▶ readers
//!        └──────────────── what each of them saw ────────────────────────┴──▶ Log ──▶ checker
//! ```
//! All channels must keep history: what a channel without positions carried, nobody outside can know.

mod log;
mod outcome;
mod publisher;
mod socket;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{Ack, Position};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::log::Log;
pub(crate) use self::outcome::Outcome;
use self::publisher::Publisher;
use self::socket::SocketReader;
use self::stream::StreamReader;
use super::Request;
use crate::history::{ClientId, Event};

/// A request, or a connection, that takes longer is given up: an instance answers within 2 s what it can answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Between two tries of anybody to get through.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Who publishes and reads what, and where.
#[derive(Clone)]
pub(crate) struct TrafficPlan {
    /// Of instances, or of proxies in front of them. Whoever fails at one goes on to the next.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) channels: Vec<String>,
    pub(crate) publishers: usize,
    /// Between two publishes of one publisher.
    pub(crate) pause: Duration,
    pub(crate) ack: Ack,
    /// How long a publisher tries before it gives a publish up.
    pub(crate) patience: Duration,
    /// Readers by WebSocket.
    pub(crate) sockets: usize,
    /// Readers of event streams.
    pub(crate) streams: usize,
    /// How long readers may take, once nobody publishes any more, to stand at the head.
    pub(crate) settling: Duration,
}

impl Default for TrafficPlan {
    fn default() -> Self {
        TrafficPlan {
            addresses: Vec::new(),
            channels: ["a", "b", "c"].map(str::to_owned).to_vec(),
            publishers: 4,
            pause: Duration::from_millis(20),
            ack: Ack::Stored,
            patience: Duration::from_secs(30),
            sockets: 6,
            streams: 3,
            settling: Duration::from_secs(10),
        }
    }
}

/// Traffic that goes on until it is finished.
pub(crate) struct Traffic {
    plan: Arc<TrafficPlan>,
    log: Arc<Log>,
    publishers: JoinSet<()>,
    readers: JoinSet<()>,
    publish_no_more: CancellationToken,
}

impl Traffic {
    /// Begins once every reader has begun, so that all see all.
    pub(crate) async fn start(plan: TrafficPlan) -> Traffic {
        let (plan, log) = (Arc::new(plan), Arc::new(Log::new()));
        let (mut publishers, mut readers) = (JoinSet::new(), JoinSet::new());
        for client in (0..plan.sockets).map(ClientId) {
            readers.spawn(SocketReader::new(client, plan.clone(), log.clone()).run());
        }
        for client in (plan.sockets..plan.sockets + plan.streams).map(ClientId) {
            readers.spawn(StreamReader::new(client, plan.clone(), log.clone()).run());
        }
        let views = (plan.sockets + plan.streams) * plan.channels.len();
        super::eventually("readers", async || (log.standing().len() == views).then_some(())).await;
        let publish_no_more = CancellationToken::new();
        for author in 0..plan.publishers {
            let publisher = Publisher::new(author as u32, plan.clone(), log.clone());
            publishers.spawn(publisher.run(publish_no_more.clone()));
        }
        Traffic { plan, log, publishers, readers, publish_no_more }
    }

    /// Notes what is done to the servers.
    pub(crate) fn note(&self, fault: &str) {
        self.log.record(Event::Injected { fault: fault.to_owned(), client: None });
    }

    /// Acknowledged publishes so far.
    pub(crate) fn acked(&self) -> u64 {
        self.log.acked()
    }

    /// Ends publishing, lets the readers come to the head, and judges what happened.
    pub(crate) async fn finish(mut self) -> Outcome {
        self.publish_no_more.cancel();
        while let Some(ended) = self.publishers.join_next().await {
            ended.expect("a publisher does not panic");
        }
        let heads = self.settle().await;
        for ((client, channel), position) in self.log.standing() {
            let head = heads[channel.0].clone();
            self.log.record(Event::Ended { client, channel, position, head });
        }
        while let Some(ended) = self.readers.try_join_next() {
            ended.expect("a reader does not panic");
        }
        self.readers.shutdown().await;
        Outcome::of(&self.log)
    }

    /// The heads of all channels, as soon as all readers stand there, or have had their time.
    async fn settle(&self) -> Vec<Option<Position>> {
        let deadline = tokio::time::Instant::now() + self.plan.settling;
        loop {
            let mut heads = Vec::new();
            for channel in &self.plan.channels {
                heads.push(head(&self.plan.addresses, channel).await);
            }
            let arrived = |((_, channel), position): &((_, crate::history::ChannelId), Option<Position>)| {
                position.is_some() && *position == heads[channel.0]
            };
            let all = self.log.standing().iter().all(arrived);
            if all || tokio::time::Instant::now() > deadline {
                return heads;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// The head of a channel, of the first instance that answers.
async fn head(addresses: &[SocketAddr], channel: &str) -> Option<Position> {
    for address in addresses {
        let request = Request::new(*address, "GET", &format!("/v1/channels/{channel}/history?limit=1"));
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, request.try_send()).await;
        if let Ok(Ok(answer)) = answer
            && answer.status == 200
        {
            return serde_json::from_value(answer.json()["position"].clone()).ok();
        }
    }
    None
}
