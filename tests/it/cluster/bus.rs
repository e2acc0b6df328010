//! Several nodes that share a broker which carries what they tell each other, or does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, ready};
use tidings::broker::{
    Broker, BrokerError, BrokerEvent, ChannelHeads, InstanceCard, MemoryBroker, Peer, Retentions, StoreLimits,
};
use tidings::clock::Clock;
use tidings::config::Config;
use tidings::freshness::Snapshot;
use tidings::hub::{BrokerState, Grant, Mail, Page, PageLimit, Published};
use tidings::limits::Caller;
use tidings::node::{EVENTS_MAX, Findings, Member, Node, Profile, SharedMailbox};
use tidings::observe::Metrics;
use tidings_protocol::{
    Channel, CloseCode, ClusterAsk, ClusterMessage, Code, LogName, MutateCommand, Position, PresenceMember,
    PresenceMembers, Problem, PublishCommand, Transport, Which,
};
use tokio::sync::mpsc;

use crate::support::within;

/// One instance on the bus.
struct Stop {
    card: Arc<InstanceCard>,
    events: mpsc::Sender<BrokerEvent>,
    /// It hears nothing of what others say.
    deaf: AtomicBool,
    /// The others noticed.
    silent: AtomicBool,
}

/// All instances.
#[derive(Clone)]
struct Bus(Arc<Vec<Stop>>);

/// The bus as one instance uses it.
struct Broking {
    bus: Bus,
    clock: Clock,
    down: Arc<AtomicBool>,
    memory: MemoryBroker,
}

impl Broker for Broking {
    fn publish(
        &self,
        command: PublishCommand,
        caller: Caller,
    ) -> BoxFuture<'_, Result<Published, BrokerError>> {
        self.memory.publish(command, caller)
    }

    fn history(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.memory.history(channel, since, limit)
    }

    fn resume(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.memory.resume(channel, since, limit)
    }

    fn set_interest(&self, channel: &Channel, wanted: bool) -> Option<u64> {
        self.memory.set_interest(channel, wanted)
    }

    fn channels(&self, limit: usize) -> BoxFuture<'_, Result<ChannelHeads, BrokerError>> {
        self.memory.channels(limit)
    }

    fn mutate(
        &self,
        command: MutateCommand,
        caller: Caller,
    ) -> BoxFuture<'_, Result<Published, BrokerError>> {
        self.memory.mutate(command, caller)
    }

    fn snapshot(&self, log: &LogName) -> BoxFuture<'_, Result<Snapshot, BrokerError>> {
        self.memory.snapshot(log)
    }

    fn confirm(&self, log: &LogName) -> BoxFuture<'_, Result<Position, BrokerError>> {
        self.memory.confirm(log)
    }

    fn tell(&self, message: ClusterMessage) -> BoxFuture<'_, Result<(), BrokerError>> {
        if self.down.load(Ordering::SeqCst) {
            return ready(Err(BrokerError::Unavailable)).boxed();
        }
        async move {
            for stop in self.bus.0.iter().filter(|stop| !stop.deaf.load(Ordering::SeqCst)) {
                stop.events.send(BrokerEvent::Told(message.clone())).await.expect("the nodes live");
            }
            Ok(())
        }
        .boxed()
    }

    fn peers(&self) -> Vec<Peer> {
        let peer = |stop: &Stop| {
            let mut peer = Peer::new(stop.card.info(), self.clock.now());
            peer.is_silent = stop.silent.load(Ordering::SeqCst);
            peer
        };
        self.bus.0.iter().map(peer).collect()
    }

    fn enter(&self, channel: &Channel, member: PresenceMember) -> BoxFuture<'_, ()> {
        self.memory.enter(channel, member)
    }

    fn exit(&self, channel: &Channel, session: &Arc<str>) -> BoxFuture<'_, ()> {
        self.memory.exit(channel, session)
    }

    fn members(
        &self,
        channel: &Channel,
        limit: usize,
    ) -> BoxFuture<'_, Result<PresenceMembers, BrokerError>> {
        self.memory.members(channel, limit)
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.memory.leave()
    }

    fn state(&self) -> BrokerState {
        self.memory.state()
    }

    fn name(&self) -> &'static str {
        "bus"
    }
}

/// Nodes `a`, `b` and `c`.
struct Cluster {
    bus: Bus,
    nodes: Vec<Arc<Node>>,
    /// Nothing can be told any more.
    down: Arc<AtomicBool>,
}

impl Cluster {
    fn start() -> Cluster {
        let (clock, config, down) = (Clock::start(), Config::default(), Arc::new(AtomicBool::new(false)));
        let (stops, receivers): (Vec<Stop>, Vec<_>) = ["a", "b", "c"]
            .map(|id| {
                let (events, receiver) = mpsc::channel(EVENTS_MAX);
                let card = Arc::new(InstanceCard::new(id, format!("{id}:80"), 0));
                (Stop { card, events, deaf: false.into(), silent: false.into() }, receiver)
            })
            .into_iter()
            .unzip();
        let bus = Bus(Arc::new(stops));
        let nodes = bus.0.iter().zip(receivers).map(|(stop, receiver)| {
            let (card, events) = (stop.card.clone(), stop.events.clone());
            let limits = StoreLimits { channels_max: 1, bytes_max: 1, key_age: Duration::ZERO };
            let memory = MemoryBroker::start(limits, Retentions::new(&config), events, clock, card.clone());
            let broker = Broking { bus: bus.clone(), clock, down: down.clone(), memory };
            let metrics = Arc::new(Metrics::new());
            Node::start(card, Arc::new(broker), receiver, &config, clock, metrics)
        });
        Cluster { nodes: nodes.collect(), bus: bus.clone(), down }
    }

    /// Connects somebody to a node.
    fn enter(&self, node: usize, user: &str) -> (Member, Arc<SharedMailbox>) {
        let mailbox = Arc::new(SharedMailbox::new(1_000, Profile::new(Transport::WebSocket, 0)));
        let member = self.nodes[node].enter(mailbox.clone());
        member.identify(&Grant { user: user.into(), ..Grant::default() });
        (member, mailbox)
    }

    async fn disconnect(&self, which: Which) -> Result<Findings, Problem> {
        let ask = ClusterAsk::Disconnect { which, reconnect: false, reason: "go".into() };
        within("an end of the question", self.nodes[0].ask_all(ask)).await
    }
}

fn ada() -> Which {
    Which::OfUser("ada".into())
}

fn close_of(mailbox: &SharedMailbox) -> Option<CloseCode> {
    let mut mail = Mail::default();
    mailbox.take(&mut mail);
    mail.close.map(|close| close.code)
}

fn names(ids: &[Arc<str>]) -> Vec<&str> {
    ids.iter().map(|id| &**id).collect()
}

#[tokio::test]
async fn a_user_is_disconnected_on_every_instance() {
    let cluster = Cluster::start();
    let adas: Vec<_> = [0, 1, 2, 2].map(|node| cluster.enter(node, "ada")).into();
    let (_bob, bobs) = cluster.enter(1, "bob");
    let findings = cluster.disconnect(ada()).await.unwrap();
    assert_eq!((findings.count, names(&findings.answered)), (4, vec!["a", "b", "c"]));
    assert_eq!(names(&findings.missing), Vec::<&str>::new());
    for (_, mailbox) in &adas {
        assert_eq!(close_of(mailbox), Some(CloseCode::Disconnected));
    }
    assert_eq!(close_of(&bobs), None);
}

#[tokio::test]
async fn a_session_is_found_on_whichever_instance_it_is() {
    let cluster = Cluster::start();
    let (member, mailbox) = cluster.enter(2, "ada");
    let (_other, others) = cluster.enter(1, "ada");
    let findings = cluster.disconnect(Which::Session(member.name().clone())).await.unwrap();
    assert_eq!((findings.count, findings.answered.len()), (1, 3));
    assert_eq!((close_of(&mailbox), close_of(&others)), (Some(CloseCode::Disconnected), None));
}

#[tokio::test]
async fn connections_of_all_instances_are_listed_as_far_as_there_is_room() {
    let cluster = Cluster::start();
    let _members: Vec<_> = [0, 1, 1, 2].map(|node| cluster.enter(node, "ada")).into();
    let list = async |limit| {
        let ask = ClusterAsk::List { which: Which::Every, limit };
        within("a list", cluster.nodes[0].ask_all(ask)).await.unwrap()
    };
    let all = list(10).await;
    let mut instances: Vec<&str> = all.connections.iter().map(|(instance, _)| &**instance).collect();
    instances.sort_unstable();
    assert_eq!((all.count, instances), (4, vec!["a", "b", "b", "c"]));
    let some = list(2).await;
    assert_eq!((some.count, some.connections.len()), (4, 2), "what is left off is counted");
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_waited_for_and_named() {
    let cluster = Cluster::start();
    cluster.bus.0[2].deaf.store(true, Ordering::SeqCst);
    let (_member, mailbox) = cluster.enter(2, "ada");
    let begun = Instant::now();
    // One more than may be out at once.
    let asked = join_all((0..65).map(|_| cluster.disconnect(ada()))).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "it may have answered later");
    let refused: Vec<&Problem> = asked.iter().filter_map(|findings| findings.as_ref().err()).collect();
    assert_eq!(refused.iter().map(|problem| problem.code).collect::<Vec<_>>(), [Code::Overloaded]);
    for findings in asked.iter().flatten() {
        assert_eq!((names(&findings.answered), names(&findings.missing)), (vec!["a", "b"], vec!["c"]));
    }
    assert_eq!(close_of(&mailbox), None);
    cluster.bus.0[2].deaf.store(false, Ordering::SeqCst);
    assert_eq!(cluster.disconnect(ada()).await.unwrap().count, 1, "questions that are over make room");
}

#[tokio::test]
async fn an_instance_that_is_silent_is_named_and_not_waited_for() {
    let cluster = Cluster::start();
    cluster.bus.0[2].deaf.store(true, Ordering::SeqCst);
    cluster.bus.0[2].silent.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let findings = cluster.disconnect(ada()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((names(&findings.answered), names(&findings.missing)), (vec!["a", "b"], vec!["c"]));
}

#[tokio::test]
async fn without_its_broker_an_instance_does_its_own_part_and_names_the_others() {
    let cluster = Cluster::start();
    cluster.down.store(true, Ordering::SeqCst);
    let (_member, mailbox) = cluster.enter(0, "ada");
    let findings = cluster.disconnect(ada()).await.unwrap();
    assert_eq!((findings.count, names(&findings.missing)), (1, vec!["b", "c"]));
    assert_eq!(close_of(&mailbox), Some(CloseCode::Disconnected));
}
