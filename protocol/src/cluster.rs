//! What instances that share a broker tell each other. MessagePack, between instances of one cluster; no client sees it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Channel, ChannelInvalid, ClusterAnswer, ClusterAsk, Offset, Payload, Position, Publication};

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

/// A publication as a shared broker keeps and announces it. Its position and time are the broker's.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    kind: u8,
    #[serde(borrow, serialize_with = "as_bytes")]
    data: &'a [u8],
    #[serde(borrow)]
    id: Option<&'a str>,
    #[serde(borrow)]
    key: Option<&'a str>,
}

/// Heads of channels that clients name, and of the server's own.
fn heads_of_any<'de, D: Deserializer<'de>>(heads: D) -> Result<Vec<(Channel, Option<Position>)>, D::Error> {
    let heads = Vec::<(String, Option<Position>)>::deserialize(heads)?;
    let named = heads.into_iter().map(|(name, head)| Ok((Channel::parse_any(&name)?, head)));
    named.collect::<Result<_, ChannelInvalid>>().map_err(serde::de::Error::custom)
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
