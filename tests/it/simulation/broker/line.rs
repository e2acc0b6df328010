//! The connection by which an instance hears announcements: in order, late, and now and then not at all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidings::broker::Interest;
use tidings::hub::Time;
use tidings_protocol::{Beacon, Epoch, Publication};

use crate::history::ChannelId;

/// What reaches an instance.
#[derive(Clone, Debug)]
pub(crate) enum Announcement {
    /// A publication, in the order of its channel.
    Publication { channel: ChannelId, epoch: Option<Epoch>, publication: Arc<Publication> },
    /// From here on the channel is announced.
    Listening(ChannelId),
    /// From here on it is announced no more.
    Unlistened(ChannelId),
    /// An instance says that it lives.
    Beacon(Arc<Beacon>),
    /// The instance's own library dropped announcements before this.
    Lag,
}

/// One instance's line, as Redis has it.
#[derive(Default)]
pub(super) struct Line {
    /// A new number for each connection: what was sent by another never arrives.
    pub(super) serial: u64,
    pub(super) is_open: bool,
    pub(super) listens_to: BTreeSet<ChannelId>,
    pub(super) commands: VecDeque<Interest>,
    pub(super) last_command: Time,
    pub(super) under_way: VecDeque<Announcement>,
    pub(super) last_arrival: Time,
    dropping: Dropping,
    dropped: usize,
}

/// What becomes of announcements at the moment.
#[derive(Clone, Debug, Default, PartialEq)]
enum Dropping {
    #[default]
    Nothing,
    /// They are dropped until the library says so.
    UntilTold,
    /// They are dropped up to and with the beacon of that instance.
    UntilBeacon(Arc<str>),
}

impl Line {
    /// A new connection, which listens to nothing.
    pub(super) fn open(&mut self, now: Time) -> u64 {
        let serial = self.serial + 1;
        *self = Line { serial, is_open: true, last_command: now, last_arrival: now, ..Line::default() };
        serial
    }

    /// The connection is gone, with what was under way.
    pub(super) fn close(&mut self) {
        *self = Line { serial: self.serial, ..Line::default() };
    }

    /// Drops announcements until the library tells; false where some are dropped already.
    pub(super) fn begin_lag(&mut self) -> bool {
        self.begin_dropping(Dropping::UntilTold)
    }

    /// Drops announcements up to and with the next beacon of `instance`; false where some are dropped already.
    pub(super) fn begin_run(&mut self, instance: Arc<str>) -> bool {
        self.begin_dropping(Dropping::UntilBeacon(instance))
    }

    fn begin_dropping(&mut self, dropping: Dropping) -> bool {
        let begins = self.is_open && self.dropping == Dropping::Nothing;
        if begins {
            (self.dropping, self.dropped) = (dropping, 0);
        }
        begins
    }

    /// The library has noticed. Returns how many announcements it dropped.
    pub(super) fn end_lag(&mut self) -> usize {
        if self.dropping == Dropping::UntilTold {
            self.dropping = Dropping::Nothing;
        }
        std::mem::take(&mut self.dropped)
    }

    /// Whether this announcement is dropped; what answers a command never is.
    pub(super) fn drops(&mut self, announcement: &Announcement) -> bool {
        if matches!(
            announcement,
            Announcement::Listening(_) | Announcement::Unlistened(_) | Announcement::Lag
        ) {
            return false;
        }
        match (&self.dropping, announcement) {
            (Dropping::Nothing, _) => return false,
            (Dropping::UntilBeacon(own), Announcement::Beacon(beacon)) if beacon.instance.id == *own => {
                self.dropping = Dropping::Nothing;
            }
            _ => {}
        }
        self.dropped += 1;
        true
    }
}
