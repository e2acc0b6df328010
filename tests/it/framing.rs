//! RFC 6455 from its ugly side: every breach ends in the close code that the standard has for it.

use serde_json::json;

use crate::support::{RawFrame, RawWebSocket, Request, TestServer, read_head};

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    RawFrame { first, payload: payload.to_vec() }.bytes()
}

/// Sends bytes after the handshake; returns the codes of the close frames that answer.
async fn codes(server: &TestServer, bytes: &[u8]) -> Vec<u16> {
    let mut socket = RawWebSocket::connect(server.address).await;
    socket.send_bytes(bytes).await;
    socket.close_codes().await
}

#[tokio::test]
async fn every_breach_has_its_close_code() {
    let server = TestServer::dev("[limits]\nmessage_bytes_max = 1000").await;
    let close = |code: u16, reason: &[u8]| frame(0x88, &[&code.to_be_bytes()[..], reason].concat());
    for (what, bytes, code) in [
        ("an unmasked frame", vec![0x81, 2, b'{', b'}'], 1002),
        ("reserved bit 1", frame(0xc1, b"{}"), 1002),
        ("reserved bit 2", frame(0xa1, b"{}"), 1002),
        ("reserved bit 3", frame(0x91, b"{}"), 1002),
        ("an opcode for data that does not exist", frame(0x83, b""), 1002),
        ("an opcode for control that does not exist", frame(0x8b, b""), 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002),
        ("a message inside a message", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("a close with one byte", frame(0x88, b"\x03"), 1002),
        ("binary", frame(0x82, b"{}"), 1003),
        ("empty binary", frame(0x82, b""), 1003),
        ("fragmented binary", [frame(0x02, b"{"), frame(0x80, b"}")].concat(), 1003),
        ("bad UTF-8", frame(0x81, b"\"\xff\""), 1007),
        ("UTF-8 cut at the end", frame(0x81, b"\"\xc3"), 1007),
        ("bad UTF-8 across fragments", [frame(0x01, b"\"\xc3"), frame(0x80, b"\"")].concat(), 1007),
        ("a frame over the limit", frame(0x81, &[b' '; 80_000]), 1009),
        (
            "fragments over the limit",
            [frame(0x01, &[b' '; 40_000]), frame(0x80, &[b' '; 40_000])].concat(),
            1009,
        ),
        ("a frame of 2^63 bytes", [&[0x81, 0xff, 0x80][..], &[0; 11]].concat(), 1009),
        ("a frame of 1 GiB", [&[0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0][..], &[0; 4]].concat(), 1009),
        ("a close", close(1000, b""), 1000),
        ("a close without a code", frame(0x88, b""), 1000),
        ("a close with a code of its own", close(4000, b"bye"), 1000),
        ("a close with code 999", close(999, b""), 1002),
        ("a close with code 1005", close(1005, b""), 1002),
        ("a close with code 1006", close(1006, b""), 1002),
        ("a close with code 2999", close(2999, b""), 1002),
        ("a close with code 65535", close(65535, b""), 1002),
        ("a close with a reason that is not UTF-8", close(1000, b"\xff"), 1007),
    ] {
        assert_eq!(codes(&server, &bytes).await, [code], "{what}");
    }
    assert_eq!(server.metric("tidings_panics_total", "").await, 0.0);
}

#[tokio::test]
async fn a_message_may_come_in_any_number_of_pieces() {
    let server = TestServer::dev("").await;
    let text = r#"{"id":1,"publish":{"channel":"c","data":"Grüße"}}"#.as_bytes();
    for size in [1, 2, 7, text.len()] {
        let mut socket = RawWebSocket::connect(server.address).await;
        let pieces: Vec<&[u8]> = text.chunks(size).collect();
        let last = pieces.len() - 1;
        for (index, piece) in pieces.iter().enumerate() {
            let opcode = if index == 0 { 0x01 } else { 0x00 };
            let fin = if index == last { 0x80 } else { 0x00 };
            socket.send_bytes(&frame(opcode | fin, piece)).await;
            // Control frames may come between the pieces.
            socket.send_bytes(&frame(0x89, b"p")).await;
        }
        let answer = loop {
            let frame = socket.frame().await.unwrap();
            if frame.first == 0x81 {
                break String::from_utf8(frame.payload).unwrap();
            }
            assert_eq!((frame.first, &frame.payload[..]), (0x8a, &b"p"[..]), "a pong brings the ping back");
        };
        assert!(answer.starts_with("{\"id\":1,\"published\""), "{answer}");
    }
}

#[tokio::test]
async fn commands_may_come_with_the_handshake_and_all_at_once() {
    let server = TestServer::dev("").await;
    let mut bytes = Vec::new();
    for id in 0..500 {
        let command = json!({"id": id, "publish": {"channel": "c", "data": id}});
        bytes.extend(RawFrame::text(&command.to_string()).bytes());
    }
    let mut socket = RawWebSocket::handshake(server.address, None, &[]).await;
    socket.send_bytes(&bytes).await;
    assert!(socket.frame().await.unwrap().payload.starts_with(b"{\"hello\""));
    for id in 0..500 {
        let answer = String::from_utf8(socket.frame().await.unwrap().payload).unwrap();
        assert!(answer.starts_with(&format!("{{\"id\":{id},\"published\"")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_empty_fragments_hold_up_nobody() {
    use std::io::Write;
    let server = TestServer::dev("").await;
    let mut attackers = Vec::new();
    for _ in 0..4 {
        let mut socket = RawWebSocket::connect(server.address).await;
        socket.send_bytes(&frame(0x01, b"")).await;
        let mut socket = socket.stream.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        let end = socket.try_clone().unwrap();
        let burst = frame(0x00, b"").repeat(10_000);
        // Threads of their own, so that they send while the server reads.
        attackers.push((std::thread::spawn(move || while socket.write_all(&burst).is_ok() {}), end));
    }
    let mut socket = server.subscriber("c").await;
    for n in 0..20 {
        server.publish("c", &n.to_string()).await;
        assert_eq!(socket.data("c", 1).await, [json!(n)]);
    }
    for (attacker, end) in attackers {
        end.shutdown(std::net::Shutdown::Both).ok();
        attacker.join().unwrap();
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_refused() {
    let server = TestServer::dev("").await;
    let handshake = |leave_out: &str| {
        let all = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let headers = all.iter().filter(|(name, _)| *name != leave_out);
        headers.fold(server.get("/ws"), |request, (name, value)| request.header(name, value))
    };
    for leave_out in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &handshake(leave_out).bytes()).await.unwrap();
        let status = if leave_out == "upgrade" { 426 } else { 400 };
        assert_eq!(read_head(&mut stream).await.0.status, status, "without {leave_out}");
    }
    let post = Request::new(server.address, "POST", "/ws").send().await;
    assert_eq!(post.code(), "method_not_allowed");
}

#[tokio::test]
async fn the_subprotocol_is_named_only_if_it_was_offered_and_is_spoken() {
    let server = TestServer::dev("").await;
    for (offered, chosen) in [
        ("tidings.v1.json", Some("tidings.v1.json")),
        ("other, tidings.v1.json, bearer.x.y.z", Some("tidings.v1.json")),
        ("other", None),
        ("bearer.x.y.z", None),
    ] {
        let headers = [("sec-websocket-protocol", offered)];
        let socket = RawWebSocket::handshake(server.address, None, &headers).await;
        assert_eq!(socket.head.header("sec-websocket-protocol"), chosen, "{offered}");
    }
}
