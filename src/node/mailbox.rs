//! What others may touch of a connection: its mailbox and its waker, behind a lock held for one push, and its profile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Profile;
use crate::hub::{Close, Mail, Mailbox, Time, Wake};

/// A mailbox that the hub puts into and one connection takes out of.
#[derive(Debug)]
pub struct SharedMailbox {
    inner: Mutex<Inner>,
    profile: Profile,
    /// Bytes of a message that is not complete yet.
    receiving: AtomicUsize,
    /// Bytes that the peer has not taken, and since when there are any, in milliseconds.
    unread: AtomicUsize,
    unread_since: AtomicU64,
    is_given_up: AtomicBool,
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
        SharedMailbox {
            inner: Mutex::new(inner),
            profile,
            receiving: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            unread_since: AtomicU64::new(0),
            is_given_up: AtomicBool::new(false),
        }
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

    /// Notes how much of a message has come.
    pub fn set_receiving(&self, bytes: usize) {
        self.receiving.store(bytes, Ordering::Relaxed);
    }

    /// Notes how much of what was said the peer has not taken. Asked for after every write: nothing costs next to nothing.
    pub fn set_unread(&self, bytes: usize, now: impl FnOnce() -> Time) {
        let before = self.unread.load(Ordering::Relaxed);
        if bytes == before {
            return;
        }
        if before == 0 {
            self.unread_since.store(now().0.as_millis() as u64, Ordering::Relaxed);
        }
        self.unread.store(bytes, Ordering::Relaxed);
    }

    fn unread_bytes(&self, patience: Duration, now: Time) -> usize {
        let since = Time(Duration::from_millis(self.unread_since.load(Ordering::Relaxed)));
        if now.since(since) >= patience { self.unread.load(Ordering::Relaxed) } else { 0 }
    }

    /// Bytes that the connection holds because its peer is slow: in reading what has waited for `patience`, or in sending.
    pub(super) fn held_bytes(&self, patience: Duration, now: Time) -> usize {
        let receiving = self.receiving.load(Ordering::Relaxed);
        receiving
            + self.unread_bytes(patience, now)
            + self.locked(|inner| inner.mailbox.stuck_bytes(patience, now))
    }

    /// Throws away what waits, and tells the connection to end at once.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        self.locked(|inner| inner.mailbox.clear());
        self.wake();
    }

    /// Whether the connection is to end at once, whatever it has to deliver.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
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
