//! Mutations: what was changed, and which tags that touches.

use std::sync::Arc;

use crate::{Ack, LogName, Payload, PublishCommand, Tag};

/// Writes one event into a mutation log: from then on every value that depends on one of the tags is stale if it was read
/// before.
#[derive(Clone, Debug)]
pub struct MutateCommand {
    /// The log.
    pub log: LogName,
    /// What was touched; at least one.
    pub tags: Vec<Tag>,
    /// Makes retries safe.
    pub idempotency_key: Option<Arc<str>>,
    /// What the key stands for: the same key with another text is refused.
    pub said: Arc<str>,
    /// What must be known before the reply.
    pub ack: Ack,
}

impl MutateCommand {
    /// The event as its log's channel publishes it.
    pub fn publication(&self) -> PublishCommand {
        PublishCommand {
            channel: self.log.channel(),
            payload: encode_tags(&self.tags),
            key: None,
            id: self.idempotency_key.clone(),
            idempotency_key: self.idempotency_key.clone(),
            ack: self.ack,
        }
    }
}

/// The tags of a mutation as its log keeps them, one after the other with a space between.
pub fn encode_tags(tags: &[Tag]) -> Payload {
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    Payload::text(names.join(" ").as_bytes()).expect("tags are ASCII")
}

/// Reads what [`encode_tags`] wrote; `None` for what it did not write.
pub fn decode_tags(payload: &Payload) -> Option<Vec<Tag>> {
    let text = std::str::from_utf8(payload.as_bytes()).ok()?;
    text.split(' ').map(|tag| Tag::parse(tag).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_back_as_they_were_written() {
        let tags: Vec<Tag> = ["ticket:42", "a:*", "*"].map(|tag| Tag::parse(tag).unwrap()).into();
        assert_eq!(decode_tags(&encode_tags(&tags)), Some(tags));
        for foreign in ["", "a  b", "a\nb", " a"] {
            assert_eq!(decode_tags(&Payload::text(foreign.as_bytes()).unwrap()), None, "{foreign:?}");
        }
    }
}
