//! What the server says, decoded: JSON frames of a WebSocket and events of an SSE stream become one [`Frame`].
//! Payloads are looked up in the publisher's [`Book`] here, once per distinct frame. It judges no order: that is check.rs.

use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::book::{Book, Epoch, Identity, Position};
use crate::sse::{Event, SseError};
use crate::wire::{WireBatch, WireContinued, WireEvent, WireFrame, WireGap, WirePosition, WirePublication};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> (FrameReader, String) {
        let mut book = Book::new("r1".into(), vec!["bench".into()]);
        let (_, payload) = book.write(0, 5, 0);
        (FrameReader::new(Arc::new(Mutex::new(book))), payload)
    }

    fn at(offset: u64) -> Position {
        Position { epoch: "e1".into(), offset }
    }

    fn batch(range: &str, publications: &str) -> Result<Frame, FrameError> {
        let text = format!(
            r#"{{"batch":{{"channel":"bench","epoch":"e1",{range},"publications":[{publications}],"later":true}}}}"#
        );
        reader().0.message(0, text.as_bytes())
    }

    fn offsets(frame: Frame) -> Vec<u64> {
        let Frame::Batch(batch) = frame else { panic!("a batch was sent") };
        batch.publications.iter().map(|publication| publication.position.as_ref().unwrap().offset).collect()
    }

    #[test]
    fn omitted_offsets_are_counted_from_the_first() {
        let frame = batch(r#""first":8,"last":9"#, r#"{"data":1,"time":2},{"data":2,"time":2}"#).unwrap();
        assert_eq!(offsets(frame), [8, 9]);
        let frame = batch(r#""first":8"#, r#"{"data":1},{"data":2}"#).unwrap();
        assert_eq!(offsets(frame), [8, 9]);
    }

    #[test]
    fn merged_batches_name_the_offsets_that_are_left() {
        let frame =
            batch(r#""first":8,"last":12"#, r#"{"data":1,"offset":9},{"data":2,"offset":12}"#).unwrap();
        assert_eq!(offsets(frame), [9, 12]);
    }

    #[test]
    fn offsets_that_do_not_fit_their_range_are_refused() {
        for (range, publications) in [
            (r#""first":8,"last":10"#, r#"{"data":1},{"data":2}"#),
            (r#""first":8,"last":7"#, ""),
            (r#""first":8,"last":9"#, r#"{"data":1,"offset":9},{"data":2,"offset":8}"#),
            (r#""first":8,"last":9"#, r#"{"data":1,"offset":8},{"data":2}"#),
            (r#""first":8,"last":9"#, r#"{"data":1,"offset":7},{"data":2,"offset":9}"#),
        ] {
            let refused = batch(range, publications);
            assert!(
                matches!(refused, Err(FrameError::BadRange { .. })),
                "{range} {publications}: {refused:?}"
            );
        }
    }

    #[test]
    fn an_event_is_a_batch_of_one() {
        let (reader, payload) = reader();
        let data = format!(r#"{{"channel":"bench","epoch":"e1","offset":8,"data":{payload}}}"#);
        let frame = reader.event(&Event { data: Some(data), ..Event::default() }).unwrap();
        let identity = Identity::Genuine { sequence: 1, sent: 5 };
        let expected = Batch {
            channel: 0,
            span: Some(Span { epoch: "e1".into(), first: 8, last: 8 }),
            publications: vec![Publication { position: Some(at(8)), identity }],
        };
        assert_eq!(frame, Frame::Batch(expected));
    }

    #[test]
    fn a_channel_without_history_has_no_positions() {
        let (reader, payload) = reader();
        let text = format!(r#"{{"batch":{{"channel":"bench","publications":[{{"data":{payload}}}]}}}}"#);
        let Frame::Batch(batch) = reader.message(0, text.as_bytes()).unwrap() else {
            panic!("a batch was sent")
        };
        assert_eq!((batch.span, &batch.publications[0].position), (None, &None));
    }

    #[test]
    fn gaps_read_the_same_on_both_transports() {
        let body = r#"{"channel":"bench","reason":"trimmed","position":{"epoch":"e1","offset":8}}"#;
        let event = Event { name: Some("gap".into()), data: Some(body.into()), id: None };
        let expected = Frame::Gap { reason: "trimmed".into(), position: Some(at(8)) };
        assert_eq!(reader().0.event(&event).unwrap(), expected);
        assert_eq!(reader().0.message(0, format!(r#"{{"gap":{body}}}"#).as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_frame_of_ours_is_refused_or_passed_over() {
        let read = |text: &str| reader().0.message(0, text.as_bytes());
        assert!(matches!(read("{"), Err(FrameError::Json { .. })));
        assert!(matches!(
            read(r#"{"batch":{"channel":"other","publications":[]}}"#),
            Err(FrameError::UnknownChannel(_))
        ));
        assert_eq!(read(r#"{"degraded":{"component":"redis"}}"#).unwrap(), Frame::Other);
    }
}
