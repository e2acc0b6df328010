use clap::Parser;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

use super::*;
use crate::cli::fixture::{Reply, TinyServer, nobody, output, target_args};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    subscribe: SubscribeArgs,
}

async fn subscribe(target: TargetArgs, args: &[&str]) -> (Exit, String, String) {
    let cli = Cli::parse_from([&["sub"], args].concat());
    let args = SubscribeArgs { target, ..cli.subscribe };
    output(async |out, err| run(&args, &Sources::default(), out, err).await).await
}

/// What the server does next on a connection.
enum Turn {
    /// Says this.
    Say(String),
    /// Waits for exactly this.
    Hear(String),
    Close(u16, &'static str),
    /// Drops the connection without a word.
    Cut,
}

use Turn::{Close, Cut, Hear, Say};

/// A server that holds these conversations, a connection each. The task ends after the last and panics where the client
/// says something else than it should.
async fn conversations(all: Vec<Vec<Turn>>) -> (TargetArgs, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = target_args(&listener.local_addr().expect("is bound").to_string());
    let task = tokio::spawn(async move {
        for turns in all {
            let (stream, _) = listener.accept().await.expect("a client");
            converse(stream, turns).await;
        }
    });
    (target, task)
}

#[expect(clippy::result_large_err, reason = "the handshake's callback has this type")]
fn choose_subprotocol(
    request: &server::Request,
    mut response: server::Response,
) -> Result<server::Response, server::ErrorResponse> {
    assert_eq!(request.headers()["sec-websocket-protocol"], "tidings.v1.json");
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("tidings.v1.json"));
    Ok(response)
}

async fn converse(stream: tokio::net::TcpStream, turns: Vec<Turn>) {
    let mut socket = accept_hdr_async(stream, choose_subprotocol).await.expect("a handshake");
    for turn in turns {
        match turn {
            Say(text) => socket.send(Message::text(text)).await.expect("is sent"),
            Hear(expected) => {
                let heard = socket.next().await.expect("a command").expect("is readable");
                assert_eq!(heard.into_text().expect("is text").as_str(), expected);
            }
            Close(code, reason) => {
                let frame = CloseFrame { code: code.into(), reason: reason.into() };
                socket.close(Some(frame)).await.expect("is sent");
            }
            Cut => return,
        }
    }
    // The client closes, or its answer to a close comes.
    while let Some(Ok(_)) = socket.next().await {}
}

fn hello() -> Turn {
    Say(r#"{"hello":{"session":"s","ping_interval_ms":25000,"timeout_ms":60000,"batch_ms":100,"lease_ms":15000,"message_bytes_max":1000000}}"#.to_owned())
}

fn subscribed(id: u64, offset: u64, rest: &str) -> Turn {
    Say(format!(
        r#"{{"id":{id},"subscribed":{{"channel":"t","position":{{"epoch":"a","offset":{offset}}},{rest}}}}}"#
    ))
}

fn batch(offset: u64) -> Turn {
    Say(format!(
        r#"{{"batch":{{"channel":"t","epoch":"a","first":{offset},"last":{offset},"publications":[{{"data":{offset},"time":1}}]}}}}"#
    ))
}

fn page(kind: &str, offset: u64, more: bool) -> String {
    format!(r#"{kind}"more":{more},"publications":[{{"data":{offset},"time":1,"offset":{offset}}}]"#)
}

const HEAD: &str = r#""more":false,"publications":[]"#;
const SUBSCRIBE: &str = r#"{"id":1,"subscribe":{"channel":"t"}}"#;

fn resume(id: u64, offset: u64) -> Turn {
    Hear(format!(r#"{{"id":{id},"subscribe":{{"channel":"t","since":{{"epoch":"a","offset":{offset}}}}}}}"#))
}

/// Lines of text output without their time.
fn shown(out: &str) -> Vec<&str> {
    out.lines().map(|line| line.split_once(' ').expect("a time comes first").1).collect()
}

#[tokio::test]
async fn a_cut_is_resumed_where_it_was() {
    let first = vec![hello(), Hear(SUBSCRIBE.to_owned()), subscribed(1, 0, HEAD), batch(1), batch(2), Cut];
    let missed = page(r#""recovered":true,"#, 3, false);
    let second = vec![hello(), resume(2, 2), subscribed(2, 3, &missed), batch(4)];
    let (target, server) = conversations(vec![first, second]).await;
    let (exit, out, err) = subscribe(target, &["t", "--count", "4"]).await;
    assert_eq!((exit, shown(&out)), (Exit::Ok, vec!["t 1 1", "t 2 2", "t 3 3", "t 4 4"]));
    assert!(err.contains("coming back in "), "{err}");
    server.await.expect("was told what it should be told");
}

#[tokio::test]
async fn what_was_missed_is_paged_and_what_is_lost_is_a_gap() {
    let gap = r#"{"gap":{"channel":"t","reason":"overflow","position":{"epoch":"a","offset":9}}}"#;
    let turns = vec![
        hello(),
        resume(1, 1),
        subscribed(1, 2, &page(r#""recovered":true,"#, 2, true)),
        Hear(r#"{"id":2,"history":{"channel":"t","since":{"epoch":"a","offset":2}}}"#.to_owned()),
        Say(format!(
            r#"{{"id":2,"history":{{"position":{{"epoch":"a","offset":3}},{}}}}}"#,
            page("", 3, false)
        )),
        Say(gap.to_owned()),
        batch(10),
    ];
    let (target, server) = conversations(vec![turns]).await;
    let (exit, out, err) = subscribe(target, &["t", "--since", "a.1", "--count", "3", "--json"]).await;
    let line =
        |offset| format!(r#"{{"channel":"t","epoch":"a","offset":{offset},"time":1,"data":{offset}}}"#);
    let expected = [line(2), line(3), gap.to_owned(), line(10)];
    assert_eq!(
        (exit, out.lines().collect::<Vec<_>>()),
        (Exit::Ok, expected.iter().map(String::as_str).collect())
    );
    assert_eq!(err, "gap on t: overflow, goes on at a.9\n");
    server.await.expect("was told what it should be told");
}

#[tokio::test]
async fn the_servers_no_ends_it_with_the_servers_words() {
    let error = r#"{"id":1,"error":{"code":"channel_not_allowed","message":"the words","retryable":false}}"#;
    let refused = vec![hello(), Hear(SUBSCRIBE.to_owned()), Say(error.to_owned())];
    let closed = vec![hello(), Hear(SUBSCRIBE.to_owned()), Close(4501, "unauthorized: the words")];
    for (turns, words) in [
        (refused, "tidings: channel_not_allowed: the words\n"),
        (closed, "tidings: unauthorized: the words (close code 4501)\n"),
    ] {
        let (target, _) = conversations(vec![turns]).await;
        assert_eq!(subscribe(target, &["t"]).await, (Exit::Runtime, String::new(), words.to_owned()));
    }
}

#[tokio::test]
async fn a_close_that_invites_back_is_followed_by_another_connection() {
    let disconnect = r#"{"disconnect":{"code":1012,"reason":"draining","reconnect":true,"after_ms":1}}"#;
    let first = vec![
        hello(),
        Hear(SUBSCRIBE.to_owned()),
        subscribed(1, 0, HEAD),
        Say(disconnect.to_owned()),
        Close(1012, "draining"),
    ];
    let second =
        vec![hello(), resume(2, 0), subscribed(2, 0, &format!(r#""recovered":true,{HEAD}"#)), batch(1)];
    let (target, _) = conversations(vec![first, second]).await;
    let (exit, out, err) = subscribe(target, &["t", "--count", "1"]).await;
    assert_eq!((exit, shown(&out)), (Exit::Ok, vec!["t 1 1"]));
    assert_eq!(err, "tidings: draining (close code 1012); coming back in 1 ms\n");
}

#[tokio::test]
async fn a_refused_handshake_is_final_unless_the_trouble_passes() {
    for sse in [&["t"][..], &["t", "--sse"]] {
        let unauthorized = || Reply::json(401, r#"{"code":"unauthorized","detail":"the words"}"#);
        let overloaded = Reply::json(503, r#"{"code":"overloaded","detail":"later"}"#);
        let server = TinyServer::start(vec![overloaded, unauthorized()]).await;
        let (exit, _, err) = subscribe(server.target_args(), sse).await;
        assert_eq!(exit, Exit::Runtime);
        assert!(err.starts_with("tidings: overloaded: later; coming back in "), "{err}");
        assert!(err.ends_with("tidings: unauthorized: the words\n"), "{err}");
        assert_eq!(server.requests().await.len(), 2);
    }
}

#[tokio::test]
async fn a_server_that_was_never_there_is_not_waited_for() {
    for args in [&["t"][..], &["t", "--sse"]] {
        let (exit, out, err) = subscribe(nobody().await, args).await;
        assert_eq!((exit, out.as_str()), (Exit::Runtime, ""));
        assert!(err.starts_with("tidings: cannot reach http://127.0.0.1:"), "{err}");
    }
}

#[tokio::test]
async fn an_event_stream_is_opened_again_with_its_cursor() {
    let hello = "event: hello\ndata: {\"session\":\"s\",\"ping_interval_ms\":1,\"timeout_ms\":1,\"batch_ms\":1,\"message_bytes_max\":1}\n\n";
    let event = |offset| {
        format!(
            "data: {{\"channel\":\"t\",\"epoch\":\"a\",\"offset\":{offset},\"time\":1,\"data\":{offset}}}\n\n"
        )
    };
    let first = Reply::events(&format!("retry: 1\n\n{hello}id: c1\n\n{}{}", event(1), event(2)));
    let gap = "event: gap\ndata: {\"channel\":\"t\",\"reason\":\"trimmed\",\"position\":{\"epoch\":\"a\",\"offset\":5}}\n\n";
    let second = Reply::events(&format!("{hello}{}{gap}{}id: c2\n\n", event(2), event(6)));
    let server = TinyServer::start(vec![first, second]).await;
    let (exit, out, err) = subscribe(server.target_args(), &["t", "--sse", "--count", "3"]).await;
    assert_eq!((exit, shown(&out)), (Exit::Ok, vec!["t 1 1", "t 2 2", "t 6 6"]));
    assert_eq!(err, "tidings: the stream ended; coming back in 1 ms\ngap on t: trimmed, goes on at a.5\n");
    let requests = server.requests().await;
    assert!(
        !requests[0].contains("last-event-id") && requests[0].ends_with(r#"{"subscribe":[{"channel":"t"}]}"#)
    );
    assert!(requests[1].contains("last-event-id: c1\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn an_outage_is_said_and_waited_out_on_either_transport() {
    let (degraded, restored) = (r#"{"component":"redis","since":1}"#, r#"{"component":"redis"}"#);
    let expected = "tidings: degraded: the server has lost redis at 00:00:00.001; waiting for its return\n\
                    tidings: restored: the server has redis again\n";
    let turns = vec![
        hello(),
        Say(format!(r#"{{"degraded":{degraded}}}"#)),
        Hear(SUBSCRIBE.to_owned()),
        subscribed(1, 0, HEAD),
        Say(format!(r#"{{"restored":{restored}}}"#)),
        batch(1),
    ];
    let (target, _) = conversations(vec![turns]).await;
    let (exit, out, err) = subscribe(target, &["t", "--count", "1"]).await;
    assert_eq!((exit, shown(&out), err.as_str()), (Exit::Ok, vec!["t 1 1"], expected));

    let event = r#"{"channel":"t","epoch":"a","offset":1,"time":1,"data":1}"#;
    let events = format!(
        "event: degraded\ndata: {degraded}\n\nevent: restored\ndata: {restored}\n\ndata: {event}\n\n"
    );
    let server = TinyServer::start(vec![Reply::events(&events)]).await;
    let (exit, out, err) = subscribe(server.target_args(), &["t", "--sse", "--count", "1"]).await;
    assert_eq!((exit, shown(&out), err.as_str()), (Exit::Ok, vec!["t 1 1"], expected));
}

#[tokio::test]
async fn what_is_no_event_stream_is_said() {
    let server = TinyServer::start(vec![Reply::json(200, "welcome")]).await;
    let (exit, _, err) = subscribe(server.target_args(), &["t", "--sse"]).await;
    assert!(exit == Exit::Runtime && err.contains("is no tidings server"), "{err}");
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_without_a_server() {
    let (exit, _, err) = subscribe(nobody().await, &["a b"]).await;
    assert!(exit == Exit::Runtime && err.starts_with("tidings: channel_invalid: "), "{err}");
    let (exit, _, err) = subscribe(nobody().await, &["t", "u", "--since", "a.1"]).await;
    assert!(exit == Exit::Usage && err.contains("--since is a position of one channel"), "{err}");
    for args in [&["sub"][..], &["sub", "t", "--since", "x"], &["sub", "t", "--count", "0"]] {
        assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
    }
}
