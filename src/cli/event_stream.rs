//! Server-sent events as the HTML standard has them (section 9.2.6), out of chunks that may be cut anywhere.
//!
//! It does not connect, and does not wait.

/// The byte order mark that a stream may start with.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What an event is called that has no name of its own.
const DEFAULT_NAME: &str = "message";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `message` where the stream gives no name.
    pub name: String,
    /// Its lines, with a line feed between two.
    pub data: String,
}

/// A line or an event's data above the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The bound.
    pub bytes_max: usize,
}

/// A stream of events in the making.
#[derive(Debug)]
pub struct EventStream {
    bytes_max: usize,
    /// The line so far.
    line: Vec<u8>,
    /// A line feed that comes now belongs to the line end before it.
    after_return: bool,
    at_start: bool,
    name: String,
    data: String,
    id: String,
    last_event_id: String,
    retry: Option<u64>,
}

impl EventStream {
    /// A stream whose lines, and whose events, may have so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        EventStream {
            bytes_max,
            line: Vec::new(),
            after_return: false,
            at_start: true,
            name: String::new(),
            data: String::new(),
            id: String::new(),
            last_event_id: String::new(),
            retry: None,
        }
    }

    /// Reads on and gives the events that are complete now. What follows the last complete one stays for the next chunk.
    pub fn feed(&mut self, mut chunk: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_return) && chunk[0] == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.line.len() + part.len() > self.bytes_max {
                return Err(TooLong { bytes_max: self.bytes_max });
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_return = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            events.extend(self.end_line()?);
        }
        Ok(events)
    }

    /// What to send as `Last-Event-ID` when the stream is opened again; empty if the stream gave none.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// How long the stream asks to wait before it is opened again, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    fn end_line(&mut self) -> Result<Option<Event>, TooLong> {
        let line = std::mem::take(&mut self.line);
        let first = std::mem::take(&mut self.at_start);
        let line = line.strip_prefix(BOM).filter(|_| first).unwrap_or(&line);
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        self.set(field, value.strip_prefix(' ').unwrap_or(value))?;
        Ok(None)
    }

    fn set(&mut self, field: &str, value: &str) -> Result<(), TooLong> {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" if self.data.len() + value.len() > self.bytes_max => {
                return Err(TooLong { bytes_max: self.bytes_max });
            }
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().or(self.retry);
            }
            // A comment has an empty name; the standard ignores all others.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_event_id.clone_from(&self.id);
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        // Every line of data ended in a line feed, the last one's belongs to nobody.
        data.pop()?;
        Some(Event { name: if name.is_empty() { DEFAULT_NAME.to_owned() } else { name }, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("data: a\n\n", &[("message", "a")]),
        ("data: a\r\n\r\n", &[("message", "a")]),
        ("data: a\r\ndata: b\r\n\r\n", &[("message", "a\nb")]),
        ("data: a\r\rdata: b\r\r", &[("message", "a"), ("message", "b")]),
        ("data: a\r\n\ndata: b\n\r\n", &[("message", "a"), ("message", "b")]),
        ("\u{feff}data: a\n\n", &[("message", "a")]),
        ("\u{feff}\u{feff}data: a\n\n", &[]),
        ("data: a\n\n\u{feff}data: b\n\n", &[("message", "a")]),
        ("data:a\n\n", &[("message", "a")]),
        ("data:  a\n\n", &[("message", " a")]),
        ("data:\ta\n\n", &[("message", "\ta")]),
        ("data\n\n", &[("message", "")]),
        ("data:\n\n", &[("message", "")]),
        ("data\ndata\n\n", &[("message", "\n")]),
        ("data: a\ndata:\ndata: b\n\n", &[("message", "a\n\nb")]),
        ("data: a: b\n\n", &[("message", "a: b")]),
        (": comment\n\n:\n\n", &[]),
        (":\ndata: a\n:\n\n", &[("message", "a")]),
        ("event: gap\ndata: {}\n\ndata: b\n\n", &[("gap", "{}"), ("message", "b")]),
        ("event: gap\n\ndata: b\n\n", &[("message", "b")]),
        ("event: a\nevent: b\ndata: x\n\n", &[("b", "x")]),
        ("event:\ndata: x\n\n", &[("message", "x")]),
        (" data: a\n\n", &[]),
        ("DATA: a\n\n", &[]),
        ("dat: a\ndatas: b\n\n", &[]),
        ("data: a", &[]),
        ("data: a\n", &[]),
        ("data: \u{fc}\u{1f600}\u{2028}\n\n", &[("message", "\u{fc}\u{1f600}\u{2028}")]),
        ("id: 1\n\n", &[]),
    ];

    fn check(chunks: &[&[u8]]) -> Vec<Event> {
        let mut stream = EventStream::new(1_000);
        chunks.iter().flat_map(|chunk| stream.feed(chunk).expect("is short")).collect()
    }

    #[test]
    fn events_are_the_same_wherever_chunks_are_cut() {
        for (text, expected) in ROWS {
            let event = |(name, data): &(&str, &str)| Event { name: (*name).into(), data: (*data).into() };
            let expected: Vec<Event> = expected.iter().map(event).collect();
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                assert_eq!(check(&[&bytes[..cut], &bytes[cut..]]), expected, "{text:?} cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(check(&single), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn the_last_event_id_is_what_a_blank_line_confirmed() {
        for (text, id) in [
            ("id: 1\n", ""),
            ("id: 1\n\n", "1"),
            ("id: 1\ndata: a\n\ndata: b\n\n", "1"),
            ("id: 1\n\nid: 2\n", "1"),
            ("id: 1\n\nid\n\n", ""),
            ("id: 1\n\nid: 2\0\n\n", "1"),
            ("id:  x \n\n", " x "),
        ] {
            let mut stream = EventStream::new(100);
            stream.feed(text.as_bytes()).expect("is short");
            assert_eq!(stream.last_event_id(), id, "{text:?}");
        }
    }

    #[test]
    fn the_retry_time_is_digits_alone() {
        for (text, retry) in [
            ("retry: 1200\n", Some(1_200)),
            ("retry: 1200\nretry: 1s\n", Some(1_200)),
            ("retry: -1\n", None),
            ("retry\n", None),
            ("retry: 99999999999999999999999\n", None),
        ] {
            let mut stream = EventStream::new(100);
            stream.feed(text.as_bytes()).expect("is short");
            assert_eq!(stream.retry(), retry, "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        assert_eq!(check(&[b"data: a\xffb\n\n"])[0].data, "a\u{fffd}b");
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let feed = |text: &str| EventStream::new(8).feed(text.as_bytes());
        assert!(feed("data: 89\n\n").is_ok_and(|events| events.len() == 1));
        let too_long = Err(TooLong { bytes_max: 8 });
        assert_eq!(feed("data: 890"), too_long);
        assert_eq!(feed("data:123\ndata:123\ndata:1\n"), too_long);
        assert!(feed("data:123\ndata:123\n\ndata:123\n\n").is_ok_and(|events| events.len() == 2));
        let mut stream = EventStream::new(8);
        assert_eq!(stream.feed(b":::::"), Ok(Vec::new()));
        assert_eq!(stream.feed(b"::::"), too_long, "a line is bounded over chunks too");
    }
}
