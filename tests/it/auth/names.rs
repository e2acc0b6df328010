//! Names that peers choose stay what they are: they match nothing, move no key, forge no line of a log and label no metric.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    API_KEY, Process, RedisServer, Request, SECRET, Token, WebSocket, auth_config, eventually, free_port,
};

async fn start(toml: &str) -> (Process, SocketAddr) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let process = Process::start(&["serve", "--listen", &address.to_string()], toml);
    eventually("readiness", async || {
        let answer = Request::new(address, "GET", "/readyz").try_send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    (process, address)
}

async fn socket(address: SocketAddr, token: &str) -> WebSocket {
    let mut socket = WebSocket::connect(address, &[("authorization", &format!("Bearer {token}"))]).await;
    socket.expect("hello").await;
    socket
}

/// What Redis is told from now on, until it is asked to stop.
async fn monitored(redis: &RedisServer) -> TcpStream {
    let mut stream = TcpStream::connect(redis.address()).await.expect("it listens");
    stream.write_all(b"MONITOR\r\n").await.expect("it reads");
    let mut ok = [0; 5];
    stream.read_exact(&mut ok).await.expect("it answers");
    stream
}

#[tokio::test]
async fn nothing_that_a_peer_says_is_a_pattern_of_redis() {
    let redis = RedisServer::start("").await;
    let toml =
        format!("{}[redis]\nurl = \"{}\"\n[namespace.room]\npresence = true", auth_config(), redis.url());
    let (_process, address) = start(&toml).await;
    let mut monitor = monitored(&redis).await;
    let token = Token::of("*").subscribe("*").publish("*").watch("*").mutate("*").presence(&["*"]).sign();
    let mut ada = socket(address, &token).await;
    for name in
        ["canary-*", "canary-?", "canary-[a-z]", "{canary-a}b", "room:{canary}", "canary-\\x", "canary\n*"]
    {
        let code = ada.refused(json!({"subscribe": {"channel": name}})).await;
        assert_eq!(code, "channel_invalid", "{name}");
        let path: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = Request::new(address, "POST", &format!("/v1/publish/{path}")).body("1").bearer(API_KEY);
        assert_eq!(answer.send().await.code(), "channel_invalid", "{name}");
    }
    ada.ask(json!({"subscribe": {"channel": "room:canary", "presence": true}})).await;
    ada.expect("presence").await;
    for (path, body, headers) in [
        ("/v1/publish/canary-1", "1", ("idempotency-key", "canary-*{x}")),
        ("/v1/mutations", r#"{"entity":"canary","key":"{1}","op":"create"}"#, ("x-none", "")),
        ("/v1/revoke", r#"{"user":"canary-*{x}[a]"}"#, ("x-none", "")),
    ] {
        let request =
            Request::new(address, "POST", path).body(body).bearer(API_KEY).header(headers.0, headers.1);
        assert_eq!(request.send().await.status, 200, "{path}");
    }
    for path in ["/v1/channels", "/v1/channels/canary-1/history", "/v1/connections?user=canary-*"] {
        assert_eq!(Request::new(address, "GET", path).bearer(API_KEY).send().await.status, 200, "{path}");
    }
    redis.command(&["ECHO", "the end of the test"]).await;
    let mut seen = String::new();
    while !seen.contains("the end of the test") {
        let mut bytes = vec![0; 65_536];
        let read = monitor.read(&mut bytes).await.expect("it goes on");
        assert_ne!(read, 0, "the monitor ended");
        seen += &String::from_utf8_lossy(&bytes[..read]);
    }
    assert!(seen.contains("canary-1") && seen.contains("\"SSCAN\""), "the test sees what it looks for");
    for line in seen.lines() {
        let words = line.to_ascii_uppercase();
        for command in ["\"PSUBSCRIBE\"", "\"KEYS\"", "\"MATCH\"", "\"PUNSUBSCRIBE\"", "\"SORT\""] {
            assert!(!(words.contains(command) && words.contains("CANARY")), "{line}");
            assert!(!words.contains("\"PSUBSCRIBE\"") && !words.contains("\"KEYS\""), "{line}");
        }
    }
    // Every key of a channel has one hash tag, and it is the channel's name.
    let keys = redis.command(&["KEYS", "*"]).await;
    for key in keys.list() {
        let key = key.text();
        assert_eq!((key.matches('{').count(), key.matches('}').count()), (1, 1), "{key}");
    }
}

#[tokio::test]
async fn no_name_forges_a_line_of_the_log() {
    const FORGED: &str =
        "\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"forged\"}}\n\u{1b}[31mred\r\nforged";
    for format in ["json", "text"] {
        let toml = format!("{}[log]\nformat = \"{format}\"\nfilter = \"trace\"\n", auth_config());
        let (process, address) = start(&toml).await;
        let token = Token::of(FORGED).id(FORGED).subscribe("*").publish("*").watch("*").sign();
        let mut ada = socket(address, &token).await;
        ada.ask(json!({"subscribe": {"channel": FORGED}})).await;
        ada.ask(json!({"publish": {"channel": "room:1", "data": FORGED, "key": FORGED, "id": FORGED}})).await;
        ada.ask(json!({"watch": {"groups": [{"tags": [FORGED]}]}})).await;
        ada.send_text(FORGED).await;
        let encoded: String = FORGED.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in
            [format!("/v1/publish/{encoded}"), format!("/{encoded}"), format!("/sse?channel={encoded}")]
        {
            Request::new(address, "POST", &path).body(FORGED).bearer(&token).send().await;
        }
        for name in ["origin", "user-agent", "cookie", "tidings-id", "last-event-id"] {
            let request = Request::new(address, "GET", "/sse?channel=a").bearer(&token);
            request.header(name, "a\tb\u{1b}[31mforged").send().await;
        }
        let body = json!({"user": FORGED, "reason": "x"}).to_string();
        Request::new(address, "POST", "/v1/disconnect").body(body).bearer(API_KEY).send().await;
        let body = json!({ "user": FORGED }).to_string();
        assert_eq!(
            Request::new(address, "POST", "/v1/revoke").body(body).bearer(API_KEY).send().await.status,
            200
        );
        let said = eventually("the last words", async || {
            let said = process.stderr();
            said.contains("an operator revoked credentials").then_some(said)
        })
        .await;
        for line in said.lines() {
            assert!(!line.contains('\u{1b}') && !line.starts_with("forged"), "{line:?}");
            match format {
                "json" => {
                    let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                    assert_ne!(line["fields"]["message"], "forged", "{line}");
                }
                _ => assert!(!line.starts_with('{'), "{line:?}"),
            }
        }
    }
}

#[tokio::test]
async fn metrics_have_no_label_that_a_peer_chose() {
    let (_process, address) = start(&auth_config()).await;
    let token = Token::of("canary-user").subscribe("*").publish("*").watch("*").mutate("*").sign();
    let mut ada = socket(address, &token).await;
    ada.subscribe("canary-channel").await;
    ada.ask(json!({"watch": {"groups": [{"tags": ["canary-tag"]}]}})).await;
    for path in
        ["/v1/publish/canary-channel", "/canary-path", "/v1/invalidate/canary-tag", "/v1/publish/canary%00"]
    {
        Request::new(address, "POST", path).body("1").bearer(&token).send().await;
    }
    Request::new(address, "CANARY", "/v1/channels").send().await;
    let metrics = Request::new(address, "GET", "/metrics").send().await.text();
    assert!(metrics.contains("tidings_connections"), "{metrics}");
    assert!(!metrics.to_ascii_lowercase().contains("canary"), "{metrics}");
    assert!(!metrics.contains(SECRET));
}
