//! Servers behind proxies: limits count the clients that a trusted proxy names, and nobody else's word.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Request, TestServer, WebSocket, within};

const TRUSTED: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
const ONE_EACH: &str = "[limits]\naddress_connections_max = 1\n";

/// Opens a WebSocket with these headers; what refused it, if it was refused.
async fn open(server: &TestServer, headers: &[(&str, &str)]) -> Result<WebSocket, String> {
    let (status, body) = server.handshake(headers).await;
    if status != 101 {
        return Err(body);
    }
    Ok(WebSocket::connect(server.address, headers).await)
}

#[tokio::test]
async fn connections_count_to_the_client_that_a_trusted_proxy_names() {
    let server = TestServer::dev(&format!("{TRUSTED}{ONE_EACH}")).await;
    let ada = [("x-forwarded-for", "198.51.100.1")];
    let forged = [("x-forwarded-for", "203.0.113.9, 198.51.100.1")];
    let bob = [("x-forwarded-for", "198.51.100.2, 127.0.0.7")];
    let _first = WebSocket::connect(server.address, &ada).await;
    server.metric_reaches("tidings_connections", "", 1.0).await;
    for second in [&ada, &forged] {
        let (status, body) = server.handshake(second).await;
        assert!(status == 429 && body.contains("limit_reached"), "{second:?}: {status} {body}");
    }
    assert_eq!(server.handshake(&bob).await.0, 101, "another client of the same proxy");
    for _ in 0..3 {
        assert_eq!(
            server.handshake(&[]).await.0,
            101,
            "the proxy itself has no share that others could use up"
        );
    }
}

#[tokio::test]
async fn nobody_else_says_whose_connection_it_is() {
    let untrusted =
        TestServer::dev(&format!("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n{ONE_EACH}")).await;
    let _first = WebSocket::connect(untrusted.address, &[("x-forwarded-for", "198.51.100.1")]).await;
    untrusted.metric_reaches("tidings_connections", "", 1.0).await;
    let second = untrusted.handshake(&[("x-forwarded-for", "198.51.100.2")]).await;
    assert_eq!(second.0, 429, "both count to the peer: {}", second.1);
    let by_forwarded = format!("{TRUSTED}client_address = \"forwarded\"\n{ONE_EACH}");
    let server = TestServer::dev(&by_forwarded).await;
    let both = |real: &str, forged: &str| {
        [("forwarded", format!("for={real}")), ("x-forwarded-for", forged.to_owned())]
    };
    for (real, forged, expected) in [
        ("198.51.100.1", "203.0.113.1", 101),
        ("198.51.100.1", "203.0.113.2", 429),
        ("198.51.100.2", "203.0.113.2", 101),
    ] {
        let headers = both(real, forged);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match open(&server, &headers[..]).await {
            Ok(socket) if expected == 101 => std::mem::forget(socket),
            Err(_) if expected == 429 => {}
            other => panic!("{real} {forged}: {:?}", other.err()),
        }
    }
}

/// Sends bytes on a socket of its own; what comes until the server closes it.
async fn exchange(server: &TestServer, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    within("the end", stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_connection_may_begin_with_a_proxy_header_where_that_is_configured() {
    let toml = format!(
        "{TRUSTED}client_address = \"proxy-protocol\"\n[limits]\nconnections_per_second = 1\nconnections_burst = 3\n\
         address_connections_per_second = 1\nrate_burst = \"1s\"\n"
    );
    let server = TestServer::dev(&toml).await;
    let request = server.get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
    let request =
        request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let handshake = |from: &str| {
        let header = format!("PROXY TCP4 {from} 127.0.0.1 4711 80\r\n");
        [header.into_bytes(), request.bytes()].concat()
    };
    let status = async |from: &str| {
        let mut stream = TcpStream::connect(server.address).await.expect("it listens");
        stream.write_all(&handshake(from)).await.expect("it reads");
        let mut answer = [0; 12];
        within("an answer", stream.read_exact(&mut answer)).await.expect("an answer");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(status("198.51.100.1").await, "101");
    assert_eq!(status("198.51.100.1").await, "429", "one a second of one client");
    assert_eq!(status("198.51.100.2").await, "101", "and of another one");
    let plain: Request = server.get("/livez").header("connection", "close");
    assert_eq!(
        exchange(&server, &plain.bytes()).await,
        "",
        "a proxy that does not say for whom it asks is closed"
    );
    let unknown = [&b"PROXY UNKNOWN\r\n"[..], &plain.bytes()].concat();
    assert!(exchange(&server, &unknown).await.starts_with("HTTP/1.1 200"), "the proxy's own probe");
}
