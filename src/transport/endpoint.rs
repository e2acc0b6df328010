//! The HTTP side of the transports: requests that become connections.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL,
};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tidings_protocol::{Channel, Code, Position, Problem, SUBPROTOCOL_JSON, SubscribeCommand};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tracing::debug;

use super::admission::{admit, grant_of, subprotocols};
use super::connection::Connection;
use super::performer::Performer;
use super::sse::{self, SseWire};
use super::websocket::WebSocketWire;
use super::wire::Wire;
use crate::api::{ApiError, read_body};
use crate::auth::refused;
use crate::dialect;
use crate::dialect::cursor::{self, Cursor};
use crate::hub::{CursorState, Grant, Session, SessionConfig, come_back_after};
use crate::instance::Instance;
use crate::node::{Member, Profile, SharedMailbox};

/// `GET /ws`
pub async fn websocket(
    State(instance): State<Arc<Instance>>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    admit(&instance)?;
    let (mut parts, _) = request.into_parts();
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let request = axum::http::Request::from_parts(parts, ());
    let not_websocket =
        |why: String| Problem::new(Code::BadRequest, format!("no WebSocket handshake: {why}"));
    let response = create_response(&request).map_err(|error| not_websocket(error.to_string()))?;
    let upgrade = upgrade.ok_or_else(|| not_websocket("the connection cannot be upgraded".to_owned()))?;
    let grant = grant_of(&instance, request.headers())?;

    let mut response = response.map(|()| Body::empty());
    if subprotocols(request.headers()).any(|offered| offered == SUBPROTOCOL_JSON) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_JSON));
    }
    let tasks = instance.tasks.clone();
    tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => take_over(instance, upgraded, grant),
            Err(error) => debug!(%error, "upgrade failed"),
        }
    });
    Ok(response)
}

/// Takes the bare socket out of hyper's hands and gives it a task of its own: a fresh one, which does not keep the memory
/// that the handshake took.
fn take_over(instance: Arc<Instance>, upgraded: hyper::upgrade::Upgraded, grant: Option<Grant>) {
    let parts = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => parts,
        Err(_) => return debug!("the upgraded connection is no TCP socket"),
    };
    let limits = &instance.config.limits;
    let wire = WebSocketWire::new(parts.io.into_inner(), &parts.read_buf, limits);
    let config = instance.websocket.clone();
    open(&instance, config, grant, wire, |session| session);
}

/// Starts the task of a connection.
fn open<W: Wire>(
    instance: &Arc<Instance>,
    config: Arc<SessionConfig>,
    grant: Option<Grant>,
    wire: W,
    prepare: impl FnOnce(Session) -> Session,
) {
    let profile = Profile::new(W::KIND.into(), instance.clock.unix_ms());
    let mailbox = Arc::new(SharedMailbox::new(instance.config.limits.mailbox_bytes, profile));
    let member: Member = instance.node.enter(mailbox.clone());
    grant.iter().for_each(|grant| member.identify(&grant.user));
    let session =
        Session::new(config, member.name().to_string(), grant, instance.jitter(), instance.clock.now());
    let connection = Connection {
        session: prepare(session),
        wire,
        mailbox,
        performer: Performer {
            node: instance.node.clone(),
            member,
            authenticator: instance.authenticator.clone(),
            metrics: instance.metrics.clone(),
            clock: instance.clock,
        },
        clock: instance.clock,
        metrics: instance.metrics.clone(),
        write_timeout: instance.config.server.write_timeout,
    };
    instance.tasks.spawn(connection.run());
}

/// What a stream is asked for.
#[derive(Debug, Default)]
struct StreamRequest {
    subscribes: Vec<SubscribeCommand>,
    raw: bool,
    cursor: Option<String>,
}

/// `GET /sse?channel=a&channel=b`
pub async fn sse_get(
    State(instance): State<Arc<Instance>>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let mut wanted = StreamRequest::default();
    let mut presence = false;
    for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        match &*name {
            "channel" => wanted.subscribes.push(at_the_head(channel(&value)?)),
            "raw" => wanted.raw = matches!(&*value, "1" | "true"),
            "presence" => presence = matches!(&*value, "1" | "true"),
            "last_event_id" => wanted.cursor = Some(value.into_owned()),
            // Other names belong to later versions, or to whoever is in between.
            _ => {}
        }
    }
    wanted.subscribes.iter_mut().for_each(|subscribe| subscribe.presence = presence);
    stream(&instance, request.headers(), wanted)
}

/// `POST /sse`: for clients that use fetch, and for many channels.
pub async fn sse_post(
    State(instance): State<Arc<Instance>>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    #[derive(Deserialize)]
    struct Form {
        subscribe: Vec<Subscribe>,
        #[serde(default)]
        raw: bool,
    }
    #[derive(Deserialize)]
    struct Subscribe {
        channel: String,
        since: Option<Position>,
        #[serde(default)]
        presence: bool,
    }
    let headers = request.headers().clone();
    let body = read_body(&instance, request, instance.config.limits.message_bytes_max).await?;
    let form: Form = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(Code::BadRequest, format!("the body is no subscription: {e}")))?;
    let mut wanted = StreamRequest { raw: form.raw, ..StreamRequest::default() };
    for Subscribe { channel: name, since, presence } in form.subscribe {
        wanted.subscribes.push(SubscribeCommand { channel: channel(&name)?, since, presence });
    }
    stream(&instance, &headers, wanted)
}

fn channel(name: &str) -> Result<Channel, Problem> {
    Channel::parse(name).map_err(|e| Problem::new(Code::ChannelInvalid, e.to_string()))
}

/// A subscription from now on.
fn at_the_head(channel: Channel) -> SubscribeCommand {
    SubscribeCommand { channel, since: None, presence: false }
}

fn stream(
    instance: &Arc<Instance>,
    headers: &HeaderMap,
    wanted: StreamRequest,
) -> Result<Response<Body>, ApiError> {
    let grant = grant_of(instance, headers)?.ok_or_else(refused)?;
    let StreamRequest { subscribes, raw, cursor } = wanted;
    let mut subscribes = with_granted(&grant, subscribes);
    check(instance, &grant, &subscribes)?;
    if admit(instance).is_err() {
        return Ok(come_back_later(instance));
    }
    const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
    let header = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?").to_owned());
    let cursor = header.or(cursor).filter(|cursor| !cursor.is_empty());
    let cursor = cursor.map(|cursor| Cursor::decode(&cursor));
    let cursor_state = match cursor {
        None => CursorState::None,
        Some(Ok(_)) => CursorState::Read,
        Some(Err(_)) => CursorState::Unreadable,
    };
    let cursor = cursor.and_then(Result::ok);
    for SubscribeCommand { channel, since, .. } in &mut subscribes {
        let position = cursor.as_ref().and_then(|cursor| cursor.position(channel).cloned());
        *since = position.or(since.take());
    }

    let (wire, body): (SseWire, Body) = sse::stream(raw);
    let config = instance.sse.clone();
    open(instance, config, Some(grant), wire, |session| session.with_channels(subscribes, cursor_state));
    Ok(event_stream(body))
}

/// The asked channels, each once, and those that the credential subscribes to by itself.
fn with_granted(grant: &Grant, asked: Vec<SubscribeCommand>) -> Vec<SubscribeCommand> {
    let mut subscribes: Vec<SubscribeCommand> = Vec::new();
    let granted = grant.channels.iter().cloned().map(at_the_head);
    for subscribe in asked.into_iter().chain(granted) {
        if !subscribes.iter().any(|known| known.channel == subscribe.channel) {
            subscribes.push(subscribe);
        }
    }
    subscribes
}

fn check(instance: &Instance, grant: &Grant, subscribes: &[SubscribeCommand]) -> Result<(), Problem> {
    let most = instance.config.limits.channels_per_connection.min(cursor::CHANNELS_MAX);
    if subscribes.is_empty() {
        return Err(Problem::new(Code::BadRequest, "a stream needs a channel: /sse?channel=tickets"));
    }
    let heard = subscribes.iter().filter(|subscribe| subscribe.presence);
    let count = subscribes.len() + heard.clone().count();
    if count > most {
        let message = format!("a stream has at most {most} channels, {count} were asked for");
        return Err(Problem::new(Code::TooManyItems, message));
    }
    let refused = |channel: &Channel, what: &str| {
        let message = format!("the credential does not allow to {what} {channel}");
        Err(Problem::new(Code::ChannelNotAllowed, message))
    };
    if let Some(subscribe) = subscribes.iter().find(|asked| !grant.may_subscribe(&asked.channel)) {
        return refused(&subscribe.channel, "subscribe to");
    }
    if let Some(subscribe) = heard.clone().find(|asked| !grant.may_see_presence(&asked.channel)) {
        return refused(&subscribe.channel, "see the presence of");
    }
    match heard.clone().all(|asked| instance.node.has_presence(&asked.channel)) {
        true => Ok(()),
        false => Err(Code::PresenceDisabled.into()),
    }
}

/// A browser's EventSource gives up for good on anything but 200: so whoever finds no room gets an empty stream and the
/// advice when to come back.
fn come_back_later(instance: &Instance) -> Response<Body> {
    let after = come_back_after(instance.jitter());
    event_stream(Body::from(dialect::sse::retry(after.as_millis() as u64)))
}

fn event_stream(body: Body) -> Response<Body> {
    // Proxies that buffer or compress would hold events back.
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (StatusCode::OK, headers, body).into_response()
}
