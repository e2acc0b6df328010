//! Watching: what a client asks of a mutation log, and what it is told.

use serde::{Deserialize, Serialize};

use crate::{LogName, Offset, Position, Tag};

/// Some of what a client watches, all of it as of one position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchGroup {
    /// Which of the tags were touched after this position is to be told; without it only what comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Position>,
    /// A mutation after `since` that does not count: the client's value reflects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<Position>,
    /// The tags.
    pub tags: Vec<Tag>,
}

/// Asks to be told what touches tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchCommand {
    /// The log.
    pub log: LogName,
    /// The tags, by what the client knows of them.
    pub groups: Vec<WatchGroup>,
}

/// Takes back some of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwatchCommand {
    /// The log.
    pub log: LogName,
    /// The tags, as they were watched.
    pub tags: Vec<Tag>,
    /// Subtrees that the server watched in place of tags.
    pub escalated: Vec<Tag>,
}

/// The log of frames about tags, which is not named where it is the default one.
fn is_default(log: &LogName) -> bool {
    log.is_default()
}

/// Tags are watched from here on (R54).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedFrame {
    /// The log.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ns: LogName,
    /// What touches the tags after this position is told.
    pub at: Position,
    /// Those that were touched after their group's `since`.
    pub stale: Vec<Tag>,
    /// Those that are not watched, because the credential does not cover them or there is no room.
    pub denied: Vec<Tag>,
    /// Those of `denied` that the credential covers (R80).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_room: Vec<Tag>,
    /// Subtrees that are watched in place of all tags in them.
    pub escalated: Vec<Tag>,
    /// Reading again what is stale should be spread over so many milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u64,
}

/// Watched tags were touched (R55).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidatedFrame {
    /// The log.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ns: LogName,
    /// Every mutation up to here was told on this connection.
    pub at: Position,
    /// The tags as they were watched, each once, with the last mutation that touched it.
    #[serde(with = "as_map")]
    pub tags: Vec<(Tag, Offset)>,
    /// Refetching should be spread over so many milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u64,
    /// The client's clock of a ping after which `at` was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<u64>,
}

/// Pairs as an object of JSON.
mod as_map {
    use std::fmt;

    use serde::de::{Deserializer, MapAccess, Visitor};
    use serde::ser::{SerializeMap, Serializer};

    use crate::{Offset, Tag};

    pub(super) fn serialize<S: Serializer>(tags: &[(Tag, Offset)], serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(tags.len()))?;
        for (tag, offset) in tags {
            map.serialize_entry(tag, offset)?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Tag, Offset)>, D::Error> {
        struct Tags;

        impl<'de> Visitor<'de> for Tags {
            type Value = Vec<(Tag, Offset)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tags and offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tags = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    tags.push(entry);
                }
                Ok(tags)
            }
        }

        deserializer.deserialize_map(Tags)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a log stands (R55).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtFrame {
    /// The log.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ns: LogName,
    /// Every mutation up to here was told on this connection.
    pub position: Position,
    /// The client's clock of a ping after which the position was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<u64>,
}

/// What is watched may have been touched without a word (R57).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetFrame {
    /// The log.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ns: LogName,
    /// What it concerns.
    #[serde(flatten)]
    pub scope: ResetScope,
    /// What is read from now on is at least as new as this.
    pub at: Position,
    /// Why.
    pub reason: ResetReason,
    /// Reading again should be spread over so many milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u64,
}

/// What a reset concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", content = "tags", rename_all = "lowercase")]
pub enum ResetScope {
    /// Everything watched.
    All,
    /// These tags.
    Tags(Vec<Tag>),
}

/// Why what is watched may be stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResetReason {
    /// The log lost mutations.
    Epoch,
    /// The credential no longer covers the tags, and they are watched no more.
    Auth,
    /// An operator asks for it.
    Admin,
    /// There is no room for so many tags, and they are watched no more.
    Limit,
}
