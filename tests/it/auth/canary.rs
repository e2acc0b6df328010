//! Secrets, planted wherever one can be, and looked for wherever anything is said.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use tidings::auth::hash_of;

use super::knock;
use crate::support::{
    Process, RawFrame, RawWebSocket, RedisServer, Request, Token, WebSocket, eventually, free_port,
};

const HMAC: &str = "canary-hmac-0123456789abcdef0123456789abcdef";
const KEY: &str = "canary-key--0123456789abcdef0123456789abcdef";
const API: &str = "td_canary-api-key-0123456789";
const PASSWORD: &str = "canary-redis-4f1c";
const PEER: &str = "canary-peer-8a2e";

/// Everything that is said of what no one may see: none of it has this word, nor a part of a token.
fn demand_silence(what: &str, said: &str, tokens: &[String]) {
    assert!(!said.contains("canary"), "{what}: {}", around(said, "canary"));
    for token in tokens {
        for part in token.split('.') {
            assert!(!said.contains(part), "{what} has a part of a token: {}", around(said, part));
        }
    }
}

fn around<'a>(said: &'a str, word: &str) -> &'a str {
    let line = said.lines().find(|line| line.contains(word));
    line.unwrap_or_default()
}

fn config(redis: &RedisServer) -> String {
    let hash: String = hash_of(API).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[log]\nfilter = \"trace\"\n[auth]\nhmac_secret = \"{HMAC}\"\n[[auth.key]]\nalgorithm = \"HS512\"\nkid = \"b\"\n\
         key = \"{KEY}\"\n[[api_key]]\nname = \"backend\"\nhash = \"sha256:{hash}\"\npublish = [\"*\"]\nadmin = true\n\
         [server]\nallowed_origins = [\"https://app.example.com\"]\n\
         [redis]\nurl = \"redis://app:{PASSWORD}@{}\"\n",
        redis.address()
    )
}

#[tokio::test]
async fn no_secret_is_ever_said() {
    let redis = RedisServer::start(&format!("user app on >{PASSWORD} ~* &* +@all\n")).await;
    let config = config(&redis);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let process = Process::start(&["serve", "--listen", &address.to_string()], &config);
    eventually("readiness", async || {
        let answer = Request::new(address, "GET", "/readyz").try_send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    let good = Token::of("ada").subscribe("room:*").publish("room:*").sign_with(HMAC);
    let pass = Token::of("ada").only_for("own:1").sign_with(HMAC);
    let bad = Token::of("ada").subscribe("room:*").sign_with("another secret of at least 32 bytes!");
    let (mut said, tokens) = (String::new(), vec![good.clone(), pass.clone(), bad.clone()]);
    let cookie = |token: &str| format!("tidings_token={token}; other={PEER}");
    for credential in [good.as_str(), bad.as_str(), API, PEER, "td_canary-wrong"] {
        for path in [
            "/health",
            "/metrics",
            "/livez",
            "/readyz",
            "/v1/channels",
            "/v1/cluster",
            "/v1/connections",
            "/v1/channels/room:1/history",
            "/v1/channels/room:1/presence",
            "/v1/position",
            "/nothing",
        ] {
            let request =
                Request::new(address, "GET", &format!("{path}?token={PEER}&access_token={credential}"));
            let answer = request.bearer(credential).header("cookie", &cookie(credential)).send().await;
            said += &format!("{:?}{}\n", answer.headers, answer.text());
        }
        for (path, body) in [
            ("/v1/publish/room:1", "1"),
            ("/v1/publish", "{"),
            ("/v1/batch", "["),
            ("/v1/revoke", "{}"),
            ("/sse", "{"),
        ] {
            let answer = Request::new(address, "POST", path).body(body).bearer(credential).send().await;
            said += &format!("{:?}{}\n", answer.headers, answer.text());
        }
        let offered = format!("tidings.v1.json, bearer.{credential}");
        said += &format!("{:?}\n", knock(address, &[("sec-websocket-protocol", &offered)]).await);
        let mut socket = RawWebSocket::handshake(address, None, &[]).await;
        socket.send(&RawFrame::text(&json!({"connect": {"token": credential}}).to_string())).await;
        socket.send(&RawFrame::text(&format!("{{\"connect\":{{\"tokn\":\"{credential}\"}}"))).await;
    }
    let headers = [("origin", "https://app.example.com"), ("cookie", &cookie(&good))];
    let mut socket = WebSocket::connect(address, &headers).await;
    for command in [
        json!({"subscribe": {"channel": "room:1"}}),
        json!({"subscribe": {"channel": "own:1", "token": pass}}),
        json!({"subscribe": {"channel": "own:2", "token": bad}}),
        json!({"refresh": {"token": bad}}),
        json!({"refresh": {"token": PEER}}),
        json!({"refresh": {"token": [PEER]}}),
        json!({"refresh": {"tokn": PEER}}),
        json!({"id": 99, "refresh": {"token": good}}),
    ] {
        socket.send(command).await;
    }
    loop {
        let frame = socket.next_frame().await;
        said += &format!("{frame}\n");
        if frame["id"] == 99 {
            break;
        }
    }
    demand_silence("an answer", &said, &tokens);
    let log = process.stderr();
    assert!(log.contains("TRACE"), "the log is as loud as it can be");
    demand_silence("the log", &log, &tokens);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("canary.toml");
    std::fs::write(&file, &config).expect("a file can be written");
    for arguments in [&["config", "show", "--origin"][..], &["config", "show"], &["check"]] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidings"));
        let output = command.args(arguments).arg("--config").arg(&file).output().await.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        demand_silence("the configuration as it is shown", &text.replace("canary.toml", ""), &tokens);
    }
}
