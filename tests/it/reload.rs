//! What of the configuration a running server takes on, and what it does not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{API_KEY, Process, Request, SECRET, Token, WebSocket, auth_config, eventually, within};

async fn said(server: &Process, words: &str) {
    eventually(words, async || server.stderr().contains(words).then_some(())).await;
}

async fn publish(address: SocketAddr, credential: &str) -> u16 {
    Request::new(address, "POST", "/v1/publish/c").bearer(credential).body("12").send().await.status
}

fn serve(toml: &str) -> Process {
    Process::start(&["serve", "--listen", "127.0.0.1:0"], toml)
}

/// With the API key, and without.
fn without_key() -> String {
    let config = auth_config();
    config[..config.find("[[api_key]]").expect("there is one")].to_owned()
}

#[tokio::test]
async fn a_key_that_is_gone_is_refused_and_its_connections_end_within_a_second() {
    let server = serve(&auth_config());
    let address = server.address().await;
    let connect = async |credential: &str| {
        let bearer = format!("Bearer {credential}");
        let mut socket = WebSocket::connect(address, &[("authorization", &bearer)]).await;
        socket.expect("hello").await;
        socket
    };
    let token = Token::of("ada").subscribe("*").publish("*").sign();
    let (mut by_key, mut by_token) = (connect(API_KEY).await, connect(&token).await);
    let mut late = WebSocket::connect(address, &[]).await;
    late.send(json!({"connect": {"token": API_KEY}})).await;
    late.expect("hello").await;
    assert_eq!(publish(address, API_KEY).await, 200);

    server.configure(&without_key());
    server.signal(Signal::HUP);
    eventually("the key to be refused", async || (publish(address, API_KEY).await == 401).then_some(()))
        .await;
    let begun = Instant::now();
    for socket in [&mut by_key, &mut late] {
        let (_, closed) = within("the end", socket.closed()).await;
        assert_eq!((closed.code, &closed.reason[..13]), (4501, "unauthorized:"));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    by_token.subscribe("c").await;
    assert_eq!(publish(address, &token).await, 200, "who came by a token stays");
    said(&server, "api_key").await;
}

#[tokio::test]
async fn limits_origins_and_the_log_change_without_a_restart_and_what_does_not_is_named() {
    let server = serve(&auth_config());
    let address = server.address().await;
    let token = Token::of("ada").publish("*").sign();
    assert_eq!(publish(address, &token).await, 200);
    let from = async |origin: &str| {
        let request = Request::new(address, "GET", "/livez").header("origin", origin);
        request.send().await.status
    };
    assert_eq!(from("https://new.example").await, 403);

    let toml = "[server]\nallowed_origins = [\"https://new.example\"]\ntimeout = \"70s\"\n[limits]\nmessage_bytes_max = 1\nchannels_max = 7\n[log]\nfilter = \"warn\"\n";
    server.configure(&format!("{}{toml}", auth_config()));
    eventually("the limit", async || (publish(address, &token).await == 413).then_some(())).await;
    assert_eq!(from("https://new.example").await, 200);
    for key in ["limits.channels_max", "server.timeout"] {
        said(&server, &format!("{key}: needs a restart")).await;
    }
    let words = server.stderr();
    assert!(!words.contains("limits.message_bytes_max: needs"), "{words}");

    server.signal(Signal::HUP);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!server.stderr().contains("nothing of it changes"), "the filter holds: {}", server.stderr());

    for (bad, complaint) in [
        (format!("{}[limits]\nmessage_bytes_max = 0", auth_config()), "everything stays as it is"),
        ("[limits]\nmessage_bytes_max = 9".to_owned(), "no credential is configured"),
    ] {
        server.configure(&bad);
        server.signal(Signal::HUP);
        said(&server, complaint).await;
        assert_eq!(publish(address, &token).await, 413, "a bad file changes nothing");
    }
    assert!(!server.stderr().contains(SECRET));
}

#[tokio::test]
async fn a_rate_that_is_reloaded_holds_for_those_who_are_here() {
    let server = serve(&auth_config());
    let address = server.address().await;
    let token = Token::of("ada").publish("*").sign();
    let bearer = format!("Bearer {token}");
    let mut socket = WebSocket::connect(address, &[("authorization", &bearer)]).await;
    socket.expect("hello").await;
    server
        .configure(&format!("{}[limits]\nuser_publishes_per_second = 1\nrate_burst = \"1s\"", auth_config()));
    server.signal(Signal::HUP);
    eventually("the rate", async || {
        let reply = socket.ask(json!({"publish": {"channel": "c", "data": 1}})).await;
        (reply["error"]["code"] == "rate_limited").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_secret_in_a_file_of_its_own_is_read_again_when_that_file_changes() {
    let other = "another-canary-secret-that-no-output-may-show";
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), SECRET).expect("it can be written");
    let server = serve(&format!("[auth]\nhmac_secret_file = {:?}", file.path()));
    let address = server.address().await;
    let token = Token::of("ada").publish("*");
    assert_eq!(publish(address, &token.sign()).await, 200);
    std::fs::write(file.path(), other).expect("it can be written");
    eventually("the new secret", async || {
        (publish(address, &token.sign_with(other)).await == 200).then_some(())
    })
    .await;
    assert_eq!(publish(address, &token.sign()).await, 401, "the old one is gone");
    assert!(!server.stderr().contains("canary"), "{}", server.stderr());
}

/// With this list of channels to subscribe to for the API key, called `name`.
fn with_key(name: &str, subscribe: &str, publish: &str) -> String {
    let config =
        auth_config().replace("name = \"backend\"", &format!("name = \"{name}\"\nsubscribe = {subscribe}"));
    config.replace("publish = [\"*\"]", &format!("publish = {publish}"))
}

#[tokio::test]
async fn a_key_that_grants_less_takes_it_from_connections_that_are_open() {
    let server = serve(&with_key("backend", "[\"*\"]", "[\"*\"]"));
    let address = server.address().await;
    let bearer = format!("Bearer {API_KEY}");
    let mut socket = WebSocket::connect(address, &[("authorization", &bearer)]).await;
    socket.expect("hello").await;
    socket.subscribe("secret:1").await;
    socket.subscribe("public").await;
    server.configure(&with_key("renamed", "[\"public\"]", "[]"));
    server.signal(Signal::HUP);
    let ended = within("the end of the subscription", socket.expect("unsubscribed")).await;
    assert_eq!((&ended["channel"], &ended["code"]), (&json!("secret:1"), &json!("channel_not_allowed")));
    for refused in
        [json!({"subscribe": {"channel": "secret:2"}}), json!({"publish": {"channel": "public", "data": 1}})]
    {
        assert_eq!(socket.refused(refused).await, "channel_not_allowed");
    }
    let token = Token::of("ada").publish("*").sign();
    let published =
        Request::new(address, "POST", "/v1/publish/public").bearer(&token).body("12").send().await;
    assert_eq!(published.status, 200);
    assert_eq!(
        socket.data("public", 1).await,
        [json!(12)],
        "a key of another name goes on with what is left"
    );
}

#[tokio::test]
async fn a_secret_that_is_gone_ends_the_connections_of_its_tokens() {
    let server = serve(&auth_config());
    let address = server.address().await;
    let connect = async |credential: &str| {
        let bearer = format!("Bearer {credential}");
        let mut socket = WebSocket::connect(address, &[("authorization", &bearer)]).await;
        socket.expect("hello").await;
        socket
    };
    let mut forged = connect(&Token::of("ada").subscribe("*").publish("*").sign()).await;
    let mut backend = connect(API_KEY).await;
    server.configure(&auth_config().replace(SECRET, "a-canary-secret-after-the-first-one-leaked"));
    server.signal(Signal::HUP);
    let (_, closed) = within("the end", forged.closed()).await;
    assert_eq!((closed.code, &closed.reason[..13]), (4501, "unauthorized:"));
    let published = json!({"publish": {"channel": "c", "data": 1}});
    assert!(backend.ask(published).await["published"].is_object(), "who came by a key stays");
}

#[tokio::test]
async fn a_request_whose_key_goes_while_its_body_comes_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = serve(&auth_config());
    let address = server.address().await;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/publish/c HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {API_KEY}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n1"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    server.configure(&without_key());
    server.signal(Signal::HUP);
    eventually("the key to be refused", async || (publish(address, API_KEY).await == 401).then_some(()))
        .await;
    stream.write_all(b"2").await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}
