//! A grant says who a session is and what it may do.

use std::sync::Arc;

use tidings_protocol::{Channel, Code, Problem, Tag};

use super::{Holder, Time};

/// Channel names: an exact one, or all with a common beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This name.
    Exact(Channel),
    /// Every name that starts so; everything, where the text is empty.
    Prefix(Arc<str>),
    /// Every name without one of these and a `:` at its beginning.
    Outside(Arc<[Arc<str>]>),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternInvalid(pub String);

/// Who a session is and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The user; empty for an anonymous one.
    pub user: Arc<str>,
    /// Whom limits count it to. What it may see is said by the patterns alone.
    pub tenant: Option<Arc<str>>,
    /// What was presented for it.
    pub credential: Credential,
    /// Channels it may subscribe to, and resume.
    pub subscribe: Vec<Pattern>,
    /// Channels it may publish to.
    pub publish: Vec<Pattern>,
    /// Channels whose history it may read.
    pub history: Vec<Pattern>,
    /// Channels of which it may know who is in them.
    pub presence: Vec<Pattern>,
    /// Channels that it is subscribed to without asking.
    pub channels: Vec<Channel>,
    /// Tags and subtrees that it may watch, and ask the freshness of.
    pub watch: Vec<Tag>,
    /// Tags and subtrees that it may mutate.
    pub mutate: Vec<Tag>,
    /// Whether it may look at the server itself: its channels, its connections.
    pub admin: bool,
    /// When all of this ends; `None` for never.
    pub expires: Option<Expiry>,
    /// Names the key or secret that the credential was checked with, so that it ends with that; 0 where there was none.
    pub mark: u64,
}

impl Grant {
    /// The user, and its tenant.
    pub fn holder(&self) -> Holder {
        (self.user.clone(), self.tenant.clone())
    }
}

/// What a grant was given for, as far as it tells one credential from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing, where nobody needs one.
    #[default]
    None,
    /// Nothing, where some things are allowed without one.
    Anonymous,
    /// The API key of this name.
    ApiKey(Arc<str>),
    /// A token.
    Token {
        /// Its `jti`, by which it can be revoked alone.
        id: Option<Arc<str>>,
        /// Its `iat`, in seconds since 1970.
        issued: Option<u64>,
    },
}

/// One channel that a token of its own grants, for a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelGrant {
    /// The channel.
    pub channel: Channel,
    /// Who may subscribe to it; empty for anybody who is anonymous.
    pub user: Arc<str>,
    /// The token.
    pub credential: Credential,
    /// When the subscription ends.
    pub expires: Expiry,
}

/// When a grant ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// On this process's clock.
    pub at: Time,
    /// As the token has it: seconds since 1970.
    pub exp: u64,
}

impl ChannelGrant {
    /// Refuses the token for another channel than its own, and for another user than its own.
    pub fn check(&self, channel: &Channel, user: &Arc<str>) -> Result<(), Problem> {
        if self.channel != *channel {
            let message = format!("the token is not for {channel}");
            return Err(Problem::new(Code::ChannelNotAllowed, message));
        }
        match user.is_empty() || self.user == *user {
            true => Ok(()),
            false => {
                Err(Problem::new(Code::Unauthorized, "the token is of another user than the connection"))
            }
        }
    }
}

impl Pattern {
    /// Reads a pattern: a channel name, or the beginning of one with a `*` at the end.
    pub fn parse(text: &str) -> Result<Pattern, PatternInvalid> {
        match text.strip_suffix('*') {
            // A name is checked as if something followed, so that every prefix can match some channel.
            Some(prefix) if prefix.is_empty() || Channel::parse(&format!("{prefix}x")).is_ok() => {
                Ok(Pattern::Prefix(prefix.into()))
            }
            Some(_) => Err(PatternInvalid(format!(
                "pattern {text:?} has a `*` elsewhere than at the end of a channel name"
            ))),
            None => Channel::parse(text)
                .map(Pattern::Exact)
                .map_err(|e| PatternInvalid(format!("pattern {text:?}: {e}"))),
        }
    }

    /// Every channel.
    pub fn all() -> Pattern {
        Pattern::Prefix("".into())
    }

    fn matches(&self, channel: &Channel) -> bool {
        match self {
            Pattern::Exact(name) => name == channel,
            Pattern::Prefix(prefix) => channel.as_str().starts_with(&**prefix),
            Pattern::Outside(names) => {
                channel.prefix().is_none_or(|prefix| names.iter().all(|name| **name != *prefix))
            }
        }
    }
}

impl Grant {
    /// Everything, for ever, for nobody in particular: development on loopback.
    pub fn open() -> Grant {
        let all = vec![Pattern::all()];
        Grant {
            subscribe: all.clone(),
            publish: all.clone(),
            history: all.clone(),
            presence: all,
            watch: vec![Tag::all()],
            mutate: vec![Tag::all()],
            admin: true,
            ..Grant::default()
        }
    }

    /// Whether the session may have what is published on `channel` from now on, or since a position that it had.
    pub fn may_subscribe(&self, channel: &Channel) -> bool {
        self.subscribe.iter().any(|pattern| pattern.matches(channel))
            || self.channels.iter().any(|initial| initial == channel)
    }

    /// Whether the session may publish on `channel`.
    pub fn may_publish(&self, channel: &Channel) -> bool {
        self.publish.iter().any(|pattern| pattern.matches(channel))
    }

    /// Whether the session may read what `channel` keeps.
    pub fn may_read_history(&self, channel: &Channel) -> bool {
        self.history.iter().any(|pattern| pattern.matches(channel))
    }

    /// Whether the session may know who is in `channel`.
    pub fn may_see_presence(&self, channel: &Channel) -> bool {
        self.presence.iter().any(|pattern| pattern.matches(channel))
    }

    /// Whether the session may know when the tag, or anything in the subtree, is touched.
    pub fn may_watch(&self, tag: &Tag) -> bool {
        self.watch.iter().any(|granted| granted.covers(tag))
    }

    /// Whether the session may say that the tag, or everything in the subtree, was touched.
    pub fn may_mutate(&self, tag: &Tag) -> bool {
        self.mutate.iter().any(|granted| granted.covers(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn patterns_match_a_name_or_a_beginning() {
        for (pattern, name, matches) in [
            ("tickets", "tickets", true),
            ("tickets", "tickets2", false),
            ("room:*", "room:7", true),
            ("room:*", "room:", true),
            ("room:*", "room", false),
            ("*", "anything", true),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(&channel(name)),
                matches,
                "{pattern} on {name}"
            );
        }
        for bad in ["", "a*b", "**", "a b*", "$x", "$x*"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_grant_gives_what_it_names_and_nothing_else() {
        let grant = Grant {
            subscribe: vec![Pattern::parse("a:*").unwrap()],
            publish: vec![Pattern::parse("b").unwrap()],
            channels: vec![channel("c")],
            ..Grant::default()
        };
        for (name, subscribe, publish) in [("a:1", true, false), ("b", false, true), ("c", true, false)] {
            assert_eq!(grant.may_subscribe(&channel(name)), subscribe, "{name}");
            assert_eq!(grant.may_publish(&channel(name)), publish, "{name}");
            assert!(!grant.may_read_history(&channel(name)), "{name}");
            assert!(!grant.may_see_presence(&channel(name)), "{name}");
        }
        assert!(Grant::open().may_publish(&channel("x")));
    }

    #[test]
    fn a_grant_covers_tags_by_subtree_and_each_right_alone() {
        let tag = |text| Tag::parse(text).unwrap();
        let grant = Grant {
            watch: vec![tag("ticket:*"), tag("users")],
            mutate: vec![tag("ticket:42")],
            ..Grant::default()
        };
        for (text, watch, mutate) in [
            ("ticket", true, false),
            ("ticket:42", true, true),
            ("ticket:42:*", true, false),
            ("ticket:*", true, false),
            ("tickets", false, false),
            ("users", true, false),
            ("users:*", false, false),
            ("*", false, false),
        ] {
            assert_eq!(grant.may_watch(&tag(text)), watch, "{text}");
            assert_eq!(grant.may_mutate(&tag(text)), mutate, "{text}");
        }
        let open = Grant::open();
        assert!(open.may_watch(&Tag::all()) && open.may_mutate(&tag("x:*")));
    }
}
