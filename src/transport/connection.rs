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

use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tidings_protocol::{CloseCode, Envelope, Frame};
use tokio::time::Instant;
use tracing::{debug, error, trace};

use super::outbox::Outbox;
use super::performer::Performer;
use super::wire::{Ready, Received, Wire};
use crate::clock::Clock;
use crate::hub::{Answer, Close, Session, Transmit};
use crate::node::SharedMailbox;
use crate::observe::Metrics;

/// Messages handled before other things get a turn.
const RECEIVED_PER_ROUND: usize = 64;

/// What a connection is made of.
pub(super) struct Connection<W> {
    pub(super) session: Session,
    pub(super) wire: W,
    pub(super) mailbox: Arc<SharedMailbox>,
    pub(super) performer: Performer,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    /// No byte accepted for this long ends the connection.
    pub(super) write_timeout: Duration,
}

/// How the task that moves a connection stands.
struct Driver<W> {
    session: Session,
    wire: W,
    mailbox: Arc<SharedMailbox>,
    outbox: Outbox,
    clock: Clock,
    metrics: Arc<Metrics>,
    write_timeout: Duration,
    /// The hands, while they are idle.
    idle: Option<Performer>,
    /// The hands, while they do something.
    busy: Option<BoxFuture<'static, (Performer, Answer)>>,
    closed_with: Option<CloseCode>,
}

/// Why the loop ended without a last word.
enum Ended {
    Said,
    Gone,
    Broken(io::Error),
}

impl<W: Wire> Connection<W> {
    /// Runs the connection to its end, and counts it. A defect ends this connection and no other.
    pub(super) async fn run(self) {
        let metrics = self.metrics.clone();
        metrics.opened(W::KIND);
        let driver = Driver {
            session: self.session,
            wire: self.wire,
            mailbox: self.mailbox,
            outbox: Outbox::default(),
            clock: self.clock,
            metrics: self.metrics,
            write_timeout: self.write_timeout,
            idle: Some(self.performer),
            busy: None,
            closed_with: None,
        };
        let code = match AssertUnwindSafe(driver.run()).catch_unwind().await {
            Ok(code) => code,
            Err(_) => {
                error!("a connection ended by a defect");
                metrics.panicked();
                Some(CloseCode::Internal)
            }
        };
        metrics.closed(W::KIND, code);
    }
}

impl<W: Wire> Driver<W> {
    async fn run(mut self) -> Option<CloseCode> {
        let ended = self.drive().await;
        // What it was attached to ends now, not after the peer's answer to our close.
        self.idle = None;
        self.busy = None;
        match ended {
            Ended::Said => self.wire.end().await,
            Ended::Gone => {}
            Ended::Broken(error) => debug!(%error, "connection broke"),
        }
        self.closed_with
    }

    async fn drive(&mut self) -> Ended {
        let timer = tokio::time::sleep_until(Instant::now());
        tokio::pin!(timer);
        loop {
            let stuck_at = match self.pump() {
                Ok(stuck_at) => stuck_at,
                Err(error) => return Ended::Broken(error),
            };
            let writing = !self.outbox.is_empty();
            if self.session.is_closed() && !writing {
                return Ended::Said;
            }
            let deadline = [stuck_at, self.session.poll_timeout()].into_iter().flatten().min();
            let deadline = deadline.map(|deadline| self.clock.instant(deadline));
            if let Some(deadline) = deadline.filter(|deadline| *deadline != timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            let reading = !writing && !self.session.is_full();
            tokio::select! {
                ready = self.wire.ready(reading, writing), if reading || writing => match ready {
                    Ok(Ready::Write) => {}
                    Ok(Ready::Read) => match self.receive() {
                        Ok(true) => {}
                        Ok(false) => return Ended::Gone,
                        Err(error) => return Ended::Broken(error),
                    },
                    Err(error) => return Ended::Broken(error),
                },
                (performer, answer) = performed(&mut self.busy) => {
                    self.busy = None;
                    self.idle = Some(performer);
                    self.session.handle_answer(answer, self.clock.now());
                }
                () = poll_fn(|context| self.mailbox.poll_called(context)), if !writing => {}
                () = &mut timer, if deadline.is_some() => {
                    let now = self.clock.now();
                    if stuck_at.is_some_and(|at| at <= now) {
                        // The close frame would only join what the peer does not read.
                        self.closed_with = Some(CloseCode::SlowConsumer);
                        return Ended::Gone;
                    }
                    self.session.handle_timeout(now);
                }
            }
        }
    }

    /// Moves everything that moves without waiting. Returns when the peer counts as stuck, if it holds us up.
    fn pump(&mut self) -> io::Result<Option<crate::hub::Time>> {
        loop {
            self.say();
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
            if !self.outbox.is_empty() {
                return Ok(self.outbox.note_progress(written > 0, now, self.write_timeout));
            }
            self.outbox.note_progress(true, now, self.write_timeout);
            let moved = self.collect_mail() | self.act();
            if !moved {
                return Ok(None);
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
        let Some(mail) = self.mailbox.take() else { return false };
        for batch in &mail.batches {
            self.session.handle_batch(batch);
        }
        for channel in &mail.forgotten {
            self.metrics.fell_behind();
            self.session.handle_forgotten(channel);
        }
        if let Some(close) = mail.close {
            self.session.close(close);
        }
        true
    }

    /// Begins what the session asks for next. True if the session moved on.
    fn act(&mut self) -> bool {
        let Some(mut performer) = self.idle.take() else { return false };
        let before = self.session.has_transmits();
        match self.session.poll_action() {
            Some(action) => {
                let perform = async move {
                    let answer = performer.perform(action).await;
                    (performer, answer)
                };
                self.busy = Some(perform.boxed());
            }
            None => self.idle = Some(performer),
        }
        self.session.has_transmits() != before
    }

    /// Hands the session what came. False if the peer is gone.
    fn receive(&mut self) -> io::Result<bool> {
        // Any byte is life, also one of a message that is not complete yet.
        self.session.handle_received(self.clock.now());
        for _ in 0..RECEIVED_PER_ROUND {
            if self.session.is_full() || self.session.is_closed() {
                return Ok(true);
            }
            let Some(received) = self.wire.receive(&mut self.outbox)? else { return Ok(true) };
            match received {
                Received::Command(id, command) => self.session.handle_command(id, command),
                Received::Refused(refused) => self.session.handle_refused(refused),
                Received::Heard => {}
                Received::Gone => return Ok(false),
                Received::Violation(close) => self.session.close(close),
            }
        }
        Ok(true)
    }
}

async fn performed(busy: &mut Option<BoxFuture<'static, (Performer, Answer)>>) -> (Performer, Answer) {
    match busy {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// A close that a transport asks for because of what the peer sent.
pub(super) fn violation(code: CloseCode, message: impl Into<String>) -> Received {
    Received::Violation(Close::new(code, message))
}
