//! Where a reader is in a channel: an epoch and an offset within it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::INTEGER_MAX;

/// Identifies one unbroken numbering of a channel. Only equality means anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Epoch(Arc<str>);

/// A publication's place within an epoch: 1 for the first, never reused, below 2^53. 0 is the place before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Offset(pub u64);

/// The last publication that a reader has: everything after it is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Position {
    /// The numbering that `offset` belongs to.
    pub epoch: Epoch,
    /// The last publication's place in it.
    pub offset: Offset,
}

/// A text or object that is no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionInvalid;

impl Epoch {
    /// The most bytes of an epoch.
    pub const BYTES_MAX: usize = 64;

    /// An epoch of 1 to 64 bytes of `A-Z a-z 0-9 -` (R7).
    pub fn parse(text: &str) -> Result<Epoch, PositionInvalid> {
        let legal = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match legal && (1..=Self::BYTES_MAX).contains(&text.len()) {
            true => Ok(Epoch(text.into())),
            false => Err(PositionInvalid),
        }
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The position at `offset` of this epoch.
    pub fn at(&self, offset: Offset) -> Position {
        Position { epoch: self.clone(), offset }
    }
}

impl Offset {
    /// The place after this one.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }

    /// The place before this one; of 0 it is 0.
    pub fn previous(self) -> Offset {
        Offset(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The form for URLs and headers: `7-k3v9q.81239`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = PositionInvalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, offset) = text.rsplit_once('.').ok_or(PositionInvalid)?;
        let digits = !offset.is_empty() && offset.bytes().all(|b| b.is_ascii_digit());
        let offset = offset.parse().ok().filter(|offset| digits && *offset <= INTEGER_MAX);
        Ok(Epoch::parse(epoch)?.at(Offset(offset.ok_or(PositionInvalid)?)))
    }
}

impl fmt::Display for PositionInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a position is {{\"epoch\":\"7-k3v9q\",\"offset\":12}} or \"7-k3v9q.12\"")
    }
}

impl std::error::Error for PositionInvalid {}

impl<'de> Deserialize<'de> for Offset {
    /// Offsets stay below 2^53 (R5): whoever says more must not make a reader count past the end of its numbers.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let offset = u64::deserialize(deserializer)?;
        let legal = (offset <= INTEGER_MAX).then_some(Offset(offset));
        legal.ok_or_else(|| serde::de::Error::custom("an offset is below 2^53"))
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Epoch::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Reads the object and the text form alike (R8).
impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Object { epoch: Epoch, offset: u64 },
            Text(String),
        }
        let invalid = |_| serde::de::Error::custom(PositionInvalid);
        match Form::deserialize(deserializer).map_err(|_| serde::de::Error::custom(PositionInvalid))? {
            Form::Object { epoch, offset } if offset <= INTEGER_MAX => Ok(epoch.at(Offset(offset))),
            Form::Object { .. } => Err(serde::de::Error::custom(PositionInvalid)),
            Form::Text(text) => text.parse().map_err(invalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_and_the_text_are_the_same_position() {
        let position = Epoch::parse("7-k3v9q").unwrap().at(Offset(81239));
        assert_eq!(position.to_string(), "7-k3v9q.81239");
        for form in [r#"{"epoch":"7-k3v9q","offset":81239}"#, r#""7-k3v9q.81239""#] {
            assert_eq!(serde_json::from_str::<Position>(form).unwrap(), position);
        }
        assert_eq!(serde_json::to_string(&position).unwrap(), r#"{"epoch":"7-k3v9q","offset":81239}"#);
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for form in [
            r#""""#,
            r#""7""#,
            r#""a.+1""#,
            r#""a.""#,
            r#"".1""#,
            r#""a b.1""#,
            r#"{"epoch":"a"}"#,
            r#"{"epoch":"a","offset":-1}"#,
            r#"{"epoch":"a","offset":1.5}"#,
            r#"{"epoch":"a","offset":9007199254740992}"#,
            r#""a.9007199254740992""#,
            "12",
            "null",
        ] {
            assert!(serde_json::from_str::<Position>(form).is_err(), "{form}");
        }
        assert_eq!(serde_json::from_str::<Offset>("9007199254740991").unwrap().0, INTEGER_MAX);
        assert!(
            serde_json::from_str::<Offset>("9007199254740992").is_err(),
            "nor is what cannot be counted on"
        );
    }
}
