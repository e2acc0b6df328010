//! Keys that tokens are signed with: several at once, one after the other, and none that is too short.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::server;
use crate::support::{Process, RawFrame, RawWebSocket, TestServer, Token};

const RSA: &[u8] = include_bytes!("../../../src/config/tests/keys/rsa2048.pem");
const RSA_PUBLIC: &str = include_str!("../../../src/config/tests/keys/rsa2048.pub.pem");
const SHORT_RSA: &str = include_str!("../../../src/config/tests/keys/rsa1024.pub.pem");
const OLD: &str = "an old secret of at least 32 bytes...";
const NEW: &str = "a new secret of at least 32 bytes....";

fn sign(algorithm: Algorithm, kid: &str, key: &EncodingKey) -> String {
    let token = Token::of("ada").subscribe("room:*").publish("room:*");
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, token.claims(), key).expect("can be signed")
}

fn key(algorithm: &str, kid: &str, key: &str) -> String {
    format!("[[auth.key]]\nalgorithm = \"{algorithm}\"\nkid = \"{kid}\"\nkey = '''\n{key}'''\n")
}

async fn status(server: &TestServer, token: &str) -> u16 {
    server.post("/v1/publish/room:1", "1").bearer(token).send().await.status
}

#[tokio::test]
async fn two_keys_hold_while_one_takes_the_place_of_the_other() {
    let hmac = |secret: &str| EncodingKey::from_secret(secret.as_bytes());
    let (old, new) = (sign(Algorithm::HS256, "a", &hmac(OLD)), sign(Algorithm::HS256, "b", &hmac(NEW)));
    for (keys, old_holds, new_holds) in [
        (key("HS256", "a", OLD), true, false),
        (key("HS256", "a", OLD) + &key("HS256", "b", NEW), true, true),
        (key("HS256", "b", NEW), false, true),
    ] {
        let server = TestServer::serve(&keys).await;
        assert_eq!(status(&server, &old).await == 200, old_holds, "{keys}");
        assert_eq!(status(&server, &new).await == 200, new_holds, "{keys}");
    }
}

#[tokio::test]
async fn a_public_key_checks_tokens_on_every_way_in() {
    let server = server(&key("RS256", "rsa", RSA_PUBLIC)).await;
    let token = sign(Algorithm::RS256, "rsa", &EncodingKey::from_rsa_pem(RSA).unwrap());
    assert_eq!(status(&server, &token).await, 200);
    super::socket(&server, &token).await.subscribe("room:1").await;
    let confused = sign(Algorithm::HS256, "rsa", &EncodingKey::from_secret(RSA_PUBLIC.as_bytes()));
    assert_eq!(status(&server, &confused).await, 401);
}

#[tokio::test]
async fn a_key_that_is_too_short_or_none_ends_the_start() {
    for (algorithm, text, words) in [
        ("RS256", SHORT_RSA, "at least 2048 bits, saw 1024"),
        ("PS256", SHORT_RSA, "at least 2048 bits, saw 1024"),
        ("ES256", RSA_PUBLIC, "expected a public key for ES256"),
        ("HS256", "canary-short", "at least 32 bytes"),
        ("HS999", OLD, "expected HS256"),
    ] {
        let toml = key(algorithm, "k", text);
        let (status, said) = Process::start(&["serve", "--listen", "127.0.0.1:0"], &toml).ended().await;
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains(words) && !said.contains("canary"), "{words} in {said}");
    }
}

#[tokio::test]
async fn a_token_of_a_megabyte_is_not_looked_into() {
    let server = server("[limits]\nheader_bytes_max = \"1MiB\"").await;
    let long = "x".repeat(1_000_000);
    let small = server.post("/v1/publish/room:1", "1").bearer("x").send().await;
    let large = server.post("/v1/publish/room:1", "1").bearer(&long).send().await;
    assert_eq!((large.status, large.text()), (401, small.text()), "the same answer as for any other");
    // On a socket it is no frame yet of somebody who is let in.
    let mut socket = RawWebSocket::handshake(server.address, None, &[]).await;
    socket.send(&RawFrame::text(&json!({"connect": {"token": long}}).to_string())).await;
    assert_eq!(socket.close_codes().await, [1009]);
}
