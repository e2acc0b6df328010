//! What things are called in Redis.
//!
//! A channel's name cannot hold a brace, so the part between braces is the channel itself: in a cluster all keys of a
//! channel are in one slot, and no name moves another's.

use std::sync::Arc;

use fred::types::Key;
use sha2::{Digest, Sha256};
use tidings_protocol::Channel;

/// Whose slot revocations are in.
pub(super) const REVOKED: &str = "$revoked";

/// Makes names that begin with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Keys { prefix: prefix.into() }
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

    /// The pub/sub channel that a channel is announced on. That of a companion is in the slot of its channel: one step
    /// changes who is there and announces it.
    pub(super) fn announcements(&self, channel: &Channel) -> String {
        if let Some(channel) = channel.presence_of() {
            return format!("{}:{{{channel}}}:p", self.prefix);
        }
        format!("{}:{{{channel}}}", self.prefix)
    }

    /// The channel that is announced on a pub/sub channel; `None` for any other.
    pub(super) fn announced(&self, name: &str) -> Option<Channel> {
        let name = name.strip_prefix(&*self.prefix)?.strip_prefix(":{")?;
        let (name, is_presence) = match name.strip_suffix(":p") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let channel = Channel::parse_any(name.strip_suffix('}')?).ok()?;
        Some(if is_presence { channel.presence() } else { channel })
    }

    /// The pub/sub channel on which instances talk to each other.
    pub(super) fn cluster(&self) -> String {
        format!("{}:$cluster", self.prefix)
    }

    /// The hash with what is revoked. No channel of a client is called so, and it is in a slot of its own.
    pub(super) fn revocations(&self) -> Key {
        format!("{}:{{{REVOKED}}}:r", self.prefix).into()
    }

    /// The string that tells one state of that hash from another.
    pub(super) fn revocations_stamp(&self) -> Key {
        format!("{}:{{{REVOKED}}}:n", self.prefix).into()
    }

    /// What the meta hashes of all channels match, as a pattern of `SCAN`; the prefix holds no sign that means something there.
    pub(super) fn all_metas(&self) -> String {
        format!("{}:{{*}}:m", self.prefix)
    }

    /// The channel whose meta hash this is, of those that clients can name.
    pub(super) fn channel_of_meta(&self, key: &str) -> Option<Channel> {
        self.announced(key.strip_suffix(":m")?).filter(|channel| !channel.is_presence() && !channel.is_log())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::types::ClusterHash;
    use tidings_protocol::LogName;

    #[test]
    fn everything_of_a_channel_is_in_one_slot() {
        let keys = Keys::new("app:1");
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
            "room:7".into(),
        ];
        let slots = slots.map(|key| ClusterHash::FirstKey.hash(&[key.into()]));
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
        let log = LogName::default().channel();
        let slots = [keys.meta(&log), keys.versions(&log), log.as_str().into()];
        let slots = slots.map(|key| ClusterHash::FirstKey.hash(&[key.into()]));
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
    }

    #[test]
    fn only_names_made_here_are_read_back() {
        let keys = Keys::new("app");
        let channel = Channel::parse("room:7").unwrap();
        assert_eq!(keys.announced(&keys.announcements(&channel)), Some(channel.clone()));
        let companion = channel.presence();
        assert_eq!(keys.announced(&keys.announcements(&companion)), Some(companion));
        assert_eq!(keys.channel_of_meta(keys.meta(&channel).as_str().unwrap()), Some(channel));
        let log = LogName::default().channel();
        assert_eq!(keys.announced(&keys.announcements(&log)), Some(log.clone()));
        assert_eq!(keys.channel_of_meta(keys.meta(&log).as_str().unwrap()), None, "no client can name it");
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
}
