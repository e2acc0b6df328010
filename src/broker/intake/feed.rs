//! One channel as an instance takes it in: how far it is, and what came last.

use std::sync::Arc;

use tidings_protocol::{Epoch, Position, Publication};

use crate::hub::{Accept, Fallen, Page, PageLimit, Progress, Retention, Span, Stream, Subscription, Time};

#[derive(Debug)]
pub(super) struct Feed {
    subscription: Subscription,
    /// The last publications without a hole, up to the subscription's position; `None` until that is known.
    tail: Option<Stream>,
    retention: Retention,
    /// Whether somebody needs it.
    pub(super) is_wanted: bool,
    /// Since when nobody does.
    idle_since: Time,
    /// The number under which somebody waits until it is listened to.
    asked: Option<u64>,
    /// Whether the broker announces it for certain.
    pub(super) is_confirmed: bool,
    /// Whether it did so before.
    was_confirmed: bool,
    /// The read that is out.
    ticket: Option<u64>,
    /// Whether it is among the channels that wait to be read.
    is_queued: bool,
}

/// What became of an announcement.
pub(super) enum Took {
    /// It follows what came before.
    Next,
    /// It is known already, or comes with the history that is being read.
    Nothing,
    /// Something before it is missing.
    Hole,
    /// It is of an instance that keeps the channel's history otherwise.
    Foreign,
}

impl Feed {
    /// A feed of which nothing is known yet.
    pub(super) fn new(retention: Retention) -> Self {
        let mut subscription = Subscription::joining();
        if retention.publications_max == 0 {
            subscription.go_volatile();
        }
        Feed {
            subscription,
            tail: None,
            retention,
            is_wanted: false,
            idle_since: Time::ZERO,
            asked: None,
            is_confirmed: false,
            was_confirmed: false,
            ticket: None,
            is_queued: false,
        }
    }

    /// Judges an announcement and keeps it if it is next.
    pub(super) fn take(&mut self, epoch: Option<&Epoch>, publication: &Arc<Publication>, now: Time) -> Took {
        let span = epoch.zip(publication.offset);
        let span = span.map(|(epoch, offset)| Span { epoch: epoch.clone(), first: offset, last: offset });
        match self.subscription.accept_span(span.as_ref(), 0, usize::MAX) {
            Accept::Deliver { .. } => {
                if let Some(tail) = &mut self.tail {
                    tail.push(publication.clone(), &self.retention, now);
                }
                Took::Next
            }
            Accept::Behind => Took::Hole,
            Accept::Lost => Took::Foreign,
            Accept::Duplicate | Accept::Held | Accept::Overflow(_) => Took::Nothing,
        }
    }

    /// Somebody needs it, and waits under this number until it is listened to.
    pub(super) fn want(&mut self, number: u64) {
        (self.is_wanted, self.asked) = (true, Some(number));
    }

    /// Nobody needs it any more. False if nobody did before.
    pub(super) fn unwant(&mut self, now: Time) -> bool {
        if !std::mem::take(&mut self.is_wanted) {
            return false;
        }
        (self.asked, self.idle_since) = (None, now);
        true
    }

    /// Whether the broker may announce it.
    pub(super) fn may_be_announced(&self) -> bool {
        self.is_confirmed || self.was_confirmed
    }

    /// The number that can be answered: sessions may read history, and then count on what is announced.
    pub(super) fn answer(&mut self) -> Option<u64> {
        let is_ready = self.is_confirmed && !self.subscription.is_joining();
        if is_ready { self.asked.take() } else { None }
    }

    /// The broker announces it from now on. True if what it announced until now, and did not reach this instance, must be
    /// told as lost.
    pub(super) fn confirm(&mut self) -> bool {
        let was_confirmed = std::mem::replace(&mut self.was_confirmed, true);
        // Twice without a loss between: the first one was of an earlier time, and the channel was not announced since.
        let twice = std::mem::replace(&mut self.is_confirmed, true);
        let is_volatile = self.retention.publications_max == 0;
        (twice || (was_confirmed && is_volatile)) && self.lose()
    }

    /// Whether what is lost now is told once the broker announces the channel again: of a volatile channel nothing is passed on
    /// until then, so one gap, at the place where it goes on, is the whole truth.
    pub(super) fn tells_later(&self) -> bool {
        self.was_confirmed && !self.is_confirmed && self.retention.publications_max == 0
    }

    /// Announcements may have been lost. True if the loss must be told: no history can make it good.
    pub(super) fn lose(&mut self) -> bool {
        if self.subscription.is_behind() && self.ticket.is_none() {
            // The read that is due anyway comes after this loss, too.
            return false;
        }
        self.subscription.fall_behind() == Fallen::Gap
    }

    /// The head may be elsewhere. True if that must be read; a channel without positions has nothing to compare.
    pub(super) fn doubt(&mut self) -> bool {
        self.subscription.is_live() && self.subscription.fall_behind() == Fallen::Read
    }

    /// Whether history must be asked for and is not being asked for.
    pub(super) fn needs_read(&self) -> bool {
        self.ticket.is_none() && (self.subscription.is_joining() || self.subscription.is_behind())
    }

    /// The same; true once, until [`Feed::leave_queue`].
    pub(super) fn queues(&mut self) -> bool {
        self.needs_read() && !std::mem::replace(&mut self.is_queued, true)
    }

    /// It waits no more to be read.
    pub(super) fn leave_queue(&mut self) {
        self.is_queued = false;
    }

    /// Notes that a read is out; returns what it begins after.
    pub(super) fn ask(&mut self, ticket: u64) -> Option<Position> {
        self.ticket = Some(ticket);
        self.subscription.position().cloned()
    }

    /// Whether this is the read that is out; it is not any more.
    pub(super) fn is_answered_by(&mut self, ticket: u64) -> bool {
        self.ticket.take_if(|asked| *asked == ticket).is_some()
    }

    /// Goes on with a page of history. Returns what is new, and whether something is lost, or may be for some session.
    pub(super) fn take_page(&mut self, page: Option<Page>, now: Time) -> (Vec<Arc<Publication>>, bool) {
        let Some(page) = page else {
            self.subscription.go_volatile();
            return (Vec::new(), false);
        };
        let renamed = self.subscription.renamed_by(&page).is_some();
        let joins = self.subscription.is_joining();
        if let Progress::Gap(_, head) = self.subscription.advance(&page, false) {
            self.tail = Some(Stream::after(head));
            return (Vec::new(), true);
        }
        if joins {
            // It begins where it stands: what came before, sessions ask the broker for.
            self.tail = Some(Stream::after(page.end()));
            return (Vec::new(), false);
        }
        if let Some(tail) = &mut self.tail {
            if renamed {
                tail.fork(page.from.epoch.clone());
            }
            for publication in &page.publications {
                tail.push(publication.clone(), &self.retention, now);
            }
        }
        // Sessions that read by themselves may be ahead of this instance, in what the numbering lost. Whatever follows makes
        // them look where they are; without it they must be told to.
        let must_look = renamed && page.publications.is_empty();
        (page.publications, must_look)
    }

    /// Whether `head` is nothing new; of an unknown one nobody can say so.
    pub(super) fn has_reached(&self, head: Option<&Position>) -> bool {
        let Some((position, head)) = self.subscription.position().zip(head) else { return false };
        position.epoch == head.epoch && position.offset >= head.offset
    }

    /// What the tail holds after `since`, or where it ends; `None` where it cannot tell.
    pub(super) fn resume(&mut self, since: Option<&Position>, limit: PageLimit, now: Time) -> Option<Page> {
        if !self.is_confirmed || !self.subscription.is_live() || (since.is_none() && limit.publications > 0) {
            return None;
        }
        let tail = self.tail.as_mut()?;
        tail.expire(now);
        // What the tail calls a gap the broker may still have, or know a better reason for.
        Some(tail.read(since, limit)).filter(|page| page.gap.is_none())
    }

    /// The numbering of what comes.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.subscription.position().map(|position| position.epoch.clone())
    }

    /// Whether nobody has needed it since then.
    pub(super) fn is_idle_since(&self, since: Time) -> bool {
        !self.is_wanted && self.idle_since == since
    }

    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.as_ref().map_or(0, Stream::bytes)
    }

    /// Drops the oldest of the tail; returns its bytes.
    pub(super) fn drop_oldest(&mut self) -> usize {
        self.tail.as_mut().map_or(0, Stream::drop_oldest)
    }
}
