//! The HTTP side of event streams: what a request asks for, and the connection that it becomes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Extensions, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use tidings_protocol::{
    Channel, Code, Epoch, INTEGER_MAX, Offset, Position, PositionInvalid, Problem, SubscribeCommand,
    TokenText, WatchCommand, WatchGroup, log_of, tags_of,
};
use tokio::time::timeout;

use super::admission::{address_of, admit, grant_of, seat};
use super::endpoint::{Admitted, open};
use super::performer::Places;
use super::sse;
use crate::api::{ApiError, note, read_body};
use crate::auth::refused;
use crate::dialect;
use crate::dialect::cursor::{self, Cursor, Place};
use crate::hub::{ChannelGrant, Close, CursorState, Grant};
use crate::instance::{Hangup, Instance, caller_of};
use crate::limits::{Caller, Count};

/// How many times over a stream may name the channels that it may have: a name that comes twice is no mistake.
const REPEATED_MAX: usize = 4;

/// The joins of a stream take this long at most: 128 of them, each a read of the broker, where one takes 200 ms. Proxies wait
/// for 60 s for the head of an answer.
const JOINS_TIMEOUT: Duration = Duration::from_secs(30);

/// What a stream is asked for.
#[derive(Debug, Default)]
struct StreamRequest {
    subscribes: Vec<SubscribeCommand>,
    watches: Vec<WatchCommand>,
    /// The client's clock, in milliseconds.
    clock: Option<u64>,
    raw: bool,
    cursor: Option<String>,
}

/// `GET /sse?channel=a&channel=b&watch=t`
pub async fn sse_get(
    State(instance): State<Arc<Instance>>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let asker = asker(&instance, request.headers(), request.extensions()).await?;
    let mut wanted = StreamRequest::default();
    let (mut presence, mut watch) = (false, Watch::default());
    for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        match &*name {
            "channel" => wanted.subscribes.push(at_the_head(channel(&value)?)),
            "raw" => wanted.raw = matches!(&*value, "1" | "true"),
            "presence" => presence = matches!(&*value, "1" | "true"),
            "watch" => watch.tags.push(value.into_owned()),
            "ns" => watch.ns = Some(value.into_owned()),
            "since" => watch.since = Some(position(&value)?),
            // Each library has its own spelling. The last one counts: a library appends its own to the page's.
            "last_event_id" | "lastEventId" | "lastEventID" if !value.is_empty() => {
                wanted.cursor = Some(value.into_owned());
            }
            // Other names belong to later versions, or to whoever is in between.
            _ => {}
        }
    }
    wanted.subscribes.iter_mut().for_each(|subscribe| subscribe.presence = presence);
    if !watch.tags.is_empty() {
        wanted.watches.push(watch.command()?);
    }
    stream(&instance, asker, request.headers(), request.extensions(), wanted).await
}

/// `POST /sse`: for clients that use fetch, and for many channels.
pub async fn sse_post(
    State(instance): State<Arc<Instance>>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    #[derive(Deserialize)]
    struct Form {
        #[serde(default)]
        subscribe: Vec<Subscribe>,
        #[serde(default)]
        watch: Vec<Watch>,
        c: Option<u64>,
        #[serde(default)]
        raw: bool,
    }
    #[derive(Deserialize)]
    struct Subscribe {
        channel: String,
        since: Option<Position>,
        #[serde(default)]
        presence: bool,
        token: Option<TokenText>,
    }
    let (mut headers, extensions) = (request.headers().clone(), request.extensions().clone());
    // Whoever can send a POST can send a header too: a cookie goes with it whether the page wants it or not.
    headers.remove(COOKIE);
    let asker = asker(&instance, &headers, &extensions).await?;
    let bytes_max = instance.limits.load().message_bytes_max;
    let body = read_body(&instance, &asker.caller, request, bytes_max).await?;
    let form: Form = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(Code::BadRequest, format!("the body is no subscription: {e}")))?;
    if form.c.is_some_and(|c| c > INTEGER_MAX) {
        return Err(Problem::new(Code::BadRequest, "`c` is a clock in milliseconds, below 2^53").into());
    }
    check_count(&instance, form.subscribe.len())?;
    let mut wanted = StreamRequest { raw: form.raw, clock: form.c, ..StreamRequest::default() };
    for Subscribe { channel: name, since, presence, token } in form.subscribe {
        wanted.subscribes.push(SubscribeCommand { channel: channel(&name)?, since, presence, token });
    }
    for watch in form.watch {
        wanted.watches.push(watch.command()?);
    }
    stream(&instance, asker, &headers, &extensions, wanted).await
}

/// Who asks for a stream, and whom it is counted to.
struct Asker {
    grant: Grant,
    caller: Caller,
    address: Option<IpAddr>,
}

/// Who asks: known before anything of the request is looked at, and counted.
async fn asker(instance: &Instance, headers: &HeaderMap, extensions: &Extensions) -> Result<Asker, Problem> {
    let address = address_of(extensions);
    let grant = grant_of(instance, headers, address).await?.ok_or_else(refused)?;
    let caller = caller_of(&grant, address);
    note(instance.admit(&caller, Count::Commands, 1))?;
    Ok(Asker { grant, caller, address })
}

/// Tags as a stream is asked for them.
#[derive(Debug, Default, Deserialize)]
struct Watch {
    ns: Option<String>,
    since: Option<Position>,
    tags: Vec<String>,
}

impl Watch {
    fn command(self) -> Result<WatchCommand, Problem> {
        let log = log_of(self.ns.as_deref(), Code::BadRequest)?;
        let group = WatchGroup { since: self.since, except: None, tags: tags_of(&self.tags)? };
        Ok(WatchCommand { log, groups: vec![group] })
    }
}

fn position(text: &str) -> Result<Position, Problem> {
    text.parse().map_err(|e: PositionInvalid| Problem::new(Code::BadRequest, format!("`since`: {e}")))
}

fn channel(name: &str) -> Result<Channel, Problem> {
    Channel::parse(name).map_err(|e| Problem::new(Code::ChannelInvalid, e.to_string()))
}

/// A subscription from now on.
fn at_the_head(channel: Channel) -> SubscribeCommand {
    SubscribeCommand::new(channel, None)
}

async fn stream(
    instance: &Arc<Instance>,
    Asker { grant, caller, address }: Asker,
    headers: &HeaderMap,
    extensions: &Extensions,
    wanted: StreamRequest,
) -> Result<Response<Body>, ApiError> {
    let StreamRequest { subscribes, watches, clock, raw, cursor } = wanted;
    check_count(instance, subscribes.len())?;
    let tags = watches.iter().flat_map(|watch| &watch.groups).map(|group| group.tags.len()).sum::<usize>();
    note(instance.admit_items(&caller, tags))?;
    let mut subscribes = with_granted(&grant, subscribes);
    check_size(instance, &subscribes, !watches.is_empty())?;
    let passes = passes(instance, &grant, address, &mut subscribes).await?;
    check(instance, &grant, &passes, &subscribes)?;
    let places = admit(instance, extensions)
        .and_then(|address| Ok(Places { address, identity: Some(seat(instance, &caller.identity())?) }));
    let Ok(places) = places else { return Ok(come_back_later(instance)) };
    let cursor_state = begin_at(last_event_id(headers).or(cursor), &mut subscribes);
    let (wire, mut body) = sse::stream(raw, extensions.get::<Hangup>().cloned().unwrap_or_default());
    let config = instance.sse.load_full();
    let admitted = Admitted { grant: Some(grant), has_passes: !passes.is_empty(), places, address };
    open(instance, config, admitted, wire, |session| {
        let session = session.with_channels(subscribes, watches, cursor_state).with_passes(passes);
        match clock {
            Some(c) => session.with_clock(c, instance.clock.now()),
            None => session,
        }
    });
    // The greeting follows the joins. A client may read a snapshot as soon as it has the head of the answer: whatever is
    // published after that must come as an event.
    match timeout(JOINS_TIMEOUT, body.filled()).await {
        Ok(()) => Ok(event_stream(Body::new(body))),
        Err(_) => Ok(come_back_later(instance)),
    }
}

/// Lets each channel that the cursor holds begin there.
fn begin_at(cursor: Option<String>, subscribes: &mut [SubscribeCommand]) -> CursorState {
    let Some(cursor) = cursor else { return CursorState::None };
    let Ok(cursor) = Cursor::decode(&cursor) else { return CursorState::Unreadable };
    for SubscribeCommand { channel, since, .. } in subscribes {
        match cursor.place(channel) {
            Some(Place::At(position)) => *since = Some(position.clone()),
            Some(Place::Unknown) => *since = Some(nowhere()),
            None => {}
        }
    }
    CursorState::Read
}

/// Header of a browser, or of a library that wants to be one; an empty one is none.
fn last_event_id(headers: &HeaderMap) -> Option<String> {
    const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
    let mut values = headers.get_all(LAST_EVENT_ID).into_iter().filter(|value| !value.is_empty());
    // What is no text is no cursor either.
    values.next().map(|value| value.to_str().unwrap_or("?").to_owned())
}

/// A position of no numbering: history continues none from here, so the channel begins with a gap.
fn nowhere() -> Position {
    Epoch::parse("0").expect("a digit is an epoch").at(Offset(0))
}

/// The asked channels, each once, and those that the credential subscribes to by itself.
fn with_granted(grant: &Grant, asked: Vec<SubscribeCommand>) -> Vec<SubscribeCommand> {
    let granted = grant.channels.iter().cloned().map(at_the_head);
    let mut known = HashSet::new();
    let is_new = |subscribe: &SubscribeCommand| known.insert(subscribe.channel.clone());
    asked.into_iter().chain(granted).filter(is_new).collect()
}

/// The tokens that came with single channels: each holds for the one that it came with.
async fn passes(
    instance: &Instance,
    grant: &Grant,
    address: Option<IpAddr>,
    subscribes: &mut [SubscribeCommand],
) -> Result<Vec<ChannelGrant>, Problem> {
    let mut passes = Vec::new();
    for subscribe in subscribes {
        if let Some(token) = subscribe.token.take() {
            let pass = instance.admit_to_channel(&token, address).await?;
            pass.check(&subscribe.channel, &grant.user)?;
            passes.push(pass);
        }
    }
    Ok(passes)
}

/// How many channels a stream may have.
fn channels_max(instance: &Instance) -> usize {
    instance.limits.load().channels_per_connection.min(cursor::CHANNELS_MAX)
}

/// Refuses too many names before each of them is looked at. A channel that is asked for twice counts twice here.
fn check_count(instance: &Instance, asked: usize) -> Result<(), Problem> {
    let most = channels_max(instance);
    match asked > REPEATED_MAX * most {
        true => Err(too_many(most, asked)),
        false => Ok(()),
    }
}

fn too_many(most: usize, asked: usize) -> Problem {
    Problem::new(Code::TooManyItems, format!("a stream has at most {most} channels, {asked} were asked for"))
}

fn check_size(instance: &Instance, subscribes: &[SubscribeCommand], watches: bool) -> Result<(), Problem> {
    let most = channels_max(instance);
    if subscribes.is_empty() && !watches {
        let message = "a stream needs a channel or a tag: /sse?channel=tickets&watch=ticket:42";
        return Err(Problem::new(Code::BadRequest, message));
    }
    let count = subscribes.len() + subscribes.iter().filter(|subscribe| subscribe.presence).count();
    match count > most {
        true => Err(too_many(most, count)),
        false => Ok(()),
    }
}

fn check(
    instance: &Instance,
    grant: &Grant,
    passes: &[ChannelGrant],
    subscribes: &[SubscribeCommand],
) -> Result<(), Problem> {
    let heard = subscribes.iter().filter(|subscribe| subscribe.presence);
    let refused = |channel: &Channel, what: &str| {
        let message = format!("the credential does not allow to {what} {channel}");
        Err(Problem::new(Code::ChannelNotAllowed, message))
    };
    let may_subscribe = |channel: &Channel| {
        grant.may_subscribe(channel) || passes.iter().any(|pass| pass.channel == *channel)
    };
    if let Some(subscribe) = subscribes.iter().find(|asked| !may_subscribe(&asked.channel)) {
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

/// A browser's EventSource gives up for good on anything but 200: so whoever finds no room gets a stream that ends, and says
/// when to come back.
fn come_back_later(instance: &Instance) -> Response<Body> {
    let close = Close::for_now("there is no room for another stream", instance.jitter());
    event_stream(Body::from(dialect::sse::close(&close)))
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
