//! Frames of servers, as clients read them: what is understood survives its own words, and the client's books take it.

use tidings_protocol::{Continuity, Frame, decode_frame, encode_frame};

pub(crate) fn frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut continuity = Continuity::new();
    // A frame a line: what one did to the books, the next one finds.
    for line in text.lines() {
        let Ok(Some(envelope)) = decode_frame(line) else { continue };
        let said = String::from_utf8(encode_frame(&envelope)).expect("frames are UTF-8");
        let again = decode_frame(&said).unwrap_or_else(|error| panic!("{said}: {error}"));
        let again = again.unwrap_or_else(|| panic!("{said} is not known"));
        assert_eq!(String::from_utf8(encode_frame(&again)).expect("UTF-8"), said);
        take(&mut continuity, &envelope.frame);
    }
}

fn take(continuity: &mut Continuity, frame: &Frame) {
    match frame {
        Frame::Subscribed(frame) => drop(continuity.subscribed(frame)),
        Frame::History(frame) => drop(continuity.history(frame)),
        Frame::Batch(frame) => drop(continuity.batch(frame)),
        Frame::Gap(frame) => drop(continuity.gap(frame)),
        Frame::Continued(frame) => drop(continuity.continued(frame)),
        Frame::Error(frame) => drop(continuity.refused(frame)),
        Frame::Unsubscribed(_) => drop(continuity.ended()),
        Frame::Disconnect(_) => drop(continuity.disconnected()),
        Frame::Hello(_)
        | Frame::Degraded(_)
        | Frame::Restored(_)
        | Frame::Published(_)
        | Frame::Presence(_)
        | Frame::Watched(_)
        | Frame::Unwatched {}
        | Frame::Invalidated(_)
        | Frame::At(_)
        | Frame::Reset(_)
        | Frame::Refreshed(_)
        | Frame::Pong { .. } => {}
    }
}
