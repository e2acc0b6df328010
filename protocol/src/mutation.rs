//! Mutations: what was changed, and which tags that touches.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Ack, LogName, Payload, PublishCommand, Tag};

/// What was done to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It was not there before.
    Create,
    /// It was there, and is.
    Update,
    /// It is there no more.
    Delete,
}

impl Operation {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
        }
    }
}

/// The fields of a row, each as it was written: numbers keep all their digits.
pub type Row = BTreeMap<String, Box<RawValue>>;

/// Something that was changed (R59).
#[derive(Clone, Debug, Serialize)]
pub struct Mutation {
    /// What kind of thing.
    pub entity: String,
    /// Which of that kind.
    pub key: String,
    /// What was done to it.
    pub op: Operation,
    /// The row as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Row>,
    /// The row as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Row>,
    /// Tags that it touches beside those that rules give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Makes a retry the same mutation. It is not part of what was changed.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
}

/// Mutations that are one event of a log.
#[derive(Clone, Debug)]
pub struct Mutations {
    /// The log.
    pub log: LogName,
    /// What was changed; at least one.
    pub events: Vec<Mutation>,
    /// Makes a retry the same event.
    pub idempotency_key: Option<String>,
}

impl Mutations {
    /// What was changed, in the one form that all ways to say it have: what an idempotency key stands for.
    pub fn said(&self) -> Arc<str> {
        serde_json::to_string(&self.events).expect("texts and what was JSON is JSON").into()
    }
}

/// Tags that were touched, whatever was changed: an event of a log.
#[derive(Clone, Debug)]
pub struct Invalidation {
    /// The log.
    pub log: LogName,
    /// Makes a retry the same event.
    pub idempotency_key: Option<String>,
    /// The tags; at least one.
    pub tags: Vec<Tag>,
}

impl Invalidation {
    /// What an idempotency key stands for.
    pub fn said(&self) -> Arc<str> {
        serde_json::to_string(&self.tags).expect("tags are texts").into()
    }
}

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
