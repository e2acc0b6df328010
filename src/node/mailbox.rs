//! What others may touch of a connection: its mailbox and its waker, behind a lock held for one push, and its profile.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use super::Profile;
use crate::hub::{Close, Mail, Mailbox, Wake};

/// A mailbox that the hub puts into and one connection takes out of.
#[derive(Debug)]
pub struct SharedMailbox {
    inner: Mutex<Inner>,
    profile: Profile,
}

#[derive(Debug)]
struct Inner {
    mailbox: Mailbox,
    /// The connection may look: everything of the moment that it was called for is in.
    called: bool,
    /// Wakes the connection. Kept from one call to the next: a connection is woken by the same task all its life.
    waker: Waker,
}

impl SharedMailbox {
    /// An empty mailbox for at most `bytes_max` bytes, of a connection with this profile.
    pub fn new(bytes_max: usize, profile: Profile) -> Self {
        let mailbox = Mailbox::new(bytes_max);
        let inner = Inner { mailbox, called: false, waker: Waker::noop().clone() };
        SharedMailbox { inner: Mutex::new(inner), profile }
    }

    /// Whose connection it is.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Changes what is inside; the caller sees to the wake-up that this asks for.
    pub fn with(&self, change: impl FnOnce(&mut Mailbox) -> Wake) -> Wake {
        self.locked(|inner| change(&mut inner.mailbox))
    }

    /// Tells the connection to end after what it has to deliver.
    pub fn close(&self, close: Close) {
        if self.with(|inside| inside.close(close)) == Wake::Now {
            self.wake();
        }
    }

    /// Tells the connection to look at its own credentials.
    pub fn recheck(&self) {
        if self.with(|inside| inside.recheck()) == Wake::Now {
            self.wake();
        }
    }

    /// Tells the connection to look.
    pub fn wake(&self) {
        self.locked(|inner| {
            inner.called = true;
            inner.waker.wake_by_ref();
        });
    }

    /// Ready once the connection was told to look.
    pub fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        self.locked(|inner| {
            inner.waker.clone_from(context.waker());
            if inner.called { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// Moves what is inside into `mail`, which is empty, if the connection was told to look.
    pub fn take(&self, mail: &mut Mail) -> bool {
        self.locked(|inner| std::mem::take(&mut inner.called) && inner.mailbox.take(mail))
    }

    fn locked<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().expect("nothing panics while it holds a mailbox"))
    }
}
