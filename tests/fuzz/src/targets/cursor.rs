//! Cursors of streams: any word is one or is refused, and what the server wrote is read back.

use tidings::dialect::cursor::{BYTES_MAX, CHANNELS_MAX, Cursor, Place, encode};
use tidings_protocol::{Channel, INTEGER_MAX, Position};

use crate::choices::Choices;

pub(crate) fn cursor(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(cursor) = Cursor::decode(text)
    {
        match cursor.place(&Channel::parse("tickets").expect("a name")) {
            Some(Place::At(position)) => assert!(position.offset.0 <= INTEGER_MAX),
            Some(Place::Unknown) | None => {}
        }
    }
    let mut choices = Choices::new(data);
    let mut places: Vec<(Channel, Position)> = Vec::new();
    while !choices.is_empty() && places.len() < CHANNELS_MAX {
        let channel = Channel::parse(&choices.text());
        let known = ["1-a", "2-a", "x", "01-a", "7-k3v9q7ab", "18446744073709551615-k3v9q7ab"];
        let epoch = if choices.flag() { (*choices.of(&known)).to_owned() } else { choices.text() };
        let position = format!("{epoch}.{}", choices.number()).parse();
        if let (Ok(channel), Ok(position)) = (channel, position)
            && places.iter().all(|(known, _)| *known != channel)
        {
            places.push((channel, position));
        }
    }
    let text = encode(places.iter().map(|(channel, position)| (channel, position)));
    assert!(text.len() <= BYTES_MAX, "{} bytes", text.len());
    let cursor = Cursor::decode(&text).expect("what was written is read");
    for (channel, position) in &places {
        match cursor.place(channel) {
            Some(Place::At(read)) => assert_eq!(read, position, "{channel}"),
            Some(Place::Unknown) => assert!(places.len() > 40, "there is room for {} channels", places.len()),
            None => panic!("{channel} is missing"),
        }
    }
}
