//! The node joins hub and broker: one instance as its connections and its HTTP requests see it.
//!
//! It does not know how a subscriber is connected, nor how the broker stores.

mod cluster;
mod connections;
mod event_loop;
mod footprint;
mod inquiry;
mod keys;
mod log_names;
mod logs;
mod mailbox;
mod member;
mod mutating;
mod operation;
mod profile;
mod revoking;
mod wakes;
mod watching;

pub use inquiry::Findings;
pub use mailbox::SharedMailbox;
pub use member::Member;
pub use profile::Profile;
pub use revoking::{Revoking, keep_revocations};

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_protocol::{
    Ack, Channel, CloseCode, ClusterAsk, Code, Position, PresenceMembers, Problem, PublishCommand,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::ablation::defect;
use crate::broker::{Broker, BrokerError, BrokerEvent, ChannelHeads, InstanceCard, Peer, Usage};
use crate::clock::Clock;
use crate::config::{BatchMode, Config, Limits, Namespace, Namespaces};
use crate::hub::{
    Attached, Attachments, BatchRules, BrokerServers, BrokerState, Close, Page, PageLimit, Published,
    SessionId,
};
use crate::limits::Caller;
use crate::observe::Metrics;
use cluster::Cluster;
use connections::Connections;
use event_loop::{EventLoop, NodeCommand};
use footprint::Footprints;
use keys::{IdempotencyKeys, Settled};
use log_names::LogNames;
use logs::{LogRules, Logs};
use wakes::Wakes;

/// Commands that wait for the event loop; a connection that finds no room waits.
const COMMANDS_MAX: usize = 4_096;

/// Announcements that wait for the event loop; a broker that finds no room waits or says that it lost one.
pub const EVENTS_MAX: usize = 65_536;

/// What has waited for so long waits for a slow reader. Others take their mail within a few milliseconds of the call.
pub const SLOW_AFTER: Duration = Duration::from_millis(250);

/// One instance.
pub struct Node {
    broker: Arc<dyn Broker>,
    commands: mpsc::Sender<NodeCommand>,
    namespaces: Namespaces,
    rules: HashMap<Arc<str>, Arc<BatchRules>>,
    log_names: LogNames,
    keys: IdempotencyKeys,
    footprints: Footprints,
    connections: Arc<Connections>,
    cluster: Arc<Cluster>,
    clock: Clock,
    next_session: AtomicU64,
    /// What connections that ended still have to take back.
    parting: TaskTracker,
    /// Publishes on their way; closed once no more are taken.
    publishing: TaskTracker,
}

impl Node {
    /// Joins a broker and the receiving end of its announcements; runs until dropped.
    pub fn start(
        card: Arc<InstanceCard>,
        broker: Arc<dyn Broker>,
        events: mpsc::Receiver<BrokerEvent>,
        config: &Config,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Arc<Node> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let life = config.auth.token_life_max.as_secs();
        let connections = Connections::new(broker.state()).remembering(config.limits.revocations_max, life);
        let connections = Arc::new(connections);
        let cluster = Arc::new(Cluster::new(card, broker.clone(), connections.clone(), clock));
        let log_rules = LogRules::new(config);
        let log_names = LogNames::new(&log_rules);
        let event_loop = EventLoop {
            attachments: Attachments::default(),
            connections: connections.clone(),
            broker: broker.clone(),
            cluster: cluster.clone(),
            commands,
            events,
            clock,
            metrics,
            logs: Logs::new(broker.clone(), log_rules, clock),
            wakes: Wakes::default(),
        };
        tokio::spawn(event_loop.run());
        let (namespaces, limits) = (config.namespaces.clone(), &config.limits);
        let rules =
            namespaces.iter().map(|ns| (ns.name.clone(), Arc::new(batch_rules(ns, limits)))).collect();
        Arc::new(Node {
            broker,
            commands: sender,
            namespaces,
            rules,
            log_names,
            footprints: Footprints::new(config),
            keys: IdempotencyKeys::new(limits.idempotency_bytes, limits.idempotency_window),
            connections,
            cluster,
            clock,
            parting: TaskTracker::new(),
            next_session: AtomicU64::new(1),
            publishing: TaskTracker::new(),
        })
    }

    /// Registers a connection, which from now on is told of outages and can be told to close. Dropping the [`Member`] takes all of it back.
    pub fn enter(self: &Arc<Self>, mailbox: Arc<SharedMailbox>) -> Member {
        let session = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        self.connections.insert(session, &mailbox);
        self.cluster.card().connection_opened();
        if self.publishing.is_closed() {
            // It was admitted before the drain began, and may be in nobody's list of what is to be closed.
            self.close(session, Close::new(CloseCode::Restart, "the server restarts"));
        }
        Member::new(self.clone(), session, mailbox)
    }

    /// Publishes for a caller, unless this instance is about to end.
    pub async fn publish(&self, command: PublishCommand, caller: &Caller) -> Result<Published, Problem> {
        // Counted first and asked then: who closes sees either this publish or its refusal.
        let _on_its_way = self.publishing.token();
        if self.publishing.is_closed() {
            return Err(Code::Draining.into());
        }
        defect(command.channel.as_str());
        let asked = command.ack;
        let published = self.store(command, caller).await?;
        Ok(match asked {
            // Who asks for no acknowledgement is told nothing that could be taken for one.
            Ack::None => Published { position: None, ack: Ack::None, duplicate: false },
            Ack::Stored | Ack::Replicated => published,
        })
    }

    /// Counts what a publication takes to its caller, and has the broker store it.
    async fn store(&self, mut command: PublishCommand, caller: &Caller) -> Result<Published, Problem> {
        command.idempotency_key = command.idempotency_key.map(|key| caller.own_key(&key));
        let (now, channel) = (self.clock.now(), command.channel.clone());
        let bytes = self.footprints.count(caller, &command, self.namespaces.of(channel.as_str()), now)?;
        let key = self.keys.count(caller, &channel, command.idempotency_key.as_deref(), now);
        let key = key.inspect_err(|_| self.footprints.give_back(bytes.as_ref(), channel.as_str()))?;
        let published = self.broker.publish(command, caller.clone()).await;
        if self.keys.settle(key, &published) == Settled::NotStored {
            self.footprints.give_back(bytes.as_ref(), channel.as_str());
        }
        Ok(published?)
    }

    /// What the channel holds after `since`.
    pub async fn history(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> Result<Page, Problem> {
        let page = self.broker.history(channel, since, limit).await?;
        page.ok_or_else(|| Code::HistoryDisabled.into())
    }

    /// What the channel holds after `since`, for a connection that is attached to it.
    pub async fn resume(&self, channel: Channel, since: Position, limit: PageLimit) -> Result<Page, Problem> {
        let page = self.broker.resume(channel, Some(since), limit).await?;
        page.ok_or_else(|| Code::HistoryDisabled.into())
    }

    /// Who is in the channel, on all instances that share the broker; at most `limit` of them.
    pub async fn members(&self, channel: &Channel, limit: usize) -> Result<PresenceMembers, Problem> {
        match self.has_presence(channel) {
            true => Ok(self.broker.members(channel, limit).await?),
            false => Err(Code::PresenceDisabled.into()),
        }
    }

    /// Whether it is known who is in the channel.
    pub fn has_presence(&self, channel: &Channel) -> bool {
        self.namespaces.of(channel.as_str()).presence
    }

    /// Channels with subscribers here or with history, at most `limit` of each kind.
    pub async fn channels(&self, limit: usize) -> Result<(ChannelHeads, Vec<(Channel, usize)>), Problem> {
        let held = self.broker.channels(limit).await?;
        Ok((held, self.ask(|done| NodeCommand::Channels { limit, done }).await?))
    }

    /// The number of connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The connections that hold something because their peers are slow, and how much.
    pub fn slow(&self) -> Vec<(usize, Arc<SharedMailbox>)> {
        self.connections.slow(SLOW_AFTER, self.clock.now())
    }

    /// Tells the connections that came by an API key of such a name to end; returns their mailboxes.
    pub fn close_those_by_key(&self, named: impl Fn(&str) -> bool, close: &Close) -> Vec<Arc<SharedMailbox>> {
        self.connections.close_those_by_key(named, close)
    }

    /// The instances of the cluster: this one as it is now, the others as they were heard of last.
    pub fn instances(&self) -> Vec<Peer> {
        self.cluster.instances()
    }

    /// Has every instance do something with its connections, and names those that did not answer within 2 s.
    pub async fn ask_all(&self, ask: ClusterAsk) -> Result<Findings, Problem> {
        self.cluster.ask(ask).await
    }

    /// What is held of the bounded resources that callers share.
    pub fn usage(&self) -> Vec<Usage> {
        let (keys, keys_max) = self.keys.usage(self.clock.now());
        let (logs, logs_max) = self.log_names.usage();
        let mut usage = self.broker.usage();
        usage.push(Usage { limit: "idempotency_bytes", used: keys, total: keys_max });
        usage.push(Usage { limit: "logs_max", used: logs, total: logs_max });
        let (stored, stored_max) = self.footprints.usage(self.clock.now());
        usage.push(Usage { limit: "stored_bytes_max", used: stored, total: stored_max });
        usage
    }

    /// Whether the event loop runs: without it nothing that is published reaches anybody.
    pub fn is_delivering(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Whether the broker can be reached.
    pub fn broker_state(&self) -> BrokerState {
        self.broker.state()
    }

    /// The servers of the broker, and how many of them are lost.
    pub fn broker_servers(&self) -> BrokerServers {
        self.broker.servers()
    }

    /// What this instance says of itself.
    pub fn card(&self) -> &InstanceCard {
        self.cluster.card()
    }

    /// Why the broker stores nothing at the moment, where it can be read.
    pub fn broker_refusal(&self) -> Option<String> {
        self.broker.refusal()
    }

    /// What the broker is called.
    pub fn broker_name(&self) -> &'static str {
        self.broker.name()
    }

    /// Refuses publishes from now on, and delivers all that was accepted before.
    pub async fn stop_publishing(&self) -> Result<(), Problem> {
        self.publishing.close();
        self.publishing.wait().await;
        self.ask(|done| NodeCommand::Flush { done }).await
    }

    /// Returns when nothing is left of connections that ended. To be called when no more begin.
    pub async fn all_parted(&self) {
        self.parting.close();
        self.parting.wait().await;
    }

    /// Takes leave of the instances that share the broker.
    pub async fn leave(&self) {
        self.broker.leave().await;
    }

    /// Connections as they are now, to be closed one by one.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.connections.sessions()
    }

    /// Tells a connection to end after what it has to deliver.
    pub fn close(&self, session: SessionId, close: Close) {
        if let Some(mailbox) = self.connections.mailbox(session) {
            mailbox.close(close);
        }
    }

    /// Returns once the session is attached to the channel, and what is published there is announced here.
    async fn attach(&self, channel: &Channel, session: SessionId) -> Result<(), Problem> {
        let subject = channel.presence_of();
        let namespace = self.namespaces.of(subject.as_ref().unwrap_or(channel).as_str());
        let rules = self.rules[&namespace.name].clone();
        let channel = channel.clone();
        match self.ask(|done| NodeCommand::Attach { channel, session, rules, done }).await? {
            Attached::Listening => Ok(()),
            Attached::TimedOut => Err(BrokerError::Unavailable.into()),
        }
    }

    /// Detaches the session from the channel and from its companion.
    async fn detach(&self, channel: &Channel, session: SessionId) {
        let channel = channel.clone();
        // Without an event loop nobody is attached.
        self.ask(|done| NodeCommand::Detach { channel, session, done }).await.ok();
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> NodeCommand) -> Result<T, Problem> {
        let (done, answer) = oneshot::channel();
        let gone = |_| Problem::new(Code::Draining, "the event loop has ended");
        self.commands.send(command(done)).await.map_err(|_| Problem::from(Code::Draining))?;
        answer.await.map_err(gone)
    }
}

fn batch_rules(namespace: &Namespace, limits: &Limits) -> BatchRules {
    BatchRules {
        window: match namespace.batch_mode {
            BatchMode::All => Some(namespace.batch_window),
            BatchMode::Immediate => None,
        },
        leading: namespace.leading,
        publications_max: limits.batch_publications_max,
        bytes_max: limits.batch_bytes_max,
    }
}
