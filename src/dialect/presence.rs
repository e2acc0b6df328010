//! A batch of a companion channel as its subscribers are told of it: who came and went, in one frame.

use tidings_protocol::{Channel, Envelope, Frame, PresenceChange, PresenceChanges, PresenceFrame};

use crate::hub::Batch;

/// The frame that says what the batch does; `None` for a batch of any other channel.
pub fn changes(batch: &Batch) -> Option<Envelope> {
    let channel = batch.channel.presence_of()?;
    Some(Envelope { id: None, frame: Frame::Presence(PresenceFrame::Changes(folded(channel, batch))) })
}

fn folded(channel: Channel, batch: &Batch) -> PresenceChanges {
    let read = batch.publications.iter().map(|publication| PresenceChange::read(&publication.payload));
    match read.collect::<Option<Vec<_>>>() {
        Some(changes) => {
            let PresenceChange { joined, left } = PresenceChange::folded(changes);
            PresenceChanges { joined, left, ..PresenceChanges::none(channel) }
        }
        // Whoever writes such things may have displaced something of ours.
        None => PresenceChanges { lost: true, ..PresenceChanges::none(channel) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{native, sse};
    use std::sync::Arc;
    use tidings_protocol::{Payload, PresenceMember, Publication};

    fn batch(channel: Channel, payloads: Vec<Payload>) -> Batch {
        let publication =
            |payload| Arc::new(Publication { offset: None, time: 0, id: None, key: None, payload });
        Batch::new(channel, None, payloads.into_iter().map(publication).collect())
    }

    fn joined(session: &str) -> Payload {
        let member = PresenceMember { user: "ada".into(), session: session.into(), since: 5 };
        PresenceChange { joined: vec![member], left: Vec::new() }.payload()
    }

    #[test]
    fn a_batch_of_a_companion_is_one_frame() {
        let room = Channel::parse("room:7").unwrap();
        let both = batch(room.presence(), vec![joined("1"), joined("2")]);
        let body = r#"{"channel":"room:7","joined":[{"user":"ada","session":"1","since":5},{"user":"ada","session":"2","since":5}],"left":[]}"#;
        let frame = String::from_utf8(native::batch(&both)[4..].to_vec()).unwrap();
        assert_eq!(frame, format!("{{\"presence\":{body}}}"));
        for raw in [false, true] {
            let event = String::from_utf8(sse::batch(&both, raw).to_vec()).unwrap();
            assert_eq!(event, format!("event: presence\ndata: {body}\n\n"));
        }
        assert!(changes(&batch(room, vec![joined("1")])).is_none());
    }

    #[test]
    fn changes_that_cannot_be_read_are_lost_and_it_is_said() {
        let room = Channel::parse("room:7").unwrap().presence();
        let foreign = batch(room, vec![joined("1"), Payload::json(b"1").unwrap()]);
        let frame = native::batch(&foreign);
        let frame = String::from_utf8_lossy(&frame);
        assert!(frame.ends_with(r#""joined":[],"left":[],"lost":true}}"#), "{frame}");
    }
}
