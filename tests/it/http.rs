//! HTTP itself, as hostile or hurried peers speak it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{API_KEY, Answer, Request, TestServer, auth_config, within};

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

#[tokio::test]
async fn a_request_has_one_host_and_one_length() {
    let server = TestServer::dev("").await;
    for (what, head) in [
        ("no host", "POST /v1/publish/c HTTP/1.1\r\ncontent-length: 1\r\n"),
        (
            "two hosts",
            "POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\ncontent-length: 1\r\n",
        ),
        (
            "two codings",
            "POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ),
    ] {
        let said = answers(&server, &format!("{head}\r\n1")).await;
        // Without a Host, development mode refuses the request for another reason first.
        assert!(
            said.starts_with("HTTP/1.1 400") || what == "no host" && said.starts_with("HTTP/1.1 403"),
            "{what}: {said}"
        );
    }
    assert_eq!(server.publish("c", "1").await["position"]["offset"], 1, "none of them was published");
}

#[tokio::test]
async fn a_websocket_path_without_a_handshake_says_what_it_takes() {
    let server = TestServer::dev("").await;
    let answer = server.get("/ws").send().await;
    assert_eq!((answer.status, answer.code().as_str()), (426, "upgrade_required"));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    let half = server.get("/ws").header("upgrade", "websocket").send().await;
    assert_eq!((half.status, half.code().as_str()), (400, "bad_request"));
}

#[tokio::test]
async fn a_sender_that_is_refused_reads_why_although_it_is_still_sending() {
    let server = TestServer::serve(&auth_config()).await;
    let body = vec![b'x'; 5_000_000];
    let requests = [
        (server.post("/v1/publish/c", &body), 401),
        (server.post("/v1/publish/c", &body).bearer(API_KEY), 413),
        (server.post("/v1/publish/c", &body).bearer(API_KEY).header("content-encoding", "br"), 415),
        (server.post("/v1/nothing", &body), 404),
    ];
    for (request, status) in requests {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = request.header("connection", "close");
        within("the whole body to be taken", stream.write_all(&request.bytes()))
            .await
            .expect("no broken pipe");
        let answer = within("an answer", Answer::read(&mut stream)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_body_that_is_asked_for_is_not_sent_where_it_is_refused() {
    let server = TestServer::serve(&auth_config()).await;
    let request = |bearer: &str| {
        format!(
            "POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\nexpect: 100-continue\r\n\
             content-length: 1\r\n\r\n"
        )
    };
    for (bearer, first) in [("nonsense", "HTTP/1.1 401"), (API_KEY, "HTTP/1.1 100")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request(bearer).as_bytes()).await.unwrap();
        let mut said = [0; 12];
        within("a first line", stream.read_exact(&mut said)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&said), first);
    }
}

/// Sends on an open socket; the status of the answer, or `None` where the server closed it.
async fn ask(stream: &mut TcpStream, request: &Request) -> Option<u16> {
    stream.write_all(&request.bytes()).await.ok()?;
    let mut said = vec![0; 4_096];
    let length = within("an answer or the end", stream.read(&mut said)).await.ok()?;
    String::from_utf8_lossy(&said[..length]).split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn a_socket_stays_open_between_the_requests_of_those_who_are_let_in() {
    let server = TestServer::serve(&format!("[server]\nheader_timeout = \"200ms\"\n{}", auth_config())).await;
    let publish = server.post("/v1/publish/c", "1").bearer(API_KEY);
    let (mut backend, mut stranger) = (
        TcpStream::connect(server.address).await.unwrap(),
        TcpStream::connect(server.address).await.unwrap(),
    );
    assert_eq!(ask(&mut backend, &publish).await, Some(200));
    let probe = server.get("/livez");
    assert_eq!(ask(&mut stranger, &probe).await, Some(200));
    let mut rest = Vec::new();
    within("a stranger's socket to be closed", stranger.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(ask(&mut backend, &publish).await, Some(200), "long after the stranger's");
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost").await.unwrap();
    within("half a head to be given up", slow.read_to_end(&mut rest)).await.unwrap();
    let patient = TestServer::serve(&format!("[server]\nidle_timeout = \"200ms\"\n{}", auth_config())).await;
    let mut idle = TcpStream::connect(patient.address).await.unwrap();
    assert_eq!(ask(&mut idle, &patient.post("/v1/publish/c", "1").bearer(API_KEY)).await, Some(200));
    within("an idle socket to be closed", idle.read_to_end(&mut rest)).await.unwrap();
}
