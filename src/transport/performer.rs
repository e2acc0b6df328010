//! Does what a session asks for: the one place where a connection waits for the node.

use std::net::IpAddr;
use std::sync::Arc;

use tidings_protocol::{Code, Problem, Publication, PublishCommand};

use super::admission::seat;
use crate::hub::{Action, Answer, ChannelGrant, Grant, Holder, Page};
use crate::instance::{COUNTED_FROM_BYTES, Instance, caller_of};
use crate::limits::{Caller, Seat, Taken};
use crate::node::Member;

/// A connection's hands.
pub(super) struct Performer {
    pub(super) instance: Arc<Instance>,
    pub(super) member: Member,
    /// Whom what it does is counted to.
    pub(super) caller: Caller,
    /// Where its peer is.
    pub(super) address: Option<IpAddr>,
    pub(super) places: Places,
    /// What the pages take of the caller's share of answers that are not written yet.
    pub(super) pages: Option<Box<Taken>>,
}

/// What a publication has around its data in a page, about.
const PUBLICATION_BYTES: usize = 64;

fn page_bytes(page: &Page) -> usize {
    let bytes = |publication: &Arc<Publication>| publication.payload.as_bytes().len() + PUBLICATION_BYTES;
    page.publications.iter().map(bytes).sum()
}

/// What a connection takes up of the limits of connections at once.
pub(super) struct Places {
    #[expect(dead_code, reason = "it is given back with the connection")]
    pub(super) address: Seat,
    /// Taken once it is known who it is.
    pub(super) identity: Option<Seat>,
}

impl Performer {
    /// Does one thing.
    pub(super) async fn perform(&mut self, action: Action) -> Answer {
        match action {
            Action::Authenticate { token, of } => Answer::Authenticated(self.authenticate(&token, of).await),
            Action::Admit { token } => Answer::Admitted(self.admit(&token).await),
            Action::Join { channel, since, limit, user, presence } => {
                let resumes = since.is_some();
                let mut page = self.member.join(channel, since, limit, user, presence).await;
                if let Ok(Some(page)) = &mut page
                    && self.hold(page_bytes(page)).is_err()
                {
                    // It joins all the same, and reads on when its caller has read something else.
                    page.publications.clear();
                }
                if let (true, Ok(page)) = (resumes, &page) {
                    self.instance.metrics.resumed(page.as_ref().is_some_and(|page| page.gap.is_none()));
                }
                Answer::Joined(page)
            }
            Action::Leave { channel } => {
                self.member.leave(&channel).await;
                Answer::Left
            }
            Action::Resume { channel, since, limit } => {
                Answer::Read(self.held(self.instance.node.resume(channel, since, limit).await))
            }
            Action::Read { channel, since, limit } => {
                Answer::Read(self.held(self.instance.node.history(channel, since, limit).await))
            }
            Action::Members { channel, limit } => {
                Answer::Members(self.instance.node.members(&channel, limit).await)
            }
            Action::Publish(publish) => self.publish(publish).await,
            Action::Watch { log, groups, granted } => {
                Answer::Watched(self.member.watch(log, groups, granted, &self.caller).await)
            }
            Action::Unwatch { log, tags, escalated } => {
                self.member.unwatch(log, tags, escalated).await;
                Answer::Unwatched
            }
            Action::Narrow { log, granted } => Answer::Narrowed(self.member.narrow(log, granted).await),
            Action::Confirm { logs, ping } => {
                self.member.confirm(logs, ping).await;
                Answer::Asked
            }
        }
    }

    /// A page that was read, if its caller has a share left for it.
    fn held(&mut self, page: Result<Page, Problem>) -> Result<Page, Problem> {
        let page = page?;
        self.hold(page_bytes(&page)).map(|()| page)
    }

    /// Takes so much for an answer that waits for the peer, until [`Performer::release`].
    fn hold(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes < COUNTED_FROM_BYTES {
            return Ok(());
        }
        let Performer { instance, caller, pages, .. } = self;
        let mut taken = pages.take().map(|taken| *taken);
        let more = instance.answers.shares.take_more(instance, caller, &mut taken, bytes);
        *pages = taken.map(Box::new);
        more
    }

    /// What was held is written.
    pub(super) fn release(&mut self) {
        self.pages = None;
    }

    async fn authenticate(&mut self, token: &str, of: Option<Holder>) -> Result<Grant, Problem> {
        let grant = self.instance.authenticate(token, self.address).await?;
        if of.is_some_and(|holder| holder != grant.holder()) {
            return Err(Problem::new(
                Code::Unauthorized,
                "`refresh` takes a token of the same user and tenant",
            ));
        }
        let caller = caller_of(&grant, self.address);
        if self.places.identity.is_none() || self.caller != caller {
            self.places.identity = Some(seat(&self.instance, &caller.clone().identity())?);
            self.caller = caller;
        }
        self.member.identify(&grant);
        // Whoever revokes it from here on finds it with the connection; what was revoked before is known by now.
        self.instance.recheck(&grant).map(|()| grant)
    }

    async fn admit(&self, token: &str) -> Result<ChannelGrant, Problem> {
        self.member.add_pass();
        self.instance.admit_to_channel(token, self.address).await
    }

    async fn publish(&self, publish: PublishCommand) -> Answer {
        let admitted = self.instance.admit_publish(&self.caller, publish.payload.as_bytes().len());
        if let Err(limited) = admitted {
            return Answer::Published(Err(limited.problem()));
        }
        let published = self.instance.node.publish(publish, &self.caller).await;
        if published.is_ok() {
            self.instance.metrics.published();
        }
        Answer::Published(published)
    }
}
