//! A channel's name.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::LogName;

/// A channel's name: 1 to 255 bytes of `A-Z a-z 0-9 _ - = @ , . ; : / ~ ! +`, not `.` and not `..`.
///
/// Names that start with `$` belong to the server, so no client's name parses that starts so.
#[derive(Clone, Eq, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

/// Why a text is no channel name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelInvalid {
    /// The text is empty.
    Empty,
    /// The text has more than 255 bytes.
    TooLong(usize),
    /// `.` and `..` would be eaten by URL normalisation on the way.
    DotSegment,
    /// A character outside the grammar, with its byte index.
    Character(char, usize),
}

/// What the names of companions begin with.
const PRESENCE: &str = "$presence:";

/// What the names of channels begin with on which brokers are tried out.
const PROBE: &str = "$probe";

/// What the names of mutation logs' channels begin with.
const LOG: &str = "$log:";

impl Channel {
    /// The most bytes of a name.
    pub const BYTES_MAX: usize = 255;

    /// Checks a name against the grammar (R1).
    pub fn parse(name: &str) -> Result<Channel, ChannelInvalid> {
        if name.is_empty() {
            return Err(ChannelInvalid::Empty);
        }
        if name.len() > Self::BYTES_MAX {
            return Err(ChannelInvalid::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(ChannelInvalid::DotSegment);
        }
        match name.char_indices().find(|(_, c)| !is_allowed(*c)) {
            Some((index, c)) => Err(ChannelInvalid::Character(c, index)),
            None => Ok(Channel(name.into())),
        }
    }

    /// The server's own channel on which changes of this channel's presence are announced: its companion.
    pub fn presence(&self) -> Channel {
        Channel(format!("{PRESENCE}{}", self.0).into())
    }

    /// The channel whose companion this is; `None` for every channel that a client can name.
    pub fn presence_of(&self) -> Option<Channel> {
        self.0.strip_prefix(PRESENCE).map(|name| Channel(name.into()))
    }

    /// Whether it is a companion.
    pub fn is_presence(&self) -> bool {
        self.0.starts_with(PRESENCE)
    }

    /// One of the server's own channels on which an instance tries out its broker.
    pub fn probe(number: u32) -> Channel {
        Channel(format!("{PROBE}{number}").into())
    }

    /// The server's own channel of a mutation log.
    pub(crate) fn of_log(name: &str) -> Channel {
        Channel(format!("{LOG}{name}").into())
    }

    /// The mutation log whose channel this is; `None` for every channel that a client can name.
    pub fn log(&self) -> Option<LogName> {
        self.0.strip_prefix(LOG).and_then(|name| LogName::parse(name).ok())
    }

    /// Whether it is a mutation log's.
    pub fn is_log(&self) -> bool {
        self.0.starts_with(LOG)
    }

    /// Reads a name that an instance wrote: a client's or the server's own.
    pub fn parse_any(name: &str) -> Result<Channel, ChannelInvalid> {
        let log = name.strip_prefix(LOG).and_then(|name| LogName::parse(name).ok());
        log.map_or_else(|| Channel::parse(name), |log| Ok(log.channel()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the two share their memory.
    pub fn is_copy_of(&self, other: &Channel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The text before the first `:`, which names a namespace where one of that name is configured.
    pub fn prefix(&self) -> Option<&str> {
        self.0.split_once(':').map(|(prefix, _)| prefix)
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-=@,.;:/~!+".contains(c)
}

impl fmt::Display for ChannelInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelInvalid::Empty => write!(f, "a channel name needs at least one character"),
            ChannelInvalid::TooLong(bytes) => {
                write!(f, "a channel name has at most {} bytes, this one has {bytes}", Channel::BYTES_MAX)
            }
            ChannelInvalid::DotSegment => write!(f, "`.` and `..` are no channel names"),
            ChannelInvalid::Character('$', 0) => {
                write!(f, "names that start with `$` belong to the server: choose another")
            }
            ChannelInvalid::Character(c, index) => write!(
                f,
                "a channel name holds only A-Z a-z 0-9 _ - = @ , . ; : / ~ ! +, this one has {c:?} at byte {index}"
            ),
        }
    }
}

impl std::error::Error for ChannelInvalid {}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Copies of one name are known without looking at it: most comparisons on the way of a delivery are of such.
impl PartialEq for Channel {
    fn eq(&self, other: &Channel) -> bool {
        self.is_copy_of(other) || self.0 == other.0
    }
}

/// As `str` hashes, for `Borrow`.
impl Hash for Channel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Channel::parse(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let longest = "a".repeat(255);
        for good in ["tickets", "room:7", "a", "A-Z_=@,.;:/~!+9", "...", longest.as_str()] {
            assert_eq!(Channel::parse(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(256);
        for (bad, why) in [
            ("", ChannelInvalid::Empty),
            (".", ChannelInvalid::DotSegment),
            ("..", ChannelInvalid::DotSegment),
            (too_long.as_str(), ChannelInvalid::TooLong(256)),
            ("$presence", ChannelInvalid::Character('$', 0)),
            ("a b", ChannelInvalid::Character(' ', 1)),
            ("room:*", ChannelInvalid::Character('*', 5)),
            ("ü", ChannelInvalid::Character('ü', 0)),
            ("a{b}", ChannelInvalid::Character('{', 1)),
            ("a\nb", ChannelInvalid::Character('\n', 1)),
        ] {
            assert_eq!(Channel::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_companion_is_no_name_that_a_client_can_say() {
        let room = Channel::parse("room:7").unwrap();
        assert_eq!(room.presence().presence_of(), Some(room.clone()));
        assert!(Channel::parse(room.presence().as_str()).is_err());
        assert_eq!(
            (room.presence_of(), room.is_presence(), room.presence().is_presence()),
            (None, false, true)
        );
    }

    #[test]
    fn the_prefix_ends_at_the_first_colon() {
        assert_eq!(Channel::parse("room:7:x").unwrap().prefix(), Some("room"));
        assert_eq!(Channel::parse("tickets").unwrap().prefix(), None);
    }
}
