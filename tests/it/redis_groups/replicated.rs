//! Publishes that are acknowledged once replicas have them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, RedisServer, Reply, TestServer, eventually};

/// What an answer to a publish may take, and a little more on a busy machine.
const ANSWER_MAX: Duration = Duration::from_millis(2_500);

struct Pair {
    primary: RedisServer,
    replica: RedisServer,
    server: TestServer,
}

impl Pair {
    async fn start() -> Pair {
        let [primary, replica] = [RedisServer::start("").await, RedisServer::start("").await];
        replica.replica_of(&primary).await;
        let toml = format!("[redis]\nurl = \"{}\"\nreplicas = 1\n", primary.url());
        let server = TestServer::dev(&toml).await;
        Pair { primary, replica, server }
    }

    async fn publish(&self, ack: &str, key: &str) -> Answer {
        let path = format!("/v1/publish/a?ack={ack}");
        self.server.post(&path, format!("\"{key}\"")).header("idempotency-key", key).send().await
    }
}

fn confirmed(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["ack"], "replicated", "{body}");
    body["position"].clone()
}

#[tokio::test]
async fn who_asks_for_replicas_gets_them_or_learns_where_it_was_stored() {
    let pair = Pair::start().await;
    confirmed(&pair.publish("replicated", "first").await);

    pair.replica.pause().await;
    let begun = Instant::now();
    let (unconfirmed, stored) = tokio::join!(pair.publish("replicated", "k"), async {
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let begun = Instant::now();
            assert_eq!(pair.publish("stored", &number.to_string()).await.status, 200);
            slowest = slowest.max(begun.elapsed());
        }
        slowest
    });
    assert!(begun.elapsed() < ANSWER_MAX, "{:?}", begun.elapsed());
    assert_eq!((unconfirmed.status, &*unconfirmed.code()), (503, "replication_unconfirmed"));
    let position = unconfirmed.json()["position"].clone();
    assert!(position.is_object(), "{}", unconfirmed.text());
    assert!(stored < Duration::from_millis(500), "others wait for nobody: {stored:?}");
    assert_eq!(pair.publish("replicated", "k").await.json()["position"], position, "a retry learns the same");

    pair.replica.resume();
    let again = eventually("a replica to confirm", async || {
        let answer = pair.publish("replicated", "k").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(confirmed(&again), position);
}

/// A replica that stopped costs everybody the wait for it once, not once for each who came before.
#[tokio::test]
async fn who_comes_behind_many_others_is_answered_in_time_while_a_replica_is_stopped() {
    /// In rows of 256, each of which waits for a second, the last would be answered after four of them.
    const CROWD: usize = 1_000;
    const CROWDED_MAX: Duration = Duration::from_millis(3_500);
    let pair = Pair::start().await;
    confirmed(&pair.publish("replicated", "first").await);
    pair.replica.pause().await;
    let crowd = (0..CROWD).map(|number| {
        let path = format!("/v1/publish/crowd{}?ack=replicated", number % 50);
        pair.server.post(&path, "1").send()
    });
    let crowd = tokio::spawn(futures::future::join_all(crowd));
    eventually("the crowd to wait", async || {
        let clients = pair.primary.command(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        clients.text().lines().any(|client| client.contains(" cmd=wait ")).then_some(())
    })
    .await;
    let begun = Instant::now();
    let mutation = pair.server.post("/v1/invalidate", json!({"tags": ["t"]}).to_string());
    let answer = mutation.header("content-type", "application/json").send().await;
    assert!(begun.elapsed() < CROWDED_MAX, "{:?}", begun.elapsed());
    let code = answer.code();
    assert!(["replication_unconfirmed", "outcome_unknown"].contains(&&*code), "{}", answer.text());
    let answers = crowd.await.expect("it ends");
    assert!(
        answers.iter().all(|answer| [503, 504].contains(&answer.status)),
        "nobody is told that all is well"
    );
    assert!(begun.elapsed() < 2 * ANSWER_MAX, "{:?}", begun.elapsed());
    pair.replica.resume();
    eventually("a replica to confirm", async || {
        (pair.publish("replicated", "last").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_replicas_nobody_can_ask_for_them() {
    let redis = RedisServer::start("").await;
    let server = TestServer::dev(&format!("[redis]\nurl = \"{}\"\n", redis.url())).await;
    let refused = server.post("/v1/publish/a?ack=replicated", "1").send().await;
    assert_eq!((refused.status, &*refused.code()), (409, "ack_not_possible"));
    let history = server.get("/v1/channels/a/history").send().await.json();
    assert_eq!(history["publications"], json!([]), "nothing was stored");
}

/// A new connection has written nothing, of which every replica has all.
#[tokio::test]
async fn another_connection_than_the_one_that_wrote_confirms_nothing() {
    let pair = Pair::start().await;
    confirmed(&pair.publish("replicated", "first").await);
    pair.replica.pause().await;
    let waits = async || {
        let clients = pair.primary.command(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        let waiting = clients.text().lines().find(|client| client.contains(" cmd=wait "))?;
        Some(waiting.split(' ').next()?.strip_prefix("id=")?.to_owned())
    };
    let mut killed = 0;
    for number in 0..4 {
        let key = format!("k{number}");
        let (answer, ()) = tokio::join!(pair.publish("replicated", &key), async {
            let id = eventually("a wait for replicas", waits).await;
            killed += pair.primary.command(&["CLIENT", "KILL", "ID", &id]).await.integer();
            // The one that follows waits as well, or would be told at once that all is well.
            if number % 2 == 1 {
                let rest = pair.primary.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
                assert!(matches!(rest, Reply::Integer(_)));
            }
        });
        assert_eq!(answer.status, 503, "{}", answer.text());
        let code = answer.code();
        assert!(["replication_unconfirmed", "outcome_unknown"].contains(&&*code), "{code}");
    }
    assert_eq!(killed, 4);
    pair.replica.resume();
    let again = eventually("a replica to confirm", async || {
        let answer = pair.publish("replicated", "k0").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    confirmed(&again);
}

/// A repeated publish writes nothing new, and the connection that waits has not written the first one.
#[tokio::test]
async fn a_repeated_publish_waits_for_replicas_to_have_the_first() {
    let pair = Pair::start().await;
    // What this connection wrote, the replica has.
    confirmed(&pair.publish("replicated", "other").await);
    pair.replica.pause().await;
    let stored = pair.publish("stored", "k").await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    let repeated = pair.publish("replicated", "k").await;
    assert_eq!((repeated.status, &*repeated.code()), (503, "replication_unconfirmed"), "{}", repeated.text());
    assert_eq!(repeated.json()["position"], stored.json()["position"]);
    pair.replica.resume();
    let again = eventually("a replica to confirm", async || {
        let answer = pair.publish("replicated", "k").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(confirmed(&again), stored.json()["position"]);
}
