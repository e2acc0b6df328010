//! Requests that two readers could understand in two ways: none brings a second request in.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::siege::Siege;
use crate::support::within;

/// The request that is to be let in.
const HIDDEN: &str = "POST /v1/publish/hidden HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1";

/// What comes before it, and whether the whole is refused. What is not refused has one meaning only, in which `HIDDEN` is a body, or
/// comes after the end of the connection.
const CASES: [(&str, &str, bool); 23] = [
    ("length 0 beside chunks", "content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false),
    ("chunks beside a length", "transfer-encoding: chunked\r\ncontent-length: 200\r\n\r\n0\r\n\r\n", false),
    ("lengths in a list", "content-length: 1, 1\r\n\r\n1", true),
    ("a list of different lengths", "content-length: 0, 200\r\n\r\n", true),
    ("a length in hexadecimal", "content-length: 0x1\r\n\r\n1", true),
    ("a negative length", "content-length: -1\r\n\r\n", true),
    ("a length beyond numbers", "content-length: 18446744073709551616\r\n\r\n", true),
    ("a length with a space in it", "content-length: 1 0\r\n\r\n1", true),
    ("an empty length", "content-length: \r\n\r\n", true),
    ("a space before the colon", "content-length : 200\r\n\r\n", true),
    ("a tab before the colon", "transfer-encoding\t: chunked\r\n\r\n0\r\n\r\n", true),
    ("a coding that is no coding", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", true),
    ("a coding twice", "transfer-encoding: identity\r\ntransfer-encoding: cow\r\n\r\n0\r\n\r\n", true),
    ("a coding with a vertical tab", "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", true),
    ("a chunk with a sign", "transfer-encoding: chunked\r\n\r\n+0\r\n\r\n", true),
    ("a chunk beyond numbers", "transfer-encoding: chunked\r\n\r\n10000000000000000\r\n1\r\n0\r\n\r\n", true),
    ("a chunk that is longer than it says", "transfer-encoding: chunked\r\n\r\n1\r\n123\r\n0\r\n\r\n", true),
    ("a chunk's end that is missing", "transfer-encoding: chunked\r\n\r\n1\r\n1XX0\r\n\r\n", true),
    ("a field without a name", ": chunked\r\n\r\n", true),
    ("a carriage return alone", "x: a\rtransfer-encoding: chunked\r\n\r\n", true),
    ("a field that begins with a space", " transfer-encoding: chunked\r\n\r\n0\r\n\r\n", true),
    ("a line that is no field", "nonsense\r\n\r\n", true),
    ("another host in the target's place", "host: example.com\r\ncontent-length: 200\r\n\r\n", false),
];

/// Sends bytes and reads what comes, for as long as it comes.
async fn said(siege: &Siege, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(siege.address).await.expect("the server listens");
    stream.write_all(bytes).await.ok();
    stream.shutdown().await.ok();
    let mut said = Vec::new();
    within("the end", stream.read_to_end(&mut said)).await.ok();
    String::from_utf8_lossy(&said).into_owned()
}

async fn hidden_was_published(siege: &Siege) -> bool {
    let history = siege.request("GET", "/v1/channels/hidden/history").send().await.json();
    history["publications"].as_array().is_none_or(|publications| !publications.is_empty())
}

#[tokio::test]
async fn no_request_is_let_in_by_one_that_can_be_read_in_two_ways() {
    let siege = Siege::begin("").await;
    for (what, rest, is_refused) in CASES {
        let request = format!("POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\n{rest}{HIDDEN}");
        let said = said(&siege, request.as_bytes()).await;
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "{what} is answered twice: {said}");
        if is_refused {
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{what}: {said}");
        }
        assert!(!hidden_was_published(&siege).await, "{what} let a request in");
    }
    // The other half: what has one meaning is two requests.
    let plain =
        format!("POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1{HIDDEN}");
    let both = said(&siege, plain.as_bytes()).await;
    assert_eq!(both.matches("HTTP/1.1 200").count(), 2, "{both}");
    assert!(hidden_was_published(&siege).await);
}

#[tokio::test]
async fn what_is_no_http_1_1_is_refused_or_closed() {
    let siege = Siege::begin("").await;
    for (what, bytes) in [
        ("HTTP/2", &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"[..]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("HTTP/0.9", b"GET /livez\r\n\r\n"),
        ("HTTP/3.0", b"GET /livez HTTP/3.0\r\nhost: localhost\r\n\r\n"),
        ("a target with a control character", b"GET /li\x01vez HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        ("a method with a NUL", b"G\0T /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        ("a tunnel", b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n"),
        ("another server's path", b"GET http://example.com/livez HTTP/1.1\r\nhost: example.com\r\n\r\n"),
        ("a path out of the tree", b"GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        ("zeros", &[0; 4_096]),
        ("ones", &[0xff; 4_096]),
    ] {
        let said = said(&siege, bytes).await;
        let status = said.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let refused = status.is_none_or(|status| (400..500).contains(&status));
        assert!(refused && (said.is_empty() || status.is_some()), "{what}: {said}");
    }
    assert_eq!(siege.metrics().await.metric("tidings_panics_total", ""), 0.0);
}
