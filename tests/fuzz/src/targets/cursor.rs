//! Cursors of streams: any word is one or is refused, and what the server wrote is read back.

use tidings::dialect::cursor::{BYTES_MAX, CHANNELS_MAX, Cursor, encode};
use tidings_protocol::{Channel, INTEGER_MAX, Position};

use crate::choices::Choices;

pub(crate) fn cursor(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(cursor) = Cursor::decode(text)
    {
        let position = cursor.position(&Channel::parse("tickets").expect("a name"));
        assert!(position.is_none_or(|position| position.offset.0 <= INTEGER_MAX));
    }
    let mut choices = Choices::new(data);
    let mut places: Vec<(Channel, Position)> = Vec::new();
    while !choices.is_empty() && places.len() < CHANNELS_MAX {
        let channel = Channel::parse(&choices.text());
        let position = format!("{}.{}", choices.of(&["1-a", "2-a", "x"]), choices.number()).parse();
        if let (Ok(channel), Ok(position)) = (channel, position)
            && places.iter().all(|(known, _)| *known != channel)
        {
            places.push((channel, position));
        }
    }
    let text = encode(places.iter().map(|(channel, position)| (channel, position)));
    if text.len() <= BYTES_MAX {
        let cursor = Cursor::decode(&text).expect("what was written is read");
        for (channel, position) in &places {
            assert_eq!(cursor.position(channel), Some(position), "{channel}");
        }
    }
}
