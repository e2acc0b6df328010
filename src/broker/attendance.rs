//! Who is in which channel, where one process knows of everybody. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use tidings_protocol::{Channel, PresenceChange, PresenceMember, PresenceMembers};

/// The members of all channels. It holds no more than connections have subscriptions.
#[derive(Debug, Default)]
pub struct Attendance(HashMap<Channel, IndexMap<Arc<str>, PresenceMember>>);

impl Attendance {
    /// Adds a member; returns what is to be announced.
    pub fn enter(&mut self, channel: &Channel, member: PresenceMember) -> Option<PresenceChange> {
        let members = self.0.entry(channel.clone()).or_default();
        let known = members.insert(member.session.clone(), member.clone()).is_some();
        (!known).then(|| PresenceChange { joined: vec![member], left: Vec::new() })
    }

    /// Removes a member; returns what is to be announced.
    pub fn exit(&mut self, channel: &Channel, session: &str) -> Option<PresenceChange> {
        let members = self.0.get_mut(channel)?;
        let member = members.swap_remove(session)?;
        if members.is_empty() {
            self.0.remove(channel);
        }
        Some(PresenceChange { joined: Vec::new(), left: vec![member] })
    }

    /// Who is in the channel; of many, any `limit`.
    pub fn members(&self, channel: &Channel, limit: usize) -> PresenceMembers {
        let Some(members) = self.0.get(channel) else { return PresenceMembers::default() };
        PresenceMembers::of(members.values().take(limit).cloned().collect(), members.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(session: &str) -> PresenceMember {
        PresenceMember { user: "ada".into(), session: session.into(), since: 5 }
    }

    #[test]
    fn each_change_is_announced_once() {
        let (mut attendance, room) = (Attendance::default(), Channel::parse("room:7").unwrap());
        assert_eq!(attendance.enter(&room, member("1")).unwrap().joined, [member("1")]);
        assert_eq!(attendance.enter(&room, member("1")), None);
        assert!(attendance.enter(&room, member("2")).is_some(), "another tab of the same user");
        assert_eq!(attendance.exit(&room, "1").unwrap().left, [member("1")]);
        assert_eq!(attendance.exit(&room, "1"), None);
        assert_eq!(attendance.members(&room, 10).members, [member("2")]);
        attendance.exit(&room, "2");
        assert!(attendance.0.is_empty(), "an empty channel takes no memory");
    }

    #[test]
    fn a_list_is_bounded_and_its_count_is_not() {
        let (mut attendance, room) = (Attendance::default(), Channel::parse("room:7").unwrap());
        for session in ["1", "2", "3"] {
            attendance.enter(&room, member(session));
        }
        let list = attendance.members(&room, 2);
        assert_eq!((list.members.len(), list.count, list.more), (2, 3, true));
        assert_eq!(attendance.members(&Channel::parse("other").unwrap(), 2), PresenceMembers::default());
    }
}
