//! HTTP itself, as hostile or hurried peers speak it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestServer, within};

/// Sends bytes, says that no more come, and reads all answers.
async fn answers(server: &TestServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    within("the end", stream.read_to_string(&mut said)).await.ok();
    said
}

#[tokio::test]
async fn a_length_that_can_be_read_in_two_ways_ends_the_connection() {
    let server = TestServer::dev("").await;
    for (what, headers) in [
        ("two lengths", "content-length: 1\r\ncontent-length: 40\r\n"),
        ("a signed length", "content-length: +1\r\n"),
        ("an unknown coding", "transfer-encoding: xchunked\r\n"),
        ("a folded header", "x: a\r\n b\r\n"),
        ("a NUL", "x: a\0b\r\n"),
    ] {
        let request = format!("POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n1");
        assert!(answers(&server, &request).await.starts_with("HTTP/1.1 400"), "{what}");
    }
    let smuggled = "POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                    1\r\n1\r\n0\r\n\r\nPOST /v1/publish/smuggled HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1";
    assert_eq!(answers(&server, smuggled).await.matches("HTTP/1.1 ").count(), 1);
    assert_eq!(server.publish("smuggled", "1").await["position"]["offset"], 1);
}

#[tokio::test]
async fn requests_in_one_go_are_answered_in_order() {
    let server = TestServer::dev("").await;
    let request = "POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1";
    let said = answers(&server, &request.repeat(50)).await;
    let offsets: Vec<&str> =
        said.split("\"offset\":").skip(1).filter_map(|rest| rest.split('}').next()).collect();
    let expected: Vec<String> = (1..=50).map(|n| n.to_string()).collect();
    assert_eq!(offsets, expected);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_published() {
    let server = TestServer::dev("").await;
    let head = "POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\n";
    for body in ["content-length: 10\r\n\r\n1", "transfer-encoding: chunked\r\n\r\n1\r\n1\r\n"] {
        let said = answers(&server, &format!("{head}{body}")).await;
        assert!(said.starts_with("HTTP/1.1 400") && said.contains("broke off"), "{said}");
    }
    assert_eq!(server.publish("c", "1").await["position"]["offset"], 1);
}
