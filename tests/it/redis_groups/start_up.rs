//! What a real process says of a Redis that it cannot use, or had better not.

use serde_json::json;

use crate::support::{Process, RedisCluster, RedisServer, TestServer, eventually};

/// Starts an instance on a free port.
fn start(url: &str, redis: &str) -> Process {
    let toml = format!("[redis]\nurl = \"{url}\"\n{redis}\n");
    Process::start(&["dev", "--listen", "127.0.0.1:0"], &toml)
}

/// All that an instance says that cannot start.
async fn refused(url: &str) -> String {
    let (status, said) = start(url, "").ended().await;
    assert!(!status.success(), "{said}");
    said
}

/// All that an instance says that starts.
async fn accepted(url: &str, redis: &str) -> String {
    let process = start(url, redis);
    eventually("readiness", async || process.stderr().contains("ready").then_some(())).await;
    process.stderr()
}

#[track_caller]
fn demand(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
}

#[tokio::test]
async fn a_redis_that_cannot_be_used_is_refused_with_what_to_do() {
    let [server, replica] = [RedisServer::start("").await, RedisServer::start("").await];
    replica.replica_of(&server).await;
    demand(&refused(&replica.url()).await, &["it is a replica: name the primary", "redis-sentinel://"]);

    let acl = ["ACL", "SETUSER", "poor", "on", ">canary", "~*", "&*", "+@all", "-info"];
    assert_eq!(server.command(&acl).await.text(), "OK");
    let poor = server.url().replace("redis://", "redis://poor:canary@");
    let said = refused(&poor).await;
    demand(&said, &["lacks the right to INFO", "ACL SETUSER <user> +info"]);
    assert!(!said.contains("canary"), "{said}");
    for (rights, words) in [
        (&["+info", "-setrange"][..], "right to SETRANGE"),
        (&["-getrange"], "right to GETRANGE, SETRANGE"),
        (&["+@all", "-ping", "-subscribe"], "right to PING, SUBSCRIBE"),
        (&["+@all", "-unsubscribe", "-evalsha_ro", "-sscan"], "right to EVALSHA_RO, SSCAN, UNSUBSCRIBE"),
        (&["+@all", "resetchannels", "&tidings:{a}*"], "right to PUBLISH"),
        (&["allchannels", "resetkeys", "~other:*"], "to what begins with tidings"),
    ] {
        let acl = [&["ACL", "SETUSER", "poor"], rights].concat();
        assert_eq!(server.command(&acl).await.text(), "OK");
        demand(&refused(&poor).await, &[words, "`ACL SETUSER <user> ~tidings:* &tidings:* +"]);
    }

    let wrong = server.url().replace("redis://", "redis://poor:canary-wrong@");
    let said = refused(&wrong).await;
    demand(&said, &["cannot be used", "WRONGPASS"]);
    assert!(!said.contains("canary"), "{said}");

    let nobody = format!("redis://127.0.0.1:{}", crate::support::free_port());
    demand(&refused(&nobody).await, &[&nobody, "cannot be used"]);
    let no_cluster = server.url().replace("redis://", "redis-cluster://");
    demand(&refused(&no_cluster).await, &["cannot be used", "cluster support disabled"]);
}

#[tokio::test]
async fn a_redis_that_may_lose_things_is_used_with_a_warning() {
    let lines = "maxmemory-policy allkeys-lru\nclient-output-buffer-limit pubsub 1mb 1mb 60\n";
    let [server, replica, other] =
        [RedisServer::start(lines).await, RedisServer::start("").await, RedisServer::start("").await];
    replica.replica_of(&server).await;
    let said = accepted(&server.url(), "replicas = 2").await;
    demand(
        &said,
        &[
            "allkeys-lru",
            "set maxmemory-policy noeviction",
            "set client-output-buffer-limit pubsub 32mb 8mb 60",
            "fewer replicas than redis.replicas",
        ],
    );
    const ADVICE: &str = "set min-replicas-to-write 1";
    assert!(!said.contains(ADVICE), "a primary made of the only replica would refuse all writes: {said}");
    other.replica_of(&server).await;
    demand(&accepted(&server.url(), "replicas = 2").await, &[ADVICE]);
}

#[tokio::test]
async fn a_user_with_the_rights_that_are_asked_for_is_enough() {
    let server = RedisServer::start("").await;
    let acl = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">canary",
        "~tidings:*",
        "&tidings:*",
        "+@all",
        "-@dangerous",
        "+info",
    ];
    assert_eq!(server.command(&acl).await.text(), "OK");
    accepted(&server.url().replace("redis://", "redis://app:canary@"), "").await;
}

#[tokio::test]
async fn a_redis_without_fault_is_used_without_a_word() {
    let [server, replica] =
        [RedisServer::start("min-replicas-to-write 1\n").await, RedisServer::start("").await];
    replica.replica_of(&server).await;
    let said = accepted(&server.url(), "replicas = 1").await;
    assert!(!said.contains("WARN"), "{said}");
}

#[tokio::test]
async fn every_primary_of_a_cluster_is_looked_at() {
    let cluster = RedisCluster::start("min-replicas-to-write 1\ncluster-require-full-coverage no\n").await;
    let said = accepted(&cluster.url(), "").await;
    assert!(!said.contains("WARN"), "{said}");
    for (setting, value) in [("maxmemory-policy", "allkeys-lru"), ("cluster-require-full-coverage", "yes")] {
        let set = cluster.nodes[2].command(&["CONFIG", "SET", setting, value]).await;
        assert_eq!(set.text(), "OK");
    }
    let said = accepted(&cluster.url(), "").await;
    demand(&said, &["allkeys-lru", "set cluster-require-full-coverage no"]);
}

#[tokio::test]
async fn instances_that_are_configured_otherwise_say_so() {
    let server = RedisServer::start("").await;
    let redis = format!("[redis]\nurl = \"{}\"\n", server.url());
    let of = |size: usize| format!("{redis}[namespace.chat]\nhistory_size = {size}\n");
    let keeps = TestServer::dev(&of(100)).await;
    let keeps_less = TestServer::dev(&of(10)).await;
    let volatile = Process::start(&["dev", "--listen", "127.0.0.1:0"], &of(0));
    let address = json!(volatile.address().await);
    let said = eventually("a warning", async || {
        let said = volatile.stderr();
        said.contains("configured otherwise").then_some(said)
    })
    .await;
    demand(
        &said,
        &["\"differences\":\"namespaces\"", &keeps.address.to_string(), &keeps_less.address.to_string()],
    );
    let view = eventually("all three", async || {
        let view = keeps.get("/v1/cluster").send().await.json();
        (view["instances"].as_array().map(Vec::len) == Some(3)).then_some(view)
    })
    .await;
    for instance in view["instances"].as_array().expect("a list") {
        let expected = if instance["address"] == address { json!(["namespaces"]) } else { json!([]) };
        assert_eq!(instance["differences"], expected, "{view}");
    }
}

#[tokio::test]
async fn health_says_that_nothing_can_be_stored_though_everything_can_be_read() {
    let redis = RedisServer::start("").await;
    let server = TestServer::dev(&format!("[redis]\nurl = \"{}\"\n", redis.url())).await;
    let publish = async || server.post("/v1/publish/a", "1").send().await.status;
    let health = async |status: u16, words: &str| {
        eventually(words, async || {
            let answer = server.get("/health").send().await;
            (answer.status == status && answer.text().contains(words)).then_some(())
        })
        .await;
    };
    assert_eq!(publish().await, 200);
    health(200, "reachable").await;
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    health(503, "readable, and refuses writes: NOREPLICAS").await;
    assert_eq!(publish().await, 503);
    let history = server.get("/v1/channels/a/history").send().await;
    assert_eq!(history.json()["publications"].as_array().map(Vec::len), Some(1), "{}", history.text());
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    health(200, "reachable").await;
    assert_eq!(publish().await, 200);
}
