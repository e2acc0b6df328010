//! CloudEvents as requests carry them: which of the three forms it is, and what is done with the events.

use axum::http::header::{CONTENT_TYPE, HeaderMap};
use tidings_protocol::{Code, Mutations, Problem};

use super::body::utf8;
use crate::dialect::cloud_event::CloudEvent;

/// The form that the headers of a request announce.
pub(super) enum Envelope {
    /// The event's attributes are headers, its data is the body.
    Binary(HeaderMap),
    /// The body is the event.
    Structured,
    /// The body is a list of events.
    Batched,
}

impl Envelope {
    /// `None` for a request that is no CloudEvent.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Envelope>, Problem> {
        let content_type = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/cloudevents+json" => Ok(Some(Envelope::Structured)),
            "application/cloudevents-batch+json" => Ok(Some(Envelope::Batched)),
            other if other.starts_with("application/cloudevents") => {
                let message = format!("CloudEvents come as JSON here, not as {other:?}");
                Err(Problem::new(Code::UnsupportedMediaType, message))
            }
            _ if headers.contains_key("ce-specversion") => Ok(Some(Envelope::Binary(headers.clone()))),
            _ => Ok(None),
        }
    }

    /// The events of the body, at least one.
    pub(super) fn open(&self, body: &[u8]) -> Result<Vec<CloudEvent>, Problem> {
        match self {
            Envelope::Binary(headers) => {
                let attribute = |name: &str| text(headers, &format!("ce-{name}"));
                let content_type = text(headers, CONTENT_TYPE.as_str());
                Ok(vec![CloudEvent::binary(attribute, content_type, body)?])
            }
            Envelope::Structured => Ok(vec![CloudEvent::structured(utf8(body)?)?]),
            Envelope::Batched => CloudEvent::batched(utf8(body)?),
        }
    }

    pub(super) fn is_batched(&self) -> bool {
        matches!(self, Envelope::Batched)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The mutations that the events are, as one event of the log.
pub(super) fn mutations_of(events: Vec<CloudEvent>, ns: Option<String>) -> Result<Mutations, Problem> {
    let drafts = events.into_iter().map(CloudEvent::into_mutation).collect::<Result<Vec<_>, _>>()?;
    let ns = ns.or_else(|| drafts.first().and_then(|draft| draft.ns.clone()));
    Mutations::of(ns, drafts)
}
