//! What things are called in Redis.
//!
//! A channel's name cannot hold a brace, so the part between braces is the channel itself: in a cluster all keys of a
//! channel are in one slot, and no name moves another's.
//!
//! Redis's pub/sub knows no databases: so names of pub/sub channels hold the number of the database, where it is another one
//! than 0.

use std::sync::Arc;

use fred::types::Key;
use fred::util::redis_keyslot;
use sha2::{Digest, Sha256};
use tidings_protocol::Channel;

/// Whose slot revocations are in.
pub(super) const REVOKED: &str = "$revoked";

/// The slots of a cluster.
const SLOTS: usize = 16_384;

/// Keys that are tried until one is where it is tried.
const PROBES: usize = 64;

/// Makes names that begin with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
    /// What names of pub/sub channels begin with.
    spoken: Arc<str>,
    /// In a cluster, for each slot a number that is in it; empty elsewhere.
    tags: Arc<[u32]>,
}

impl Keys {
    /// Names in this database.
    pub(super) fn new(prefix: &str, database: u8, is_cluster: bool) -> Self {
        let spoken = match database {
            0 => format!("{prefix}:"),
            // No prefix holds an `@`.
            number => format!("{prefix}:@{number}:"),
        };
        let tags = if is_cluster { tags_of_slots() } else { Vec::new() };
        Keys { prefix: prefix.into(), spoken: spoken.into(), tags: tags.into() }
    }

    /// What all begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The hash with the channel's numbering.
    pub(super) fn meta(&self, channel: &Channel) -> Key {
        format!("{}:{{{channel}}}:m", self.prefix).into()
    }

    /// The stream with the channel's history.
    pub(super) fn stream(&self, channel: &Channel) -> Key {
        format!("{}:{{{channel}}}:s", self.prefix).into()
    }

    /// The hash that says how often numberings were begun, of all channels, or of all in the channel's slot.
    pub(super) fn births(&self, channel: &Channel) -> Key {
        self.of_slot(slot_of(channel), 'b')
    }

    /// The set with the names of the channels that have a numbering, of all or of those in the channel's slot.
    pub(super) fn index(&self, channel: &Channel) -> Key {
        self.index_of_slot(slot_of(channel))
    }

    /// The same of a slot; without a cluster it is the same of each.
    pub(super) fn index_of_slot(&self, slot: u16) -> Key {
        self.of_slot(slot, 'i')
    }

    /// Keys that are never there, so that every server of a cluster holds one of them at least, unless it holds hardly anything.
    pub(super) fn probes(&self) -> Vec<Key> {
        let step = if self.tags.is_empty() { SLOTS } else { SLOTS / PROBES };
        (0..SLOTS).step_by(step).map(|slot| self.of_slot(slot as u16, 'w')).collect()
    }

    fn of_slot(&self, slot: u16, kind: char) -> Key {
        match self.tags.get(usize::from(slot)) {
            Some(tag) => format!("{}:{{{tag}}}:{kind}", self.prefix).into(),
            None => format!("{}:{{$all}}:{kind}", self.prefix).into(),
        }
    }

    /// The string with the version table of the log whose channel it is.
    pub(super) fn versions(&self, channel: &Channel) -> Key {
        format!("{}:{{{channel}}}:v", self.prefix).into()
    }

    /// Where an idempotency key is remembered; of one length, whatever the key is.
    pub(super) fn idempotency(&self, channel: &Channel, key: &str) -> Key {
        let hash = Sha256::digest(key.as_bytes());
        let name = hash.iter().fold(format!("{}:{{{channel}}}:k:", self.prefix), |mut name, byte| {
            name.push_str(&format!("{byte:02x}"));
            name
        });
        name.into()
    }

    /// The sorted set with the moments at which the channel's members expire.
    pub(super) fn expiries(&self, channel: &Channel) -> Key {
        format!("{}:{{{channel}}}:e", self.prefix).into()
    }

    /// The hash with the channel's members.
    pub(super) fn members(&self, channel: &Channel) -> Key {
        format!("{}:{{{channel}}}:a", self.prefix).into()
    }

    /// The sorted set with the moments at which the channel's members came.
    pub(super) fn arrivals(&self, channel: &Channel) -> Key {
        format!("{}:{{{channel}}}:o", self.prefix).into()
    }

    /// The pub/sub channel that a channel is announced on. That of a companion is in the slot of its channel: one step
    /// changes who is there and announces it.
    pub(super) fn announcements(&self, channel: &Channel) -> String {
        if let Some(channel) = channel.presence_of() {
            return format!("{}{{{channel}}}:p", self.spoken);
        }
        format!("{}{{{channel}}}", self.spoken)
    }

    /// The channel that is announced on a pub/sub channel; `None` for any other.
    pub(super) fn announced(&self, name: &str) -> Option<Channel> {
        let name = name.strip_prefix(&*self.spoken)?.strip_prefix('{')?;
        let (name, is_presence) = match name.strip_suffix(":p") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let channel = Channel::parse_any(name.strip_suffix('}')?).ok()?;
        Some(if is_presence { channel.presence() } else { channel })
    }

    /// The pub/sub channel on which instances talk to each other.
    pub(super) fn cluster(&self) -> String {
        format!("{}$cluster", self.spoken)
    }

    /// The hash with what is revoked, and its stamp. No channel of a client is called so, and it is in a slot of its own.
    pub(super) fn revocations(&self) -> Key {
        format!("{}:{{{REVOKED}}}:r", self.prefix).into()
    }
}

fn slot_of(channel: &Channel) -> u16 {
    redis_keyslot(channel.as_str().as_bytes())
}

/// For each slot the lowest number whose text is in it.
fn tags_of_slots() -> Vec<u32> {
    let mut tags = vec![u32::MAX; SLOTS];
    let mut missing = SLOTS;
    for number in 0.. {
        let tag = &mut tags[usize::from(redis_keyslot(number.to_string().as_bytes()))];
        if *tag == u32::MAX {
            *tag = number;
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::types::ClusterHash;
    use tidings_protocol::LogName;

    #[test]
    fn everything_of_a_channel_is_in_one_slot() {
        let keys = Keys::new("app:1", 0, true);
        let channel = Channel::parse("room:7").unwrap();
        let slots = [
            keys.meta(&channel),
            keys.stream(&channel),
            keys.versions(&channel),
            keys.idempotency(&channel, "}{ any \n bytes"),
            keys.announcements(&channel).into(),
            keys.announcements(&channel.presence()).into(),
            keys.expiries(&channel),
            keys.members(&channel),
            keys.arrivals(&channel),
            keys.births(&channel),
            keys.index(&channel),
            "room:7".into(),
        ];
        let slots = slots.map(|key| ClusterHash::FirstKey.hash(&[key.into()]));
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
        let log = LogName::default().channel();
        let slots = [keys.meta(&log), keys.versions(&log), keys.births(&log), log.as_str().into()];
        let slots = slots.map(|key| ClusterHash::FirstKey.hash(&[key.into()]));
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
    }

    #[test]
    fn only_names_made_here_are_read_back() {
        let keys = Keys::new("app", 0, false);
        let channel = Channel::parse("room:7").unwrap();
        assert_eq!(keys.announced(&keys.announcements(&channel)), Some(channel.clone()));
        let companion = channel.presence();
        assert_eq!(keys.announced(&keys.announcements(&companion)), Some(companion));
        let log = LogName::default().channel();
        assert_eq!(keys.announced(&keys.announcements(&log)), Some(log));
        for foreign in [
            "app:$cluster",
            "other:{a}",
            "app:{a}:m",
            "app:{a}:p:p",
            "app:{}",
            "app:{a b}",
            "app:{$log:a b}",
            "app:{$presence:a}",
            "app",
        ] {
            assert_eq!(keys.announced(foreign), None, "{foreign}");
        }
    }
    #[test]
    fn databases_share_no_pub_sub_channel() {
        let channel = Channel::parse("room:7").unwrap();
        let names = |database| {
            let keys = Keys::new("app", database, false);
            let spoken =
                [keys.announcements(&channel), keys.announcements(&channel.presence()), keys.cluster()];
            assert_eq!(keys.announced(&spoken[0]), Some(channel.clone()));
            assert_eq!(keys.announced(&spoken[1]), Some(channel.presence()));
            (keys, spoken)
        };
        let (zero, of_zero) = names(0);
        let (two, of_two) = names(2);
        assert_eq!(of_zero, ["app:{room:7}", "app:{room:7}:p", "app:$cluster"]);
        for name in of_two {
            assert!(name.starts_with("app:") && !of_zero.contains(&name), "{name}");
            assert_eq!(zero.announced(&name), None);
        }
        assert_eq!(two.announced(&of_zero[0]), None);
        assert_eq!(two.meta(&channel), zero.meta(&channel), "keys are in a database anyway");
    }
}
