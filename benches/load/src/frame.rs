//! What the server says, decoded: JSON frames of a WebSocket and events of an SSE stream become one [`Frame`].
//! Payloads are looked up in the publisher's [`Book`] here, once per distinct frame. It judges no order: that is check.rs.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::book::{Book, Epoch, Identity, Position};
use crate::sse::{Event, SseError};

/// A frame that breaks the protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("not JSON as the protocol has it: {source} in {text:?}")]
    Json { source: serde_json::Error, text: String },
    #[error("channel {0:?} was not subscribed")]
    UnknownChannel(String),
    #[error("batch {first} to {last} with {count} publications whose offsets do not fit")]
    BadRange { first: u64, last: u64, count: usize },
    #[error("event {0:?} without data")]
    NoData(String),
    #[error(transparent)]
    Sse(#[from] SseError),
}

/// One publication as delivered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    /// `None` on a channel without history.
    pub(crate) position: Option<Position>,
    pub(crate) identity: Identity,
}

/// A run of publications that covers the offsets of `span`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) channel: usize,
    /// `None` on a channel without history.
    pub(crate) span: Option<Span>,
    pub(crate) publications: Vec<Publication>,
}

/// The offsets that a batch covers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) epoch: Epoch,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The answer to a subscribe: where the channel stands, and what was missed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    pub(crate) position: Option<Position>,
    /// Present where the subscribe named a position.
    pub(crate) recovered: Option<bool>,
    pub(crate) more: bool,
    pub(crate) publications: Vec<Publication>,
}

/// Everything a subscriber may be told; what does not concern it is `Other`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello,
    Subscribed(Recovery),
    /// A page of what was missed.
    History {
        publications: Vec<Publication>,
        more: bool,
    },
    Batch(Batch),
    Gap {
        reason: String,
        position: Option<Position>,
    },
    Continued {
        from: Position,
        position: Position,
    },
    /// A command was refused.
    Refused(String),
    Disconnect(String),
    Other,
}

impl Frame {
    /// Whether every subscriber of a channel gets the same bytes, so that decoding them once is enough.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Frame::Subscribed(_) | Frame::History { .. } | Frame::Batch(_) | Frame::Gap { .. } => true,
            Frame::Hello
            | Frame::Continued { .. }
            | Frame::Refused(_)
            | Frame::Disconnect(_)
            | Frame::Other => false,
        }
    }
}

/// Decodes frames against one run's book.
#[derive(Debug)]
pub(crate) struct FrameReader {
    book: Arc<Mutex<Book>>,
}

impl FrameReader {
    pub(crate) fn new(book: Arc<Mutex<Book>>) -> Self {
        FrameReader { book }
    }

    /// A WebSocket text message to a subscriber of channel `held`: a history reply does not name its channel.
    pub(crate) fn message(&self, held: usize, text: &[u8]) -> Result<Frame, FrameError> {
        let wire: WireFrame<'_> = parse(text)?;
        if let Some(batch) = wire.batch {
            return Ok(Frame::Batch(self.batch(&batch)?));
        }
        if let Some(subscribed) = wire.subscribed {
            let (channel, epoch) =
                (self.channel(subscribed.channel)?, epoch_of(subscribed.position.as_ref()));
            return Ok(Frame::Subscribed(Recovery {
                position: subscribed.position.map(Position::from),
                recovered: subscribed.recovered,
                more: subscribed.more,
                publications: self.recovered(channel, epoch.as_ref(), &subscribed.publications),
            }));
        }
        if let Some(history) = wire.history {
            let epoch = epoch_of(history.position.as_ref());
            let publications = self.recovered(held, epoch.as_ref(), &history.publications);
            return Ok(Frame::History { publications, more: history.more });
        }
        if let Some(error) = wire.error {
            return Ok(Frame::Refused(format!("{}: {}", error.code, error.message)));
        }
        if let Some(disconnect) = wire.disconnect {
            return Ok(Frame::Disconnect(format!("{} {}", disconnect.code, disconnect.reason)));
        }
        match (wire.gap, wire.continued, wire.hello) {
            (Some(gap), _, _) => Ok(gap.into()),
            (_, Some(continued), _) => Ok(continued.into()),
            (_, _, Some(_)) => Ok(Frame::Hello),
            (None, None, None) => Ok(Frame::Other),
        }
    }

    /// An SSE event other than a bare cursor.
    pub(crate) fn event(&self, event: &Event) -> Result<Frame, FrameError> {
        let data = || {
            event.data.as_deref().ok_or_else(|| FrameError::NoData(event.name.clone().unwrap_or_default()))
        };
        match event.name.as_deref() {
            None | Some("message") if event.data.is_some() => self.live(data()?),
            Some("hello") => Ok(Frame::Hello),
            Some("gap") => Ok(parse::<WireGap>(data()?.as_bytes())?.into()),
            Some("continued") => Ok(parse::<WireContinued>(data()?.as_bytes())?.into()),
            _ => Ok(Frame::Other),
        }
    }

    /// An SSE event that carries one publication: a batch of one.
    fn live(&self, data: &str) -> Result<Frame, FrameError> {
        let wire: WireEvent<'_> = parse(data.as_bytes())?;
        let publication = WirePublication { data: wire.data, offset: wire.offset };
        let batch = WireBatch {
            channel: wire.channel,
            epoch: wire.epoch,
            first: wire.offset,
            last: wire.offset,
            publications: vec![publication],
        };
        Ok(Frame::Batch(self.batch(&batch)?))
    }

    fn batch(&self, wire: &WireBatch<'_>) -> Result<Batch, FrameError> {
        let channel = self.channel(wire.channel)?;
        let span = match (wire.epoch, wire.first) {
            (Some(epoch), Some(first)) => {
                let last = wire.last.unwrap_or(first + (wire.publications.len() as u64).saturating_sub(1));
                Some(Span { epoch: epoch.into(), first, last })
            }
            _ => None,
        };
        let offsets = match &span {
            Some(span) => span.offsets(&wire.publications)?,
            None => vec![None; wire.publications.len()],
        };
        let epoch = span.as_ref().map(|span| &span.epoch);
        let publications = wire.publications.iter().zip(offsets);
        let publications =
            publications.map(|(wire, offset)| self.publication(channel, epoch, offset, wire.data));
        Ok(Batch { channel, publications: publications.collect(), span })
    }

    fn recovered(
        &self,
        channel: usize,
        epoch: Option<&Epoch>,
        wire: &[WirePublication<'_>],
    ) -> Vec<Publication> {
        wire.iter().map(|wire| self.publication(channel, epoch, wire.offset, wire.data)).collect()
    }

    fn publication(
        &self,
        channel: usize,
        epoch: Option<&Epoch>,
        offset: Option<u64>,
        data: &RawValue,
    ) -> Publication {
        let position = epoch.zip(offset).map(|(epoch, offset)| Position { epoch: epoch.clone(), offset });
        let identity = self.book().identify(channel, position.as_ref(), data.get());
        Publication { position, identity }
    }

    fn channel(&self, name: &str) -> Result<usize, FrameError> {
        self.book().channel_named(name).ok_or_else(|| FrameError::UnknownChannel(name.to_owned()))
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no holder of the book panics")
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, FrameError> {
    serde_json::from_slice(text).map_err(|source| FrameError::Json {
        source,
        text: String::from_utf8_lossy(text).chars().take(120).collect(),
    })
}

fn epoch_of(position: Option<&WirePosition<'_>>) -> Option<Epoch> {
    position.map(|position| position.epoch.into())
}

impl Span {
    /// The offset of each publication: as written, else counted from `first`. They ascend within the span.
    fn offsets(&self, publications: &[WirePublication<'_>]) -> Result<Vec<Option<u64>>, FrameError> {
        let bad = || FrameError::BadRange { first: self.first, last: self.last, count: publications.len() };
        let covered = self.last.checked_sub(self.first).ok_or_else(bad)? + 1;
        let is_counted = publications.iter().all(|publication| publication.offset.is_none());
        if is_counted {
            let fits = covered == publications.len() as u64;
            return if fits { Ok((self.first..=self.last).map(Some).collect()) } else { Err(bad()) };
        }
        let offsets: Vec<u64> =
            publications.iter().map(|wire| wire.offset).collect::<Option<_>>().ok_or_else(bad)?;
        let ascend = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        let within = offsets.iter().all(|offset| (self.first..=self.last).contains(offset));
        if ascend && within { Ok(offsets.into_iter().map(Some).collect()) } else { Err(bad()) }
    }
}

/// One key names the frame; unknown keys are passed over.
#[derive(Deserialize)]
struct WireFrame<'a> {
    hello: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    batch: Option<WireBatch<'a>>,
    #[serde(borrow)]
    subscribed: Option<WireSubscribed<'a>>,
    #[serde(borrow)]
    history: Option<WireHistory<'a>>,
    #[serde(borrow)]
    gap: Option<WireGap<'a>>,
    #[serde(borrow)]
    continued: Option<WireContinued<'a>>,
    #[serde(borrow)]
    error: Option<WireError<'a>>,
    #[serde(borrow)]
    disconnect: Option<WireDisconnect<'a>>,
}

#[derive(Deserialize)]
struct WirePosition<'a> {
    epoch: &'a str,
    offset: u64,
}

#[derive(Deserialize)]
struct WirePublication<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    offset: Option<u64>,
}

#[derive(Deserialize)]
struct WireBatch<'a> {
    channel: &'a str,
    epoch: Option<&'a str>,
    first: Option<u64>,
    last: Option<u64>,
    #[serde(borrow)]
    publications: Vec<WirePublication<'a>>,
}

#[derive(Deserialize)]
struct WireSubscribed<'a> {
    channel: &'a str,
    #[serde(borrow)]
    position: Option<WirePosition<'a>>,
    recovered: Option<bool>,
    #[serde(default)]
    more: bool,
    #[serde(borrow, default)]
    publications: Vec<WirePublication<'a>>,
}

#[derive(Deserialize)]
struct WireHistory<'a> {
    #[serde(borrow)]
    publications: Vec<WirePublication<'a>>,
    #[serde(borrow)]
    position: Option<WirePosition<'a>>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct WireGap<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    position: Option<WirePosition<'a>>,
}

#[derive(Deserialize)]
struct WireContinued<'a> {
    #[serde(borrow)]
    from: WirePosition<'a>,
    #[serde(borrow)]
    position: WirePosition<'a>,
}

#[derive(Deserialize)]
struct WireError<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WireDisconnect<'a> {
    code: u16,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

/// An SSE event's data.
#[derive(Deserialize)]
struct WireEvent<'a> {
    channel: &'a str,
    epoch: Option<&'a str>,
    offset: Option<u64>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl From<WirePosition<'_>> for Position {
    fn from(wire: WirePosition<'_>) -> Self {
        Position { epoch: wire.epoch.into(), offset: wire.offset }
    }
}

impl From<WireGap<'_>> for Frame {
    fn from(wire: WireGap<'_>) -> Self {
        Frame::Gap { reason: wire.reason.into_owned(), position: wire.position.map(Position::from) }
    }
}

impl From<WireContinued<'_>> for Frame {
    fn from(wire: WireContinued<'_>) -> Self {
        Frame::Continued { from: wire.from.into(), position: wire.position.into() }
    }
}
