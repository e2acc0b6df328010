//! Server-sent events as the server may write them: blocks that end in a blank line, lines that end in LF.
//! Stricter than a browser: a carriage return in the stream is a mistake of the server, for a browser would read it as
//! the end of a line. It knows no JSON and no sockets.

/// A block over this is refused: 16 times the server's own limit for a message.
const BLOCK_BYTES_MAX: usize = 16_000_000;

/// Bytes that should not be in the stream.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SseError {
    #[error("event over {BLOCK_BYTES_MAX} bytes")]
    TooLarge,
    #[error("event with a carriage return: {0:?}")]
    CarriageReturn(String),
    #[error("event that is not UTF-8")]
    NotText,
}

/// Cuts a stream, split anywhere, into blocks.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Passes every block that `bytes` complete, without its blank line, to `on_block`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_block: impl FnMut(&[u8])) -> Result<(), SseError> {
        if self.pending.is_empty() {
            let used = split(bytes, &mut on_block);
            self.pending.extend_from_slice(&bytes[used..]);
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(bytes);
            let used = split(&pending, &mut on_block);
            self.pending = pending[used..].to_vec();
        }
        if self.pending.len() > BLOCK_BYTES_MAX { Err(SseError::TooLarge) } else { Ok(()) }
    }
}

/// Passes on whole blocks and returns how many bytes they took.
fn split(bytes: &[u8], on_block: &mut impl FnMut(&[u8])) -> usize {
    let (mut block_start, mut line_start) = (0, 0);
    while let Some(length) = bytes[line_start..].iter().position(|byte| *byte == b'\n') {
        if length == 0 {
            on_block(&bytes[block_start..line_start]);
            block_start = line_start + 1;
        }
        line_start += length + 1;
    }
    block_start
}

/// One block's fields. A block of comments has none of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event:` field; `None` is a plain message.
    pub(crate) name: Option<String>,
    /// The `data:` lines, joined by LF.
    pub(crate) data: Option<String>,
    /// The `id:` field: with tidings a cursor.
    pub(crate) id: Option<String>,
}

impl Event {
    /// Reads a block's lines; unknown fields and comments are passed over, as the standard demands.
    pub(crate) fn parse(block: &[u8]) -> Result<Event, SseError> {
        let text = str::from_utf8(block).map_err(|_| SseError::NotText)?;
        if text.contains('\r') {
            return Err(SseError::CarriageReturn(text.chars().take(80).collect()));
        }
        let mut event = Event::default();
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = Some(value.to_owned()),
                "id" => event.id = Some(value.to_owned()),
                "data" => match &mut event.data {
                    Some(data) => *data = format!("{data}\n{value}"),
                    None => event.data = Some(value.to_owned()),
                },
                _ => {}
            }
        }
        Ok(event)
    }
}

/// A block without the line `id:` at its end, and what that says.
pub(crate) fn split_cursor(block: &[u8]) -> Result<(&[u8], Option<String>), SseError> {
    let last_line = block.iter().rev().skip(1).position(|byte| *byte == b'\n');
    let begin = last_line.map_or(0, |length| block.len() - 1 - length);
    match block[begin..].strip_prefix(b"id: ") {
        None => Ok((block, None)),
        Some(cursor) => {
            let text = str::from_utf8(cursor).map_err(|_| SseError::NotText)?;
            Ok((&block[..begin], Some(text.trim_end().to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunked::Chunked;

    fn blocks(stream: &[u8], split: usize) -> Vec<String> {
        let (mut splitter, mut seen) = (Splitter::default(), Vec::new());
        for part in [&stream[..split], &stream[split..]] {
            splitter.feed(part, |block| seen.push(String::from_utf8_lossy(block).into_owned())).unwrap();
        }
        seen
    }

    #[test]
    fn a_stream_split_anywhere_is_the_same_events() {
        let stream = b":hi\n\nevent: hello\ndata: {}\nid: c0\n\ndata: {\"a\":1}\nid: c1\n\n";
        for split in 0..=stream.len() {
            let expected = [":hi\n", "event: hello\ndata: {}\nid: c0\n", "data: {\"a\":1}\nid: c1\n"];
            assert_eq!(blocks(stream, split), expected, "split at {split}");
        }
    }

    #[test]
    fn a_chunked_stream_split_anywhere_is_the_same_events() {
        let stream = b"9\r\ndata: 1\n\n\r\na\r\ndata: 22\ni\r\n7\r\nd: c1\n\n\r\n";
        for split in 0..=stream.len() {
            let (mut chunked, mut splitter, mut seen) = (Chunked::new(), Splitter::default(), Vec::new());
            for part in [&stream[..split], &stream[split..]] {
                let note = |block: &[u8]| seen.push(Event::parse(block).unwrap());
                let mut note = note;
                chunked.feed(part, |data| splitter.feed(data, &mut note).unwrap()).unwrap();
            }
            let data = |text: &str| Event { data: Some(text.into()), ..Event::default() };
            let last = Event { id: Some("c1".into()), ..data("22") };
            assert_eq!(seen, [data("1"), last], "split at {split}");
        }
    }

    #[test]
    fn a_cursor_is_taken_off_the_end_of_a_block() {
        for (block, shared, cursor) in [
            ("data: 1\nid: c1\n", "data: 1\n", Some("c1")),
            ("data: 1\ndata: id: c1\n", "data: 1\ndata: id: c1\n", None),
            ("id: c1\n", "", Some("c1")),
            (":\n", ":\n", None),
            ("", "", None),
        ] {
            let expected = (shared.as_bytes(), cursor.map(str::to_owned));
            assert_eq!(split_cursor(block.as_bytes()), Ok(expected), "{block:?}");
        }
    }

    #[test]
    fn several_data_lines_are_one_text() {
        let event = Event::parse(b"data: a\ndata:b\n: comment\nretry: 5\n").unwrap();
        assert_eq!(event, Event { data: Some("a\nb".into()), ..Event::default() });
    }

    #[test]
    fn what_a_browser_would_read_otherwise_is_refused() {
        assert!(matches!(Event::parse(b"data: a\rdata: b\n"), Err(SseError::CarriageReturn(_))));
        assert_eq!(Event::parse(b"data: \xff\n"), Err(SseError::NotText));
    }
}
