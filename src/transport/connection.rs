//! A connection: one task that owns a session and a wire, and moves bytes between the two.
//!
//! ```text
//!   wire ──receive──▶ session ──poll_action──▶ performer ──answer──▶ session
//!                        ▲                                             │
//!   mailbox ──take───────┘            wire ◀──write── outbox ◀─encode──┘ poll_transmit
//! ```
//!
//! Nothing is read from the peer, taken from the mailbox or asked of history while the outbox waits for the peer: a slow
//! reader costs one write's worth of memory and its mailbox, whatever it sends and whatever is sent to it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tidings_protocol::{CloseCode, Command, CommandRefused, Envelope, Frame, Problem};
use tokio::time::Sleep;
use tracing::trace;

use super::inbound::{Inbound, Verdict};
use super::outbox::Outbox;
use super::performer::Performer;
use super::wire::{Ready, Received, Wire};
use crate::clock::Clock;
use crate::hub::{Answer, Mail, Session, Time, Transmit};
use crate::node::{Node, SharedMailbox};
use crate::observe::Metrics;

/// Messages handled before other things get a turn.
const RECEIVED_PER_ROUND: usize = 64;

/// How the task that moves a connection stands.
pub(super) struct Driver<W> {
    pub(super) session: Session,
    pub(super) wire: W,
    pub(super) mailbox: Arc<SharedMailbox>,
    pub(super) inbound: Inbound,
    /// Bytes of a message that is not complete yet.
    pub(super) receiving: usize,
    pub(super) outbox: Outbox,
    pub(super) node: Arc<Node>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) write_timeout: Duration,
    /// The hands, while they are idle.
    pub(super) idle: Option<Performer>,
    /// The hands, while they do something.
    pub(super) busy: Option<BoxFuture<'static, (Performer, Answer)>>,
    pub(super) closed_with: Option<CloseCode>,
    /// When the peer counts as stuck, while it holds the outbox up.
    pub(super) stuck_at: Option<Time>,
    /// What was taken out of the mailbox; empty between two steps.
    pub(super) mail: Mail,
}

/// What a connection waits for.
enum Event {
    /// Something may have come from the peer.
    Received,
    /// The peer accepts more.
    Room,
    /// Something is in the mailbox.
    Called,
    /// An action is done.
    Answered(Box<(Performer, Answer)>),
    /// Something is due.
    Timeout,
    /// There is no memory left for a peer so slow.
    GivenUp,
    /// The transport failed.
    Broken(io::Error),
}

/// Why the loop ended without a last word.
pub(super) enum Ended {
    Said,
    Gone,
    Broken(io::Error),
}

impl<W: Wire> Driver<W> {
    pub(super) async fn drive(&mut self) -> Ended {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        // What came with the handshake is in the decoder already, and no socket will announce it.
        let mut event = Event::Received;
        // An outage that everybody else knows of is told with the greeting.
        self.collect_mail();
        loop {
            // What comes now is for whoever may still have it.
            self.session.end_expired(self.clock.now());
            match event {
                Event::Received => match self.receive() {
                    Ok(true) => {}
                    Ok(false) => return Ended::Gone,
                    Err(error) => return Ended::Broken(error),
                },
                Event::Answered(answered) => {
                    let (performer, answer) = *answered;
                    self.busy = None;
                    self.idle = Some(performer);
                    self.session.handle_answer(answer, self.clock.now());
                }
                Event::Room | Event::Called => {}
                Event::GivenUp => {
                    self.metrics.shed();
                    self.closed_with = Some(CloseCode::SlowConsumer);
                    return Ended::Gone;
                }
                Event::Timeout if self.is_stuck() => {
                    // A close frame would only join what the peer does not read.
                    self.closed_with = Some(CloseCode::SlowConsumer);
                    return Ended::Gone;
                }
                Event::Timeout => self.handle_timeout(),
                Event::Broken(error) => return Ended::Broken(error),
            }
            if let Err(error) = self.pump() {
                return Ended::Broken(error);
            }
            if self.session.is_closed() && self.outbox.is_empty() {
                return Ended::Said;
            }
            self.set(timer.as_mut());
            event = poll_fn(|context| self.poll_event(timer.as_mut(), context)).await;
        }
    }

    fn handle_timeout(&mut self) {
        let now = self.clock.now();
        if self.inbound.handle_timeout(now) {
            // What it sent meanwhile was not looked at.
            self.session.handle_received(now);
        }
        self.session.handle_timeout(now);
    }

    /// Whether the peer has accepted nothing for too long.
    fn is_stuck(&self) -> bool {
        self.stuck_at.is_some_and(|at| at <= self.clock.now())
    }

    /// Sets the timer to the next moment at which something is due.
    fn set(&self, timer: Pin<&mut Sleep>) {
        let due = [self.stuck_at, self.inbound.paused_until(), self.session.poll_timeout()];
        let due = due.into_iter().flatten().min();
        // Without anything due the session is closed, and only the peer's pace counts; then `stuck_at` is set.
        let Some(due) = due.map(|due| self.clock.instant(due)) else { return };
        if due != timer.deadline() {
            timer.reset(due);
        }
    }

    /// What the peer has not taken counts, to this connection and to its caller, until it is taken.
    fn note_unread(&mut self) {
        let unread = self.outbox.bytes() + self.wire.unread_bytes();
        self.mailbox.set_unread(unread, || self.clock.now());
        if unread == 0
            && let Some(performer) = &mut self.idle
        {
            performer.release();
        }
    }

    /// What happens next. While the outbox waits for the peer, nothing else is taken in.
    fn poll_event(&mut self, timer: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<Event> {
        self.note_unread();
        let writing = !self.outbox.is_empty();
        // Asked for by all: whoever waits for the peer may be given up meanwhile.
        let called = self.mailbox.poll_called(context);
        if self.mailbox.is_given_up() {
            return Poll::Ready(Event::GivenUp);
        }
        if !writing && called.is_ready() {
            return Poll::Ready(Event::Called);
        }
        let is_paused = self.inbound.paused_until().is_some();
        let reading = !writing && !is_paused && !self.session.is_full();
        if let Poll::Ready(ready) = self.wire.poll_ready(context, reading, writing) {
            return Poll::Ready(match ready {
                Ok(Ready::Read) => Event::Received,
                Ok(Ready::Write) => Event::Room,
                Err(error) => Event::Broken(error),
            });
        }
        if let Some(busy) = &mut self.busy
            && let Poll::Ready(answered) = busy.as_mut().poll(context)
        {
            return Poll::Ready(Event::Answered(Box::new(answered)));
        }
        timer.poll(context).map(|()| Event::Timeout)
    }

    /// Moves everything that moves without waiting.
    fn pump(&mut self) -> io::Result<()> {
        loop {
            self.say();
            if !self.outbox.is_empty() {
                let written = self.wire.write(&mut self.outbox)?;
                let now = self.clock.now();
                if written > 0 {
                    self.metrics.sent(W::KIND, written);
                    if self.outbox.is_stalled() {
                        // A peer that made room is there, though it may be too busy reading to speak. Of bytes for which
                        // there was room anyhow, only its kernel knows, or not even that.
                        self.session.handle_received(now);
                    }
                }
                self.stuck_at = self.outbox.note_progress(written > 0, now, self.write_timeout);
                if !self.outbox.is_empty() {
                    return Ok(());
                }
            }
            let moved = self.collect_mail() | self.act();
            if !moved {
                return Ok(());
            }
        }
    }

    /// Encodes all that is to be said.
    fn say(&mut self) {
        let mut said = false;
        while let Some(transmit) = self.session.poll_transmit() {
            said = true;
            self.count(&transmit);
            self.wire.encode(transmit, &mut self.outbox);
        }
        if said {
            self.wire.finish(&self.session, &mut self.outbox);
        }
    }

    fn count(&mut self, transmit: &Transmit) {
        match transmit {
            Transmit::Batch { batch, .. } => {
                trace!(?batch, "delivered");
                self.metrics.delivered(W::KIND, batch.publications.len());
            }
            Transmit::Frame(envelope) => match &**envelope {
                Envelope { frame: Frame::Error(error), .. } => self.metrics.refused(error.code),
                Envelope { frame: Frame::Gap(gap), .. } => self.metrics.gap(gap.reason),
                Envelope { .. } => {}
            },
            Transmit::Close(close) => self.closed_with = Some(close.code),
            Transmit::Ping => {}
        }
    }

    /// Hands the session what waits in the mailbox. True if there was something.
    fn collect_mail(&mut self) -> bool {
        if !self.mailbox.take(&mut self.mail) {
            return false;
        }
        if std::mem::take(&mut self.mail.revoked) {
            self.node.with_revocations(|revocations| self.session.handle_revocations(revocations));
            let grant = self.inbound.grant_now(self.session.grant());
            self.session.handle_grant(grant.as_ref());
        }
        for batch in std::mem::take(&mut self.mail.batches) {
            self.session.handle_batch(&batch);
        }
        for (channel, why) in self.mail.forgotten.drain(..) {
            self.metrics.fell_behind();
            self.session.handle_forgotten(&channel, why);
        }
        for (log, news) in self.mail.news.drain(..) {
            self.session.handle_news(log, news);
        }
        if let Some(state) = self.mail.broker.take() {
            self.session.handle_broker_state(state);
        }
        if let Some(close) = self.mail.close.take() {
            self.session.close(close);
        }
        true
    }

    /// Begins what the session asks for next. True if the session had something to say about it.
    fn act(&mut self) -> bool {
        if self.idle.is_none() {
            return false;
        }
        if let Some(action) = self.session.poll_action()
            && let Some(mut performer) = self.idle.take()
        {
            let perform = async move {
                let answer = performer.perform(action).await;
                (performer, answer)
            };
            self.busy = Some(perform.boxed());
        }
        self.session.has_transmits()
    }

    /// Hands the session what came. False if the peer is gone.
    fn receive(&mut self) -> io::Result<bool> {
        // Any byte is life, also one of a message that is not complete yet.
        self.session.handle_received(self.clock.now());
        for _ in 0..RECEIVED_PER_ROUND {
            let is_paused = self.inbound.paused_until().is_some();
            if is_paused || self.session.is_full() || self.session.is_closed() {
                return Ok(true);
            }
            let received = self.wire.receive(&mut self.outbox)?;
            let bytes = self.wire.take_read_bytes();
            self.inbound.count_bytes(bytes, self.clock.now());
            self.receiving = if received.is_some() { 0 } else { self.receiving + bytes };
            self.mailbox.set_receiving(self.receiving);
            let Some(received) = received else { return Ok(true) };
            match received {
                Received::Command(id, command) => {
                    let verdict = self.inbound.judge(self.session.grant(), &command);
                    self.take(id, Ok(command), verdict);
                }
                Received::Refused(CommandRefused { id, problem }) => {
                    let verdict = self.inbound.judge_refused(self.session.grant());
                    self.take(id, Err(problem), verdict);
                }
                Received::Heard => {
                    if let Some(close) = self.inbound.judge_sign() {
                        self.session.close(close);
                    }
                }
                Received::Gone => return Ok(false),
                Received::Violation(close) => self.session.close(close),
            }
        }
        Ok(true)
    }

    /// What the limits made of a text that came: of a command, or of one that is none.
    fn take(&mut self, id: Option<u64>, command: Result<Command, Problem>, verdict: Verdict) {
        match (verdict, command) {
            (Verdict::Take, Ok(command)) => self.session.handle_command(id, command),
            (Verdict::Take, Err(problem)) | (Verdict::Refuse(problem), _) => {
                self.session.handle_refused(CommandRefused { id, problem });
            }
            (Verdict::End(close), _) => self.session.close(close),
        }
    }
}
