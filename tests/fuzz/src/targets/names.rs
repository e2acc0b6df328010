//! Names and what judges them: channels, tags, logs, positions, patterns of grants, origins and hosts.

use tidings::auth::{Origins, is_loopback_host};
use tidings::hub::Pattern;
use tidings_protocol::{Channel, LogName, Position, Tag};

pub(crate) fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (one, other) = text.split_once('\n').unwrap_or((text, ""));
    channels(one);
    tags(one, other);
    if let Ok(log) = LogName::parse(one) {
        assert_eq!(log.channel().log(), Some(log));
    }
    if let Ok(position) = one.parse::<Position>() {
        assert_eq!(position.to_string().parse().as_ref(), Ok(&position));
        let json = serde_json::to_string(&position).expect("a position is JSON");
        assert_eq!(serde_json::from_str::<Position>(&json).expect("it is read back"), position);
    }
    origins(one, other);
}

fn channels(name: &str) {
    Pattern::parse(name).ok();
    let Ok(channel) = Channel::parse(name) else { return };
    assert!(Pattern::parse(name).is_ok(), "a name is a pattern");
    assert!(!name.starts_with('$') && name.len() <= Channel::BYTES_MAX);
    assert!(!name.bytes().any(|byte| byte.is_ascii_whitespace() || b"{}*?[]\\%\"'<>".contains(&byte)));
    assert_eq!(channel.presence().presence_of().as_ref(), Some(&channel));
}

fn tags(one: &str, other: &str) {
    let Ok(one) = Tag::parse(one) else { return };
    assert!(one.covers(&one));
    assert!(Tag::all().covers(&one), "{one} is below all");
    let parents = std::iter::successors(one.parent(), Tag::parent);
    for parent in parents {
        assert!(parent.covers(&one), "{parent} is above {one}");
        assert_eq!(Tag::parse(parent.as_str()).as_ref(), Ok(&parent));
    }
    let Ok(other) = Tag::parse(other) else { return };
    if one.covers(&other) && other.covers(&one) {
        assert_eq!(one, other);
    }
}

fn origins(origin: &str, host: &str) {
    let dev = Origins::new(Vec::new(), true);
    let served = Origins::new(vec!["https://app.example.com".to_owned()], false);
    is_loopback_host(host);
    dev.check(Some(origin), Some(host)).ok();
    if served.allows(origin, None) {
        assert!(origin.eq_ignore_ascii_case("https://app.example.com"), "{origin}");
    }
    served.check(Some(origin), Some(host)).ok();
}
