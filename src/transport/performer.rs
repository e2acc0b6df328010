//! Does what a session asks for: the one place where a connection waits for the node.

use std::sync::Arc;

use tidings_protocol::PublishCommand;

use crate::auth::{Authenticator, Now};
use crate::clock::Clock;
use crate::hub::{Action, Answer};
use crate::node::{Member, Node};
use crate::observe::Metrics;

/// A connection's hands.
pub(super) struct Performer {
    pub(super) node: Arc<Node>,
    pub(super) member: Member,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl Performer {
    /// Does one thing.
    pub(super) async fn perform(&mut self, action: Action) -> Answer {
        match action {
            Action::Authenticate { token } => {
                let now = Now { time: self.clock.now(), unix: self.clock.unix_ms() / 1_000 };
                let granted = self.authenticator.authenticate(&token, now);
                granted.iter().for_each(|grant| self.member.identify(&grant.user));
                Answer::Authenticated(granted)
            }
            Action::Join { channel, since, limit, user, presence } => {
                let resumes = since.is_some();
                let page = self.member.join(channel, since, limit, user, presence).await;
                if let (true, Ok(page)) = (resumes, &page) {
                    self.metrics.resumed(page.as_ref().is_some_and(|page| page.gap.is_none()));
                }
                Answer::Joined(page)
            }
            Action::Leave { channel } => {
                self.member.leave(&channel).await;
                Answer::Left
            }
            Action::Resume { channel, since, limit } => {
                Answer::Read(self.node.resume(channel, since, limit).await)
            }
            Action::Read { channel, since, limit } => {
                Answer::Read(self.node.history(channel, since, limit).await)
            }
            Action::Members { channel, limit } => Answer::Members(self.node.members(&channel, limit).await),
            Action::Publish(publish) => self.publish(publish).await,
            Action::Watch { log, groups, granted } => {
                Answer::Watched(self.member.watch(log, groups, granted).await)
            }
            Action::Unwatch { log, tags } => {
                self.member.unwatch(log, tags).await;
                Answer::Unwatched
            }
            Action::Narrow { log, granted } => Answer::Narrowed(self.member.narrow(log, granted).await),
            Action::Confirm { logs, ping } => {
                self.member.confirm(logs, ping).await;
                Answer::Asked
            }
        }
    }

    async fn publish(&self, publish: PublishCommand) -> Answer {
        let published = self.node.publish(publish).await;
        if published.is_ok() {
            self.metrics.published();
        }
        Answer::Published(published)
    }
}
