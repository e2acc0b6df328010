use clap::Parser;

use super::*;
use crate::cli::fixture::{Reply, TinyServer, nobody, output};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    publish: PublishArgs,
}

const STORED: &str = r#"{"position":{"epoch":"7-k3v9q","offset":42},"ack":"stored"}"#;

async fn publish(target: TargetArgs, args: &[&str], mut input: &[u8]) -> (Exit, String, String) {
    let cli = Cli::parse_from([&["pub"], args].concat());
    let args = PublishArgs { target, ..cli.publish };
    output(async |out, err| run(&args, &Sources::default(), &mut input, out, err).await).await
}

/// The one request that a publish makes, head and body.
async fn request(args: &[&str], input: &[u8]) -> (String, String) {
    let server = TinyServer::start(vec![Reply::json(200, STORED)]).await;
    let (exit, _, err) = publish(server.target_args(), args, input).await;
    assert_eq!((exit, err.as_str()), (Exit::Ok, ""), "{args:?}");
    let [request] = server.requests().await.try_into().expect("one request");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

fn problem(status: u16, code: &str) -> Reply {
    Reply::json(status, &format!(r#"{{"code":"{code}","detail":"the words","status":{status}}}"#))
}

fn idempotency_key(request: &str) -> &str {
    let key = request.split("idempotency_key=").nth(1).expect("has a key");
    &key[..key.find(['&', ' ']).expect("the key ends")]
}

#[tokio::test]
async fn the_position_is_printed_or_the_whole_answer() {
    for (args, expected) in [
        (&["tickets", "1"][..], "7-k3v9q.42\n".to_owned()),
        (&["tickets", "1", "--json"], format!("{STORED}\n")),
    ] {
        let server = TinyServer::start(vec![Reply::json(200, STORED)]).await;
        let printed = publish(server.target_args(), args, b"").await;
        assert_eq!(printed, (Exit::Ok, expected, String::new()));
    }
    let server = TinyServer::start(vec![Reply::json(202, r#"{"position":null,"ack":"none"}"#)]).await;
    let printed = publish(server.target_args(), &["tickets", "1", "--ack", "none"], b"").await;
    assert_eq!(printed, (Exit::Ok, String::new(), String::new()));
}

#[tokio::test]
async fn arguments_become_the_path_the_query_and_the_type() {
    let (head, body) = request(
        &["room:7/a", "-5", "--id", "a b&c", "--key", "k", "--idempotency-key", "x/y", "--ack", "stored"],
        b"",
    )
    .await;
    let line = "POST /v1/publish/room:7%2Fa?idempotency_key=x%2Fy&id=a+b%26c&key=k&ack=stored HTTP/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert_eq!(body, "-5");
    assert!(!head.to_lowercase().contains("content-type"), "the server finds out: {head}");
    let (head, _) = request(&["tickets", "1", "--text"], b"").await;
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
}

#[tokio::test]
async fn data_comes_from_standard_input_or_a_file_if_not_given() {
    assert_eq!(request(&["t"], b"{\"a\": 1}\n").await.1, "{\"a\": 1}");
    assert_eq!(request(&["t", "--text"], b"hi\n\r\n").await.1, "hi\n");
    let (head, body) = request(&["t", "--bytes-from", "-"], b"raw\n").await;
    assert!(head.contains("content-type: application/octet-stream") && body == "raw\n", "{head}");
    let file = tempfile::NamedTempFile::new().expect("a file for the test");
    std::fs::write(file.path(), "in a file\n").expect("is written");
    let (_, body) = request(&["t", "--bytes-from", file.path().to_str().expect("is text")], b"").await;
    assert_eq!(body, "in a file\n");
}

#[tokio::test]
async fn a_publish_is_repeated_with_the_same_key_until_it_is_stored() {
    let replies = vec![problem(503, "broker_unavailable"), Reply::Nothing, Reply::json(200, STORED)];
    let server = TinyServer::start(replies).await;
    let (exit, out, err) = publish(server.target_args(), &["tickets", "1"], b"").await;
    assert_eq!((exit, out.as_str()), (Exit::Ok, "7-k3v9q.42\n"), "{err}");
    assert!(err.starts_with("tidings: broker_unavailable: the words; trying again in "), "{err}");
    assert!(err.contains("the connection broke"), "{err}");
    let requests = server.requests().await;
    let keys: Vec<&str> = requests.iter().map(|request| idempotency_key(request)).collect();
    assert!(keys.len() == 3 && keys[0].len() == 22 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn two_publishes_have_different_keys() {
    let [(one, _), (other, _)] = [request(&["t", "1"], b"").await, request(&["t", "1"], b"").await];
    assert_ne!(idempotency_key(&one), idempotency_key(&other));
}

#[tokio::test]
async fn after_three_repetitions_it_is_the_servers_word() {
    let server = TinyServer::start((0..4).map(|_| problem(504, "outcome_unknown")).collect()).await;
    let (exit, out, err) = publish(server.target_args(), &["tickets", "1"], b"").await;
    assert_eq!((exit, out.as_str()), (Exit::Runtime, ""));
    assert_eq!(err.matches("trying again").count(), 3, "{err}");
    assert!(err.ends_with("tidings: outcome_unknown: the words\n"), "{err}");
    assert_eq!(server.requests().await.len(), 4);
}

#[tokio::test]
async fn what_the_client_did_wrong_is_not_repeated() {
    for (status, code) in [(401, "unauthorized"), (403, "channel_not_allowed"), (422, "idempotency_mismatch")]
    {
        let server = TinyServer::start(vec![problem(status, code)]).await;
        let printed = publish(server.target_args(), &["tickets", "1"], b"").await;
        assert_eq!(printed, (Exit::Runtime, String::new(), format!("tidings: {code}: the words\n")));
        assert_eq!(server.requests().await.len(), 1);
    }
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_without_a_server() {
    let (exit, _, err) = publish(nobody().await, &["a b", "1"], b"").await;
    assert!(
        exit == Exit::Runtime && err.starts_with("tidings: channel_invalid: a channel name holds"),
        "{err}"
    );
    let (exit, _, err) = publish(nobody().await, &["t"], &vec![b'x'; DATA_BYTES_MAX + 1]).await;
    assert!(exit == Exit::Runtime && err.starts_with("tidings: too_large: standard input has more"), "{err}");
    let (exit, _, err) = publish(nobody().await, &["t", "--bytes-from", "/nowhere"], b"").await;
    assert!(exit == Exit::Runtime && err.contains("cannot read /nowhere"), "{err}");
    assert!(Cli::try_parse_from(["pub", "t", "1", "--bytes-from", "-"]).is_err());
}

#[tokio::test]
async fn the_largest_data_passes() {
    let data = vec![b'x'; DATA_BYTES_MAX];
    assert_eq!(request(&["t"], &data).await.1.len(), DATA_BYTES_MAX);
}

#[tokio::test]
async fn nobody_there_is_said_after_the_last_attempt() {
    let (exit, _, err) = publish(nobody().await, &["t", "1"], b"").await;
    assert_eq!(exit, Exit::Runtime);
    assert_eq!(err.matches("cannot reach http://127.0.0.1:").count(), 4, "{err}");
}
