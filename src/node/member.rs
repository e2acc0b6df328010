//! A connection's place in the node: what it is attached to and where it is present ends with it, whatever ends it.

use std::sync::Arc;

use futures::future::join_all;
use tidings_protocol::{Channel, Code, Position, PresenceMember, Problem};

use super::{Node, SharedMailbox};
use crate::ablation::{Safeguard, ablated};
use crate::hub::{Page, PageLimit, SessionId};

/// A connection's place in the node.
pub struct Member {
    node: Arc<Node>,
    session: SessionId,
    name: Arc<str>,
    mailbox: Arc<SharedMailbox>,
    channels: Vec<Channel>,
    /// Those of the channels that know it as a member.
    present: Vec<Channel>,
}

impl Member {
    pub(super) fn new(
        node: Arc<Node>,
        session: SessionId,
        mailbox: Arc<SharedMailbox>,
        seed: &str,
    ) -> Member {
        let name = format!("{seed}-{}", session.0).into();
        Member { node, session, name, mailbox, channels: Vec::new(), present: Vec::new() }
    }

    /// The connection's name; no other has it on any instance.
    pub fn name(&self) -> &Arc<str> {
        &self.name
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
        let companion = channel.presence();
        let (left, kept) = std::mem::take(&mut self.channels)
            .into_iter()
            .partition(|attached: &Channel| attached == channel || *attached == companion);
        self.channels = kept;
        if let Some(index) = self.present.iter().position(|present| present == channel) {
            self.present.swap_remove(index);
            self.node.broker.exit(channel, &self.name).await;
        }
        for channel in Vec::from(left) {
            self.node.detach(&channel, self.session).await;
        }
    }

    async fn attach(&mut self, channel: &Channel) -> Result<(), Problem> {
        self.channels.push(channel.clone());
        self.node.attach(channel, self.session, self.mailbox.clone()).await
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.node.connections.remove(self.session);
        let (node, session, name) = (self.node.clone(), self.session, self.name.clone());
        let (channels, present) = (std::mem::take(&mut self.channels), std::mem::take(&mut self.present));
        if channels.is_empty() {
            return;
        }
        // Dropping happens in a task, also when that task panicked; detaching may have to wait for room.
        self.node.parting.spawn(async move {
            join_all(present.iter().map(|channel| node.broker.exit(channel, &name))).await;
            for channel in channels {
                node.detach(&channel, session).await;
            }
        });
    }
}
