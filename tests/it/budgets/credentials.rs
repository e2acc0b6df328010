//! Credentials that do not hold, and callers who have none: counted by their address.

use serde_json::json;

use super::{server, token};
use crate::support::{API_KEY, Answer, TestServer, WebSocket};

async fn ask(server: &TestServer, token: &str) -> Answer {
    server.get("/v1/channels/c/history").bearer(token).send().await
}

/// Tries wrong tokens until they are refused unread; how many were looked into.
async fn guess(server: &TestServer) -> usize {
    for n in 0..100 {
        let answer = ask(server, &format!("{}{n}", token("eve"))).await;
        match answer.code().as_str() {
            "unauthorized" => {}
            "rate_limited" => {
                let detail = answer.json()["detail"].as_str().expect("it says why").to_owned();
                assert!(detail.contains("limits.address_failed_credentials_per_second"), "{detail}");
                return n;
            }
            other => panic!("{other}"),
        }
    }
    panic!("100 were looked into");
}

#[tokio::test]
async fn guesses_of_an_address_are_refused_unread_and_good_credentials_beside_them_hold() {
    let server = server("[limits]\nrate_burst = \"10s\"\naddress_failed_credentials_per_second = 1").await;
    let (ada, late) = (token("ada"), token("late"));
    assert_eq!(ask(&server, &ada).await.status, 200);
    let looked_into = guess(&server).await;
    assert!((10..=15).contains(&looked_into), "{looked_into}");
    assert_eq!(ask(&server, &ada).await.status, 200, "it held a short while ago");
    assert_eq!(ask(&server, API_KEY).await.status, 200, "a key costs no signature");
    assert_eq!(ask(&server, &late).await.code(), "rate_limited", "nobody knows that it holds");
    assert_eq!(ask(&server, "td_wrong").await.code(), "unauthorized");
    assert!(server.metric("tidings_rate_limited_total", "address").await >= 2.0);

    let mut socket = WebSocket::connect(server.address, &[]).await;
    assert_eq!(socket.refused(json!({"connect": {"token": late}})).await, "rate_limited");
    assert_eq!(socket.closed().await.1.code, 4429);
    let mut socket = WebSocket::connect(server.address, &[]).await;
    socket.send(json!({"connect": {"token": ada}})).await;
    socket.expect("hello").await;
}

const OPEN: &str = "[namespace.open]\nanonymous = [\"publish\", \"subscribe\", \"history\"]\n";

async fn publish(server: &TestServer, token: Option<&str>) -> Answer {
    let request = server.post("/v1/publish/open:1", "\"0123456789\"");
    match token {
        Some(token) => request.bearer(token).send().await,
        None => request.send().await,
    }
}

#[tokio::test]
async fn anonymous_callers_are_counted_by_their_address_on_http_as_on_a_socket() {
    for (limit, per_second) in [
        ("address_publishes_per_second", 1),
        ("address_commands_per_second", 1),
        ("address_bytes_per_second", 12),
    ] {
        let server = server(&format!("{OPEN}[limits]\nrate_burst = \"10s\"\n{limit} = {per_second}")).await;
        let mut accepted = 0;
        let refused = loop {
            match publish(&server, None).await {
                answer if answer.status == 200 => accepted += 1,
                answer => break answer,
            }
            assert!(accepted < 50, "{limit}");
        };
        assert!((10..=15).contains(&accepted), "{limit}: {accepted}");
        assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
        assert!(refused.json()["detail"].as_str().unwrap().contains(&format!("limits.{limit}, which is")));
        assert_eq!(publish(&server, Some(&token("ada"))).await.status, 200, "whoever has a name is not");
        assert_eq!(publish(&server, Some(API_KEY)).await.status, 200);

        let mut socket = WebSocket::connect(server.address, &[]).await;
        socket.expect("hello").await;
        let command = json!({"publish": {"channel": "open:1", "data": "0123456789"}});
        assert_eq!(socket.refused(command).await, "rate_limited", "{limit}: it is the same address");
    }
}
