//! Bodies of requests: no byte is taken before the credential, and each caller has its share of what is being received.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{head, opened, server, token};
use crate::support::{Answer, TestServer, eventually, read_head, sized, within};

/// Every endpoint that takes a body.
const TAKES_A_BODY: [&str; 9] = [
    "/sse",
    "/v1/publish",
    "/v1/publish/c",
    "/v1/batch",
    "/v1/mutations",
    "/v1/invalidate",
    "/v1/check",
    "/v1/disconnect",
    "/v1/revoke",
];

/// Room for 1 MiB of bodies: two of the largest.
const ONE_MIB: &str =
    "[limits]\nbodies_bytes = \"1MiB\"\nmessage_bytes_max = 80_000\nrequest_bytes_max = 500_000";

async fn held(server: &TestServer) -> f64 {
    server.metric("tidings_limit_used", "bodies_bytes").await
}

/// Publishes with a body that does not fit beside the head of its request.
async fn publish_large(server: &TestServer, user: &str) -> Answer {
    let data = json!("x".repeat(60_000)).to_string();
    server.post("/v1/publish/c", data).bearer(&token(user)).send().await
}

#[tokio::test]
async fn a_stranger_is_refused_before_its_body_comes() {
    let server = server("").await;
    for path in TAKES_A_BODY {
        for token in [None, Some("wrong")] {
            let mut stream = opened(server.address, &head(server.address, path, token, 4_000)).await;
            let answer = within("an answer", Answer::read(&mut stream)).await;
            assert_eq!(answer.code(), "unauthorized", "{path} with {token:?}");
        }
    }
}

#[tokio::test]
async fn strangers_with_bodies_that_do_not_come_take_nothing_from_publishers() {
    let server = server("").await;
    let count = sized(700, 70);
    let strangers = (0..count).map(|_| opened(server.address, &[]));
    let mut strangers = join_all(strangers).await;
    for stranger in &mut strangers {
        let mut bytes = head(server.address, "/sse", None, 1_000_000);
        bytes.push(b'{');
        stranger.write_all(&bytes).await.expect("the server reads");
    }
    for _ in 0..20 {
        assert_eq!(publish_large(&server, "ada").await.status, 200);
    }
    assert_eq!(held(&server).await, 0.0);
}

#[tokio::test]
async fn a_body_counts_as_it_comes_and_not_as_it_is_announced() {
    let server = server(ONE_MIB).await;
    let eve = token("eve");
    let chunked = format!(
        "POST /v1/batch HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {eve}\r\ntransfer-encoding: chunked\r\n\r\n",
        server.address
    );
    let announced = head(server.address, "/v1/batch", Some(&eve), 500_000);
    let mut sockets = Vec::new();
    for (bytes, one) in [(chunked.as_bytes(), &b"1\r\n[\r\n"[..]), (&announced[..], &b"["[..])] {
        for _ in 0..20 {
            sockets.push(opened(server.address, &[bytes, one].concat()).await);
        }
    }
    eventually("a byte of each", async || (held(&server).await == 40.0).then_some(())).await;
    assert_eq!(publish_large(&server, "eve").await.status, 200, "its own other requests go on too");
    drop(sockets);
    eventually("the bytes to be free again", async || (held(&server).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn whoever_holds_half_of_all_bodies_is_refused_and_its_neighbour_is_not() {
    let server = server(ONE_MIB).await;
    let eve = token("eve");
    let head = head(server.address, "/v1/batch", Some(&eve), 400_000);
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(opened(server.address, &[&head[..], &[b' '; 100_000]].concat()).await);
    }
    // Half of 1 MiB has room for five of them: the sixth would hold more than is free.
    eventually("her share", async || (held(&server).await >= 400_000.0).then_some(())).await;
    let mut refused = 0;
    for socket in &mut sockets {
        // The answer comes at once; what its sender announced is waited for a little longer.
        let answer = tokio::time::timeout(Duration::from_millis(500), read_head(socket)).await;
        if let Ok((answer, _)) = answer {
            assert_eq!(answer.status, 503);
            refused += 1;
        }
    }
    assert!((5..=6).contains(&refused), "{refused} of 10");
    assert!(held(&server).await <= f64::from(1 << 19));
    for neighbour in ["ada", "bob"] {
        assert_eq!(publish_large(&server, neighbour).await.status, 200);
    }
    assert_eq!(publish_large(&server, "eve").await.code(), "overloaded");
    assert!(server.metric("tidings_rate_limited_total", "user").await >= f64::from(refused));
    drop(sockets);
    eventually("her share to be free again", async || {
        (publish_large(&server, "eve").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(held(&server).await, 0.0);
}

#[tokio::test]
async fn a_body_that_stops_is_given_up_and_frees_its_share() {
    let server = server("[server]\nbody_timeout = \"300ms\"").await;
    let ada = token("ada");
    let mut stopped = opened(server.address, &head(server.address, "/v1/batch", Some(&ada), 9_000)).await;
    stopped.write_all(&[b' '; 5_000]).await.expect("the server reads");
    eventually("its bytes", async || (held(&server).await == 5_000.0).then_some(())).await;
    let answer = within("an answer", Answer::read(&mut stopped)).await;
    assert_eq!(answer.code(), "bad_request");
    assert!(answer.text().contains("did not come within"), "{}", answer.text());
    assert_eq!(held(&server).await, 0.0);

    // One that drips is no better; one that moves may take longer in all.
    let mut dripping = opened(server.address, &head(server.address, "/v1/batch", Some(&ada), 9_000)).await;
    let drip = async {
        while dripping.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the dripping body to be given up", drip).await;
    let mut moving = opened(server.address, &head(server.address, "/v1/publish/c", Some(&ada), 50_000)).await;
    for _ in 0..10 {
        moving.write_all(&[b'1'; 5_000]).await.expect("the server reads");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(answered(&mut moving).await, 200);
}

async fn answered(stream: &mut TcpStream) -> u16 {
    let mut status = [0; 12];
    within("an answer", stream.read_exact(&mut status)).await.expect("a status line");
    String::from_utf8_lossy(&status[9..]).parse().expect("a status")
}
