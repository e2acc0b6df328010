//! The real binary, asked by the real binary.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use super::{server, socket};
use crate::support::{API_KEY, TestServer, within};

/// Runs a command of the binary against a server, with these credentials.
async fn tidings(server: &TestServer, key: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(arguments).env("TIDINGS_URL", format!("http://{}", server.address));
    command.env("TIDINGS_API_KEY", key).env_remove("TIDINGS_TOKEN").kill_on_drop(true);
    within("the command's end", command.output()).await.expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is text")
}

#[tokio::test]
async fn an_operator_sees_instances_and_connections_and_ends_one() {
    let server = server().await;
    let (mut ada, session) = socket(&server, "ada").await;
    let (mut bob, _) = socket(&server, "bob").await;
    let cluster = tidings(&server, API_KEY, &["cluster"]).await;
    let said = text(&cluster.stdout);
    assert_eq!((cluster.status.code(), said.lines().count()), (Some(0), 2), "{said}");
    for part in [server.address.to_string(), " no".to_owned(), env!("CARGO_PKG_VERSION").to_owned()] {
        assert!(said.contains(&part), "{part} in {said}");
    }
    let connections = tidings(&server, API_KEY, &["connections", "--user", "ada"]).await;
    let said = text(&connections.stdout);
    assert_eq!((connections.status.code(), said.lines().count()), (Some(0), 2), "{said}");
    assert!(said.contains(&session) && said.contains("websocket"), "{said}");
    let json = tidings(&server, API_KEY, &["connections", "--json"]).await;
    let list: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(list["connections"].as_array().map(Vec::len), Some(2));

    let disconnect = tidings(&server, API_KEY, &["disconnect", "--user", "ada", "--reason", "late"]).await;
    assert_eq!(
        (disconnect.status.code(), text(&disconnect.stdout)),
        (Some(0), "1 disconnected, instances: 1\n".into())
    );
    assert_eq!(ada.closed().await.1.reason, "disconnected: late");
    bob.subscribe("room:1").await;
}

#[tokio::test]
async fn whoever_is_no_operator_is_told_so() {
    let server = server().await;
    for arguments in [["cluster"].as_slice(), &["connections"], &["disconnect", "--session", "x-1"]] {
        let refused = tidings(&server, "td_wrong", arguments).await;
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "{arguments:?}");
        assert!(text(&refused.stderr).starts_with("tidings: unauthorized: "), "{}", text(&refused.stderr));
    }
    for arguments in [["disconnect"].as_slice(), &["disconnect", "--user", "a", "--session", "b"]] {
        assert_eq!(tidings(&server, API_KEY, arguments).await.status.code(), Some(2), "{arguments:?}");
    }
}
