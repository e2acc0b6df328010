//! What everybody saw, in one order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidings::hub::Time;
use tidings_protocol::Position;

use crate::history::{ChannelId, ClientId, Event, Record};

/// The view of one client on one channel.
type View = (ClientId, ChannelId);

/// Shared by all publishers and readers.
pub(super) struct Log {
    begun: Instant,
    history: Mutex<Vec<Record>>,
    /// Where each reader stands; nowhere while something is missing.
    standing: Mutex<BTreeMap<View, Option<Position>>>,
    complaints: Mutex<Vec<String>>,
    pub(super) published: AtomicU64,
    pub(super) attempts: AtomicU64,
    /// Given up without knowing what became of them.
    pub(super) unknown: AtomicU64,
    pub(super) reconnects: AtomicU64,
    acked: AtomicU64,
}

impl Log {
    pub(super) fn new() -> Log {
        Log {
            begun: Instant::now(),
            history: Mutex::default(),
            standing: Mutex::default(),
            complaints: Mutex::default(),
            published: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            acked: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, event: Event) {
        if matches!(event, Event::Acked { .. }) {
            self.acked.fetch_add(1, Ordering::Relaxed);
        }
        // The moment is taken under the lock, so that times never go back.
        let mut history = self.history.lock().expect("nobody panics here");
        history.push(Record { time: Time(self.begun.elapsed()), event });
    }

    /// Something came that no correct server says.
    pub(super) fn complain(&self, what: String) {
        self.complaints.lock().expect("nobody panics here").push(what);
    }

    pub(super) fn stands(&self, client: ClientId, channel: ChannelId, position: Option<Position>) {
        self.standing.lock().expect("nobody panics here").insert((client, channel), position);
    }

    pub(super) fn standing(&self) -> Vec<(View, Option<Position>)> {
        self.standing.lock().expect("nobody panics here").clone().into_iter().collect()
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    pub(super) fn history(&self) -> Vec<Record> {
        self.history.lock().expect("nobody panics here").clone()
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("nobody panics here").clone()
    }
}
