//! What a session makes of the answers to its actions.

use std::sync::Arc;
use tidings_protocol::{
    Channel, CloseCode, Code, ContinuedFrame, Envelope, ErrorFrame, Frame, GapFrame, GapReason, HistoryFrame,
    Position, Problem, RefreshedFrame, SubscribedFrame,
};

use super::{Asked, CatchUp, CursorState, Session, State};
use crate::hub::subscription::{Progress, Subscription};
use crate::hub::{Answer, Batch, Close, Grant, Page, Time, Transmit};

impl Session {
    /// The answer to the action that is out.
    pub fn handle_answer(&mut self, answer: Answer, now: Time) {
        let asked = self.asked.take().expect("an answer follows an action");
        if self.state == State::Closed {
            return;
        }
        match (asked, answer) {
            // The reply to `connect` is `hello`, whatever its id.
            (Asked::Connect { .. }, Answer::Authenticated(Ok(grant))) => self.open(grant),
            (Asked::Connect { id }, Answer::Authenticated(Err(problem))) => self.turn_away(id, problem),
            (Asked::Refresh { id }, Answer::Authenticated(Ok(grant))) => self.refreshed(id, grant),
            (Asked::Admission { id, command }, Answer::Admitted(Ok(pass))) => {
                self.admitted(id, command, pass);
                // Its end may have come while it was looked at.
                self.end_expired(now);
            }
            (Asked::Admission { id, .. }, Answer::Admitted(Err(problem))) => self.refuse(id, problem),
            (Asked::Join { id, channel, since, presence }, Answer::Joined(Ok(page))) => {
                if presence {
                    self.hear_presence(&channel);
                }
                self.joined(id, channel, since.as_ref(), page)
            }
            (Asked::Join { id, channel, .. }, Answer::Joined(Err(problem))) => {
                self.not_joined(id, &channel, problem)
            }
            (Asked::Leave, Answer::Left) => {}
            (Asked::History { id, channel }, Answer::Read(Ok(page))) => self.tell_history(id, &channel, page),
            (Asked::BackFill { channel }, Answer::Read(Ok(page))) => self.back_fill(&channel, page),
            (Asked::BackFill { channel }, Answer::Read(Err(_))) => {
                // The subscription stays behind: it is told the truth once history can be read again.
                self.behind.push_back(channel);
                self.retry_at = Some(now.after(self.config.retry_after));
            }
            (Asked::Members { id }, Answer::Members(Ok(members))) => self.tell_members(id, members),
            (Asked::Publish { id }, Answer::Published(Ok(published))) => {
                self.reply(id, Frame::Published(published.into()));
            }
            (Asked::Watch { id, log }, Answer::Watched(Ok(watched))) => {
                self.watched(id, log, watched);
                self.ping_by_itself(now);
            }
            (Asked::Watch { id, log }, Answer::Watched(Err(problem))) => self.not_watched(id, &log, problem),
            (Asked::Unwatch { id }, Answer::Unwatched) => self.reply(id, Frame::Unwatched {}),
            (Asked::Narrow { log }, Answer::Narrowed(tags)) => self.narrowed(log, tags),
            (Asked::Confirm, Answer::Asked) => {}
            (Asked::Refresh { id }, Answer::Authenticated(Err(problem)))
            | (Asked::History { id, .. }, Answer::Read(Err(problem)))
            | (Asked::Members { id }, Answer::Members(Err(problem)))
            | (Asked::Publish { id }, Answer::Published(Err(problem))) => self.refuse(id, problem),
            (asked, answer) => unreachable!("{answer:?} does not answer {asked:?}"),
        }
    }

    /// A client that comes back with a narrower grant loses what it no longer covers; another user is refused.
    fn refreshed(&mut self, id: Option<u64>, grant: Grant) {
        let exp = grant.expires.map(|expiry| expiry.exp);
        self.narrow(grant);
        if let Some(exp) = exp {
            self.reply(id, Frame::Refreshed(RefreshedFrame { exp }));
        }
    }

    /// From now on this grant holds: ends what it does not cover.
    pub(super) fn narrow(&mut self, grant: Grant) {
        let covered = |channel: &Channel| grant.may_subscribe(channel) || self.has_pass(channel);
        let uncovered = |channel: &&Channel| !channel.is_presence() && !covered(channel);
        let lost: Vec<Channel> = self.subscriptions.keys().filter(uncovered).cloned().collect();
        for channel in lost {
            self.lose(channel, Code::ChannelNotAllowed);
        }
        self.end_presence(&grant);
        self.grant = grant;
        self.narrow_watches();
    }

    fn not_joined(&mut self, id: Option<u64>, channel: &Channel, problem: Problem) {
        self.forget(channel);
        match self.config.catch_up {
            CatchUp::ByClient => self.refuse(id, problem),
            // A stream that lacks one of its channels would look whole: let the client come back for all of it.
            CatchUp::ByServer => self.close(Close::for_now(problem.to_string(), self.jitter)),
        }
    }

    /// The channel is attached; `page` is what it holds after the asked position, `None` where it keeps nothing.
    fn joined(&mut self, id: Option<u64>, channel: Channel, since: Option<&Position>, page: Option<Page>) {
        let by_client = self.config.catch_up == CatchUp::ByClient;
        let Some(subscription) = self.subscriptions.get_mut(&channel) else {
            // Its token ended meanwhile, and the client knows.
            return self.greet_when_complete();
        };
        let gap = match &page {
            Some(page) => match subscription.advance(page, by_client) {
                Progress::Gap(reason, _) => Some(reason),
                Progress::Live | Progress::More => None,
            },
            None => {
                subscription.go_volatile();
                // What a channel without history published since then is gone.
                (since.is_some() || self.cursor == CursorState::Read).then_some(GapReason::Lost)
            }
        };
        if subscription.is_behind() {
            self.behind.push_back(channel.clone());
        }
        let (position, more) = (subscription.position().cloned(), subscription.is_catching_up());
        if by_client {
            let publications = page.as_ref().filter(|_| gap.is_none());
            let publications = publications.map_or(Vec::new(), |page| page.publications.clone());
            let recovered = since.map(|_| gap.is_none());
            let (channel, position) = (channel.clone(), position.clone());
            self.say(
                id,
                Frame::Subscribed(SubscribedFrame { channel, position, recovered, more, publications }),
            );
        }
        if let (false, Some(since), Some(page)) = (by_client, since, &page)
            && page.gap.is_none()
        {
            // A stream has no reply that could name the new numbering.
            self.declare_continued(&channel, Some(since.clone()), &page.from);
        }
        let gap = gap.or((self.cursor == CursorState::Unreadable).then_some(GapReason::Cursor));
        if let Some(reason) = gap {
            self.declare_gap(&channel, reason, position);
        }
        self.greet_when_complete();
    }

    fn greet_when_complete(&mut self) {
        if self.greet_after > 0 {
            self.greet_after -= 1;
            if self.greet_after == 0 {
                self.greet();
            }
        }
    }

    /// History that the client asked for; where it belongs to a recovery, the subscription moves with it.
    fn tell_history(&mut self, id: Option<u64>, channel: &Channel, page: Page) {
        let moves =
            |subscription: &&Subscription| subscription.is_catching_up() && subscription.is_reached_by(&page);
        let moved = self.subscriptions.get(channel).filter(moves);
        let (moves, renamed) = (moved.is_some(), moved.and_then(|moved| moved.renamed_by(&page).cloned()));
        self.declare_continued(channel, renamed, &page.from);
        let frame = HistoryFrame {
            publications: page.publications.clone(),
            position: page.end(),
            more: page.more(),
            gap: page.gap,
        };
        self.say(id, Frame::History(frame));
        let Some(subscription) = self.subscriptions.get_mut(channel).filter(|_| moves) else { return };
        if let Progress::Gap(reason, position) = subscription.advance(&page, true) {
            self.declare_gap(channel, reason, Some(position));
        }
        if self.subscriptions.get(channel).is_some_and(|subscription| subscription.is_behind()) {
            self.behind.push_back(channel.clone());
        }
    }

    /// History that the session asked for by itself.
    fn back_fill(&mut self, channel: &Channel, page: Page) {
        let Some(subscription) = self.subscriptions.get_mut(channel) else { return };
        let renamed = subscription.renamed_by(&page).cloned();
        let progress = subscription.advance(&page, false);
        if subscription.is_behind() {
            self.behind.push_back(channel.clone());
        }
        self.declare_continued(channel, renamed, &page.from);
        match progress {
            Progress::Gap(reason, position) => self.declare_gap(channel, reason, Some(position)),
            Progress::Live | Progress::More if page.publications.is_empty() => {}
            Progress::Live | Progress::More => {
                let batch = Batch::new(channel.clone(), Some(page.from.epoch), page.publications);
                self.transmits.push_back(Transmit::Batch { batch: Arc::new(batch), from: None });
            }
        }
    }

    /// Refuses a credential and ends the session.
    pub(super) fn turn_away(&mut self, id: Option<u64>, problem: Problem) {
        let message = problem.message.to_string();
        let close = match problem.code {
            Code::TokenExpired => Close::new(CloseCode::TokenExpired, message),
            // The credential is good, but there are too many of it.
            Code::RateLimited | Code::LimitReached => Close::for_flood(message, self.jitter),
            _ => Close::new(CloseCode::Unauthorized, message),
        };
        self.refuse(id, problem);
        self.close(close);
    }

    pub(super) fn refuse(&mut self, id: Option<u64>, problem: Problem) {
        let Problem { code, message, position } = problem;
        let (message, retryable) = (message.into_owned(), code.retryable());
        let frame = ErrorFrame { code, message, retryable, position: position.map(|position| *position) };
        self.say(id, Frame::Error(frame));
    }

    pub(super) fn declare_gap(&mut self, channel: &Channel, reason: GapReason, position: Option<Position>) {
        self.say(
            None,
            match channel.presence_of() {
                Some(channel) => Self::presence_lost(channel),
                None => Frame::Gap(GapFrame { channel: channel.clone(), reason, position }),
            },
        );
    }

    /// Tells the client that its position has another name now, where it has.
    fn declare_continued(&mut self, channel: &Channel, from: Option<Position>, position: &Position) {
        if let Some(from) = from.filter(|from| from.epoch != position.epoch) {
            let (channel, position) = (Some(channel.clone()), position.clone());
            self.say(None, Frame::Continued(ContinuedFrame { channel, ns: None, from, position }));
        }
    }

    /// Says what was asked for by id; who gave none wants no reply.
    pub(super) fn reply(&mut self, id: Option<u64>, frame: Frame) {
        if id.is_some() {
            self.say(id, frame);
        }
    }

    pub(super) fn say(&mut self, id: Option<u64>, frame: Frame) {
        if self.state != State::Closed {
            self.transmits.push_back(Transmit::Frame(Box::new(Envelope { id, frame })));
        }
    }
}
