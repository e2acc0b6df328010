//! Publishing over HTTP: a raw body, a JSON object, or many of them.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tidings_protocol::{
    Ack, Channel, Code, Payload, Problem, PublishCommand, PublishedFrame, decode_publish,
};

use super::access::Asker;
use super::body::utf8;
use super::channels::{ChannelPath, channel_of};
use super::cloud_event::Envelope;
use super::options::Options;
use super::problem::ProblemBody;
use super::{ApiError, quota, read_body};
use crate::instance::{Instance, publish_bytes_max};

/// `POST /v1/publish/{channel}`: the body is the data.
pub(super) async fn publish_body(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    channel: ChannelPath,
    request: Request,
) -> Result<Response, ApiError> {
    let channel = channel_of(channel)?;
    demand_publish(&asker, &channel)?;
    let options = Options::of_publish(&request)?;
    let kind = BodyKind::of(request.headers())?;
    let body = read_body(&instance, &asker.caller, request, instance.limits.load().message_bytes_max).await?;
    let payload = kind.payload(&body)?;
    let command =
        PublishCommand { channel, payload, key: None, id: None, idempotency_key: None, ack: Ack::default() };
    answer(publish(&instance, &asker, options.applied_to(command)).await)
}

/// `POST /v1/publish`: the body is a JSON object with the channel, the data and the options.
pub(super) async fn publish_json(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    request: Request,
) -> Result<Response, ApiError> {
    let options = Options::of_publish(&request)?;
    if let Some(envelope) = Envelope::of(request.headers())? {
        return publish_events(&instance, &asker, envelope, options, request).await;
    }
    let bytes_max = publish_bytes_max(&instance.limits.load());
    let body = read_body(&instance, &asker.caller, request, bytes_max).await?;
    let command = decode_publish(utf8(&body)?)?;
    answer(publish(&instance, &asker, options.applied_to(command)).await)
}

/// `POST /v1/batch`: a JSON array or a line each; a result for each, in order.
pub(super) async fn publish_batch(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    request: Request,
) -> Result<Response, ApiError> {
    let options = Options::of_batch(&request)?;
    check_batch_key(options.idempotency_key.as_deref())?;
    let body = read_body(&instance, &asker.caller, request, instance.limits.load().request_bytes_max).await?;
    let items = split(utf8(&body)?, instance.limits.load().request_items_max)?;
    asker.charge(&instance, items.len())?;
    let mut results = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let key = options.idempotency_key.as_ref().map(|key| format!("{key}#{index}").into());
        let options = Options { idempotency_key: key, ..options.clone() };
        let published = match decode_publish(item) {
            Ok(command) => publish(&instance, &asker, options.applied_to(command)).await,
            Err(problem) => Err(problem),
        };
        results.push(ItemResult::from(published));
    }
    Ok(axum::Json(Results { results }).into_response())
}

/// CloudEvents; a batch of them is answered as any other.
async fn publish_events(
    instance: &Instance,
    asker: &Asker,
    envelope: Envelope,
    options: Options,
    request: Request,
) -> Result<Response, ApiError> {
    let body = read_body(instance, &asker.caller, request, instance.limits.load().request_bytes_max).await?;
    let events = envelope.open(&body)?;
    let items_max = instance.limits.load().request_items_max;
    if events.len() > items_max {
        let message = format!("a request holds at most {items_max} items");
        return Err(Problem::new(Code::TooManyItems, message).into());
    }
    asker.charge(instance, events.len())?;
    let mut results = Vec::with_capacity(events.len());
    for event in events {
        let published = match event.into_publish() {
            Ok(command) => publish(instance, asker, options.applied_to(command)).await,
            Err(problem) => Err(problem),
        };
        if !envelope.is_batched() {
            return answer(published);
        }
        results.push(ItemResult::from(published));
    }
    Ok(axum::Json(Results { results }).into_response())
}

/// What became of each item.
#[derive(Serialize)]
struct Results {
    results: Vec<ItemResult>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ItemResult {
    Published(PublishedFrame),
    Refused { error: ProblemBody },
}

impl From<Result<PublishedFrame, Problem>> for ItemResult {
    fn from(published: Result<PublishedFrame, Problem>) -> ItemResult {
        match published {
            Ok(published) => ItemResult::Published(published),
            Err(problem) => ItemResult::Refused { error: ProblemBody::from(&problem) },
        }
    }
}

/// The items of a batch, unread.
fn split(text: &str, items_max: usize) -> Result<Vec<&str>, Problem> {
    // One more than may be is enough to know that there are too many.
    let most = items_max + 1;
    let items: Vec<&str> = match text.trim_start().starts_with('[') {
        true => {
            let mut json = serde_json::Deserializer::from_str(text);
            let items =
                json.deserialize_seq(FirstItems { most }).and_then(|items| json.end().map(|()| items));
            items.map_err(|e| Problem::new(Code::InvalidJson, format!("the body is no JSON array: {e}")))?
        }
        false => text.lines().filter(|line| !line.trim().is_empty()).take(most).collect(),
    };
    match items.len() {
        0 => Err(Problem::new(
            Code::BadRequest,
            "the body holds nothing to publish: a JSON array, or one object a line",
        )),
        count if count > items_max => {
            Err(Problem::new(Code::TooManyItems, format!("a request holds at most {items_max} items")))
        }
        _ => Ok(items),
    }
}

/// Keeps the first elements of an array, unread, and passes over the others.
struct FirstItems {
    most: usize,
}

impl<'de> Visitor<'de> for FirstItems {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<&'de str>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&RawValue>()? {
            if items.len() < self.most {
                items.push(item.get());
            }
        }
        Ok(items)
    }
}

/// The key of a batch is the beginning of the keys of its items.
fn check_batch_key(key: Option<&str>) -> Result<(), Problem> {
    // `#` and an index of up to six digits.
    const INDEX_BYTES: usize = 7;
    let most = PublishCommand::NAME_BYTES_MAX - INDEX_BYTES;
    let bytes = key.map_or(1, str::len);
    match (1..=most).contains(&bytes) {
        true => Ok(()),
        false => {
            let message =
                format!("the `idempotency_key` of a batch has 1 to {most} bytes, this one has {bytes}");
            Err(Problem::new(Code::BadRequest, message))
        }
    }
}

fn demand_publish(asker: &Asker, channel: &Channel) -> Result<(), Problem> {
    match asker.grant.may_publish(channel) {
        true => Ok(()),
        false => {
            let message = format!("the credential does not allow to publish to {channel}");
            Err(Problem::new(Code::ChannelNotAllowed, message))
        }
    }
}

async fn publish(
    instance: &Instance,
    asker: &Asker,
    command: PublishCommand,
) -> Result<PublishedFrame, Problem> {
    // The body, or the items before this one, may have taken their time.
    instance.recheck(&asker.grant)?;
    demand_publish(asker, &command.channel)?;
    command.check(instance.limits.load().message_bytes_max)?;
    quota::note(instance.admit_publish(&asker.caller, command.payload.as_bytes().len()))?;
    let published = instance.node.publish(command, &asker.caller).await?;
    instance.metrics.published();
    Ok(published.into())
}

pub(super) fn answer(published: Result<PublishedFrame, Problem>) -> Result<Response, ApiError> {
    let published = published?;
    let status = if published.ack == Ack::None { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, axum::Json(published)).into_response())
}

/// How a raw body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    Json,
    Text,
    Bytes,
    /// JSON if it parses, else text: what a bare `curl -d` sends.
    Guess,
}

impl BodyKind {
    fn of(headers: &HeaderMap) -> Result<BodyKind, Problem> {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(BodyKind::Guess) };
        let value = value.to_str().unwrap_or("?");
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/json" => Ok(BodyKind::Json),
            "application/octet-stream" => Ok(BodyKind::Bytes),
            "application/x-www-form-urlencoded" | "" => Ok(BodyKind::Guess),
            kind if kind.starts_with("text/") => Ok(BodyKind::Text),
            kind if kind.ends_with("+json") => Ok(BodyKind::Json),
            kind => {
                let shown: String = kind.chars().take(60).collect();
                let message = format!(
                    "a body of type {shown:?} cannot be published: use application/json, text/plain or application/octet-stream"
                );
                Err(Problem::new(Code::UnsupportedMediaType, message))
            }
        }
    }

    fn payload(self, body: &bytes::Bytes) -> Result<Payload, Problem> {
        Ok(match self {
            BodyKind::Json => Payload::json(body)?,
            BodyKind::Text => Payload::text(body)?,
            BodyKind::Bytes => Payload::Binary(body.clone()),
            BodyKind::Guess => Payload::json(body).or_else(|_| Payload::text(body))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(content_type: &str) -> Option<BodyKind> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        BodyKind::of(&headers).ok()
    }

    #[test]
    fn the_content_type_says_how_a_body_is_read() {
        for (content_type, expected) in [
            ("application/json", Some(BodyKind::Json)),
            ("application/JSON; charset=utf-8", Some(BodyKind::Json)),
            ("application/vnd.api+json", Some(BodyKind::Json)),
            ("text/plain", Some(BodyKind::Text)),
            ("application/octet-stream", Some(BodyKind::Bytes)),
            ("application/x-www-form-urlencoded", Some(BodyKind::Guess)),
            ("multipart/form-data", None),
            ("image/png", None),
        ] {
            assert_eq!(kind(content_type), expected, "{content_type}");
        }
        assert_eq!(BodyKind::of(&HeaderMap::new()).unwrap(), BodyKind::Guess);
    }

    #[test]
    fn a_batch_is_an_array_or_lines() {
        assert_eq!(split("[{\"a\":1}, 2]", 2).unwrap(), ["{\"a\":1}", "2"]);
        assert_eq!(split("{\"a\":1}\n\n2\n", 2).unwrap(), ["{\"a\":1}", "2"]);
        for (text, items_max, code) in [
            ("", 2, Code::BadRequest),
            ("[]", 2, Code::BadRequest),
            ("\n\n", 2, Code::BadRequest),
            ("[1,2,3]", 2, Code::TooManyItems),
            ("1\n2\n3", 2, Code::TooManyItems),
            ("[1,", 2, Code::InvalidJson),
        ] {
            assert_eq!(split(text, items_max).unwrap_err().code, code, "{text:?}");
        }
    }
}
