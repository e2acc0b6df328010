//! What happened, as publishers and clients saw it, and what the checker needs of the broker's own truth. Simulated and
//! real traffic are told in the same words, and judged by the same checker.

pub(crate) mod checker;
mod lineage;
mod witness;

use std::fmt;

use tidings::hub::Time;
use tidings_protocol::{Ack, GapReason, Payload, Position};

use checker::Violation;
pub(crate) use lineage::Lineage;
pub(crate) use witness::{Step, Want, Witness};

/// What is shown of a history with a violation: the last of what one client saw of one channel.
const SHOWN_MAX: usize = 40;

/// A channel by its place in the list of all channels of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelId(pub(crate) usize);

/// A client by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) usize);

/// One publish, however often it is tried: it is its own idempotency key, and the beginning of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PublishId {
    /// Who publishes; one at a time.
    pub(crate) author: u32,
    /// The author's own count.
    pub(crate) number: u32,
}

/// Something that happened to one publish or to one client's view of one channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The broker gave it a place (`None`: a volatile channel) and announces it.
    Stored { publish: PublishId, channel: ChannelId, position: Option<Position> },
    /// It was stored where it will be given up: only some will see it.
    Doomed { publish: PublishId, channel: ChannelId },
    /// The broker calls the channel's place otherwise from here on; what comes is stored in the new epoch.
    Forked { channel: ChannelId, from: Position, position: Position },
    /// The author was told that it is stored, how safely, and where.
    Acked { publish: PublishId, channel: ChannelId, position: Option<Position>, ack: Ack },
    /// The author was told that it is surely not stored, and gave it up.
    Failed { publish: PublishId, channel: ChannelId },
    /// A client begins anew: what comes after this position is to be seen.
    Began { client: ClientId, channel: ChannelId, position: Option<Position> },
    /// An event stream resumes from its cursor: what came after it may come again.
    Resumed { client: ClientId, channel: ChannelId, position: Position },
    /// The client was told that its place is called otherwise from now on, and that nothing was lost.
    Continued { client: ClientId, channel: ChannelId, from: Position, position: Position },
    /// The application got it.
    Delivered { client: ClientId, channel: ChannelId, position: Option<Position>, publish: PublishId },
    /// The application was told of a gap.
    Gap { client: ClientId, channel: ChannelId, reason: GapReason, position: Option<Position> },
    /// The client wants nothing more of the channel.
    Left { client: ClientId, channel: ChannelId },
    /// An instance is not in the state that it must be in.
    Astray { what: String },
    /// Something went wrong on purpose.
    Injected { fault: String, client: Option<ClientId> },
    /// After the calm at the end: how far the client got, and what the broker holds.
    Ended { client: ClientId, channel: ChannelId, position: Option<Position>, head: Option<Position> },
}

/// An event and its moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) time: Time,
    pub(crate) event: Event,
}

impl PublishId {
    /// The data of this publish, with a filling of `bytes`.
    pub(crate) fn payload(self, bytes: usize) -> Payload {
        let text = format!("{}.{}|{}", self.author, self.number, "x".repeat(bytes));
        Payload::text(text.as_bytes()).expect("digits are text")
    }

    /// Whose data this is, as text or as the JSON string that clients get of it.
    pub(crate) fn of(payload: &Payload) -> PublishId {
        let text = std::str::from_utf8(payload.as_bytes()).expect("every payload here is text");
        let (name, _) =
            text.trim_start_matches('"').split_once('|').expect("every payload here has its name in front");
        let (author, number) = name.split_once('.').expect("a name has two parts");
        let parse = |digits: &str| digits.parse().expect("a name consists of numbers");
        PublishId { author: parse(author), number: parse(number) }
    }

    /// What makes its retries safe.
    pub(crate) fn key(self) -> std::sync::Arc<str> {
        self.to_string().into()
    }
}

impl fmt::Display for PublishId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.author, self.number)
    }
}

impl Event {
    /// The channel that it is about.
    pub(crate) fn channel(&self) -> Option<ChannelId> {
        match self {
            Event::Stored { channel, .. }
            | Event::Doomed { channel, .. }
            | Event::Forked { channel, .. }
            | Event::Acked { channel, .. }
            | Event::Failed { channel, .. }
            | Event::Began { channel, .. }
            | Event::Resumed { channel, .. }
            | Event::Continued { channel, .. }
            | Event::Delivered { channel, .. }
            | Event::Gap { channel, .. }
            | Event::Left { channel, .. }
            | Event::Ended { channel, .. } => Some(*channel),
            Event::Injected { .. } | Event::Astray { .. } => None,
        }
    }

    /// The client whose view it is about.
    pub(crate) fn client(&self) -> Option<ClientId> {
        match self {
            Event::Began { client, .. }
            | Event::Resumed { client, .. }
            | Event::Continued { client, .. }
            | Event::Delivered { client, .. }
            | Event::Gap { client, .. }
            | Event::Left { client, .. }
            | Event::Ended { client, .. } => Some(*client),
            Event::Injected { client, .. } => *client,
            Event::Stored { .. }
            | Event::Doomed { .. }
            | Event::Forked { .. }
            | Event::Acked { .. }
            | Event::Failed { .. }
            | Event::Astray { .. } => None,
        }
    }
}

/// For people: the moment, then what happened.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3} ms  ", self.time.0.as_secs_f64() * 1_000.0)?;
        let at = |position: &Option<Position>| position.as_ref().map_or("-".to_owned(), Position::to_string);
        match &self.event {
            Event::Stored { publish, position, .. } => write!(f, "stored    {publish} at {}", at(position)),
            Event::Doomed { publish, .. } => write!(f, "doomed    {publish}"),
            Event::Forked { from, position, .. } => write!(f, "forked    {from} as {position}"),
            Event::Acked { publish, position, ack, .. } => {
                write!(f, "acked     {publish} at {} as {ack:?}", at(position))
            }
            Event::Failed { publish, .. } => write!(f, "failed    {publish}"),
            Event::Began { position, .. } => write!(f, "began     at {}", at(position)),
            Event::Resumed { position, .. } => write!(f, "resumed   at {position}"),
            Event::Continued { from, position, .. } => write!(f, "continued {from} as {position}"),
            Event::Delivered { position, publish, .. } => {
                write!(f, "delivered {publish} at {}", at(position))
            }
            Event::Gap { reason, position, .. } => {
                write!(f, "gap       {} to {}", reason.as_str(), at(position))
            }
            Event::Left { .. } => write!(f, "left"),
            Event::Injected { fault, .. } => write!(f, "fault     {fault}"),
            Event::Astray { what } => write!(f, "astray    {what}"),
            Event::Ended { position, head, .. } => {
                write!(f, "ended     at {}, head {}", at(position), at(head))
            }
        }?;
        self.event.client().map_or(Ok(()), |client| write!(f, "  client {}", client.0))?;
        self.event.channel().map_or(Ok(()), |channel| write!(f, "  channel {}", channel.0))
    }
}

/// What happened to the client and the channel of a violation, and in general, up to it.
pub(crate) fn excerpt(history: &[Record], violation: &Violation) -> String {
    let concerns = |event: &Event| {
        let channel = event.channel().is_none_or(|channel| channel == violation.channel);
        let client = event.client().is_none_or(|client| Some(client) == violation.client);
        channel && client
    };
    let until = |time: Time| time <= violation.time;
    let concerned = history.iter().filter(|record| until(record.time) && concerns(&record.event));
    let lines: Vec<String> = concerned.map(Record::to_string).collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_MAX)..];
    shown.join("\n") + "\n"
}
