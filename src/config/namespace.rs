//! `[namespace.NAME]`: how the channels of a namespace keep their history and how they batch.
//!
//! `[namespace.default]` holds for every channel without a namespace, and what it says is inherited by the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::kind::{Count, Fault, Kind, Size, Words};
use super::raw::Raw;
use super::reader::Reader;
use super::section::section;

section! {
    /// Channels called `chat:…` belong to the namespace `chat` if it is configured, all others to `default`.
    /// A namespace inherits what it does not say from [namespace.default].
    pub struct Namespace: Named(Namespace) "namespace" {
        given
        /// The NAME of `[namespace.NAME]`.
        name: Arc<str> = Reader::instance_name;
        /// Publications kept per channel for those who resume. 0: none, the channels are volatile and have no positions.
        history_size: usize as Count = 1_000 in 0 to 1_000_000;
        /// Publications older than this are forgotten.
        history_age: Duration = "5m" in "100ms" to "7days";
        /// Bytes of data kept per channel; the oldest publications make room.
        history_bytes: usize as Size = "1MiB" in 1 to "1GiB";
        /// Bytes that this instance's publications keep in Redis, of all channels of the namespace together, as the instance counts them. 0: any number.
        /// A publish beyond it fails with limit_reached, until older ones are past history_age; one caller's keep no more than are free.
        stored_bytes_max: usize as Size = 0 in 0 to "1024TiB";
        /// Publications of a channel are gathered for so long and written together. A multiple of 10 ms.
        batch_window: Duration as Window = "100ms" in "10ms" to "10s";
        /// "all": every publication of a window, in one batch. "immediate": no waiting, a batch per publication.
        batch_mode: BatchMode = "all";
        /// The first publication after a quiet window is written at once. false: it waits for the window's end like the others.
        leading: bool = true;
        /// Who is subscribed to a channel can be asked, and who comes and goes is told to those who want to hear it.
        presence: bool = false;
        /// What whoever brings no credential may do on these channels: "subscribe", "publish", "history", "presence".
        anonymous: Vec<Right> = [];
    }
}

impl Namespace {
    /// Whether the channels keep nothing and have no positions.
    pub fn is_volatile(&self) -> bool {
        self.history_size == 0
    }
}

/// Something that may be done on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To have what is published from now on, or since a position.
    Subscribe,
    /// To publish.
    Publish,
    /// To read what the channel keeps.
    History,
    /// To know who is there.
    Presence,
}

impl Words for Right {
    const EXPECTED: &'static str = "\"subscribe\", \"publish\", \"history\" or \"presence\"";
    const EXAMPLE: &'static str = "\"subscribe\"";
    const WORDS: &'static [(&'static str, Right)] = &[
        ("subscribe", Right::Subscribe),
        ("publish", Right::Publish),
        ("history", Right::History),
        ("presence", Right::Presence),
    ];
}

/// What a batch window does with the publications in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchMode {
    /// Every publication of a window, in one batch.
    All,
    /// A batch per publication, at once.
    Immediate,
}

impl Words for BatchMode {
    const EXPECTED: &'static str = "\"all\" or \"immediate\"";
    const WORDS: &'static [(&'static str, BatchMode)] =
        &[("all", BatchMode::All), ("immediate", BatchMode::Immediate)];
}

/// A batch window: a duration that is a multiple of the base tick.
pub(crate) struct Window;

impl Window {
    /// All windows of one length end together, so their lengths are multiples of one tick.
    const TICK: Duration = Duration::from_millis(10);
}

impl Kind for Window {
    type Value = Duration;
    const EXPECTED: &'static str = Duration::EXPECTED;

    fn parse(raw: &Raw) -> Result<Duration, Fault> {
        let window = Duration::parse(raw)?;
        if window.as_nanos().is_multiple_of(Window::TICK.as_nanos()) {
            return Ok(window);
        }
        let nearest = window.as_millis().div_ceil(10).max(1) * 10;
        Err(Fault::new(raw, "expected a multiple of 10 ms").with_hint(format!("\"{nearest}ms\" is one")))
    }

    fn show(window: &Duration) -> Option<String> {
        Duration::show(window)
    }

    fn measure(window: &Duration) -> Option<u128> {
        Duration::measure(window)
    }
}

/// All configured namespaces.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespaces {
    default: Arc<Namespace>,
    named: HashMap<Arc<str>, Arc<Namespace>>,
}

impl Namespaces {
    pub(crate) fn new(default: Namespace, named: Vec<Namespace>) -> Namespaces {
        let named = named.into_iter().map(|namespace| (namespace.name.clone(), Arc::new(namespace)));
        Namespaces { default: Arc::new(default), named: named.collect() }
    }

    /// The namespace of a channel: the one called like the text before the first `:`, else the default.
    pub fn of(&self, channel: &str) -> &Arc<Namespace> {
        let prefix = channel.split_once(':').map(|(prefix, _)| prefix);
        prefix.and_then(|prefix| self.named.get(prefix)).unwrap_or(&self.default)
    }

    /// The default first, then the others by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        let mut named: Vec<_> = self.named.values().collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        std::iter::once(&self.default).chain(named)
    }
}
