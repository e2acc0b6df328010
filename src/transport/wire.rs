//! What a connection needs of its transport. WebSocket and SSE implement it; nothing above knows which it is.

use std::future::Future;
use std::io;
use std::task::{Context, Poll};

use tidings_protocol::{CloseCode, Command, CommandRefused};

use super::outbox::Outbox;
use crate::hub::{Close, Session, Transmit};
use crate::observe::TransportKind;

/// What can be done without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// Something may have come.
    Read,
    /// Something can be written.
    Write,
}

/// What came from the peer.
#[derive(Debug)]
pub(super) enum Received {
    /// A command, and the id to answer with.
    Command(Option<u64>, Command),
    /// A text that is none.
    Refused(CommandRefused),
    /// A sign of life.
    Heard,
    /// The peer wants no more, or is gone.
    Gone,
    /// Bytes that cannot be a frame at all.
    Violation(Close),
}

impl Received {
    /// A close that a transport asks for because of what the peer sent.
    pub(super) fn violation(code: CloseCode, message: impl Into<String>) -> Received {
        Received::Violation(Close::new(code, message))
    }
}

/// One transport of one connection.
pub(super) trait Wire: Send + 'static {
    /// What it is called.
    const KIND: TransportKind;

    /// Ready when something came that `read` asks for, or something can be written that `write` asks for.
    fn poll_ready(&mut self, context: &mut Context<'_>, read: bool, write: bool) -> Poll<io::Result<Ready>>;

    /// The next thing that came, without waiting. Replies that the transport owes go into the outbox.
    fn receive(&mut self, outbox: &mut Outbox) -> io::Result<Option<Received>>;

    /// Bytes that came since this was asked last.
    fn take_read_bytes(&mut self) -> usize;

    /// Puts what is to be said into the outbox.
    fn encode(&mut self, transmit: Transmit, outbox: &mut Outbox);

    /// All of a write is in the outbox: the place for what each connection says for itself.
    fn finish(&mut self, session: &Session, outbox: &mut Outbox);

    /// Writes what the peer accepts now; returns the number of bytes.
    fn write(&mut self, outbox: &mut Outbox) -> io::Result<usize>;

    /// Bytes that left the outbox, and that the peer has not taken.
    fn unread_bytes(&self) -> usize {
        0
    }

    /// Ends the transport at once, whatever waits in it: for a peer that does not read.
    fn hang_up(&mut self) {}

    /// Ends the transport in good order, in bounded time.
    fn end(&mut self) -> impl Future<Output = ()> + Send;
}
