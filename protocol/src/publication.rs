//! What is published: data, and what travels with it.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::Offset;

/// The data of one publication, passed through untouched after one check.
#[derive(Clone, Debug)]
pub enum Payload {
    /// JSON, byte for byte as it was published, without surrounding white space.
    Json(Arc<RawValue>),
    /// Text, which JSON readers see as a string.
    Text(Arc<str>),
    /// Bytes, which JSON readers see as `b64`.
    Binary(Bytes),
}

/// Why data was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadInvalid {
    /// The bytes are not JSON; holds the parser's words.
    Json(String),
    /// A number that no double can hold.
    NumberOutOfRange,
    /// Text that is not UTF-8, with the index of the first bad byte.
    Utf8(usize),
    /// A string that is not standard base64 with padding.
    Base64,
}

/// One publication as every subscriber sees it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its place in the channel; `None` where the channel keeps no history.
    pub offset: Option<Offset>,
    /// When the server accepted it, in milliseconds since 1970.
    pub time: u64,
    /// The publisher's own name for it.
    pub id: Option<Arc<str>>,
    /// What conflation by key groups it by.
    pub key: Option<Arc<str>>,
    /// The data.
    pub payload: Payload,
}

impl Payload {
    /// Checks that `bytes` are JSON in which every number fits a double (R22).
    pub fn json(bytes: &[u8]) -> Result<Payload, PayloadInvalid> {
        let text = std::str::from_utf8(bytes).map_err(|e| PayloadInvalid::Utf8(e.valid_up_to()))?;
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        serde_json::from_str::<NumbersFit>(text).map_err(PayloadInvalid::from_json)?;
        let raw = RawValue::from_string(text.to_owned()).map_err(PayloadInvalid::from_json)?;
        Ok(Payload::Json(raw.into()))
    }

    /// Checks that `bytes` are UTF-8.
    pub fn text(bytes: &[u8]) -> Result<Payload, PayloadInvalid> {
        let text = std::str::from_utf8(bytes).map_err(|e| PayloadInvalid::Utf8(e.valid_up_to()))?;
        Ok(Payload::Text(text.into()))
    }

    /// Reads standard base64 with padding.
    pub fn base64(text: &str) -> Result<Payload, PayloadInvalid> {
        BASE64.decode(text).map(|bytes| Payload::Binary(bytes.into())).map_err(|_| PayloadInvalid::Base64)
    }

    /// The data's own bytes: what limits count and idempotency compares.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Json(raw) => raw.get().as_bytes(),
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }

    /// The length of the data as it stands in a JSON frame, in bytes; at most 6 too many for each character of text.
    pub fn json_len(&self) -> usize {
        match self {
            Payload::Json(raw) => raw.get().len(),
            Payload::Text(text) => {
                let escaped = |b: u8| if b < 0x20 || b == b'"' || b == b'\\' { 6 } else { 1 };
                2 + text.bytes().map(escaped).sum::<usize>()
            }
            Payload::Binary(bytes) => 2 + bytes.len().div_ceil(3) * 4,
        }
    }
}

impl PayloadInvalid {
    fn from_json(error: serde_json::Error) -> Self {
        match error.to_string() {
            words if words.starts_with("number out of range") => PayloadInvalid::NumberOutOfRange,
            words => PayloadInvalid::Json(words),
        }
    }
}

impl fmt::Display for PayloadInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadInvalid::Json(words) => write!(f, "the data is not JSON: {words}"),
            PayloadInvalid::NumberOutOfRange => write!(f, "the data has a number that no double can hold"),
            PayloadInvalid::Utf8(index) => write!(f, "the data is not UTF-8 at byte {index}"),
            PayloadInvalid::Base64 => write!(f, "`b64` is not standard base64 with padding"),
        }
    }
}

impl std::error::Error for PayloadInvalid {}

impl Publication {
    /// Bytes around the data in a JSON frame: the field names, two long integers, punctuation.
    const ENVELOPE_BYTES: usize = 80;

    /// An upper bound of this publication's length in a JSON frame.
    pub fn json_len(&self) -> usize {
        let names = [&self.id, &self.key].into_iter().flatten();
        Self::ENVELOPE_BYTES + self.payload.json_len() + names.map(|name| 16 + 6 * name.len()).sum::<usize>()
    }

    /// What it costs to keep: the data and a flat sum for the rest.
    pub fn memory(&self) -> usize {
        let names = [&self.id, &self.key].into_iter().flatten();
        128 + self.payload.as_bytes().len() + names.map(|name| name.len()).sum::<usize>()
    }

    pub(crate) fn serialize_with<S: Serializer>(
        &self,
        offset: Option<Offset>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.payload {
            Payload::Json(raw) => map.serialize_entry("data", raw)?,
            Payload::Text(text) => map.serialize_entry("data", text)?,
            Payload::Binary(bytes) => map.serialize_entry("b64", &BASE64.encode(bytes))?,
        }
        map.serialize_entry("time", &self.time)?;
        if let Some(id) = &self.id {
            map.serialize_entry("id", id)?;
        }
        if let Some(key) = &self.key {
            map.serialize_entry("key", key)?;
        }
        if let Some(offset) = offset {
            map.serialize_entry("offset", &offset)?;
        }
        map.end()
    }
}

/// As in `subscribed` and `history` frames: with its offset.
impl Serialize for Publication {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_with(self.offset, serializer)
    }
}

impl<'de> Deserialize<'de> for Publication {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default, deserialize_with = "crate::codec::present")]
            data: Option<Box<RawValue>>,
            b64: Option<String>,
            #[serde(default)]
            time: u64,
            id: Option<Arc<str>>,
            key: Option<Arc<str>>,
            offset: Option<Offset>,
        }
        let fields = Fields::deserialize(deserializer)?;
        let payload = match (fields.data, fields.b64) {
            (Some(raw), None) => Payload::Json(raw.into()),
            (None, Some(text)) => Payload::base64(&text).map_err(de::Error::custom)?,
            _ => return Err(de::Error::custom("a publication has either `data` or `b64`")),
        };
        let Fields { time, id, key, offset, .. } = fields;
        Ok(Publication { offset, time, id, key, payload })
    }
}

/// Walks a JSON value, keeps nothing, and fails where a number does not fit a double: the parser converts
/// numbers only for those who ask for them, so a mere syntax check would let `1e999` through.
struct NumbersFit;

impl<'de> Deserialize<'de> for NumbersFit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersFit)
    }
}

impl<'de> Visitor<'de> for NumbersFit {
    type Value = NumbersFit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(NumbersFit)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(NumbersFit)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(NumbersFit)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(NumbersFit)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(NumbersFit)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(NumbersFit)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<NumbersFit>()?.is_some() {}
        Ok(NumbersFit)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, NumbersFit>()?.is_some() {}
        Ok(NumbersFit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_passes_through_byte_for_byte() {
        for text in [
            "{\"b\": 1.10,\n \"a\":[1e2,\"\\u00e9\"]}",
            "12345678901234567890123",
            "\"\"",
            "null",
            "true",
            "-0.0",
        ] {
            let padded = format!(" \n{text}\r\n");
            assert_eq!(Payload::json(padded.as_bytes()).unwrap().as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn what_is_not_json_or_no_double_is_refused() {
        assert_eq!(Payload::json(b"[1e999]").unwrap_err(), PayloadInvalid::NumberOutOfRange);
        assert_eq!(Payload::json(b"{\"a\":{\"b\":-1e400}}").unwrap_err(), PayloadInvalid::NumberOutOfRange);
        assert_eq!(Payload::json(b"\"\xff\"").unwrap_err(), PayloadInvalid::Utf8(1));
        let deep = "[".repeat(200) + &"]".repeat(200);
        for text in ["", "{", "1 2", "nul", "{a:1}", "[1,]", "\"a", "01", deep.as_str()] {
            assert!(matches!(Payload::json(text.as_bytes()), Err(PayloadInvalid::Json(_))), "{text}");
        }
    }

    #[test]
    fn bytes_survive_the_way_through_json() {
        let publication = Publication {
            offset: Some(Offset(3)),
            time: 1,
            id: None,
            key: None,
            payload: Payload::Binary(Bytes::from_static(&[0, 255, 7])),
        };
        let text = serde_json::to_string(&publication).unwrap();
        assert_eq!(text, r#"{"b64":"AP8H","time":1,"offset":3}"#);
        let read: Publication = serde_json::from_str(&text).unwrap();
        assert_eq!(read.payload.as_bytes(), [0, 255, 7]);
        assert!(serde_json::from_str::<Publication>(r#"{"b64":"AP8"}"#).is_err());
        assert!(serde_json::from_str::<Publication>(r#"{"time":1}"#).is_err());
    }

    #[test]
    fn null_is_data() {
        let text = r#"{"data":null,"time":1}"#;
        let read: Publication = serde_json::from_str(text).unwrap();
        assert_eq!(read.payload.as_bytes(), b"null");
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(serde_json::from_str::<Publication>(r#"{"data":null,"b64":"AA==","time":1}"#).is_err());
    }

    #[test]
    fn the_estimate_of_a_length_is_never_too_small() {
        for payload in [
            Payload::json(b"{\"a\":1}").unwrap(),
            Payload::text("line\n\"quoted\" \u{7} \\ ü".as_bytes()).unwrap(),
            Payload::Binary(Bytes::from_static(&[1, 2, 3, 4])),
        ] {
            let publication = Publication {
                offset: Some(Offset(9_007_199_254_740_991)),
                time: 1_767_225_600_123,
                id: Some("i\"d".into()),
                key: Some("key".into()),
                payload,
            };
            let length = serde_json::to_string(&publication).unwrap().len();
            assert!(publication.json_len() >= length, "{publication:?}");
        }
    }
}
