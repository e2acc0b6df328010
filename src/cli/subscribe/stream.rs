//! What a client of server-sent events concludes: it remembers the cursor, and drops what a cut made come twice.
//!
//! The server pages and resumes for it (the cursor says where), so that there is nothing to ask for.

use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use tidings_protocol::{Channel, ContinuedFrame, Epoch, GapFrame, Position, Publication, UnsubscribedFrame};

use super::step::{End, Shown, Step};
use crate::cli::event_stream::Event;

/// How long the server may be silent: its comments come every 25 s.
pub(super) const IDLE: Duration = Duration::from_secs(40);

/// The channels of one client over all its streams.
pub(super) struct Stream {
    channels: IndexMap<Channel, Seen>,
    cursor: String,
}

/// What is known of one channel.
enum Seen {
    /// Nothing yet.
    Nothing,
    /// Everything up to here.
    UpTo(Position),
}

impl Seen {
    fn position(&self) -> Option<&Position> {
        match self {
            Seen::UpTo(position) => Some(position),
            Seen::Nothing => None,
        }
    }
}

/// What a stream is asked for.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    subscribe: Vec<Subscribe<'a>>,
}

#[derive(Debug, Serialize)]
struct Subscribe<'a> {
    channel: &'a Channel,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a Position>,
}

/// The part of a publication's event that says where it belongs.
#[derive(Deserialize)]
struct Place {
    channel: Channel,
    epoch: Option<Epoch>,
}

impl Stream {
    /// Channels of which nothing is known, but `since` of the only one.
    pub(super) fn new(channels: Vec<Channel>, since: Option<Position>) -> Self {
        let seen = || since.clone().map_or(Seen::Nothing, Seen::UpTo);
        let channels = channels.into_iter().map(|channel| (channel, seen())).collect();
        Stream { channels, cursor: String::new() }
    }

    /// What to ask for: each channel from where it was read to. The cursor knows better, where there is one.
    pub(super) fn request(&self) -> Request<'_> {
        let subscribe = |(channel, seen)| Subscribe { channel, since: Seen::position(seen) };
        Request { subscribe: self.channels.iter().map(subscribe).collect() }
    }

    /// What to send as `Last-Event-ID`.
    pub(super) fn cursor(&self) -> Option<&str> {
        (!self.cursor.is_empty()).then_some(&self.cursor)
    }

    /// The stream moved on to this cursor.
    pub(super) fn handle_cursor(&mut self, cursor: &str) {
        cursor.clone_into(&mut self.cursor);
    }

    /// What to do about an event; an error where it cannot be read.
    pub(super) fn handle_event(&mut self, event: &Event) -> Result<Vec<Step>, serde_json::Error> {
        Ok(match event.name.as_str() {
            "message" => self.publication(&event.data)?.into_iter().collect(),
            "hello" => vec![Step::Up],
            "gap" => self.gap(serde_json::from_str(&event.data)?).into_iter().collect(),
            "continued" => self.continued(serde_json::from_str(&event.data)?),
            "degraded" => vec![Step::Degraded(serde_json::from_str(&event.data)?)],
            "restored" => vec![Step::Restored(serde_json::from_str(&event.data)?)],
            "unsubscribed" => self.unsubscribed(&serde_json::from_str(&event.data)?),
            // Events of later versions.
            _ => Vec::new(),
        })
    }

    fn publication(&mut self, data: &str) -> Result<Option<Step>, serde_json::Error> {
        let Place { channel, epoch } = serde_json::from_str(data)?;
        let publication: Publication = serde_json::from_str(data)?;
        let Some(seen) = self.channels.get_mut(&channel) else { return Ok(None) };
        // A channel without history has no positions, and nothing of it comes twice.
        if let (Some(epoch), Some(offset)) = (&epoch, publication.offset) {
            let again =
                matches!(seen, Seen::UpTo(position) if position.epoch == *epoch && position.offset >= offset);
            if again {
                return Ok(None);
            }
            *seen = Seen::UpTo(epoch.at(offset));
        }
        Ok(Some(Step::Show(Shown { channel, epoch, publication: publication.into() })))
    }

    fn gap(&mut self, gap: GapFrame) -> Option<Step> {
        let seen = self.channels.get_mut(&gap.channel)?;
        *seen = gap.position.clone().map_or(Seen::Nothing, Seen::UpTo);
        Some(Step::Gap(gap))
    }

    fn continued(&mut self, frame: ContinuedFrame) -> Vec<Step> {
        if let Some(seen) = frame.channel.and_then(|channel| self.channels.get_mut(&channel)) {
            *seen = Seen::UpTo(frame.position);
        }
        Vec::new()
    }

    fn unsubscribed(&self, frame: &UnsubscribedFrame) -> Vec<Step> {
        let UnsubscribedFrame { channel, code } = frame;
        match code {
            Some(code) if self.channels.contains_key(channel) => {
                let words = format!("{code}: the subscription to {channel} ended: {}", code.meaning());
                vec![Step::End(End::Refused(words))]
            }
            Some(_) | None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = r#"{"session":"s","ping_interval_ms":25000,"timeout_ms":60000,"batch_ms":100,"lease_ms":15000,"message_bytes_max":1000000}"#;

    fn stream() -> Stream {
        Stream::new(vec![Channel::parse("t").unwrap(), Channel::parse("v").unwrap()], None)
    }

    /// What each event comes to: offsets of publications, and gaps.
    fn check(stream: &mut Stream, events: &[(&str, &str)]) -> Vec<String> {
        let event = |(name, data): &(&str, &str)| Event { name: (*name).into(), data: (*data).into() };
        let steps = events.iter().flat_map(|row| stream.handle_event(&event(row)).expect("is readable"));
        let shown = |step| match step {
            Step::Show(shown) => {
                format!("{} {:?}", shown.channel, shown.publication.offset.map(|offset| offset.0))
            }
            Step::Gap(gap) => format!("{} gap {}", gap.channel, gap.reason.as_str()),
            Step::End(End::Refused(words)) => words,
            Step::Up => "up".to_owned(),
            Step::Degraded(frame) => format!("degraded {} {}", frame.component, frame.since),
            Step::Restored(frame) => format!("restored {}", frame.component),
            Step::Say(..) | Step::End(_) => unreachable!("an event stream only reads"),
        };
        steps.map(shown).collect()
    }

    fn at(offset: u64) -> String {
        format!(r#"{{"channel":"t","epoch":"a","offset":{offset},"time":1,"data":1}}"#)
    }

    #[test]
    fn what_a_cut_made_come_twice_is_shown_once() {
        let mut stream = stream();
        let (one, two) = (at(1), at(2));
        assert_eq!(check(&mut stream, &[("message", &one), ("message", &two)]), ["t Some(1)", "t Some(2)"]);
        assert_eq!(
            check(&mut stream, &[("hello", HELLO), ("message", &two), ("message", &at(4))]),
            ["up", "t Some(4)"]
        );
        let other_epoch = two.replace("\"a\"", "\"b\"");
        assert_eq!(check(&mut stream, &[("message", &other_epoch)]), ["t Some(2)"]);
    }

    #[test]
    fn a_stream_is_opened_again_where_it_was() {
        let mut stream = stream();
        let request = |stream: &Stream| serde_json::to_string(&stream.request()).unwrap();
        assert_eq!(request(&stream), r#"{"subscribe":[{"channel":"t"},{"channel":"v"}]}"#);
        assert_eq!(stream.cursor(), None);
        check(&mut stream, &[("message", &at(7))]);
        stream.handle_cursor("abc");
        let since = r#""since":{"epoch":"a","offset":7}"#;
        assert_eq!(
            request(&stream),
            format!(r#"{{"subscribe":[{{"channel":"t",{since}}},{{"channel":"v"}}]}}"#)
        );
        assert_eq!(stream.cursor(), Some("abc"));
    }

    #[test]
    fn gaps_move_the_position_and_new_numbers_are_no_gap() {
        let mut stream = stream();
        let gap = r#"{"channel":"t","reason":"trimmed","position":{"epoch":"a","offset":9}}"#;
        let rows = [("gap", gap), ("message", &at(9)), ("message", &at(10))];
        assert_eq!(check(&mut stream, &rows), ["t gap trimmed", "t Some(10)"]);
        let continued =
            r#"{"channel":"t","from":{"epoch":"a","offset":10},"position":{"epoch":"b","offset":10}}"#;
        let again = at(10).replace("\"a\"", "\"b\"");
        assert_eq!(check(&mut stream, &[("continued", continued), ("message", &again)]), [""; 0]);
    }

    #[test]
    fn a_channel_without_history_is_shown_as_it_comes() {
        let mut stream = stream();
        let volatile = r#"{"channel":"v","time":1,"data":1}"#;
        let gap = r#"{"channel":"v","reason":"lost","position":null}"#;
        assert_eq!(check(&mut stream, &[("hello", HELLO), ("message", volatile)]), ["up", "v None"]);
        assert_eq!(check(&mut stream, &[("hello", HELLO), ("gap", gap)]), ["up", "v gap lost"]);
    }

    #[test]
    fn what_the_server_lost_and_got_back_is_shown() {
        let rows = [
            ("hello", HELLO),
            ("degraded", r#"{"component":"redis","since":5,"later":1}"#),
            ("restored", r#"{"component":"redis"}"#),
        ];
        assert_eq!(check(&mut stream(), &rows), ["up", "degraded redis 5", "restored redis"]);
    }

    #[test]
    fn a_lost_permission_is_the_end_and_strange_channels_are_nothing() {
        let mut stream = stream();
        let ended = r#"{"channel":"t","code":"channel_not_allowed"}"#;
        assert!(check(&mut stream, &[("unsubscribed", ended)])[0].starts_with("channel_not_allowed: "));
        let strange = ended.replace("\"t\"", "\"x\"");
        let message = at(1).replace("\"t\"", "\"x\"");
        let rows = [("unsubscribed", strange.as_str()), ("message", &message), ("later", "?")];
        assert_eq!(check(&mut stream, &rows), [""; 0]);
    }
}
