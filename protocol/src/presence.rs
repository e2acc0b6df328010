//! Who is in a channel, and what changes of it (R48-R50).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Channel, Code, Payload};

/// One connection that is subscribed to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceMember {
    /// The user; empty for an anonymous one. A user has as many members as connections.
    pub user: Arc<str>,
    /// The connection, as its `hello` names it. Two members are the same where this is.
    pub session: Arc<str>,
    /// When it subscribed, in milliseconds since 1970.
    pub since: u64,
}

impl PresenceMember {
    /// The member as a broker that instances share keeps it.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and integers always serialize")
    }

    /// Reads what [`PresenceMember::json`] wrote; `None` for what somebody else did.
    pub fn read(json: &[u8]) -> Option<PresenceMember> {
        serde_json::from_slice(json).ok()
    }
}

/// What is said of a channel's presence.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PresenceFrame {
    /// Who is there, for who asked.
    Members(PresenceMembers),
    /// Who came and went since.
    Changes(PresenceChanges),
}

/// Who is in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceMembers {
    /// The members, those who came first first; no more than were asked for.
    pub members: Vec<PresenceMember>,
    /// How many there are, whether listed or not.
    pub count: usize,
    /// Whether there are more than are listed.
    #[serde(default)]
    pub more: bool,
}

impl PresenceMembers {
    /// The answer that lists `members` out of `count`.
    pub fn of(mut members: Vec<PresenceMember>, count: usize) -> PresenceMembers {
        members.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
        let more = count > members.len();
        PresenceMembers { members, count, more }
    }
}

/// Who came and went, as subscribers are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceChanges {
    /// The channel.
    pub channel: Channel,
    /// Who is there now.
    pub joined: Vec<PresenceMember>,
    /// Who is not there any more.
    pub left: Vec<PresenceMember>,
    /// Changes are missing before this frame: only asking again tells who is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// Why no further changes come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

impl PresenceChanges {
    /// Nothing that is known of `channel`.
    pub fn none(channel: Channel) -> PresenceChanges {
        PresenceChanges { channel, joined: Vec::new(), left: Vec::new(), lost: false, code: None }
    }
}

/// Who came and went in one step: the data of a publication on the channel's companion ([`Channel::presence`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceChange {
    /// Who came.
    pub joined: Vec<PresenceMember>,
    /// Who went.
    pub left: Vec<PresenceMember>,
}

impl PresenceChange {
    /// The change as a publication carries it.
    pub fn payload(&self) -> Payload {
        let json = serde_json::to_vec(self).expect("a change holds only what JSON can say");
        Payload::json(&json).expect("what was written as JSON is JSON")
    }

    /// Reads what [`PresenceChange::payload`] wrote; `None` for what somebody else did.
    pub fn read(payload: &Payload) -> Option<PresenceChange> {
        serde_json::from_slice(payload.as_bytes()).ok()
    }

    /// What successive changes come to: for each session the last one that was said of it.
    ///
    /// A member that came and went stays one that went. Somebody may have listed the members in between, and must hear of
    /// it; to all others the end of somebody unknown is nothing.
    pub fn folded(changes: Vec<PresenceChange>) -> PresenceChange {
        let mut known = BTreeSet::new();
        let mut net = PresenceChange::default();
        for PresenceChange { joined, left } in changes.into_iter().rev() {
            for (list, members) in [(&mut net.left, left), (&mut net.joined, joined)] {
                list.extend(members.into_iter().rev().filter(|member| known.insert(member.session.clone())));
            }
        }
        net.joined.reverse();
        net.left.reverse();
        net
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(session: &str) -> PresenceMember {
        PresenceMember { user: "ada".into(), session: session.into(), since: 5 }
    }

    /// Changes written as "+a -b": a came, b went.
    fn changes(text: &str) -> Vec<PresenceChange> {
        let change = |word: &str| match word.split_at(1) {
            ("+", session) => PresenceChange { joined: vec![member(session)], left: Vec::new() },
            (_, session) => PresenceChange { joined: Vec::new(), left: vec![member(session)] },
        };
        text.split_whitespace().map(change).collect()
    }

    fn written(change: &PresenceChange) -> String {
        let words = |sign: &str, members: &[PresenceMember]| {
            members.iter().map(|member| format!("{sign}{}", member.session)).collect::<Vec<_>>()
        };
        [words("+", &change.joined), words("-", &change.left)].concat().join(" ")
    }

    #[test]
    fn the_last_change_of_a_session_counts() {
        for (said, net) in [
            ("", ""),
            ("+a +b +c", "+a +b +c"),
            ("+a -a", "-a"),
            ("-a +a", "+a"),
            ("+a -b -a +c +a", "+c +a -b"),
        ] {
            assert_eq!(written(&PresenceChange::folded(changes(said))), net, "{said}");
        }
    }

    #[test]
    fn whoever_lists_the_members_at_any_moment_and_hears_the_rest_knows_who_is_there() {
        let all = changes("+a +b -a +c -b +a -c");
        let apply = |members: &mut BTreeSet<Arc<str>>, change: &PresenceChange| {
            members.extend(change.joined.iter().map(|member| member.session.clone()));
            members.retain(|session| change.left.iter().all(|member| member.session != *session));
        };
        let mut truth = BTreeSet::new();
        all.iter().for_each(|change| apply(&mut truth, change));
        for begin in 0..=all.len() {
            for listed_at in begin..=all.len() {
                let mut members = BTreeSet::new();
                all[..listed_at].iter().for_each(|change| apply(&mut members, change));
                apply(&mut members, &PresenceChange::folded(all[begin..].to_vec()));
                assert_eq!(members, truth, "listed at {listed_at}, a batch from {begin} on");
            }
        }
    }

    #[test]
    fn a_change_is_read_back_and_foreign_data_is_not_one() {
        let change = PresenceChange { joined: vec![member("a")], left: vec![member("b")] };
        assert_eq!(PresenceChange::read(&change.payload()), Some(change));
        assert_eq!(PresenceChange::read(&Payload::json(b"[1]").unwrap()), None);
    }

    #[test]
    fn a_list_says_whether_there_are_more() {
        let late = PresenceMember { since: 9, ..member("a") };
        let list = PresenceMembers::of(vec![late.clone(), member("b")], 2);
        assert_eq!((list.members, list.more), (vec![member("b"), late], false));
        assert!(PresenceMembers::of(vec![member("b")], 2).more);
    }
}
