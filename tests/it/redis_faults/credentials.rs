//! A Redis that cannot be used, at the start and later: clear words, and never the password.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use serde_json::{Value, json};

use super::NOTICED_WITHIN;
use crate::support::{Process, RedisServer, Request, eventually, free_port};

/// A password that must never be seen again.
const CANARY: &str = "canary-4f1c";

/// Everything that is logged at all.
const LOUD: &str = "[log]\nfilter = \"trace\"\n";

/// Lines of a Redis with a user who may do everything, minus `minus`.
fn user(minus: &str) -> String {
    format!("user app on >{CANARY} ~* &* +@all {minus}\n")
}

fn config(redis: &RedisServer, password: &str) -> String {
    format!("{LOUD}[redis]\nurl = \"redis://app:{password}@{}\"\n", redis.address())
}

/// An instance and its address, which is not the only one in so loud a log.
fn start(config: &str) -> (Process, SocketAddr) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    (Process::start(&["dev", "--listen", &address.to_string()], config), address)
}

/// Starts an instance that must give up, and say these words.
async fn refused(config: &str, words: &[&str]) {
    let (status, said) = start(config).0.ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    let reason = said.lines().find(|line| line.starts_with("tidings: ")).expect("it says why");
    assert!(reason.starts_with("tidings: redis at redis://127.0.0.1:"), "{reason}");
    for word in words {
        assert!(reason.contains(word), "{word} in {reason}");
    }
    assert!(!said.contains(CANARY), "{said}");
}

#[tokio::test]
async fn a_redis_that_is_not_there_ends_the_start_with_the_reason() {
    let nobody = format!("{LOUD}[redis]\nurl = \"redis://app:{CANARY}@127.0.0.1:{}\"\n", free_port());
    refused(&nobody, &["Connection refused"]).await;
}

#[tokio::test]
async fn a_wrong_password_ends_the_start_with_the_reason() {
    let redis = RedisServer::start("user app on >right ~* &* +@all\n").await;
    refused(&config(&redis, CANARY), &["WRONGPASS"]).await;
}

#[tokio::test]
async fn a_right_that_is_missing_ends_the_start_with_what_to_do() {
    let redis = RedisServer::start(&user("-info")).await;
    refused(&config(&redis, CANARY), &["+info"]).await;
}

/// The status of `/health`, and the part that is degraded.
async fn health(address: SocketAddr) -> (u16, Option<Value>) {
    let request = Request::new(address, "GET", "/health");
    let Ok(answer) = request.try_send().await else { return (0, None) };
    let report = answer.json();
    assert!(!answer.text().contains(CANARY), "{report}");
    // An instance that is starting has no parts yet.
    let Some(parts) = report["components"].as_array() else { return (0, None) };
    let mut parts = parts.iter();
    (answer.status, parts.find(|part| part["status"] != "ok").map(|part| part["component"].clone()))
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_seen_in_health_and_the_password_nowhere() {
    let redis = RedisServer::start(&user("")).await;
    let config = config(&redis, CANARY);
    let (process, address) = start(&config);
    for (without, again) in [("-info", "+info"), ("-evalsha", "+evalsha"), ("-publish", "+publish")] {
        eventually("health", async || (health(address).await == (200, None)).then_some(())).await;
        let begun = Instant::now();
        assert_eq!(redis.command(&["ACL", "SETUSER", "app", without]).await.text(), "OK");
        eventually("health to name redis", async || {
            (health(address).await == (503, Some(json!("redis")))).then_some(())
        })
        .await;
        // What only its own silence tells takes a second link to be believed.
        let most = if without == "-publish" { NOTICED_WITHIN * 2 } else { NOTICED_WITHIN };
        assert!(begun.elapsed() <= most, "{without}: {:?}", begun.elapsed());
        let publish = Request::new(address, "POST", "/v1/publish/c").body("1").send().await;
        assert_eq!((publish.status, &*publish.code()), (503, "broker_unavailable"), "{without}");
        assert_eq!(redis.command(&["ACL", "SETUSER", "app", again]).await.text(), "OK");
    }
    eventually("health", async || (health(address).await == (200, None)).then_some(())).await;
    let metrics = Request::new(address, "GET", "/metrics").send().await.text();
    assert!(!metrics.contains(CANARY), "{metrics}");
    let said = process.stderr();
    assert!(said.contains("NOPERM"), "the log says why: {said}");
    assert!(!said.contains(CANARY), "{said}");
    let (status, shown) = shown(&config).await;
    assert!(status && shown.contains("redis://127.0.0.1:") && !shown.contains(CANARY), "{shown}");
}

/// What `tidings config show` makes of this file.
async fn shown(config: &str) -> (bool, String) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("tidings.toml");
    std::fs::write(&file, config).expect("a file can be written");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidings"));
    let output = command.args(["config", "show", "--config"]).arg(&file).output().await.expect("it runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}
