//! A batch: publications of one channel that leave together, encoded once for everybody who gets them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tidings_protocol::{Channel, Epoch, Offset, Publication};

/// The offsets that a batch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The numbering they belong to.
    pub epoch: Epoch,
    /// The first.
    pub first: Offset,
    /// The last.
    pub last: Offset,
}

/// The complete wire images that a batch can have. Later codecs are further slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A whole WebSocket text frame, header included.
    WebSocketJson,
    /// Server-sent events whose data is an object with channel, position and data.
    Sse,
    /// Server-sent events whose data is the data alone.
    SseRaw,
}

impl Format {
    const COUNT: usize = 3;
}

/// Publications of one channel in order, without a hole between them.
pub struct Batch {
    /// The channel.
    pub channel: Channel,
    /// What offsets it covers; `None` for a channel without history.
    pub span: Option<Span>,
    /// The publications, oldest first; at least one.
    pub publications: Vec<Arc<Publication>>,
    /// About as many bytes as it takes on the wire; what mailboxes count.
    pub bytes: usize,
    encoded: [OnceLock<Bytes>; Format::COUNT],
}

impl Batch {
    /// A batch of `publications`, which follow each other within `epoch`.
    pub fn new(channel: Channel, epoch: Option<Epoch>, publications: Vec<Arc<Publication>>) -> Batch {
        let offset = |publication: Option<&Arc<Publication>>| publication.and_then(|p| p.offset);
        let ends = offset(publications.first()).zip(offset(publications.last()));
        let span = epoch.zip(ends).map(|(epoch, (first, last))| Span { epoch, first, last });
        let bytes = publications.iter().map(|p| p.json_len()).sum();
        Batch { channel, span, publications, bytes, encoded: Default::default() }
    }

    /// The batch in one format: the first who asks pays for the encoding, all others share its bytes.
    pub fn encoded(&self, format: Format, encode: impl FnOnce() -> Bytes) -> &Bytes {
        self.encoded[format as usize].get_or_init(encode)
    }

    /// The publications from `offset` on, as a batch of its own; for the few who have the first ones already.
    pub fn from_offset(&self, offset: Offset) -> Batch {
        let fresh = self.publications.iter().filter(|p| p.offset >= Some(offset)).cloned();
        let epoch = self.span.as_ref().map(|span| span.epoch.clone());
        Batch::new(self.channel.clone(), epoch, fresh.collect())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.span {
            Some(span) => write!(f, "{}@{}.{}-{}", self.channel, span.epoch, span.first, span.last),
            None => write!(f, "{}[{}]", self.channel, self.publications.len()),
        }
    }
}
