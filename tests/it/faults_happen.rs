//! What the tests do to Redis, and to the way there, really happens.

use std::time::{Duration, Instant};

use crate::support::{
    Data, FaultProxy, Instance, Link, RedisCluster, RedisServer, Reply, SentinelGroup, Way, eventually,
    within,
};

fn text(text: &str) -> Reply {
    Reply::Text(text.to_owned())
}

#[tokio::test]
async fn a_restart_keeps_or_forgets_the_data_and_changes_the_numbering() {
    let mut server = RedisServer::start("").await;
    for (data, expected) in [(Data::Kept, text("v")), (Data::Gone, Reply::Nil)] {
        server.command(&["SET", "k", "v"]).await;
        let before = server.replid().await;
        server.restart(data).await;
        assert_eq!(server.command(&["GET", "k"]).await, expected, "{data:?}");
        assert_ne!(server.replid().await, before, "{data:?}");
    }
    server.kill9();
    assert!(!server.is_alive());
    assert!(server.try_command(&["PING"]).await.is_err(), "the dead do not answer");
    assert!(server.start_again().await);
}

#[tokio::test]
async fn a_promoted_replica_has_the_data_of_the_dead_and_a_numbering_of_its_own() {
    let [mut primary, replica] = [RedisServer::start("").await, RedisServer::start("").await];
    replica.replica_of(&primary).await;
    primary.command(&["SET", "k", "v"]).await;
    replica.wait_in_sync(&primary).await;
    let before = primary.replid().await;
    assert_eq!((replica.replid().await, replica.role().await), (before.clone(), "slave".to_owned()));
    primary.kill9();
    replica.promote().await;
    assert_eq!(replica.role().await, "master");
    assert_ne!(replica.replid().await, before);
    assert_eq!(replica.command(&["GET", "k"]).await, text("v"));
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_is_resumed() {
    let server = RedisServer::start("").await;
    server.pause().await;
    let silent = tokio::time::timeout(Duration::from_millis(300), server.try_command(&["PING"])).await;
    assert!(silent.is_err(), "it must not answer: {silent:?}");
    server.resume();
    assert_eq!(server.command(&["PING"]).await, text("PONG"));
}

#[tokio::test]
async fn keys_scripts_and_subscribers_can_be_taken_away() {
    let server = RedisServer::start("maxmemory 50mb\n").await;
    assert_eq!(server.command(&["CONFIG", "GET", "maxmemory"]).await.list()[1], text("52428800"));
    let script = server.command(&["SCRIPT", "LOAD", "return redis.call('SET', KEYS[1], 'v')"]).await;
    let run = ["EVALSHA", script.text(), "1", "k"];
    assert_eq!(server.command(&run).await, text("OK"));
    server.script_flush().await;
    assert!(matches!(server.command(&run).await, Reply::Error(why) if why.starts_with("NOSCRIPT")));
    server.flush_all().await;
    assert_eq!(server.command(&["GET", "k"]).await, Reply::Nil);
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"SUBSCRIBE c\r\n").await.unwrap();
    eventually("a subscriber", async || (server.kill_pubsub().await == 1).then_some(())).await;
    within("the end of it", tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes)).await.ok();
    assert_eq!(server.kill_pubsub().await, 0);
}

#[tokio::test]
async fn a_proxy_cuts_stalls_delays_and_refuses() {
    let server = RedisServer::start("").await;
    let proxy = FaultProxy::start(server.address()).await;
    assert_eq!(server.url(), format!("redis://{}", server.address()));
    assert_eq!(proxy.url(), format!("redis://{}", proxy.address));
    let ping = || Reply::ask(proxy.address, &["PING"]);
    assert_eq!(ping().await.unwrap(), text("PONG"));
    let (up, down) = (proxy.bytes(Way::Up), proxy.bytes(Way::Down));
    assert_eq!((up, down), ("*1\r\n$4\r\nPING\r\n".len() as u64, "+PONG\r\n".len() as u64));

    for (way, arrives) in [(Way::Up, 0), (Way::Down, up)] {
        let before = proxy.bytes(Way::Up);
        proxy.stall(way);
        let asked = tokio::spawn(Reply::ask(proxy.address, &["PING"]));
        eventually("a connection", async || (proxy.open() == 1).then_some(())).await;
        eventually("the bytes", async || (proxy.bytes(Way::Up) == before + arrives).then_some(())).await;
        assert!(!asked.is_finished(), "{way:?}");
        proxy.flow();
        assert_eq!(asked.await.unwrap().unwrap(), text("PONG"), "{way:?}");
        eventually("the end of it", async || (proxy.open() == 0).then_some(())).await;
    }

    let begun = Instant::now();
    proxy.delay(Way::Down, Duration::from_millis(100));
    assert_eq!(ping().await.unwrap(), text("PONG"));
    assert!(begun.elapsed() >= Duration::from_millis(100));

    proxy.stall(Way::Up);
    let asked = tokio::spawn(Reply::ask(proxy.address, &["PING"]));
    eventually("a connection", async || (proxy.open() == 1).then_some(())).await;
    assert_eq!(proxy.cut_all(), 1);
    assert!(within("the cut", asked).await.unwrap().is_err());
    proxy.flow();

    proxy.refuse(true);
    assert!(ping().await.is_err());
    proxy.refuse(false);
    assert_eq!(ping().await.unwrap(), text("PONG"));
    assert_eq!((proxy.accepted(), proxy.refused()), (6, 1));
}

#[tokio::test]
async fn each_instance_has_a_way_of_its_own_to_the_one_redis() {
    let server = RedisServer::start("").await;
    let direct = Instance::new(&Link::Direct(server.url()), "[limits]", "replicas = 1").await;
    let expected = format!("[limits]\n[redis]\nurl = \"{}\"\nreplicas = 1\n", server.url());
    assert_eq!(direct.config(), expected);
    let link = Link::Proxied(server.address());
    let [one, other] = [Instance::new(&link, "", "").await, Instance::new(&link, "", "").await];
    assert_ne!(one.address, other.address);
    for instance in [&one, &other] {
        let proxy = instance.proxy.as_ref().expect("it is behind one");
        assert!(instance.config().contains(&proxy.url()), "{}", instance.config());
        assert_eq!(Reply::ask(proxy.address, &["PING"]).await.unwrap(), text("PONG"));
        assert_eq!(proxy.accepted(), 1);
    }
}

#[tokio::test]
async fn sentinels_name_another_primary_when_told_and_when_it_dies() {
    let mut group = SentinelGroup::start("").await;
    let first = group.primary().await;
    assert!(group.url().starts_with("redis-sentinel://127.0.0.1:"));
    let before = group.servers[first].replid().await;
    let second = group.failover().await;
    assert_ne!(second, first);
    assert_ne!(group.servers[second].replid().await, before);
    group.servers[second].kill9();
    assert_ne!(group.other_primary_than(second).await, second);
}

#[tokio::test]
async fn a_cluster_changes_owners_when_told_when_one_dies_and_when_a_slot_moves() {
    let mut cluster = RedisCluster::start("").await;
    assert_eq!(cluster.url().matches("node=127.0.0.1:").count(), 5);
    let key = "c";
    let first = cluster.primary_of(key).await;
    cluster.nodes[first].command(&["SET", key, "v"]).await;
    let second = cluster.failover_of(key).await;
    assert_ne!(second, first);
    let slot = cluster.slot_of(key).await;
    let other = cluster.primary_of("another").await;
    assert_ne!(other, second, "the keys are chosen so that they lie apart");
    cluster.move_slot(slot, second, other).await;
    assert_eq!(cluster.primary_of(key).await, other);
    assert_eq!(cluster.nodes[other].command(&["GET", key]).await, text("v"));
    assert_eq!(cluster.kill_primary_of(key).await, other);
    let last = eventually("another owner", async || {
        let now = cluster.primary_of(key).await;
        (now != other).then_some(now)
    })
    .await;
    cluster.wait_until_whole().await;
    assert_eq!(cluster.nodes[last].command(&["GET", key]).await, text("v"));
}
