//! Answers that nobody reads: each caller has its share of them, and they are given up where memory is short.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{server, token};
use crate::support::{Process, RawFrame, RawWebSocket, Request, TestServer, WebSocket, eventually, within};

const HISTORY: &str = "/v1/channels/news/history";

/// A page of history that no socket takes at once: 900 KB.
async fn fill(address: SocketAddr, token: &str) {
    let data = json!("x".repeat(90_000)).to_string();
    for _ in 0..10 {
        let answer = Request::new(address, "POST", "/v1/publish/news").bearer(token).body(&data).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// A socket that has room for little.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.connect(address).await.expect("the server listens")
}

/// Asks for the page over HTTP, and reads no more of the answer than its status.
async fn asks(address: SocketAddr, token: &str) -> (TcpStream, u16) {
    let mut stream = narrow(address).await;
    let request = Request::new(address, "GET", HISTORY).bearer(token);
    stream.write_all(&request.bytes()).await.expect("the server reads");
    let mut status = [0; 12];
    within("an answer", stream.read_exact(&mut status)).await.expect("a status line");
    let status = String::from_utf8_lossy(&status[9..]).parse().expect("a status");
    (stream, status)
}

/// Asks for the page on a WebSocket, and reads nothing of it.
async fn asks_on_a_socket(address: SocketAddr, token: &str) -> RawWebSocket {
    let bearer = format!("Bearer {token}");
    let mut socket = RawWebSocket::handshake(address, Some(4_096), &[("authorization", &bearer)]).await;
    socket.send(&RawFrame::text(ASKS)).await;
    socket
}

async fn held(server: &TestServer) -> f64 {
    server.metric("tidings_limit_used", "answers_bytes").await
}

/// The command that asks for the page.
const ASKS: &str = "{\"id\":1,\"history\":{\"channel\":\"news\"}}";

const FOUR_MIB: &str = "[limits]\nanswers_bytes = \"4MiB\"\n";

#[tokio::test]
async fn whoever_holds_half_of_all_answers_is_refused_more_and_its_neighbour_is_not() {
    let server = server(FOUR_MIB).await;
    let (eve, ada) = (token("eve"), token("ada"));
    fill(server.address, &eve).await;
    let (mut answered, mut refused) = (Vec::new(), 0);
    for _ in 0..6 {
        match asks(server.address, &eve).await {
            (stream, 200) => answered.push(stream),
            (_, status) => {
                assert_eq!(status, 503);
                refused += 1;
            }
        }
    }
    assert_eq!((answered.len(), refused), (2, 4));
    let page = server.get(HISTORY).bearer(&eve).send().await;
    assert_eq!(page.code(), "overloaded");
    let bearer = format!("Bearer {eve}");
    let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer)]).await;
    socket.expect("hello").await;
    let history = json!({"history": {"channel": "news"}});
    assert_eq!(socket.refused(history.clone()).await, "overloaded", "a socket has no other share");
    let joined =
        socket.ask(json!({"subscribe": {"channel": "news", "since": page_start(&server, &ada).await}})).await;
    let joined = &joined["subscribed"];
    assert_eq!(
        (&joined["recovered"], &joined["more"], &joined["publications"]),
        (&json!(true), &json!(true), &json!([])),
        "{joined}"
    );

    for _ in 0..3 {
        let answer = server.get(HISTORY).bearer(&ada).send().await;
        assert_eq!((answer.status, answer.json()["publications"].as_array().unwrap().len()), (200, 10));
    }
    assert_eq!(
        server.post("/v1/publish/other", "1").bearer(&eve).send().await.status,
        200,
        "small ones do not count"
    );
    drop(answered);
    eventually("the answers to be gone", async || (held(&server).await == 0.0).then_some(())).await;
    assert!(socket.ask(history).await.get("history").is_some());
    assert_eq!(held(&server).await, 0.0);
}

/// The position before the first publication.
async fn page_start(server: &TestServer, token: &str) -> serde_json::Value {
    let page = server.get(HISTORY).bearer(token).send().await.json();
    json!({"epoch": page["position"]["epoch"], "offset": 0})
}

#[tokio::test]
async fn pages_on_sockets_count_until_they_are_read() {
    let server = server(FOUR_MIB).await;
    let (eve, ada) = (token("eve"), token("ada"));
    fill(server.address, &eve).await;
    let mut sockets = Vec::new();
    for _ in 0..6 {
        sockets.push(asks_on_a_socket(server.address, &eve).await);
    }
    server.metric_reaches("tidings_errors_total", "overloaded", 4.0).await;
    assert!((1_800_000.0..2_100_000.0).contains(&held(&server).await));
    let (_stream, status) = asks(server.address, &ada).await;
    assert_eq!(status, 200);
    drop(_stream);
    // Those who read at last have them.
    let mut pages = 0;
    for socket in &mut sockets {
        for _ in 0..2 {
            let frame = socket.frame().await.expect("the connection goes on");
            pages += usize::from(frame.payload.len() > 900_000);
        }
    }
    assert_eq!(pages, 2);
    eventually("the pages to be gone", async || (held(&server).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn an_answer_of_which_nothing_is_taken_is_hung_up_on() {
    let server = server("[server]\nwrite_timeout = \"300ms\"").await;
    let ada = token("ada");
    fill(server.address, &ada).await;
    let (stream, status) = asks(server.address, &ada).await;
    assert_eq!(status, 200);
    assert!(held(&server).await > 900_000.0);
    eventually("its connection to be gone", async || (held(&server).await == 0.0).then_some(())).await;
    drop(stream);
}

/// Room for more answers than the process may have in memory.
const SHORT: &str =
    "[server]\nwrite_timeout = \"10m\"\n[limits]\nanswers_bytes = \"1GiB\"\nmemory_bytes = \"96MiB\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_given_up_where_memory_is_short() {
    for over_http in [true, false] {
        let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], SHORT);
        let address = process.address().await;
        let mut honest = WebSocket::connect(address, &[]).await;
        honest.expect("hello").await;
        honest.subscribe("honest").await;
        fill(address, "none").await;
        let mut idle = Vec::new();
        while !over_http && idle.len() < 200 {
            idle.push(RawWebSocket::handshake(address, Some(4_096), &[]).await);
        }
        let (mut streams, mut sockets, mut highest) = (Vec::new(), Vec::new(), 0);
        let attack = async {
            for n in 0.. {
                for _ in 0..3 {
                    match over_http {
                        true => streams.push(asks(address, "none").await.0),
                        false => {
                            let mut socket = idle.pop().expect("there are more than memory has room for");
                            socket.send(&RawFrame::text(ASKS)).await;
                            sockets.push(socket);
                        }
                    }
                }
                let published = Request::new(address, "POST", "/v1/publish/honest").body(n.to_string());
                assert_eq!(published.send().await.status, 200);
                assert_eq!(honest.data("honest", 1).await, [json!(n)], "who reads is served");
                highest = highest.max(process.resident_bytes());
                if process.metric("tidings_shed_total", "").await > 0.0 {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(120), attack).await.expect("memory becomes short");
        assert!(process.metric("tidings_shed_total", "").await > 0.0, "over HTTP: {over_http}");
        assert!(highest < (96 + 48) << 20, "{highest} bytes, over HTTP: {over_http}");
    }
}
