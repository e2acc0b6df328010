//! Commands as JSON text, as a client writes them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::{
    Ack, Channel, Command, LogName, Payload, Position, PublishCommand, UnwatchCommand, WatchCommand,
};

/// Writes one command.
pub fn encode_command(id: Option<u64>, command: &Command) -> String {
    serde_json::to_string(&CommandForm { id, command }).expect("strings and integers always serialize")
}

struct CommandForm<'a> {
    id: Option<u64>,
    command: &'a Command,
}

impl Serialize for CommandForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = self.id {
            map.serialize_entry("id", &id)?;
        }
        let channel_and = |channel: &Channel, since: &Option<Position>, limit: Option<usize>| {
            let mut body = serde_json::json!({ "channel": channel });
            if let Some(since) = since {
                body["since"] = serde_json::json!(since);
            }
            if let Some(limit) = limit {
                body["limit"] = limit.into();
            }
            body
        };
        match self.command {
            Command::Connect { token } => {
                map.serialize_entry("connect", &serde_json::json!({ "token": &**token }))
            }
            Command::Refresh { token } => {
                map.serialize_entry("refresh", &serde_json::json!({ "token": &**token }))
            }
            Command::Subscribe(c) => {
                let mut body = channel_and(&c.channel, &c.since, None);
                if c.presence {
                    body["presence"] = true.into();
                }
                if let Some(token) = &c.token {
                    body["token"] = (&**token).into();
                }
                map.serialize_entry("subscribe", &body)
            }
            Command::Unsubscribe { channel } => {
                map.serialize_entry("unsubscribe", &channel_and(channel, &None, None))
            }
            Command::Presence { channel, limit } => {
                map.serialize_entry("presence", &channel_and(channel, &None, *limit))
            }
            Command::History(c) => {
                map.serialize_entry("history", &channel_and(&c.channel, &c.since, c.limit))
            }
            Command::Publish(publish) => map.serialize_entry("publish", &PublishForm(publish)),
            Command::Watch(WatchCommand { log, groups }) => {
                map.serialize_entry("watch", &with_log(log, "groups", &serde_json::json!(groups)))
            }
            Command::Unwatch(UnwatchCommand { log, tags, escalated }) => {
                let mut body = with_log(log, "tags", &serde_json::json!(tags));
                if !escalated.is_empty() {
                    body["escalated"] = serde_json::json!(escalated);
                }
                map.serialize_entry("unwatch", &body)
            }
            Command::Ping { c } => map.serialize_entry("ping", &serde_json::json!({ "c": c })),
        }?;
        map.end()
    }
}

struct PublishForm<'a>(&'a PublishCommand);

impl Serialize for PublishForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("channel", &self.0.channel)?;
        match &self.0.payload {
            Payload::Json(raw) => map.serialize_entry("data", raw)?,
            Payload::Text(text) => map.serialize_entry("data", text)?,
            Payload::Binary(bytes) => {
                use base64::Engine;
                map.serialize_entry("b64", &base64::engine::general_purpose::STANDARD.encode(bytes))?;
            }
        }
        let PublishCommand { key, id, idempotency_key, ack, .. } = self.0;
        for (name, value) in [("key", key), ("id", id), ("idempotency_key", idempotency_key)] {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        if *ack != Ack::default() {
            map.serialize_entry("ack", ack)?;
        }
        map.end()
    }
}

/// A body that names its log, unless that is the default one.
fn with_log(log: &LogName, field: &str, value: &serde_json::Value) -> serde_json::Value {
    match log.is_default() {
        true => serde_json::json!({ field: value }),
        false => serde_json::json!({ "ns": log, field: value }),
    }
}
