//! CloudEvents 1.0, as publishes and mutations.
//!
//! `subject` names the channel; `source` and `id` together make a retry the same. A mutation stands in `data`; what is missing
//! there is taken from the attributes: the entity and the key from `subject` (`ticket:42`, or the key alone), the operation and,
//! failing all else, the entity from `type` (`com.example.ticket.updated`), tags and the log from the extensions `tags` and `ns`.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tidings_protocol::{Ack, Channel, Code, MutationDraft, Operation, Payload, Problem, PublishCommand};

/// The most bytes of an event's id and source, put together, that are kept as they are.
const KEY_BYTES_MAX: usize = PublishCommand::NAME_BYTES_MAX;

/// An event: the attributes that mean something here, and its data.
#[derive(Clone, Debug)]
pub struct CloudEvent {
    id: String,
    source: String,
    kind: String,
    subject: Option<String>,
    tags: Option<String>,
    ns: Option<String>,
    data: Option<Payload>,
}

/// The JSON form.
#[derive(Deserialize)]
struct EventForm {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: Option<String>,
    datacontenttype: Option<String>,
    tags: Option<String>,
    ns: Option<String>,
    data: Option<Box<RawValue>>,
    data_base64: Option<String>,
}

impl CloudEvent {
    /// One event in JSON.
    pub fn structured(text: &str) -> Result<CloudEvent, Problem> {
        read::<EventForm>(text).and_then(CloudEvent::of)
    }

    /// A list of events in JSON, at least one.
    pub fn batched(text: &str) -> Result<Vec<CloudEvent>, Problem> {
        let forms: Vec<EventForm> = read(text)?;
        match forms.is_empty() {
            true => Err(unclear("the list of CloudEvents is empty")),
            false => forms.into_iter().map(CloudEvent::of).collect(),
        }
    }

    /// An event whose attributes are headers, given without `ce-`, and whose data is the body.
    pub fn binary<'a>(
        attribute: impl Fn(&str) -> Option<&'a str>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<CloudEvent, Problem> {
        let text = |name: &str| attribute(name).map(percent_decoded).transpose();
        let needed =
            |name: &str| text(name)?.ok_or_else(|| unclear(format!("the header ce-{name} is missing")));
        check_version(&needed("specversion")?)?;
        let data = match kind_of(content_type) {
            _ if body.is_empty() => None,
            DataKind::Json => Some(Payload::json(body)?),
            DataKind::Text => Some(Payload::text(body)?),
            DataKind::Bytes => Some(Payload::Binary(Bytes::copy_from_slice(body))),
        };
        let (id, source, kind) = (needed("id")?, needed("source")?, needed("type")?);
        let (subject, tags, ns) = (text("subject")?, text("tags")?, text("ns")?);
        CloudEvent { id, source, kind, subject, tags, ns, data }.checked()
    }

    fn of(form: EventForm) -> Result<CloudEvent, Problem> {
        let EventForm { id, source, kind, subject, tags, ns, .. } = form;
        check_version(&form.specversion)?;
        let data = match (form.data, form.data_base64) {
            (Some(_), Some(_)) => return Err(unclear("a CloudEvent has `data` or `data_base64`, not both")),
            (None, None) => None,
            (None, Some(text)) => Some(Payload::base64(&text)?),
            (Some(json), None) => Some(match kind_of(form.datacontenttype.as_deref()) {
                DataKind::Json => Payload::json(json.get().as_bytes())?,
                // Of any other type, data that is text stands as a string of JSON.
                DataKind::Text | DataKind::Bytes => match serde_json::from_str::<String>(json.get()) {
                    Ok(text) => Payload::text(text.as_bytes())?,
                    Err(_) => Payload::json(json.get().as_bytes())?,
                },
            }),
        };
        CloudEvent { id, source, kind, subject, tags, ns, data }.checked()
    }

    fn checked(self) -> Result<CloudEvent, Problem> {
        let needed = [("id", &self.id), ("source", &self.source), ("type", &self.kind)];
        let empty = needed.into_iter().find(|(_, value)| value.is_empty()).map(|(name, _)| name);
        match empty {
            Some(name) => Err(unclear(format!("the CloudEvent's `{name}` is empty"))),
            None => Ok(self),
        }
    }

    /// What names the event among all others: its source, which has no spaces, and its id. A hash where that is too long.
    fn key(&self) -> String {
        let key = format!("{} {}", self.source, self.id);
        match key.len() <= KEY_BYTES_MAX {
            true => key,
            false => {
                let hash = Sha256::digest(key.as_bytes());
                hash.iter().fold("sha256:".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
            }
        }
    }

    /// The event as a publish.
    pub fn into_publish(self) -> Result<PublishCommand, Problem> {
        let subject = self.subject.as_deref();
        let subject =
            subject.ok_or_else(|| unclear("the CloudEvent has no `subject`, which names the channel"))?;
        let channel = Channel::parse(subject);
        Ok(PublishCommand {
            channel: channel.map_err(|error| Problem::new(Code::ChannelInvalid, error.to_string()))?,
            idempotency_key: Some(self.key().into()),
            payload: self.data.ok_or_else(|| unclear("the CloudEvent has no data to publish"))?,
            key: None,
            id: None,
            ack: Ack::default(),
        })
    }

    /// The event as a mutation, of which parts may be missing still.
    pub fn into_mutation(self) -> Result<MutationDraft, Problem> {
        let mut draft = match &self.data {
            None => MutationDraft::default(),
            Some(data) => {
                let text = std::str::from_utf8(data.as_bytes());
                MutationDraft::read_data(text.map_err(|_| unclear("the CloudEvent's data is no mutation"))?)?
            }
        };
        draft.idempotency_key = Some(self.key());
        draft.ns = draft.ns.or(self.ns);
        let named = self.tags.as_deref().unwrap_or_default().split([',', ' ']).filter(|tag| !tag.is_empty());
        draft.tags.extend(named.map(str::to_owned));
        let mut words = self.kind.rsplit('.');
        draft.op = draft.op.or(words.next().and_then(operation_of));
        if let Some(subject) = self.subject {
            take_subject(&mut draft, &subject);
        }
        draft.entity = draft.entity.or(words.next().map(str::to_owned));
        Ok(draft)
    }
}

/// `entity:key`, or the key alone.
fn take_subject(draft: &mut MutationDraft, subject: &str) {
    let key = match (&draft.entity, subject.split_once(':')) {
        (Some(entity), Some((first, rest))) if first == entity => rest,
        (None, Some((first, rest))) => {
            draft.entity = Some(first.to_owned());
            rest
        }
        (Some(_) | None, _) => subject,
    };
    draft.key.get_or_insert_with(|| key.to_owned());
}

fn operation_of(word: &str) -> Option<Operation> {
    match word {
        "create" | "created" => Some(Operation::Create),
        "update" | "updated" => Some(Operation::Update),
        "delete" | "deleted" => Some(Operation::Delete),
        _ => None,
    }
}

enum DataKind {
    Json,
    Text,
    Bytes,
}

/// Without a type data is JSON.
fn kind_of(content_type: Option<&str>) -> DataKind {
    let kind = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default();
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/json" => DataKind::Json,
        kind if kind.ends_with("+json") => DataKind::Json,
        kind if kind.starts_with("text/") => DataKind::Text,
        _ => DataKind::Bytes,
    }
}

fn check_version(version: &str) -> Result<(), Problem> {
    match version {
        "1.0" => Ok(()),
        other => Err(unclear(format!("CloudEvents of version 1.0 are understood, not of {other:?}"))),
    }
}

/// Headers hold what is not plain ASCII as `%` and two hexadecimal digits.
fn percent_decoded(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).map_err(|_| unclear(format!("the header value {text:?} is not UTF-8")))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let code = if error.is_data() { Code::BadRequest } else { Code::InvalidJson };
        Problem::new(code, format!("the CloudEvent cannot be read: {error}"))
    })
}

fn unclear(message: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Code::BadRequest, message)
}

#[cfg(test)]
mod tests;
