//! What people and programs see of publications and gaps.

use std::fmt::Display;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_protocol::{
    Channel, DegradedFrame, Envelope, Epoch, Frame, GapFrame, Offset, Payload, RestoredFrame, encode_frame,
};

use super::step::Shown;
use crate::cli::exit::complain;

/// Dimmed, cyan and plain again, as every terminal knows them (ECMA-48).
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// How a publication becomes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `HH:MM:SS.mmm channel offset data`
    Text { colour: bool },
    /// One object.
    Json,
}

/// Where lines go, and how many are still wanted.
pub(super) struct Output<'a> {
    form: Form,
    left: Option<u64>,
    out: &'a mut dyn Write,
    pub(super) err: &'a mut dyn Write,
}

#[derive(Serialize)]
struct Line<'a> {
    channel: &'a Channel,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(flatten)]
    data: Data,
}

#[derive(Serialize)]
enum Data {
    #[serde(rename = "data")]
    Json(Box<RawValue>),
    #[serde(rename = "b64")]
    Base64(String),
}

impl<'a> Output<'a> {
    /// Lines in this form; `count` of them, or without end.
    pub(super) fn new(
        form: Form,
        count: Option<u64>,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
    ) -> Self {
        Output { form, left: count, out, err }
    }

    /// Whether as many publications were shown as were asked for.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Shows a publication, unless enough were shown.
    pub(super) fn publication(&mut self, shown: &Shown) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        self.left = self.left.map(|left| left - 1);
        let line = match self.form {
            Form::Json => json_line(shown),
            Form::Text { colour } => text_line(shown, colour),
        };
        writeln!(self.out, "{line}")
    }

    /// Shows that something is lost: to people always, to programs where they read JSON.
    pub(super) fn gap(&mut self, gap: &GapFrame) -> io::Result<()> {
        self.frame(|| Frame::Gap(gap.clone()))?;
        let GapFrame { channel, reason, position } = gap;
        let goes_on = position.as_ref().map_or("now".to_owned(), |position| format!("at {position}"));
        writeln!(self.err, "gap on {channel}: {}, goes on {goes_on}", reason.as_str())
    }

    /// Shows that the server has lost a part: to people always, to programs where they read JSON.
    pub(super) fn degraded(&mut self, degraded: &DegradedFrame) -> io::Result<()> {
        self.frame(|| Frame::Degraded(degraded.clone()))?;
        let DegradedFrame { component, since } = degraded;
        let since = time_of_day(*since);
        self.note(format_args!(
            "degraded: the server has lost {component} at {since}; waiting for its return"
        ))
    }

    /// Shows that the part is back.
    pub(super) fn restored(&mut self, restored: &RestoredFrame) -> io::Result<()> {
        self.frame(|| Frame::Restored(restored.clone()))?;
        self.note(format_args!("restored: the server has {} again", restored.component))
    }

    /// A frame as a line of its own, for programs that read JSON.
    fn frame(&mut self, frame: impl FnOnce() -> Frame) -> io::Result<()> {
        if self.form != Form::Json {
            return Ok(());
        }
        self.out.write_all(&encode_frame(&Envelope { id: None, frame: frame() }))?;
        writeln!(self.out)
    }

    /// Tells people what happens to the connection.
    pub(super) fn note(&mut self, words: impl Display) -> io::Result<()> {
        complain(words, self.err)
    }

    /// Makes sure that all lines are seen before anybody waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn json_line(shown: &Shown) -> String {
    let Shown { channel, epoch, publication } = shown;
    let line = Line {
        channel,
        epoch: epoch.as_ref(),
        offset: publication.offset,
        time: publication.time,
        id: publication.id.as_deref(),
        key: publication.key.as_deref(),
        data: match &publication.payload {
            Payload::Json(raw) => Data::Json(raw_of(compact(raw.get()))),
            Payload::Text(text) => Data::Json(raw_of(quoted(text))),
            Payload::Binary(bytes) => Data::Base64(BASE64.encode(bytes)),
        },
    };
    serde_json::to_string(&line).expect("a line holds only what JSON can say")
}

fn text_line(shown: &Shown, colour: bool) -> String {
    let Shown { channel, publication, .. } = shown;
    let time = time_of_day(publication.time);
    let offset = publication.offset.map_or("-".to_owned(), |offset| offset.to_string());
    let data = match &publication.payload {
        Payload::Json(raw) => compact(raw.get()),
        Payload::Text(text) => quoted(text),
        Payload::Binary(bytes) => format!("b64:{}", BASE64.encode(bytes)),
    };
    match colour {
        true => format!("{DIM}{time}{PLAIN} {CYAN}{channel}{PLAIN} {DIM}{offset}{PLAIN} {data}"),
        false => format!("{time} {channel} {offset} {data}"),
    }
}

/// `HH:MM:SS.mmm` in UTC, of milliseconds since 1970.
fn time_of_day(time: u64) -> String {
    let (seconds, millis) = (time / 1_000, time % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

fn quoted(text: &str) -> String {
    compact(&serde_json::to_string(text).expect("text is always JSON"))
}

fn raw_of(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("compact JSON is JSON")
}

/// The same JSON without white space between its parts, hence on one line. Inside strings, characters that command a
/// terminal and that JSON allows as they are (DEL, C1) become escapes, which mean the same.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        match c {
            ' ' | '\t' | '\r' | '\n' if !in_string => continue,
            '"' if !escaped => in_string = !in_string,
            c if c.is_control() => {
                compact += &format!("\\u{:04x}", u32::from(c));
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        compact.push(c);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tidings_protocol::{GapReason, Position, Publication};

    const NOON: u64 = 1_767_225_600_000 + 12 * 3_600_000 + 34 * 60_000 + 56_007;

    fn shown(payload: Payload) -> Shown {
        let publication = Publication {
            offset: Some(Offset(7)),
            time: NOON,
            id: Some("i".into()),
            key: Some("k".into()),
            payload,
        };
        let channel = Channel::parse("room:1").unwrap();
        Shown { channel, epoch: Some(Epoch::parse("7-k3v9q").unwrap()), publication: publication.into() }
    }

    fn lines(form: Form, count: Option<u64>, shown: &[Shown]) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output::new(form, count, &mut out, &mut err);
        shown.iter().try_for_each(|shown| output.publication(shown)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_time_channel_offset_and_data() {
        for (payload, data) in [
            (Payload::json(b"{\"a b\": [1.0,\n 2]}").unwrap(), r#"{"a b":[1.0,2]}"#),
            (Payload::Text("hi \"you\"".into()), r#""hi \"you\"""#),
            (Payload::Binary(Bytes::from_static(&[0, 255])), "b64:AP8="),
        ] {
            let text = lines(Form::Text { colour: false }, None, &[shown(payload)]);
            assert_eq!(text, format!("12:34:56.007 room:1 7 {data}\n"));
        }
        let volatile =
            Publication { offset: None, ..Publication::clone(&shown(Payload::Text("".into())).publication) };
        let volatile = Shown { publication: volatile.into(), epoch: None, ..shown(Payload::Text("".into())) };
        let text = lines(Form::Text { colour: true }, None, std::slice::from_ref(&volatile));
        assert_eq!(text, "\x1b[2m12:34:56.007\x1b[0m \x1b[36mroom:1\x1b[0m \x1b[2m-\x1b[0m \"\"\n");
        assert!(!lines(Form::Json, None, &[volatile]).contains("offset"));
    }

    #[test]
    fn a_json_line_is_one_object() {
        let place =
            r#"{"channel":"room:1","epoch":"7-k3v9q","offset":7,"time":1767270896007,"id":"i","key":"k","#;
        for (payload, data) in [
            (Payload::json(b"[1, 1e2,\n\"x\"]").unwrap(), r#""data":[1,1e2,"x"]"#),
            (Payload::Binary(Bytes::from_static(&[0])), r#""b64":"AA==""#),
        ] {
            assert_eq!(lines(Form::Json, None, &[shown(payload)]), format!("{place}{data}}}\n"));
        }
    }

    #[test]
    fn compact_json_means_the_same_on_one_line() {
        for (json, expected) in [
            ("{ \"a\" :\t1 ,\r\n\"b\": \" x \\\" y \\\\\" }", r#"{"a":1,"b":" x \" y \\"}"#),
            ("\"\u{7f}\u{9b}2J\"", r#""\u007f\u009b2J""#),
            ("12345678901234567890.10", "12345678901234567890.10"),
        ] {
            assert_eq!(compact(json), expected);
        }
    }

    #[test]
    fn no_more_than_the_count_is_shown() {
        let three = [1, 2, 3].map(|_| shown(Payload::Text("x".into())));
        assert_eq!(lines(Form::Json, Some(2), &three).lines().count(), 2);
        assert_eq!(lines(Form::Json, None, &three).lines().count(), 3);
    }

    #[test]
    fn gaps_are_told_to_people_and_to_programs_that_read_json() {
        let position: Position = "7-k3v9q.42".parse().unwrap();
        let channel = Channel::parse("tickets").unwrap();
        let gap = GapFrame { channel, reason: GapReason::Trimmed, position: Some(position) };
        let words = "gap on tickets: trimmed, goes on at 7-k3v9q.42\n";
        let json = "{\"gap\":{\"channel\":\"tickets\",\"reason\":\"trimmed\",\"position\":{\"epoch\":\"7-k3v9q\",\"offset\":42}}}\n";
        for (form, expected) in [(Form::Json, json), (Form::Text { colour: false }, "")] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            Output::new(form, None, &mut out, &mut err).gap(&gap).unwrap();
            assert_eq!(
                (String::from_utf8(out).unwrap().as_str(), String::from_utf8(err).unwrap().as_str()),
                (expected, words)
            );
        }
    }

    #[test]
    fn an_outage_is_told_to_people_and_to_programs_that_read_json() {
        let words = "tidings: degraded: the server has lost redis at 12:34:56.007; waiting for its return\n\
                     tidings: restored: the server has redis again\n";
        let json = "{\"degraded\":{\"component\":\"redis\",\"since\":1767270896007}}\n\
                    {\"restored\":{\"component\":\"redis\"}}\n";
        for (form, expected) in [(Form::Json, json), (Form::Text { colour: false }, "")] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut output = Output::new(form, None, &mut out, &mut err);
            let component = "redis".to_owned();
            output.degraded(&DegradedFrame { component: component.clone(), since: NOON }).unwrap();
            output.restored(&RestoredFrame { component }).unwrap();
            assert_eq!(
                (String::from_utf8(out).unwrap().as_str(), String::from_utf8(err).unwrap().as_str()),
                (expected, words)
            );
        }
    }
}
