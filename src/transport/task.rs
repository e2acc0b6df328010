//! The task of a connection: it moves the connection to its end, counts how that was, and speaks the last word.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tidings_protocol::CloseCode;
use tracing::{debug, error};

use super::connection::{Driver, Ended};
use super::inbound::Inbound;
use super::outbox::Outbox;
use super::performer::Performer;
use super::wire::Wire;
use crate::clock::Clock;
use crate::hub::{Close, Mail, Session, Transmit};
use crate::node::{Node, SharedMailbox};
use crate::observe::Metrics;

/// What a connection is made of.
pub(super) struct Connection<W> {
    pub(super) session: Session,
    pub(super) wire: W,
    pub(super) mailbox: Arc<SharedMailbox>,
    pub(super) performer: Performer,
    pub(super) node: Arc<Node>,
    pub(super) inbound: Inbound,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    /// No byte accepted for this long ends the connection.
    pub(super) write_timeout: Duration,
}

impl<W: Wire> Connection<W> {
    /// Runs the connection to its end, and counts it. A defect ends this connection and no other.
    ///
    /// The state is made before the future and only borrowed in it: a future that moves it from one async function into
    /// the next keeps a copy for each, and there are thousands of them.
    pub(super) fn run(self) -> impl Future<Output = ()> {
        let metrics = self.metrics.clone();
        let mut driver = Driver {
            session: self.session,
            wire: self.wire,
            mailbox: self.mailbox,
            inbound: self.inbound,
            receiving: 0,
            outbox: Outbox::default(),
            node: self.node,
            clock: self.clock,
            metrics: self.metrics,
            write_timeout: self.write_timeout,
            idle: Some(self.performer),
            busy: None,
            closed_with: None,
            stuck_at: None,
            mail: Mail::default(),
        };
        async move {
            metrics.opened(W::KIND);
            let ended = AssertUnwindSafe(driver.drive()).catch_unwind().await;
            // What it was attached to ends now, not after the peer's answer to our close.
            driver.idle = None;
            driver.busy = None;
            metrics.closed(W::KIND, driver.settle(&ended));
            if ended.is_err() {
                driver.say_defect();
            }
            if driver.closed_with == Some(CloseCode::SlowConsumer) {
                driver.wire.hang_up();
            }
            if let Ok(Ended::Said) | Err(_) = ended {
                driver.wire.end().await;
            }
        }
    }
}

impl<W: Wire> Driver<W> {
    /// How the connection ended, for those who count: the code of the server's last word, if it had one.
    fn settle(&self, ended: &std::thread::Result<Ended>) -> Option<CloseCode> {
        match ended {
            Ok(Ended::Said | Ended::Gone) => self.closed_with,
            Ok(Ended::Broken(error)) => {
                debug!(%error, "connection broke");
                self.closed_with
            }
            Err(_) => {
                error!("a connection ended by a defect");
                self.metrics.panicked();
                Some(CloseCode::Internal)
            }
        }
    }

    /// The last word of a connection that met a defect. The session is not asked: nobody knows its state. Nor can anything be said
    /// behind a frame that is written in part.
    fn say_defect(&mut self) {
        if self.outbox.is_empty() {
            let close = Close::new(CloseCode::Internal, "a defect of the server");
            self.wire.encode(Transmit::Close(close), &mut self.outbox);
            self.wire.write(&mut self.outbox).ok();
        }
    }
}
