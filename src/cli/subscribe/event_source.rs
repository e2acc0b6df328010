//! A stream of server-sent events from the server.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use hyper::{Method, Response, StatusCode};
use tokio::time::timeout;

use super::link::Link;
use super::output::Output;
use super::step::{End, Step};
use super::stream::{IDLE, Stream};
use crate::cli::event_stream::{Event, EventStream};
use crate::cli::http;

/// The longest line, and the longest event: a server's default is 1 MB and a little, a configured one may be more.
const EVENT_BYTES_MAX: usize = 16 << 20;

const EVENT_STREAM: &str = "text/event-stream";

/// Opens the stream and shows what comes until it ends. Fails only where the output cannot be written.
pub(super) async fn read(link: &mut Link, stream: &mut Stream, output: &mut Output<'_>) -> io::Result<End> {
    let mut body = match open(link, stream).await {
        Ok(response) => response.into_body(),
        Err(end) => return Ok(end),
    };
    let mut events = EventStream::new(EVENT_BYTES_MAX);
    let why = loop {
        let frame = match timeout(IDLE, body.frame()).await {
            Err(_) => break format!("nothing was heard for {} s", IDLE.as_secs()),
            Ok(None) => break "the stream ended".to_owned(),
            Ok(Some(Err(error))) => break format!("the stream broke: {error}"),
            Ok(Some(Ok(frame))) => frame,
        };
        let Some(chunk) = frame.data_ref() else { continue };
        if let Some(end) = handle_chunk(chunk, &mut events, link, stream, output)? {
            return Ok(end);
        }
    };
    Ok(End::Cut { why, after: events.retry().map(Duration::from_millis) })
}

/// Shows what a chunk completes; the end, if that is one.
fn handle_chunk(
    chunk: &Bytes,
    events: &mut EventStream,
    link: &mut Link,
    stream: &mut Stream,
    output: &mut Output<'_>,
) -> io::Result<Option<End>> {
    let complete = match events.feed(chunk) {
        Ok(complete) => complete,
        Err(too_long) => {
            let words = format!("an event of the server has more than {} bytes", too_long.bytes_max);
            return Ok(Some(End::Refused(words)));
        }
    };
    for event in &complete {
        if let Some(end) = handle_event(event, link, stream, output)? {
            return Ok(Some(end));
        }
    }
    if !events.last_event_id().is_empty() {
        stream.handle_cursor(events.last_event_id());
    }
    output.flush()?;
    Ok(output.is_done().then_some(End::Counted))
}

fn handle_event(
    event: &Event,
    link: &mut Link,
    stream: &mut Stream,
    output: &mut Output<'_>,
) -> io::Result<Option<End>> {
    let steps = match stream.handle_event(event) {
        Ok(steps) => steps,
        Err(error) => {
            let words = format!("an event {:?} of the server cannot be read: {error}", event.name);
            return Ok(Some(End::Refused(words)));
        }
    };
    for step in steps {
        match step {
            Step::Up => link.up(),
            Step::Show(shown) => output.publication(&shown)?,
            Step::Gap(gap) => output.gap(&gap)?,
            Step::Degraded(degraded) => output.degraded(&degraded)?,
            Step::Restored(restored) => output.restored(&restored)?,
            Step::End(end) => return Ok(Some(end)),
            Step::Say(..) => unreachable!("an event stream only reads"),
        }
    }
    Ok(None)
}

async fn open(link: &Link, stream: &Stream) -> Result<Response<Incoming>, End> {
    const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
    let body = serde_json::to_vec(&stream.request()).expect("a request is names and positions");
    let mut request = http::request(&link.target, Method::POST, "/sse")
        .header(ACCEPT, EVENT_STREAM)
        .header(CONTENT_TYPE, "application/json");
    if let Some(cursor) = stream.cursor() {
        request = request.header(LAST_EVENT_ID, cursor);
    }
    let request = request.body(Full::from(body));
    let request =
        request.map_err(|_| End::Refused("the server's last event id fits no header".to_owned()))?;
    let response = link.open(request, StatusCode::OK).await?;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM)) {
        true => Ok(response),
        false => Err(End::Refused(format!("{} is no tidings server: it sent no event stream", link.target))),
    }
}
