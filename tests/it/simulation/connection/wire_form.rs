//! What a session says, in the form in which it goes over a wire, with its size in bytes.

use std::sync::Arc;

use tidings::hub::{Batch, Transmit};
use tidings_protocol::{BatchFrame, Envelope, Frame, Offset, Publication};

use crate::simulation::link::Down;

/// Bytes of a frame beside its publications.
const FRAME_BYTES: usize = 60;

/// One transmit over a WebSocket. The close itself follows when the instance hangs up.
pub(super) fn socket_frames(transmit: Transmit) -> Vec<(Down, usize)> {
    match transmit {
        Transmit::Frame(envelope) => vec![sized_frame(*envelope)],
        Transmit::Batch { batch, from } => {
            let batch = from.map_or(batch.clone(), |from| Arc::new(batch.from_offset(from)));
            let envelope = Envelope { id: None, frame: Frame::Batch(batch_frame(&batch)) };
            vec![(Down::Frame(envelope), FRAME_BYTES + batch.bytes)]
        }
        Transmit::Ping => vec![(Down::Ping, 2)],
        Transmit::Close(_) => Vec::new(),
    }
}

/// One transmit over an event stream: each publication is an event of its own.
pub(super) fn stream_events(transmit: Transmit) -> Vec<(Down, usize)> {
    match transmit {
        Transmit::Batch { batch, from } => {
            let fresh = batch.publications.iter().filter(|publication| publication.offset >= from);
            fresh.map(|publication| stream_event(&batch, publication)).collect()
        }
        Transmit::Frame(envelope) => vec![sized_frame(*envelope)],
        Transmit::Ping => vec![(Down::Ping, 2)],
        Transmit::Close(_) => Vec::new(),
    }
}

fn stream_event(batch: &Batch, publication: &Arc<Publication>) -> (Down, usize) {
    let at = |offset: Offset| batch.span.as_ref().map(|span| span.epoch.at(offset));
    let position = publication.offset.and_then(at);
    let event = Down::StreamEvent(batch.channel.clone(), position, publication.clone());
    (event, publication.json_len())
}

fn sized_frame(envelope: Envelope) -> (Down, usize) {
    let publications = match &envelope.frame {
        Frame::Subscribed(frame) => &frame.publications[..],
        Frame::History(frame) => &frame.publications[..],
        _ => &[],
    };
    let bytes = publications.iter().map(|publication| publication.json_len()).sum::<usize>();
    (Down::Frame(envelope), FRAME_BYTES + bytes)
}

/// As a client reads it from the wire: the offsets follow from the first.
fn batch_frame(batch: &Batch) -> BatchFrame {
    let plain = |publication: &Arc<Publication>| match publication.offset {
        Some(_) => Publication { offset: None, ..Publication::clone(publication) }.into(),
        None => publication.clone(),
    };
    BatchFrame {
        channel: batch.channel.clone(),
        epoch: batch.span.as_ref().map(|span| span.epoch.clone()),
        first: batch.span.as_ref().map(|span| span.first),
        last: None,
        publications: batch.publications.iter().map(plain).collect(),
    }
}
