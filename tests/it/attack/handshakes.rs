//! Handshakes of WebSockets with headers that nobody honest sends: refused, or a plain connection without extensions.

use super::siege::Siege;
use crate::support::{RawFrame, Request, read_head, within};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn handshake(siege: &Siege, replaced: &[(&str, &str)]) -> Request {
    let plain = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let all = plain.iter().chain(replaced);
    all.fold(siege.request("GET", "/ws"), |request, (name, value)| request.header(name, value))
}

#[tokio::test]
async fn a_handshake_is_refused_or_plain_whatever_its_headers_say() {
    let siege = Siege::begin("").await;
    let protocols = vec!["tidings.v1.json"; 400].join(", ");
    let extensions = vec!["permessage-deflate; server_max_window_bits=15"; 100].join(", ");
    for (what, name, value, status) in [
        ("a version before all", "sec-websocket-version", "0", 400),
        ("a version to come", "sec-websocket-version", "99999999999999999999", 400),
        ("two versions", "sec-websocket-version", "13, 8", 400),
        ("an empty version", "sec-websocket-version", "", 400),
        ("a version with bytes beyond ASCII", "sec-websocket-version", "\u{e9}13", 400),
        ("another upgrade", "upgrade", "h2c", 400),
        ("no upgrade at all", "connection", "close", 400),
        ("compression", "sec-websocket-extensions", "permessage-deflate", 101),
        (
            "compression with nonsense",
            "sec-websocket-extensions",
            "permessage-deflate; client_max_window_bits=99;;=",
            101,
        ),
        ("a hundred extensions", "sec-websocket-extensions", &extensions, 101),
        ("four hundred protocols", "sec-websocket-protocol", &protocols, 101),
        ("a protocol that is no word", "sec-websocket-protocol", "\u{e9}, ,,\"", 101),
        ("a credential that is none", "sec-websocket-protocol", "bearer.", 101),
        ("an accept of its own", "sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 101),
    ] {
        let mut stream = TcpStream::connect(siege.address).await.expect("the server listens");
        stream.write_all(&handshake(&siege, &[(name, value)]).bytes()).await.expect("the server reads");
        let (head, _) = within("an answer", read_head(&mut stream)).await;
        assert_eq!(head.status, status, "{what}: {head:?}");
        assert_eq!(head.header("sec-websocket-extensions"), None, "{what}");
    }
    assert_eq!(siege.metrics().await.metric("tidings_panics_total", ""), 0.0);
}

#[tokio::test]
async fn a_key_of_any_kind_is_answered_or_refused() {
    let siege = Siege::begin("").await;
    let long = "A".repeat(7_000);
    for key in ["", "=", "short", "not base64 at all!", &long, "dGhlIHNhbXBsZSBub25jZQ==, x", "\u{fc}"] {
        let mut stream = TcpStream::connect(siege.address).await.expect("the server listens");
        let mut bytes = handshake(&siege, &[("sec-websocket-key", key)]).bytes();
        // A frame comes with it, for whoever would take it as the next request.
        bytes.extend(RawFrame::text("{\"ping\":{\"c\":1}}").bytes());
        stream.write_all(&bytes).await.expect("the server reads");
        let (head, _) = within("an answer", read_head(&mut stream)).await;
        assert!(matches!(head.status, 101 | 400), "{key}: {head:?}");
    }
    assert_eq!(siege.metrics().await.metric("tidings_panics_total", ""), 0.0);
}
