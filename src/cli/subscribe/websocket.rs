//! A WebSocket to the server: frames in, commands out.

use std::io;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::header::{
    CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tidings_protocol::{SUBPROTOCOL_JSON, decode_frame, encode_command};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::conversation::Conversation;
use super::link::Link;
use super::output::Output;
use super::step::{End, Step};
use crate::cli::http::{self, ANSWER_TIMEOUT};

/// The largest frame that is read: a server's default is 1 MB and a little, a configured one may be more.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// How long the last word may take to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Connects, subscribes and shows what comes until the connection ends. Fails only where the output cannot be written.
pub(super) async fn read(
    link: &mut Link,
    conversation: &mut Conversation,
    output: &mut Output<'_>,
) -> io::Result<End> {
    let mut socket = match connect(link).await {
        Ok(socket) => socket,
        Err(end) => return Ok(end),
    };
    let end = loop {
        let steps = match timeout(conversation.idle(), socket.next()).await {
            Err(_) => {
                break End::cut(format_args!("nothing was heard for {} s", conversation.idle().as_secs()));
            }
            Ok(None) => break End::cut("the connection was closed"),
            Ok(Some(Err(error))) => break End::cut(format_args!("the connection broke: {error}")),
            Ok(Some(Ok(Message::Text(text)))) => match decode_frame(&text) {
                Ok(envelope) => {
                    envelope.map(|envelope| conversation.handle_frame(envelope)).unwrap_or_default()
                }
                Err(error) => break End::Refused(format!("a frame of the server cannot be read: {error}")),
            },
            Ok(Some(Ok(Message::Close(frame)))) => break end_of(frame.as_ref()),
            // A ping is life, and answered by the socket itself; binary frames are not of this subprotocol.
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Binary(_)))) => {
                continue;
            }
        };
        if let Some(end) = perform(steps, link, &mut socket, output).await? {
            break end;
        }
    };
    // The server learns of an end on purpose; where the connection is gone there is nobody to tell.
    let _ = timeout(CLOSE_TIMEOUT, socket.close(None)).await;
    for step in conversation.handle_disconnected() {
        if let Step::Gap(gap) = step {
            output.gap(&gap)?;
        }
    }
    Ok(match end {
        End::Cut { why, after } => End::Cut { why, after: after.or(conversation.take_pause()) },
        End::Counted | End::Refused(_) => end,
    })
}

/// Does what is to be done; the end, if one of the steps is one.
async fn perform(
    steps: Vec<Step>,
    link: &mut Link,
    socket: &mut Socket,
    output: &mut Output<'_>,
) -> io::Result<Option<End>> {
    for step in steps {
        match step {
            Step::Up => link.up(),
            Step::Show(shown) => output.publication(&shown)?,
            Step::Gap(gap) => output.gap(&gap)?,
            Step::Degraded(degraded) => output.degraded(&degraded)?,
            Step::Restored(restored) => output.restored(&restored)?,
            Step::End(end) => return Ok(Some(end)),
            Step::Say(id, command) => {
                let message = Message::text(encode_command(id, &command));
                match timeout(ANSWER_TIMEOUT, socket.send(message)).await {
                    Ok(Ok(())) => {}
                    // The reason stands in the close frame, which is read next: an error here is only that it came.
                    Ok(Err(_)) => break,
                    Err(_) => return Ok(Some(End::cut("the server takes no commands"))),
                }
            }
        }
    }
    output.flush()?;
    Ok(output.is_done().then_some(End::Counted))
}

async fn connect(link: &Link) -> Result<Socket, End> {
    let key = generate_key();
    let request = http::request(&link.target, Method::GET, "/ws")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_JSON)
        .body(Full::default())
        .expect("path and headers are legal");
    let response = link.open(request, StatusCode::SWITCHING_PROTOCOLS).await?;
    check(response.headers(), &key)
        .map_err(|why| End::Refused(format!("{} is no tidings server: {why}", link.target)))?;
    let upgraded = hyper::upgrade::on(response).await.map_err(End::cut)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        // Commands are small and few, so more than this waits only for a server that does not read.
        .max_write_buffer_size(1 << 20);
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await)
}

/// Whether the server understood the handshake (RFC 6455, section 4.1) and speaks the subprotocol.
fn check(headers: &HeaderMap, key: &str) -> Result<(), &'static str> {
    let says =
        |name, expected: &str| headers.get(name).is_some_and(|value| value.as_bytes() == expected.as_bytes());
    if !says(SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes())) {
        return Err("it did not answer the WebSocket key");
    }
    if !says(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_JSON) {
        return Err("it does not speak tidings.v1.json");
    }
    Ok(())
}

/// What a close frame means: 4500 to 4999 and the codes of RFC 6455 that blame the client forbid another attempt.
fn end_of(frame: Option<&CloseFrame>) -> End {
    let Some(frame) = frame else { return End::cut("the server closed the connection") };
    let code = u16::from(frame.code);
    let words = format!("{} (close code {code})", frame.reason);
    match code {
        1000 | 1002 | 1003 | 1007 | 1008 | 1009 | 4500..=4999 => End::Refused(words),
        _ => End::cut(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_say_whether_to_come_back() {
        let end = |code: u16| end_of(Some(&CloseFrame { code: code.into(), reason: "slug: words".into() }));
        for code in [1001, 1011, 1012, 1013, 4001, 4401, 4408, 4409, 4499] {
            assert_eq!(end(code), End::cut(format!("slug: words (close code {code})")));
        }
        for code in [1000, 1002, 1003, 1007, 1008, 1009, 4500, 4501, 4503, 4999] {
            assert_eq!(end(code), End::Refused(format!("slug: words (close code {code})")));
        }
        assert_eq!(end_of(None), End::cut("the server closed the connection"));
    }

    #[test]
    fn every_close_code_of_the_protocol_is_taken_as_meant() {
        for code in tidings_protocol::CloseCode::ALL {
            let end = end_of(Some(&CloseFrame { code: code.number().into(), reason: code.slug().into() }));
            assert_eq!(matches!(end, End::Cut { .. }), code.reconnect(), "{code:?}");
        }
    }
}
