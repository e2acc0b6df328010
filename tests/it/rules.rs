//! Rules from end to end: tried out on the command line, and reloaded by a server that runs.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Process, Request, eventually};

fn rule(tag: &str) -> String {
    format!("[[rule]]\nentity = \"ticket\"\ntags = [\"{tag}\"]\n")
}

/// Exit code, output and complaints of `tidings rules test`.
fn rules_test(toml: &str, args: &[&str], input: &str) -> (i32, String, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
    file.write_all(toml.as_bytes()).expect("a file can be written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["rules", "test", "--config"])
        .arg(file.path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Who has the event in its arguments does not read.
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("it was not killed"), text(output.stdout), text(output.stderr))
}

#[test]
fn rules_are_tried_out_without_a_server() {
    let event = r#"{"entity":"ticket","key":42,"op":"update"}"#;
    let (code, out, err) = rules_test(&rule("ticket:{key}"), &["--event", event], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("ticket:42  rule 1 (") && out.ends_with(":3)\n"), "{out}");
    assert_eq!(rules_test(&rule("ticket:{key}"), &[], event).1.split(' ').next(), Some("ticket:42"));
    for (toml, event, code, words) in [
        (rule("t:{row.a}"), event, 1, "rule 1 for \"ticket\""),
        (rule("t"), "{}", 1, "needs `entity`"),
        (rule("t:{id}"), event, 78, "unknown placeholder {id}"),
    ] {
        let (exit, out, err) = rules_test(&toml, &["--event", event], "");
        assert_eq!((exit, out.as_str()), (code, ""), "{err}");
        assert!(err.contains(words), "{err}");
    }
}

async fn touched(address: SocketAddr, since: &Value, tags: &[&str]) -> Value {
    let items: Vec<Value> = tags.iter().map(|tag| json!({"since": since, "tags": [tag]})).collect();
    let body = json!({ "items": items }).to_string();
    Request::new(address, "POST", "/v1/check").body(body).send().await.json()["stale"].clone()
}

async fn head(address: SocketAddr) -> Value {
    Request::new(address, "GET", "/v1/position").send().await.json()["position"].clone()
}

/// Which of the tags a ticket's mutation touches, by their indices.
async fn mutate(address: SocketAddr, tags: &[&str]) -> Value {
    let before = head(address).await;
    let mutation = r#"{"entity":"ticket","key":42,"op":"update"}"#;
    let answer = Request::new(address, "POST", "/v1/mutations").body(mutation).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    touched(address, &before, tags).await
}

async fn said(server: &Process, words: &str) {
    eventually(words, async || server.stderr().contains(words).then_some(())).await;
}

#[tokio::test]
async fn a_running_server_reloads_its_rules_and_a_bad_file_changes_nothing() {
    let server = Process::start(&["dev", "--listen", "127.0.0.1:0"], &rule("first"));
    let address = server.address().await;
    let tags = ["first", "second", "third", "ticket:42"];
    assert_eq!(mutate(address, &tags).await, json!([0]));

    server.configure(&rule("second"));
    eventually("the file to be read", async || (mutate(address, &tags).await == json!([1])).then_some(()))
        .await;
    said(&server, "the configuration was reloaded").await;

    server.configure(&rule("no tag"));
    said(&server, "everything stays as it is").await;
    assert!(server.stderr().contains("it can be no tag"), "{}", server.stderr());
    assert_eq!(mutate(address, &tags).await, json!([1]));

    server.configure(&format!("{}[limits]\nmessage_bytes_max = 1\n", rule("third")));
    server.signal(Signal::HUP);
    eventually("the signal to be heard", async || (mutate(address, &tags).await == json!([2])).then_some(()))
        .await;
    let publish = Request::new(address, "POST", "/v1/publish/a").body("12").send().await;
    assert_eq!(publish.status, 413, "limits are reloaded too: {}", publish.text());

    server.signal(Signal::HUP);
    said(&server, "nothing of it changes").await;
    server.configure("");
    eventually("no rules", async || (mutate(address, &tags).await == json!([3])).then_some(())).await;

    server.signal(Signal::TERM);
    let (status, words) = server.ended().await;
    assert!(status.success(), "{words}");
}
