//! Streams of events: what is published comes out of a reader as it went in, and chunks may be cut anywhere.

use std::sync::Arc;

use bytes::Bytes;
use tidings::cli::event_stream::{Event, EventStream};
use tidings::dialect::sse;
use tidings::hub::Batch;
use tidings_protocol::{Channel, Epoch, Offset, Payload, Publication};

use crate::choices::Choices;

/// Lines and events of more bytes than any input has.
const BYTES_MAX: usize = 1 << 20;

pub(crate) fn events(data: &[u8]) {
    cuts_do_not_matter(data);
    let mut choices = Choices::new(data);
    let raw = choices.flag();
    let publications: Vec<Arc<Publication>> =
        (1..5).map_while(|offset| publication(&mut choices, offset)).map(Arc::new).collect();
    let channel = Channel::parse("tickets").expect("a name");
    let epoch = Epoch::parse("1-a").expect("an epoch");
    let mut bytes = sse::batch(&Batch::new(channel, Some(epoch), publications.clone()), raw).to_vec();
    if bytes.pop().is_some() {
        bytes.extend_from_slice(&sse::end_of_event(|line| line.push_str("AQEDMS1h")));
    }
    let mut stream = EventStream::new(BYTES_MAX);
    let events = stream.feed(&bytes).expect("it is short");
    assert_eq!(events.len(), publications.len(), "{bytes:?}");
    for (event, publication) in events.iter().zip(&publications) {
        comes_out(event, publication, raw);
    }
    let last = if publications.is_empty() { "" } else { "AQEDMS1h" };
    assert_eq!((stream.last_event_id(), stream.retry()), (last, None));
}

fn publication(choices: &mut Choices<'_>, offset: u64) -> Option<Publication> {
    if choices.is_empty() {
        return None;
    }
    let name = |choices: &mut Choices<'_>| choices.flag().then(|| choices.text().into());
    let (id, key) = (name(choices), name(choices));
    let kind = choices.below(3);
    let bytes = choices.piece();
    let payload = match kind {
        0 => Payload::json(bytes).ok(),
        1 => Payload::text(bytes).ok(),
        _ => None,
    };
    let payload = payload.unwrap_or_else(|| Payload::Binary(Bytes::copy_from_slice(bytes)));
    Some(Publication { offset: Some(Offset(offset)), time: 1, id, key, payload })
}

fn comes_out(event: &Event, publication: &Publication, raw: bool) {
    assert_eq!(event.name, "message");
    if raw {
        match &publication.payload {
            Payload::Json(json) => assert_eq!(event.data, lines(json.get())),
            Payload::Text(text) => assert_eq!(event.data, lines(text)),
            Payload::Binary(bytes) => assert_eq!(event.data.len(), bytes.len().div_ceil(3) * 4),
        }
        return;
    }
    let json: serde_json::Value = serde_json::from_str(&event.data).expect("an event is JSON");
    assert_eq!(json["offset"].as_u64(), publication.offset.map(|offset| offset.0));
    assert_eq!(json["id"].as_str(), publication.id.as_deref());
    assert_eq!(json["key"].as_str(), publication.key.as_deref());
    if let Payload::Text(text) = &publication.payload {
        assert_eq!(json["data"].as_str(), Some(&**text), "as JSON, line ends survive");
    }
}

/// Every line end as the one that readers give.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn cuts_do_not_matter(data: &[u8]) {
    let mut whole = EventStream::new(BYTES_MAX);
    let mut cut = EventStream::new(BYTES_MAX);
    let at_once = whole.feed(data).expect("it is short");
    let by_byte: Vec<Event> =
        data.chunks(1).flat_map(|chunk| cut.feed(chunk).expect("it is short")).collect();
    assert_eq!(at_once, by_byte);
    assert_eq!((whole.last_event_id(), whole.retry()), (cut.last_event_id(), cut.retry()));
    EventStream::new(8).feed(data).ok();
}
