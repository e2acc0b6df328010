//! Tags name what cached values depend on, and mutation logs number what touched them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Channel;

/// A tag, or a subtree of tags: 1 to 256 bytes of printable ASCII without space, `"`, `,` and `*`, in at most 16 segments
/// between `:` (R51). `a:b:*` is the subtree of `a:b` and everything below it, `*` that of all tags.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// Why a text is no tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagInvalid {
    /// The text is empty.
    Empty,
    /// The text has more than 256 bytes.
    TooLong(usize),
    /// It has more segments than 16.
    TooDeep(usize),
    /// A character outside the grammar, with its byte index.
    Character(char, usize),
}

impl Tag {
    /// The most bytes.
    pub const BYTES_MAX: usize = 256;

    /// The most segments.
    pub const SEGMENTS_MAX: usize = 16;

    /// Checks a text against the grammar.
    pub fn parse(text: &str) -> Result<Tag, TagInvalid> {
        if text.is_empty() {
            return Err(TagInvalid::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(TagInvalid::TooLong(text.len()));
        }
        let segments = text.split(':').count();
        if segments > Self::SEGMENTS_MAX {
            return Err(TagInvalid::TooDeep(segments));
        }
        let name = match text {
            "*" => "",
            // `:*` would be all tags under a second name.
            subtree => subtree.strip_suffix(":*").filter(|root| !root.is_empty()).unwrap_or(subtree),
        };
        match name.char_indices().find(|(_, c)| !is_allowed(*c)) {
            Some((index, c)) => Err(TagInvalid::Character(c, index)),
            None => Ok(Tag(text.into())),
        }
    }

    /// The subtree of all tags.
    pub fn all() -> Tag {
        Tag("*".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for a subtree.
    pub fn is_subtree(&self) -> bool {
        self.0.ends_with('*')
    }

    /// The name: of a subtree, that of its root; that of `*` is empty.
    pub fn name(&self) -> &str {
        self.0.strip_suffix('*').map_or(&self.0, |root| root.strip_suffix(':').unwrap_or(root))
    }

    /// Whether everything that `other` stands for is in this tag or subtree. `a:*` covers `a`.
    pub fn covers(&self, other: &Tag) -> bool {
        if !self.is_subtree() {
            return self == other;
        }
        let (root, name) = (self.name(), other.name());
        match name.strip_prefix(root) {
            _ if root.is_empty() => true,
            Some(rest) => rest.is_empty() || rest.starts_with(':'),
            None => false,
        }
    }

    /// The smallest subtree that holds this one or tag and more; `None` for `*`.
    pub fn parent(&self) -> Option<Tag> {
        if &*self.0 == "*" {
            return None;
        }
        match self.name().rsplit_once(':') {
            // No name at all would be all tags under a second name.
            Some((above, _)) if !above.is_empty() => {
                let parent = Tag(format!("{above}:*").into());
                // Of a name that ends in `:` the subtree around it may have a byte too many.
                if parent.0.len() > Self::BYTES_MAX { parent.parent() } else { Some(parent) }
            }
            Some(_) | None => Some(Tag::all()),
        }
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | ',' | '*')
}

impl fmt::Display for TagInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TagInvalid::Empty => write!(f, "a tag needs at least one character"),
            TagInvalid::TooLong(bytes) => {
                write!(f, "a tag has at most {} bytes, this one has {bytes}", Tag::BYTES_MAX)
            }
            TagInvalid::TooDeep(segments) => {
                write!(f, "a tag has at most {} segments, this one has {segments}", Tag::SEGMENTS_MAX)
            }
            TagInvalid::Character(c, index) => write!(
                f,
                "a tag holds printable ASCII without space, `\"` and `,`, and `*` only as its last segment; this one has {c:?} at byte {index}"
            ),
        }
    }
}

impl std::error::Error for TagInvalid {}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Tag::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The name of a mutation log: 1 to 64 bytes of `A-Z a-z 0-9 _ -` (R52). The one that nobody names is `default`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogName(Arc<str>);

/// A text that is no name of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogNameInvalid;

impl LogName {
    /// The most bytes.
    pub const BYTES_MAX: usize = 64;

    /// Checks a text against the grammar.
    pub fn parse(text: &str) -> Result<LogName, LogNameInvalid> {
        let legal = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        match legal && (1..=Self::BYTES_MAX).contains(&text.len()) {
            true => Ok(LogName(text.into())),
            false => Err(LogNameInvalid),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one that nobody names.
    pub fn is_default(&self) -> bool {
        &*self.0 == "default"
    }

    /// The server's own channel whose publications are the log's mutations.
    pub fn channel(&self) -> Channel {
        Channel::of_log(&self.0)
    }
}

impl Default for LogName {
    fn default() -> Self {
        LogName("default".into())
    }
}

impl fmt::Display for LogNameInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`ns` names a mutation log by 1 to {} of A-Z a-z 0-9 _ -", LogName::BYTES_MAX)
    }
}

impl std::error::Error for LogNameInvalid {}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Serialize for LogName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LogName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        LogName::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    #[test]
    fn tags_follow_the_grammar() {
        let (longest, deepest) = ("a".repeat(256), ["a"; 16].join(":"));
        for good in
            ["ticket:42", "*", "a:*", "a:b:*", "[x]'{}\\$", "a::b", longest.as_str(), deepest.as_str()]
        {
            assert_eq!(Tag::parse(good).unwrap().as_str(), good);
        }
        let (too_long, too_deep) = ("a".repeat(257), ["a"; 17].join(":"));
        for (bad, why) in [
            ("", TagInvalid::Empty),
            (too_long.as_str(), TagInvalid::TooLong(257)),
            (too_deep.as_str(), TagInvalid::TooDeep(17)),
            ("a b", TagInvalid::Character(' ', 1)),
            ("a*", TagInvalid::Character('*', 1)),
            ("a:*:b", TagInvalid::Character('*', 2)),
            ("**", TagInvalid::Character('*', 0)),
            (":*", TagInvalid::Character('*', 1)),
            ("a,b", TagInvalid::Character(',', 1)),
            ("a\"b", TagInvalid::Character('"', 1)),
            ("a\nb", TagInvalid::Character('\n', 1)),
            ("ü", TagInvalid::Character('ü', 0)),
        ] {
            assert_eq!(Tag::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_subtree_covers_its_root_and_what_is_below_it() {
        for (this, other, covers) in [
            ("a", "a", true),
            ("a", "a:b", false),
            ("a:*", "a", true),
            ("a:*", "a:*", true),
            ("a:*", "a:b:c", true),
            ("a:*", "a:b:*", true),
            ("a:*", "ab", false),
            ("a:b:*", "a", false),
            ("a:b:*", "a:*", false),
            ("*", "*", true),
            ("*", "a:b", true),
            ("a", "a:*", false),
        ] {
            assert_eq!(tag(this).covers(&tag(other)), covers, "{this} {other}");
        }
    }

    #[test]
    fn parents_lead_to_the_root() {
        let parent = |text| tag(text).parent().map(|tag| tag.as_str().to_owned());
        assert_eq!(parent("a:b:c").as_deref(), Some("a:b:*"));
        assert_eq!(parent("a:b:*").as_deref(), Some("a:*"));
        assert_eq!(parent("a").as_deref(), Some("*"));
        assert_eq!(parent("*"), None);
        assert_eq!(parent(":a").as_deref(), Some("*"), "every parent is a tag that can be said");
        assert_eq!(parent(&format!("{}:", "a".repeat(255))).as_deref(), Some("*"));
    }

    #[test]
    fn a_log_is_a_channel_that_no_client_can_name() {
        let log = LogName::default();
        assert_eq!(log.channel().log(), Some(log.clone()));
        assert!(Channel::parse(log.channel().as_str()).is_err());
        assert_eq!(Channel::parse("log").unwrap().log(), None);
        for bad in ["", "a:b", "a b", "$x", &"a".repeat(65)] {
            assert_eq!(LogName::parse(bad), Err(LogNameInvalid), "{bad:?}");
        }
    }
}
