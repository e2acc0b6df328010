//! What instances that share a broker tell each other. MessagePack, between instances of one cluster; no client sees it.
//!
//! While one version follows another, both read what the other writes: so messages are maps with names, records are lists that
//! only grow at their end, and whoever reads passes over what it does not know. What cannot be read even so is counted up in
//! [`FORMAT`], which each instance tells the others.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Channel, ClusterAnswer, ClusterAsk, Offset, Payload, Position, Publication};

/// The version of what instances store and tell each other. It changes where an older instance could not read it.
pub const FORMAT: u32 = 1;

/// What all instances of a cluster must have alike, so that they mean the same by the same words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alike {
    /// [`FORMAT`]; 0 of an instance that does not say it.
    pub format: u32,
    /// A fingerprint of which namespaces there are, and which of them keep history.
    pub namespaces: String,
    /// A fingerprint of the secrets that tokens and API keys are checked with. No secret can be found from it.
    pub secrets: String,
}

impl Alike {
    /// What is not alike in two instances. Nothing is known of one that says nothing.
    pub fn differences(&self, other: &Alike) -> Vec<&'static str> {
        if self.format == 0 || other.format == 0 {
            return Vec::new();
        }
        let differ = [
            ("format", self.format != other.format),
            ("namespaces", self.namespaces != other.namespaces),
            ("secrets", self.secrets != other.secrets),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
    }
}

/// An instance, as it presents itself to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// Unlike that of any other start of any instance.
    pub id: Arc<str>,
    /// Where others reach it.
    pub address: String,
    /// The program's version.
    pub version: String,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
    /// Its connections.
    pub connections: u64,
    /// What it should have as all others have it.
    #[serde(default)]
    pub alike: Alike,
}

/// What every instance says once a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Who says it.
    pub instance: InstanceInfo,
    /// Counts its beacons: one that is missing was lost, and other announcements may have been lost with it.
    pub number: u64,
    /// The channels that it published on since its last beacon, each with its head; `None` where the outcome of a
    /// publish is unknown.
    #[serde(deserialize_with = "heads_of_any")]
    pub heads: Vec<(Channel, Option<Position>)>,
    /// It is its last one.
    pub leaving: bool,
}

/// A message from one instance to all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// A sign of life.
    Beacon(Beacon),
    /// Something to be done by every instance, and answered.
    Ask {
        /// The instance that asks.
        from: Arc<str>,
        /// Tells its questions apart.
        number: u64,
        /// What.
        ask: ClusterAsk,
    },
    /// What one instance has done or found.
    Answer {
        /// The instance that asked.
        to: Arc<str>,
        /// Its number of the question.
        number: u64,
        /// The instance that answers.
        from: Arc<str>,
        /// What.
        answer: ClusterAnswer,
    },
}

impl ClusterMessage {
    /// The message as instances send it.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a message holds nothing that MessagePack cannot")
    }

    /// Reads a message of an instance; one of a later version may hold more than is known here.
    pub fn decode(bytes: &[u8]) -> Result<ClusterMessage, StoredInvalid> {
        rmp_serde::from_slice(bytes).map_err(|error| StoredInvalid(error.to_string()))
    }
}

/// A publication as a shared broker keeps and announces it. Its position and time are the broker's. A later version may add
/// fields at the end.
#[derive(Serialize)]
struct Stored<'a> {
    kind: u8,
    #[serde(serialize_with = "as_bytes")]
    data: &'a [u8],
    id: Option<&'a str>,
    key: Option<&'a str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Stored<'a> {
    fn deserialize<D: Deserializer<'de>>(record: D) -> Result<Self, D::Error> {
        record.deserialize_seq(StoredVisitor)
    }
}

struct StoredVisitor;

impl<'de> Visitor<'de> for StoredVisitor {
    type Value = Stored<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record of four fields or more")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Stored<'de>, A::Error> {
        let missing = |at| A::Error::invalid_length(at, &self);
        let stored = Stored {
            kind: fields.next_element()?.ok_or_else(|| missing(0))?,
            data: fields.next_element()?.ok_or_else(|| missing(1))?,
            id: fields.next_element()?.ok_or_else(|| missing(2))?,
            key: fields.next_element()?.ok_or_else(|| missing(3))?,
        };
        while fields.next_element::<IgnoredAny>()?.is_some() {}
        Ok(stored)
    }
}

/// Heads of channels that clients name, and of the server's own. Nobody here listens to a channel whose name cannot be read.
fn heads_of_any<'de, D: Deserializer<'de>>(heads: D) -> Result<Vec<(Channel, Option<Position>)>, D::Error> {
    let heads = Vec::<(String, Option<Position>)>::deserialize(heads)?;
    let named = heads.into_iter().filter_map(|(name, head)| Some((Channel::parse_any(&name).ok()?, head)));
    Ok(named.collect())
}

const JSON: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// Bytes that are no publication or message: they come from somebody else, or from a later version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredInvalid(String);

impl fmt::Display for StoredInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what the broker holds cannot be read: {}", self.0)
    }
}

impl std::error::Error for StoredInvalid {}

fn as_bytes<S: Serializer>(data: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(data)
}

/// What a shared broker stores of a publication.
pub fn encode_stored(payload: &Payload, id: Option<&str>, key: Option<&str>) -> Vec<u8> {
    let kind = match payload {
        Payload::Json(_) => JSON,
        Payload::Text(_) => TEXT,
        Payload::Binary(_) => BINARY,
    };
    let stored = Stored { kind, data: payload.as_bytes(), id, key };
    rmp_serde::to_vec(&stored).expect("a publication holds nothing that MessagePack cannot")
}

/// Reads what [`encode_stored`] gave, with the position's offset and the time in milliseconds since 1970 that the broker
/// gave it.
pub fn decode_stored(bytes: &[u8], offset: Option<Offset>, time: u64) -> Result<Publication, StoredInvalid> {
    let invalid = |why: &dyn fmt::Display| StoredInvalid(why.to_string());
    let Stored { kind, data, id, key } = rmp_serde::from_slice(bytes).map_err(|error| invalid(&error))?;
    let payload = match kind {
        JSON => Payload::json(data),
        TEXT => Payload::text(data),
        BINARY => Ok(Payload::Binary(Bytes::copy_from_slice(data))),
        other => return Err(invalid(&format!("a kind {other} of data"))),
    };
    let payload = payload.map_err(|error| invalid(&error))?;
    Ok(Publication { offset, time, id: id.map(Arc::from), key: key.map(Arc::from), payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectionInfo, LogName, Revocation, Revoked, Transport, Which};

    #[test]
    fn a_stored_publication_is_read_back_byte_for_byte() {
        for payload in [
            Payload::json(br#"{"b": 1.50, "a" : "\u00e9"}"#).unwrap(),
            Payload::text("line\none".as_bytes()).unwrap(),
            Payload::Binary(Bytes::from_static(&[0, 255, 10])),
        ] {
            let stored = encode_stored(&payload, Some("m-1"), None);
            let publication = decode_stored(&stored, Some(Offset(7)), 12).unwrap();
            assert_eq!(format!("{:?}", publication.payload), format!("{payload:?}"));
            assert_eq!((publication.id.as_deref(), publication.key.as_deref()), (Some("m-1"), None));
            assert_eq!((publication.offset, publication.time), (Some(Offset(7)), 12));
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let bad_json = Stored { kind: JSON, data: b"{", id: None, key: None };
        let bad_text = Stored { kind: TEXT, data: &[0xff], id: None, key: None };
        let bad_kind = Stored { kind: 9, data: b"", id: None, key: None };
        for bytes in [bad_json, bad_text, bad_kind].map(|stored| rmp_serde::to_vec(&stored).unwrap()) {
            assert!(decode_stored(&bytes, None, 0).is_err(), "{bytes:?}");
        }
        for bytes in [&b""[..], b"\xc1", b"hello", &[0x94, 0, 0xc6, 0xff, 0xff, 0xff, 0xff]] {
            assert!(decode_stored(bytes, None, 0).is_err());
            assert!(ClusterMessage::decode(bytes).is_err());
        }
    }

    #[test]
    fn a_record_that_grew_at_its_end_is_read_and_one_that_lacks_something_is_not() {
        let payload = Payload::text("text".as_bytes()).unwrap();
        let mut stored = encode_stored(&payload, Some("m-1"), Some("k"));
        let known = decode_stored(&stored, None, 0).unwrap();
        assert_eq!(stored[0], 0x94, "a list of four");
        for (length, more) in [(0x95, &b"\xa3new"[..]), (0x96, b"\x81\xa1a\x92\x01\x02")] {
            stored[0] = length;
            stored.extend(more);
            let read = decode_stored(&stored, None, 0).unwrap();
            assert_eq!(format!("{read:?}"), format!("{known:?}"), "{length:x}");
        }
        stored.pop();
        assert!(decode_stored(&stored, None, 0).is_err(), "cut off");
        assert!(decode_stored(&[0x93, 1, 0xc4, 0, 0xc0], None, 0).is_err(), "three fields");
    }

    #[test]
    fn a_beacon_of_a_later_version_is_read_but_for_what_is_unknown() {
        #[derive(Serialize)]
        struct Later<'a> {
            instance: LaterInfo<'a>,
            number: u64,
            heads: Vec<(&'a str, Option<Position>)>,
            leaving: bool,
            more: [u8; 3],
        }
        #[derive(Serialize)]
        struct LaterInfo<'a> {
            id: &'a str,
            address: &'a str,
            version: &'a str,
            started: u64,
            connections: u64,
            mood: &'a str,
        }
        let instance =
            LaterInfo { id: "i-9", address: "a", version: "9", started: 1, connections: 2, mood: "good" };
        let heads = vec![("a", None), ("name of\na later grammar", None), ("$later:a", None), ("b", None)];
        let later = Later { instance, number: 7, heads, leaving: false, more: [1, 2, 3] };
        let bytes = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("Beacon", later)])).unwrap();
        let Ok(ClusterMessage::Beacon(beacon)) = ClusterMessage::decode(&bytes) else { panic!("no beacon") };
        let names: Vec<&str> = beacon.heads.iter().map(|(channel, _)| channel.as_str()).collect();
        assert_eq!((&*beacon.instance.id, beacon.number, names), ("i-9", 7, vec!["a", "b"]));
        assert_eq!(beacon.instance.alike, Alike::default(), "it does not say");
    }

    #[test]
    fn what_instances_have_not_alike_is_named() {
        let alike = |format, namespaces: &str, secrets: &str| Alike {
            format,
            namespaces: namespaces.to_owned(),
            secrets: secrets.to_owned(),
        };
        let here = alike(1, "n", "s");
        for (other, expected) in [
            (alike(1, "n", "s"), &[][..]),
            (alike(2, "n", "s"), &["format"]),
            (alike(1, "m", "t"), &["namespaces", "secrets"]),
            (Alike::default(), &[]),
        ] {
            assert_eq!(here.differences(&other), expected);
            assert_eq!(other.differences(&here), expected);
        }
    }

    #[test]
    fn a_message_is_read_back_and_may_hold_more_than_is_known() {
        let instance = InstanceInfo { id: "i-1".into(), connections: 3, ..InstanceInfo::default() };
        let heads =
            vec![(Channel::parse("a").unwrap(), None), (LogName::default().channel(), "e.1".parse().ok())];
        let message = ClusterMessage::Beacon(Beacon { instance, number: 1, heads, leaving: false });
        assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
        let (me, number) = (Arc::<str>::from("i-1"), 7);
        let which = Which::OfUser("ada".into());
        let connection = ConnectionInfo {
            session: "i-1-2".to_owned(),
            user: None,
            transport: Transport::Sse,
            since: 3,
            channels: 4,
        };
        let answer = ClusterAnswer { count: 9, connections: vec![connection] };
        for message in [
            ClusterMessage::Ask {
                from: me.clone(),
                number,
                ask: ClusterAsk::List { which: Which::Every, limit: 5 },
            },
            ClusterMessage::Ask {
                from: me.clone(),
                number,
                ask: ClusterAsk::Disconnect { which, reconnect: true, reason: "go".into() },
            },
            ClusterMessage::Ask {
                from: me.clone(),
                number,
                ask: ClusterAsk::Revoke(Revocation { revoked: Revoked::Token("t".into()), at: 5 }),
            },
            ClusterMessage::Answer { to: me.clone(), number, from: me, answer },
        ] {
            assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
        }
    }
}
