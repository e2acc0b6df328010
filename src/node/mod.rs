//! The node joins hub and broker: one instance as its connections and its HTTP requests see it.
//!
//! It does not know how a subscriber is connected, nor how the broker stores.

mod cluster;
mod connections;
mod event_loop;
mod inquiry;
mod mailbox;
mod operation;
mod profile;

pub use inquiry::Findings;
pub use mailbox::SharedMailbox;
pub use profile::Profile;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_protocol::{Ack, Channel, CloseCode, ClusterAsk, Code, Position, Problem, PublishCommand};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::ablation::{Safeguard, ablated};
use crate::broker::{Broker, BrokerEvent, InstanceCard, Peer};
use crate::clock::Clock;
use crate::config::{BatchMode, Limits, Namespace, Namespaces};
use crate::hub::{BatchRules, BrokerState, Close, Hub, Page, PageLimit, Published, SessionId};
use crate::observe::Metrics;
use cluster::Cluster;
use connections::Connections;
use event_loop::{EventLoop, NodeCommand};

/// Commands that wait for the event loop; a connection that finds no room waits.
const COMMANDS_MAX: usize = 4_096;

/// Announcements that wait for the event loop; a broker that finds no room waits or says that it lost one.
pub const EVENTS_MAX: usize = 65_536;

/// One instance.
pub struct Node {
    broker: Arc<dyn Broker>,
    commands: mpsc::Sender<NodeCommand>,
    namespaces: Namespaces,
    rules: HashMap<Arc<str>, Arc<BatchRules>>,
    connections: Arc<Connections>,
    cluster: Arc<Cluster>,
    next_session: AtomicU64,
    /// Publishes on their way; closed once no more are taken.
    publishing: TaskTracker,
}

impl Node {
    /// Joins a broker and the receiving end of its announcements; runs until dropped.
    pub fn start(
        card: Arc<InstanceCard>,
        broker: Arc<dyn Broker>,
        events: mpsc::Receiver<BrokerEvent>,
        namespaces: Namespaces,
        limits: &Limits,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Arc<Node> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let connections = Arc::new(Connections::new(broker.state()));
        let cluster = Arc::new(Cluster::new(card, broker.clone(), connections.clone(), clock));
        let event_loop = EventLoop {
            hub: Hub::default(),
            connections: connections.clone(),
            broker: broker.name(),
            cluster: cluster.clone(),
            commands,
            events,
            clock,
            metrics,
            wakes: Vec::new(),
            owed: Default::default(),
        };
        tokio::spawn(event_loop.run());
        let rules =
            namespaces.iter().map(|ns| (ns.name.clone(), Arc::new(batch_rules(ns, limits)))).collect();
        Arc::new(Node {
            broker,
            commands: sender,
            namespaces,
            rules,
            connections,
            cluster,
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
        Member { node: self.clone(), session, mailbox, channels: Vec::new() }
    }

    /// Publishes, unless this instance is about to end.
    pub async fn publish(&self, command: PublishCommand) -> Result<Published, Problem> {
        // Counted first and asked then: who closes sees either this publish or its refusal.
        let _on_its_way = self.publishing.token();
        if self.publishing.is_closed() {
            return Err(Code::Draining.into());
        }
        let asked = command.ack;
        let published = self.broker.publish(command).await?;
        Ok(match asked {
            // Who asks for no acknowledgement is told nothing that could be taken for one.
            Ack::None => Published { position: None, ack: Ack::None },
            Ack::Stored | Ack::Replicated => published,
        })
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

    /// Channels with subscribers here or with history, at most `limit` of each kind.
    pub async fn channels(
        &self,
        limit: usize,
    ) -> Result<(Vec<(Channel, Position)>, Vec<(Channel, usize)>), Problem> {
        let held = self.broker.channels(limit).await?;
        Ok((held, self.ask(|done| NodeCommand::Channels { limit, done }).await?))
    }

    /// The number of connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The instances of the cluster: this one as it is now, the others as they were heard of last.
    pub fn instances(&self) -> Vec<Peer> {
        self.cluster.instances()
    }

    /// Has every instance do something with its connections, and names those that did not answer within 2 s.
    pub async fn ask_all(&self, ask: ClusterAsk) -> Result<Findings, Problem> {
        self.cluster.ask(ask).await
    }

    /// Whether the event loop runs: without it nothing that is published reaches anybody.
    pub fn is_delivering(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Whether the broker can be reached.
    pub fn broker_state(&self) -> BrokerState {
        self.broker.state()
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

    async fn attach(&self, channel: &Channel, member: &Member) -> Result<(), Problem> {
        let (session, mailbox) = (member.session, member.mailbox.clone());
        let rules = self.rules[&self.namespaces.of(channel.as_str()).name].clone();
        let channel = channel.clone();
        let attach = |done| NodeCommand::Attach { channel: channel.clone(), session, mailbox, rules, done };
        self.ask(attach).await?;
        // Whoever comes second must not read history before the first one's listening is confirmed.
        Ok(self.broker.listen(&channel).await?)
    }

    async fn detach(&self, channel: &Channel, session: SessionId) {
        let detach = |done| NodeCommand::Detach { channel: channel.clone(), session, done };
        if self.ask(detach).await.is_ok() {
            self.broker.unlisten(channel).await;
        }
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

/// A connection's place in the node: what it is attached to ends with it, whatever ends it.
pub struct Member {
    node: Arc<Node>,
    session: SessionId,
    mailbox: Arc<SharedMailbox>,
    channels: Vec<Channel>,
}

impl Member {
    /// What `hello` calls the connection.
    pub fn name(&self) -> String {
        operation::name_of(self.node.cluster.card().id(), self.session)
    }

    /// The connection's credential was accepted.
    pub fn identify(&self, user: &Arc<str>) {
        self.mailbox.profile().identify(user);
    }

    /// Attaches to a channel, then reads what it holds after `since`; `None` for a volatile channel.
    pub async fn join(
        &mut self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> Result<Option<Page>, Problem> {
        let joined = self.attach_and_read(&channel, since, limit).await;
        if joined.is_err() {
            self.leave(&channel).await;
        }
        joined
    }

    async fn attach_and_read(
        &mut self,
        channel: &Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> Result<Option<Page>, Problem> {
        let broker = self.node.broker.clone();
        let history = || broker.resume(channel.clone(), since.clone(), limit);
        if ablated(Safeguard::ListenBeforeRead) {
            let page = history().await?;
            self.attach(channel).await?;
            return Ok(page);
        }
        // Listen before reading history: a publication between the two is then seen twice, never missed.
        self.attach(channel).await?;
        Ok(history().await?)
    }

    /// Detaches from a channel.
    pub async fn leave(&mut self, channel: &Channel) {
        self.channels.retain(|attached| attached != channel);
        self.mailbox.profile().set_channels(self.channels.len());
        self.node.detach(channel, self.session).await;
    }

    async fn attach(&mut self, channel: &Channel) -> Result<(), Problem> {
        self.channels.push(channel.clone());
        self.mailbox.profile().set_channels(self.channels.len());
        self.node.attach(channel, self).await
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.node.connections.remove(self.session);
        self.node.cluster.card().connection_closed();
        let (node, session, channels) = (self.node.clone(), self.session, std::mem::take(&mut self.channels));
        if channels.is_empty() {
            return;
        }
        // Dropping happens in a task, also when that task panicked; detaching may have to wait for room.
        tokio::spawn(async move {
            for channel in channels {
                node.detach(&channel, session).await;
            }
        });
    }
}
