//! What others may touch of a connection: its mailbox, behind a lock held for one push, and its wake-up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::hub::{Mail, Mailbox, Wake};

/// A mailbox that the hub puts into and one connection takes out of.
#[derive(Debug)]
pub struct SharedMailbox {
    mailbox: Mutex<Mailbox>,
    called: AtomicBool,
    waker: AtomicWaker,
}

impl SharedMailbox {
    /// An empty mailbox for at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        SharedMailbox {
            mailbox: Mutex::new(Mailbox::new(bytes_max)),
            called: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Changes what is inside; the caller sees to the wake-up that this asks for.
    pub fn with(&self, change: impl FnOnce(&mut Mailbox) -> Wake) -> Wake {
        change(&mut self.mailbox.lock().expect("no mailbox panics while it is locked"))
    }

    /// Tells the connection to look.
    pub fn wake(&self) {
        self.called.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready once the connection was told to look.
    pub fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.called.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Moves what is inside into `mail`, which is empty, if the connection was told to look.
    pub fn take(&self, mail: &mut Mail) -> bool {
        if !self.called.swap(false, Ordering::AcqRel) {
            return false;
        }
        self.mailbox.lock().expect("no mailbox panics while it is locked").take(mail)
    }
}
