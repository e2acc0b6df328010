//! Bodies of requests, and commands, that cost more to read than to send.

use std::net::SocketAddr;

use futures::future::join_all;
use tidings_protocol::Code;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::siege::{Siege, greeted};
use crate::support::{Answer, Request, within};

/// Everything that takes a body, but what takes any bytes for data.
const TAKES_JSON: [&str; 7] =
    ["/v1/publish", "/v1/batch", "/v1/mutations", "/v1/invalidate", "/v1/check", "/v1/disconnect", "/sse"];

/// How each of them is put around a value, so that the value is looked at.
const AROUND: [(&str, &str, &str); 7] = [
    ("/v1/publish", "{\"channel\":\"c\",\"data\":", "}"),
    ("/v1/batch", "[{\"channel\":\"c\",\"data\":", "}]"),
    ("/v1/mutations", "{\"entity\":\"e\",\"key\":1,\"op\":\"update\",\"after\":{\"x\":", "}}"),
    ("/v1/invalidate", "{\"tags\":", "}"),
    ("/v1/check", "{\"items\":", "}"),
    ("/v1/disconnect", "{\"user\":", "}"),
    ("/sse", "{\"subscribe\":", "}"),
];

const HALF: usize = 450_000;

fn bombs() -> Vec<(&'static str, String)> {
    vec![
        ("arrays in arrays", "[".repeat(HALF)),
        ("arrays in arrays, closed", format!("{}{}", "[".repeat(HALF), "]".repeat(HALF))),
        ("objects in objects", "{\"a\":".repeat(HALF / 5)),
        ("a hundred thousand fields", format!("{{{}\"z\":1}}", "\"a\":1,".repeat(100_000))),
        ("a hundred thousand elements", format!("[{}1]", "1,".repeat(400_000))),
        ("a number of many digits", "1".repeat(HALF)),
        ("a number without end", format!("1e{}", "9".repeat(HALF))),
        ("a string of escapes", format!("\"{}\"", "\\u0000".repeat(HALF / 6))),
        ("half a surrogate", format!("\"{}\"", "\\ud800".repeat(1_000))),
    ]
}

async fn post(address: SocketAddr, path: &'static str, body: String) -> Answer {
    Request::new(address, "POST", path).body(body).send().await
}

/// Answered as the specification has it: by a success, or by a problem of the sender's.
fn is_settled(what: &str, answer: &Answer) {
    assert!(answer.status < 500, "{what}: {answer:?}");
    if answer.status >= 400 {
        let slug = answer.code();
        assert!(Code::ALL.iter().any(|code| code.slug() == slug), "{what}: {slug}");
        // What was seen is told, but not all of it.
        assert!(answer.body.len() < 1_000, "{what}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_and_long_json_is_settled_by_every_endpoint() {
    let mut siege = Siege::begin("").await;
    let address = siege.address;
    for (what, bomb) in bombs() {
        let attack = join_all(AROUND.map(|(path, before, after)| {
            let bodies = [format!("{before}{bomb}{after}"), bomb.clone()];
            async move {
                for body in bodies {
                    let answer = post(address, path, body).await;
                    // A stream goes on for ever; it cannot come of these.
                    is_settled(&format!("{what} to {path}"), &answer);
                }
            }
        }));
        siege.endure(what, 48 << 20, attack).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_and_long_json_is_settled_by_a_socket() {
    let mut siege = Siege::begin("").await;
    let address = siege.address;
    let attack = async move {
        for (what, bomb) in bombs() {
            let mut socket = greeted(address).await;
            socket.send_text(format!("{{\"id\":1,\"publish\":{{\"channel\":\"c\",\"data\":{bomb}}}}}")).await;
            socket.send_text(bomb).await;
            for _ in 0..2 {
                let frame = socket.next_frame().await;
                let settled = frame.get("error").is_some() || frame.get("published").is_some();
                assert!(settled && frame.to_string().len() < 1_000, "{what}: {frame}");
            }
            socket.close().await;
        }
    };
    siege.endure("bombs on sockets", 48 << 20, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_nothing_and_a_batch_of_a_million_are_refused() {
    let mut siege = Siege::begin("").await;
    let address = siege.address;
    for (what, body, code) in [
        ("8 MB of newlines", "\n".repeat(8_000_000), "bad_request"),
        ("8 MB of spaces", " ".repeat(8_000_000), "bad_request"),
        ("a million lines", "1\n".repeat(1_000_000), "too_many_items"),
        ("a million elements", format!("[{}1]", "1,".repeat(1_000_000)), "too_many_items"),
        ("more than it may have", " ".repeat(9 << 20), "too_large"),
    ] {
        let attack = async move { post(address, "/v1/batch", body).await.code() };
        assert_eq!(siege.endure(what, 64 << 20, attack).await, code, "{what}");
    }
    let items: Vec<String> = (0..1_000).map(|n| format!("{{\"channel\":\"c\",\"data\":{n}}}")).collect();
    assert_eq!(post(address, "/v1/batch", items.join("\n\n\n")).await.status, 200, "a thousand are taken");
}

#[tokio::test]
async fn a_compressed_body_is_refused_everywhere_and_not_unpacked() {
    let siege = Siege::begin("").await;
    // Ten bytes of a gzip stream are as good as ten gigabytes: nobody looks.
    let zipped = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
    for path in TAKES_JSON.into_iter().chain(["/v1/publish/c"]) {
        for encoding in ["gzip", "br", "zstd", "deflate, gzip", "identity", ""] {
            let request = siege.request("POST", path).header("content-encoding", encoding).body(zipped);
            assert_eq!(request.send().await.code(), "unsupported_media_type", "{encoding:?} to {path}");
        }
    }
    // Nor as a coding of the transfer.
    let head = "POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: gzip, chunked";
    let mut stream = TcpStream::connect(siege.address).await.expect("the server listens");
    let chunk = [head.as_bytes(), b"\r\n\r\na\r\n", &zipped[..], b"\r\n0\r\n\r\n"].concat();
    stream.write_all(&chunk).await.expect("the server reads");
    let answer = within("an answer", Answer::read(&mut stream)).await;
    assert_eq!(answer.code(), "unsupported_media_type");
}
