//! The grammar of what configuration names: namespaces, mutation logs, patterns of channels, patterns of tags.

use tidings_protocol::{LogName, Tag};

use super::kind::{Fault, Form, Kind, quoted, text, unexpected};
use super::raw::Raw;

/// The most bytes of a channel name, and so of a namespace's.
const CHANNEL_BYTES_MAX: usize = 255;

/// What the sections of a name are called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// The text before a channel's first `:`.
    Namespace,
    /// A mutation log.
    Log,
}

impl Names {
    pub(crate) fn allow(self, name: &str) -> bool {
        match self {
            Names::Namespace => {
                (1..=CHANNEL_BYTES_MAX).contains(&name.len())
                    && name.bytes().all(|byte| byte != b':' && in_channel(byte))
            }
            Names::Log => LogName::parse(name).is_ok(),
        }
    }

    /// What a name may be.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Names::Namespace => "1 to 255 of A-Z a-z 0-9 _ - = @ , . ; / ~ ! +",
            Names::Log => "1 to 64 of A-Z a-z 0-9 _ -",
        }
    }
}

fn in_channel(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-=@,.;:/~!+".contains(&byte)
}

/// Channels: an exact name, or a beginning that ends in `*`.
pub(crate) struct Pattern;

impl Kind for Pattern {
    type Value = String;
    const EXPECTED: &'static str = "a channel name, or the beginning of one and a `*`";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<String, Fault> {
        let text = text::<Pattern>(raw)?;
        let name = text.strip_suffix('*').unwrap_or(text);
        let legal = name.len() <= CHANNEL_BYTES_MAX && name.bytes().all(in_channel);
        if text.is_empty() || !legal {
            return Err(unexpected::<Pattern>(raw));
        }
        Ok(text.to_owned())
    }

    fn show(pattern: &String) -> Option<String> {
        Some(quoted(pattern))
    }
}

/// Tags: an exact one, a subtree `a:b:*`, or all of them `*`.
pub(crate) struct TagPattern;

impl Kind for TagPattern {
    type Value = Tag;
    const EXPECTED: &'static str = "a tag, a subtree such as \"ticket:*\", or \"*\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<Tag, Fault> {
        let parsed = Tag::parse(text::<TagPattern>(raw)?);
        parsed.map_err(|invalid| unexpected::<TagPattern>(raw).with_hint(invalid.to_string()))
    }

    fn show(tag: &Tag) -> Option<String> {
        Some(quoted(tag.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<K: Kind>(accepted: &[&str], refused: &[&str]) {
        for text in accepted {
            assert!(K::parse(&Raw::text(*text)).is_ok(), "{text}");
        }
        for text in refused {
            assert!(K::parse(&Raw::text(*text)).is_err(), "{text}");
        }
    }

    #[test]
    fn channel_patterns_are_names_or_end_in_one_star() {
        check::<Pattern>(&["tickets", "room:*", "*", "a*"], &["", "a*b", "**", "*a", "$sys", "a b", "é"]);
        check::<Pattern>(&[&"a".repeat(255)], &[&"a".repeat(256)]);
    }

    #[test]
    fn tag_patterns_end_at_a_segment() {
        check::<TagPattern>(
            &["ticket:42", "ticket:*", "*"],
            &["", ":*", "tick*", "a,b", "a b", "a\"b", "*:a"],
        );
    }

    #[test]
    fn a_namespace_has_no_colon_and_a_log_no_point() {
        for (name, is_namespace, is_log) in [
            ("chat", true, true),
            ("A-1_b", true, true),
            ("a.b", true, false),
            ("", false, false),
            ("a:b", false, false),
            ("$a", false, false),
            ("a b", false, false),
            ("a".repeat(65).as_str(), true, false),
        ] {
            assert_eq!(Names::Namespace.allow(name), is_namespace, "{name}");
            assert_eq!(Names::Log.allow(name), is_log, "{name}");
        }
    }
}
