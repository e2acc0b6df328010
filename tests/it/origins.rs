//! Whose pages may talk to a server, under which names it answers, and that it keeps its secrets.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{API_KEY, Request, SECRET, TestServer, Token, WebSocket, auth_config, read_head};

async fn serve(toml: &str) -> TestServer {
    TestServer::serve(&format!("{}\n{toml}", auth_config())).await
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_listed_ones_may_read() {
    let server = serve("[server]\nallowed_origins = [\"https://app.example.com\"]").await;
    let publish = |origin: &str| server.post("/v1/publish/c", "1").bearer(API_KEY).header("origin", origin);
    let answer = publish("https://app.example.com").send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("vary"), Some("Origin"));
    for origin in
        ["https://evil.example.com", "null", "https://app.example.com.evil.com", "http://app.example.com"]
    {
        assert_eq!(publish(origin).send().await.code(), "origin_not_allowed", "{origin}");
        assert_eq!(server.handshake(&[("origin", origin)]).await.0, 403, "{origin}");
    }
    let without = server.post("/v1/publish/c", "1").bearer(API_KEY).send().await;
    assert_eq!((without.status, without.header("access-control-allow-origin")), (200, None));
    assert_eq!(without.header("vary"), Some("Origin"), "a cache keeps it from pages of other origins");
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
    assert!(exposed.contains("retry-after") && exposed.contains("ratelimit"), "{exposed}");
    let preflight =
        |origin: &str| Request::new(server.address, "OPTIONS", "/v1/publish/c").header("origin", origin);
    let allowed = preflight("https://app.example.com").send().await;
    assert_eq!(allowed.status, 204);
    let headers = allowed.header("access-control-allow-headers").unwrap_or_default();
    for header in ["authorization", "content-type", "idempotency-key"] {
        assert!(headers.contains(header), "{header} in {headers}");
    }
    // A page reads why it is refused: a browser shows it the answer to the request, never that to the question before it.
    let evil = "https://evil.example.com";
    assert_eq!(preflight(evil).send().await.status, 204);
    for request in [
        publish(evil),
        server.get("/sse?channel=c").header("origin", evil),
        server.get("/health").header("origin", evil),
    ] {
        let refused = request.send().await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "origin_not_allowed"));
        assert!(refused.text().contains("add it to server.allowed_origins"), "{}", refused.text());
        assert_eq!(refused.header("access-control-allow-origin"), Some(evil));
        assert_eq!(refused.header("access-control-allow-credentials"), None, "it is told, and not trusted");
    }
}

#[tokio::test]
async fn an_origin_counts_letter_by_letter() {
    let server = serve("[server]\nallowed_origins = [\"https://app.example.com:8443\"]").await;
    for (origin, allowed) in [
        ("https://app.example.com:8443", true),
        ("https://app.example.com", false),
        ("https://app.example.com:443", false),
        ("https://app.example.com:8443/", false),
        ("https://APP.example.com:8443", false),
        ("HTTPS://app.example.com:8443", false),
        ("https://user@app.example.com:8443", false),
        ("https://app.example.com:8443@evil.com", false),
        ("https://app.example.com:8443.evil.com", false),
        ("https://evil.app.example.com:8443", false),
        ("https://app.example.com.:8443", false),
        ("null", false),
        ("", false),
        ("*", false),
    ] {
        let answer = server.post("/v1/publish/c", "1").bearer(API_KEY).header("origin", origin).send().await;
        assert_eq!(answer.status == 200, allowed, "{origin:?}: {}", answer.text());
        let token = Token::of("ada").subscribe("c").sign();
        let cookie = format!("tidings_token={token}");
        let stream = server.get("/sse?channel=c").header("origin", origin).header("cookie", &cookie);
        let mut stream_socket = TcpStream::connect(server.address).await.unwrap();
        stream_socket.write_all(&stream.bytes()).await.unwrap();
        assert_eq!(read_head(&mut stream_socket).await.0.status == 200, allowed, "a cookie from {origin:?}");
    }
}

#[tokio::test]
async fn dev_mode_answers_this_machine_only() {
    let server = TestServer::dev("").await;
    for (host, origin, status) in [
        ("127.0.0.1", "", 200),
        ("localhost:1234", "", 200),
        ("[::1]:8080", "http://localhost:5173", 200),
        ("evil.example.com", "", 403),
        ("127.0.0.1.evil.example.com", "", 403),
        ("127.0.0.1@evil.example.com", "", 403),
        ("", "", 403),
        ("127.0.0.1", "https://evil.example.com", 403),
        ("127.0.0.1", "null", 403),
    ] {
        for path in ["/v1/channels", "/metrics", "/", "/sse?channel=c"] {
            let mut request = server.get(path).header("host", host);
            if !origin.is_empty() {
                request = request.header("origin", origin);
            }
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&request.bytes()).await.unwrap();
            assert_eq!(read_head(&mut stream).await.0.status, status, "{path} {host} {origin}");
        }
    }
}

#[tokio::test]
async fn no_secret_is_in_any_answer() {
    let server = serve("").await;
    let token = Token::of("ada").subscribe("room:*").sign();
    let mut said = String::new();
    for path in ["/metrics", "/health", "/v1/channels", "/v1/channels/room:1/history", "/nothing"] {
        for credential in [API_KEY, &token, "td_wrong-canary"] {
            let answer =
                server.get(path).bearer(credential).header("cookie", &format!("tidings_token={token}"));
            let answer = answer.send().await;
            said += &format!("{:?}{}", answer.headers, answer.text());
        }
    }
    let mut socket =
        WebSocket::connect(server.address, &[("authorization", &format!("Bearer {token}"))]).await;
    said += &socket.expect("hello").await.to_string();
    said += &socket.ask(json!({"refresh": {"token": "canary-token"}})).await.to_string();
    said += &socket.ask(json!({"refresh": {"tokn": "canary-token"}})).await.to_string();
    assert!(!said.contains(SECRET) && !said.contains(API_KEY) && !said.contains(&token), "{said}");
    assert!(!said.contains("canary"), "{said}");
}
