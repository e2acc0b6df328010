//! A connection's place in the node: what it is attached to and where it is present ends with it, whatever ends it.

use std::sync::Arc;

use futures::future::join_all;
use tidings_protocol::{Channel, Code, Position, PresenceMember, Problem};

use super::event_loop::NodeCommand;
use super::{Node, SharedMailbox, operation};
use crate::ablation::{Safeguard, ablated};
use crate::hub::{Grant, Page, PageLimit, SessionId};

/// A connection's place in the node.
pub struct Member {
    pub(super) node: Arc<Node>,
    pub(super) session: SessionId,
    name: Arc<str>,
    pub(super) mailbox: Arc<SharedMailbox>,
    /// The channels that know it as a member.
    present: Vec<Channel>,
    /// Whether it may be attached to something, or watch something.
    pub(super) is_known: bool,
}

impl Member {
    pub(super) fn new(node: Arc<Node>, session: SessionId, mailbox: Arc<SharedMailbox>) -> Member {
        let name = operation::name_of(node.cluster.card().id(), session).into();
        Member { node, session, name, mailbox, present: Vec::new(), is_known: false }
    }

    /// What `hello` calls the connection, and lists of members; no other has this name on any instance.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The connection's credential was accepted.
    pub fn identify(&self, grant: &Grant) {
        self.mailbox.profile().identify(&grant.user, &grant.credential);
    }

    /// A token for a single channel was accepted.
    pub fn add_pass(&self) {
        self.mailbox.profile().add_pass();
    }

    /// Attaches to a channel, then reads what it holds after `since`; `None` for a volatile channel. From then on `user` is
    /// present there. With `presence` it is attached to the channel's companion before.
    pub async fn join(
        &mut self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
        user: Arc<str>,
        presence: bool,
    ) -> Result<Option<Page>, Problem> {
        let has_presence = self.node.has_presence(&channel);
        if presence && !has_presence {
            return Err(Code::PresenceDisabled.into());
        }
        if presence && let Err(problem) = self.attach(&channel.presence()).await {
            self.leave(&channel).await;
            return Err(problem);
        }
        let joined = self.attach_and_read(&channel, since, limit).await;
        match &joined {
            Ok(_) if has_presence => self.appear(channel, user).await,
            Ok(_) => {}
            Err(_) => self.leave(&channel).await,
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

    async fn appear(&mut self, channel: Channel, user: Arc<str>) {
        let member = PresenceMember { user, session: self.name.clone(), since: self.node.clock.unix_ms() };
        // Noted before it is done: whoever is interrupted in between is taken back too.
        self.present.push(channel.clone());
        self.node.broker.enter(&channel, member).await;
    }

    /// Detaches from a channel and from its companion.
    pub async fn leave(&mut self, channel: &Channel) {
        if self.present.contains(channel) {
            // Forgotten once it is done: whoever is interrupted in between is taken back too.
            self.node.broker.exit(channel, &self.name).await;
            self.present.retain(|present| present != channel);
        }
        self.node.detach(channel, self.session).await;
    }

    async fn attach(&mut self, channel: &Channel) -> Result<(), Problem> {
        self.is_known = true;
        self.node.attach(channel, self.session).await
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // First: what is attached later finds no connection.
        self.node.connections.remove(self.session);
        self.node.cluster.card().connection_closed();
        if !self.is_known {
            return;
        }
        let (node, session, name) = (self.node.clone(), self.session, self.name.clone());
        let present = std::mem::take(&mut self.present);
        // In a task of its own, which waits for room where nobody can interrupt it. What the session asked for before is ahead
        // of it in the queue, or was never sent.
        self.node.parting.spawn(async move {
            // Without an event loop nobody is attached.
            node.commands.send(NodeCommand::Gone { session }).await.ok();
            join_all(present.iter().map(|channel| node.broker.exit(channel, &name))).await;
        });
    }
}
