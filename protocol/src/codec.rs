//! Commands and frames as JSON text.

mod command;
mod mutation;

pub use command::encode_command;
pub use mutation::{MutationDraft, decode_invalidation, decode_mutations};

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Ack, Channel, Code, Command, Envelope, Frame, HistoryCommand, INTEGER_MAX, LogName, Payload,
    PayloadInvalid, Position, Problem, PublishCommand, SubscribeCommand, Tag, TagInvalid, TokenText,
    UnwatchCommand, WatchCommand, WatchGroup,
};

/// Keys of a frame that are looked at; a frame has two.
const KEYS_MAX: usize = 16;

/// The frames' names that only a server may say.
const SERVER_FRAMES: &[&str] = &[
    "hello",
    "subscribed",
    "unsubscribed",
    "batch",
    "gap",
    "continued",
    "published",
    "watched",
    "unwatched",
    "invalidated",
    "at",
    "reset",
    "degraded",
    "restored",
    "refreshed",
    "error",
    "pong",
    "disconnect",
];

/// A text that is no command, and the id to answer with, where one could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRefused {
    /// The frame's id.
    pub id: Option<u64>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Reads one command and its id (R10-R13). Unknown fields are ignored.
pub fn decode_command(text: &str) -> Result<(Option<u64>, Command), CommandRefused> {
    let refused = |id, problem| CommandRefused { id, problem };
    let fields: Fields<'_> = serde_json::from_str(text)
        .map_err(|e| refused(None, bad_frame(format!("the frame is not a JSON object: {e}"))))?;
    let id = match fields.get("id").map(RawValue::get) {
        None | Some("null") => None,
        Some(id) => match id.parse::<u64>().ok().filter(|id| *id <= INTEGER_MAX) {
            Some(id) => Some(id),
            None => return Err(refused(None, bad_frame("`id` is an integer from 0 to 2^53 - 1"))),
        },
    };
    let command = fields.the_one_command().and_then(|(name, body)| decode_body(name, body.get()));
    command.map(|command| (id, command)).map_err(|problem| refused(id, problem))
}

/// The commands' names.
const COMMANDS: &[&str] = &[
    "connect",
    "refresh",
    "subscribe",
    "unsubscribe",
    "publish",
    "history",
    "presence",
    "watch",
    "unwatch",
    "ping",
];

fn decode_body(name: &str, body: &str) -> Result<Command, Problem> {
    Ok(match name {
        "connect" => Command::Connect { token: body_of::<Token>(name, body)?.token },
        "refresh" => Command::Refresh { token: body_of::<Token>(name, body)?.token },
        "subscribe" => {
            let SubscribeBody { channel, since, presence, token } = body_of(name, body)?;
            Command::Subscribe(SubscribeCommand { channel: channel_of(&channel)?, since, presence, token })
        }
        "unsubscribe" => {
            Command::Unsubscribe { channel: channel_of(&body_of::<ReadBody>(name, body)?.channel)? }
        }
        "presence" => {
            let ReadBody { channel, limit, .. } = body_of(name, body)?;
            Command::Presence { channel: channel_of(&channel)?, limit }
        }
        "history" => {
            let ReadBody { channel, since, limit } = body_of(name, body)?;
            Command::History(HistoryCommand { channel: channel_of(&channel)?, since, limit })
        }
        "publish" => {
            let body: PublishBody<'_> = serde_json::from_str(body).map_err(|e| wrong(name, &e))?;
            Command::Publish(publish_of(body, Code::BadFrame)?)
        }
        "watch" => {
            let WatchBody { ns, groups } = body_of(name, body)?;
            let group = |GroupBody { since, except, tags }: GroupBody| {
                Ok(WatchGroup { since, except, tags: tags_of(&tags)? })
            };
            let groups = groups.into_iter().map(group).collect::<Result<_, Problem>>()?;
            Command::Watch(WatchCommand { log: log_of(ns.as_deref(), Code::BadFrame)?, groups })
        }
        "unwatch" => {
            let UnwatchBody { ns, tags, escalated } = body_of(name, body)?;
            let log = log_of(ns.as_deref(), Code::BadFrame)?;
            let (tags, escalated) = (tags_of(&tags)?, tags_of(&escalated)?);
            Command::Unwatch(UnwatchCommand { log, tags, escalated })
        }
        "ping" => Command::Ping { c: body_of::<Ping>(name, body)?.c },
        _ => unreachable!("only names from COMMANDS come here, not {name}"),
    })
}

#[derive(Deserialize)]
struct Token {
    token: TokenText,
}

#[derive(Deserialize)]
struct Ping {
    c: u64,
}

#[derive(Deserialize)]
struct SubscribeBody {
    channel: String,
    since: Option<Position>,
    #[serde(default)]
    presence: bool,
    token: Option<TokenText>,
}

/// The fields of the commands that read a channel.
#[derive(Deserialize)]
struct ReadBody {
    channel: String,
    since: Option<Position>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct WatchBody {
    ns: Option<String>,
    groups: Vec<GroupBody>,
}

#[derive(Deserialize)]
struct GroupBody {
    since: Option<Position>,
    except: Option<Position>,
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct UnwatchBody {
    ns: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    escalated: Vec<String>,
}

#[derive(Deserialize)]
struct PublishBody<'a> {
    channel: String,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    b64: Option<Cow<'a, str>>,
    key: Option<Arc<str>>,
    id: Option<Arc<str>>,
    idempotency_key: Option<Arc<str>>,
    #[serde(default)]
    ack: Ack,
}

/// A field that is there, `null` included: `null` is data like any other.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// Reads the JSON form of a publish, as a request's body holds it: the same fields as the command (R36).
pub fn decode_publish(text: &str) -> Result<PublishCommand, Problem> {
    let body: PublishBody<'_> = serde_json::from_str(text).map_err(|e| {
        let code = if e.is_data() { Code::BadRequest } else { Code::InvalidJson };
        Problem::new(code, format!("the publish cannot be read: {e}"))
    })?;
    publish_of(body, Code::BadRequest)
}

/// `unclear` is the code for a body that is well-formed and does not say what to publish.
fn publish_of(body: PublishBody<'_>, unclear: Code) -> Result<PublishCommand, Problem> {
    let payload = match (body.data, body.b64) {
        (Some(data), None) => Payload::json(data.get().as_bytes()).map_err(Problem::from),
        (None, Some(text)) => Payload::base64(&text).map_err(|e| Problem::new(unclear, e.to_string())),
        _ => return Err(Problem::new(unclear, "a publish takes either `data` or `b64`")),
    };
    Ok(PublishCommand {
        channel: channel_of(&body.channel)?,
        payload: payload?,
        key: body.key,
        id: body.id,
        idempotency_key: body.idempotency_key,
        ack: body.ack,
    })
}

impl From<PayloadInvalid> for Problem {
    fn from(invalid: PayloadInvalid) -> Problem {
        let code = match invalid {
            PayloadInvalid::Json(_) => Code::InvalidJson,
            PayloadInvalid::NumberOutOfRange => Code::NumberOutOfRange,
            PayloadInvalid::Utf8(_) => Code::InvalidUtf8,
            PayloadInvalid::Base64 => Code::BadRequest,
        };
        Problem::new(code, invalid.to_string())
    }
}

fn body_of<T: DeserializeOwned>(name: &str, body: &str) -> Result<T, Problem> {
    serde_json::from_str(body).map_err(|e| wrong(name, &e))
}

fn channel_of(name: &str) -> Result<Channel, Problem> {
    Channel::parse(name).map_err(|e| Problem::new(Code::ChannelInvalid, e.to_string()))
}

/// Reads tags; one that is none refuses all.
pub fn tags_of(tags: &[String]) -> Result<Vec<Tag>, Problem> {
    let tags = tags.iter().map(|tag| Tag::parse(tag).map_err(|e| invalid_tag(tag, &e)));
    tags.collect()
}

fn invalid_tag(tag: &str, why: &TagInvalid) -> Problem {
    let shown: String = tag.chars().take(40).collect();
    Problem::new(Code::TagInvalid, format!("{shown:?} is no tag: {why}"))
}

/// Reads the name of a log; without one it is the default log. `unclear` is the code for a text that is no name.
pub fn log_of(ns: Option<&str>, unclear: Code) -> Result<LogName, Problem> {
    let named = ns.map_or(Ok(LogName::default()), LogName::parse);
    named.map_err(|e| Problem::new(unclear, e.to_string()))
}

fn wrong(name: &str, error: &serde_json::Error) -> Problem {
    bad_frame(format!("`{name}` cannot be read: {error}"))
}

fn bad_frame(message: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Code::BadFrame, message)
}

/// The keys of a frame with their values, unread.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    fn the_one_command(&self) -> Result<(&'static str, &'a RawValue), Problem> {
        let command = |key: &str| COMMANDS.iter().copied().find(|name| *name == key);
        let mut commands = self.0.iter().filter_map(|(key, value)| Some((command(key)?, *value)));
        match (commands.next(), commands.next()) {
            (Some(only), None) => Ok(only),
            (Some((one, _)), Some((two, _))) => {
                Err(bad_frame(format!("a frame holds one command, this one holds `{one}` and `{two}`")))
            }
            (None, _) => Err(self.no_command()),
        }
    }

    fn no_command(&self) -> Problem {
        let mut names = self.0.iter().map(|(key, _)| key.as_ref()).filter(|key| *key != "id");
        match names.next() {
            None => bad_frame("the frame holds no command"),
            Some(name) if SERVER_FRAMES.contains(&name) => {
                bad_frame(format!("`{name}` is a frame that only the server sends"))
            }
            Some(name) => {
                let shown: String = name.chars().take(40).collect();
                Problem::new(
                    Code::UnknownCommand,
                    format!("there is no command {shown:?}: {}", COMMANDS.join(", ")),
                )
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::with_capacity(2);
                while let Some(Key(key)) = map.next_key()? {
                    if fields.len() == KEYS_MAX {
                        return Err(de::Error::custom(format_args!("more than {KEYS_MAX} keys")));
                    }
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Borrows where the key holds no escapes, which `Cow` by itself never does inside a map.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Writes one frame.
pub fn encode_frame(envelope: &Envelope) -> Vec<u8> {
    #[derive(Serialize)]
    struct Form<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(flatten)]
        frame: &'a Frame,
    }
    let form = Form { id: envelope.id, frame: &envelope.frame };
    serde_json::to_vec(&form).expect("frames hold only what JSON can say")
}

/// Reads one frame, as a client does. `None` for a frame of a later version, which a client ignores (R9).
pub fn decode_frame(text: &str) -> Result<Option<Envelope>, serde_json::Error> {
    let fields: Fields<'_> = serde_json::from_str(text)?;
    let id = fields.get("id").map(|id| serde_json::from_str(id.get())).transpose()?;
    for (key, body) in &fields.0 {
        if let Some(frame) = decode_frame_body(key, body.get())? {
            return Ok(Some(Envelope { id, frame }));
        }
    }
    Ok(None)
}

fn decode_frame_body(name: &str, body: &str) -> Result<Option<Frame>, serde_json::Error> {
    Ok(Some(match name {
        "hello" => Frame::Hello(serde_json::from_str(body)?),
        "subscribed" => Frame::Subscribed(serde_json::from_str(body)?),
        "unsubscribed" => Frame::Unsubscribed(serde_json::from_str(body)?),
        "batch" => Frame::Batch(serde_json::from_str(body)?),
        "gap" => Frame::Gap(serde_json::from_str(body)?),
        "continued" => Frame::Continued(serde_json::from_str(body)?),
        "degraded" => Frame::Degraded(serde_json::from_str(body)?),
        "restored" => Frame::Restored(serde_json::from_str(body)?),
        "published" => Frame::Published(serde_json::from_str(body)?),
        "history" => Frame::History(serde_json::from_str(body)?),
        "presence" => Frame::Presence(serde_json::from_str(body)?),
        "watched" => Frame::Watched(serde_json::from_str(body)?),
        "unwatched" => Frame::Unwatched {},
        "invalidated" => Frame::Invalidated(serde_json::from_str(body)?),
        "at" => Frame::At(serde_json::from_str(body)?),
        "reset" => Frame::Reset(serde_json::from_str(body)?),
        "refreshed" => Frame::Refreshed(serde_json::from_str(body)?),
        "error" => Frame::Error(serde_json::from_str(body)?),
        "pong" => Frame::Pong { c: serde_json::from_str::<Ping>(body)?.c },
        "disconnect" => Frame::Disconnect(serde_json::from_str(body)?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Option<u64>, Code) {
        let refused = decode_command(text).expect_err(text);
        (refused.id, refused.problem.code)
    }

    #[test]
    fn commands_survive_the_way_through_json() {
        for text in [
            r#"{"connect":{"token":"t"}}"#,
            r#"{"id":0,"refresh":{"token":"t"}}"#,
            r#"{"id":1,"subscribe":{"channel":"tickets","since":{"epoch":"a","offset":12}}}"#,
            r#"{"id":2,"unsubscribe":{"channel":"tickets"}}"#,
            r#"{"id":3,"publish":{"channel":"room:7","data":{"a": [1.0]},"key":"k","id":"i","idempotency_key":"x","ack":"none"}}"#,
            r#"{"id":3,"publish":{"channel":"room:7","b64":"AP8H"}}"#,
            r#"{"id":3,"publish":{"channel":"room:7","data":null}}"#,
            r#"{"id":9007199254740991,"history":{"channel":"tickets","limit":100}}"#,
            r#"{"id":1,"subscribe":{"channel":"room:7","presence":true}}"#,
            r#"{"id":5,"presence":{"channel":"room:7"}}"#,
            r#"{"id":5,"presence":{"channel":"room:7","limit":0}}"#,
            r#"{"id":6,"watch":{"groups":[{"since":{"epoch":"a","offset":12},"tags":["ticket:42","a:*"]},{"tags":[]}]}}"#,
            r#"{"id":6,"watch":{"groups":[{"except":{"epoch":"a","offset":15},"since":{"epoch":"a","offset":12},"tags":["a"]}]}}"#,
            r#"{"id":6,"watch":{"groups":[],"ns":"shop"}}"#,
            r#"{"id":7,"unwatch":{"tags":["ticket:42"]}}"#,
            r#"{"ping":{"c":123456}}"#,
        ] {
            let (id, command) = decode_command(text).expect(text);
            assert_eq!(encode_command(id, &command), text);
        }
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_id_where_it_has_one() {
        for (text, id, code) in [
            ("", None, Code::BadFrame),
            ("[]", None, Code::BadFrame),
            ("{}", None, Code::BadFrame),
            (r#"{"id":1}"#, Some(1), Code::BadFrame),
            (r#"{"id":-1,"ping":{"c":1}}"#, None, Code::BadFrame),
            (r#"{"id":9007199254740992,"ping":{"c":1}}"#, None, Code::BadFrame),
            (r#"{"id":"1","ping":{"c":1}}"#, None, Code::BadFrame),
            (r#"{"id":1.0,"ping":{"c":1}}"#, None, Code::BadFrame),
            (r#"{"id":1,"fly":{}}"#, Some(1), Code::UnknownCommand),
            (r#"{"id":1,"hello":{}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"ping":{"c":1},"subscribe":{"channel":"a"}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"subscribe":{"channel":7}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"subscribe":"tickets"}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"subscribe":{"channel":"a b"}}"#, Some(1), Code::ChannelInvalid),
            (r#"{"id":1,"subscribe":{"channel":"a","since":"x"}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"subscribe":{"channel":"a","presence":1}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"subscribe":{"channel":"$presence:a"}}"#, Some(1), Code::ChannelInvalid),
            (r#"{"id":1,"watch":{}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"watch":{"ns":"a:b","groups":[]}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"watch":{"groups":[{"tags":["a","b c"]}]}}"#, Some(1), Code::TagInvalid),
            (r#"{"id":1,"unwatch":{"tags":["a*"]}}"#, Some(1), Code::TagInvalid),
            (r#"{"id":1,"publish":{"channel":"a"}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"publish":{"channel":"a","data":1e999}}"#, Some(1), Code::NumberOutOfRange),
            (r#"{"id":1,"publish":{"channel":"a","b64":"?"}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"publish":{"channel":"a","data":1,"ack":"perhaps"}}"#, Some(1), Code::BadFrame),
            (r#"{"id":1,"ping":{"c":1}} "#, Some(1), Code::BadFrame),
        ] {
            match text.ends_with(' ') {
                true => assert!(decode_command(text).is_ok(), "white space around a frame is legal"),
                false => assert_eq!(refused(text), (id, code), "{text}"),
            }
        }
    }

    #[test]
    fn fields_of_later_versions_are_ignored() {
        assert!(decode_command(r#"{"ping":{"c":1,"d":2},"trace":"x"}"#).is_ok());
        assert!(decode_frame(r#"{"constellation":{}}"#).unwrap().is_none());
        assert!(decode_frame(r#"{"pong":{"c":1,"d":2},"x":1}"#).unwrap().is_some());
    }

    #[test]
    fn frames_survive_the_way_through_json() {
        for text in [
            r#"{"hello":{"session":"s","ping_interval_ms":25000,"timeout_ms":60000,"batch_ms":100,"lease_ms":15000,"message_bytes_max":1000000,"command_bytes_max":1004096}}"#,
            r#"{"id":1,"subscribed":{"channel":"t","position":{"epoch":"a","offset":2},"recovered":true,"more":false,"publications":[{"data":{"x": 1},"time":5,"offset":2}]}}"#,
            r#"{"id":1,"subscribed":{"channel":"t","position":null,"more":false,"publications":[]}}"#,
            r#"{"batch":{"channel":"t","epoch":"a","first":1,"last":2,"publications":[{"data":1,"time":5},{"b64":"AA==","time":6,"id":"i"}]}}"#,
            r#"{"gap":{"channel":"t","reason":"trimmed","position":{"epoch":"a","offset":2}}}"#,
            r#"{"degraded":{"component":"redis","since":1767225600123}}"#,
            r#"{"restored":{"component":"redis"}}"#,
            r#"{"id":5,"presence":{"members":[{"user":"ada","session":"s-1","since":5}],"count":2,"more":true}}"#,
            r#"{"presence":{"channel":"t","joined":[],"left":[{"user":"","session":"s-1","since":5}]}}"#,
            r#"{"presence":{"channel":"t","joined":[],"left":[],"lost":true}}"#,
            r#"{"presence":{"channel":"t","joined":[],"left":[],"code":"channel_not_allowed"}}"#,
            r#"{"continued":{"ns":"default","from":{"epoch":"a","offset":2},"position":{"epoch":"b","offset":2}}}"#,
            r#"{"id":6,"watched":{"at":{"epoch":"a","offset":2},"stale":["ticket:42"],"denied":[],"escalated":["ticket:*"]}}"#,
            r#"{"id":7,"unwatched":{}}"#,
            r#"{"invalidated":{"at":{"epoch":"a","offset":9},"tags":{"ticket:42":9,"a:*":8},"spread_ms":5,"c":12}}"#,
            r#"{"invalidated":{"ns":"shop","at":{"epoch":"a","offset":9},"tags":{"ticket:42":9}}}"#,
            r#"{"at":{"position":{"epoch":"a","offset":9},"c":12}}"#,
            r#"{"reset":{"scope":"all","at":{"epoch":"a","offset":9},"reason":"epoch"}}"#,
            r#"{"reset":{"scope":"tags","tags":["a"],"at":{"epoch":"a","offset":9},"reason":"auth"}}"#,
            r#"{"id":3,"published":{"position":null,"ack":"none"}}"#,
            r#"{"id":9,"error":{"code":"channel_not_allowed","message":"m","retryable":false}}"#,
            r#"{"disconnect":{"code":1012,"reason":"draining","reconnect":true,"after_ms":1200}}"#,
        ] {
            let envelope = decode_frame(text).unwrap().expect(text);
            assert_eq!(String::from_utf8(encode_frame(&envelope)).unwrap(), text);
        }
    }
}
