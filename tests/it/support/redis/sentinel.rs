//! A primary, two replicas, and three sentinels that watch over them.

use std::net::SocketAddr;

use super::server::field;
use super::{RedisServer, Reply};
use crate::support::eventually;

/// What the sentinels call the group.
const NAME: &str = "tidings";

/// A group of servers whose primary changes when it fails.
pub(crate) struct SentinelGroup {
    pub(crate) servers: Vec<RedisServer>,
    pub(crate) sentinels: Vec<RedisServer>,
}

impl SentinelGroup {
    /// Starts a group, with further lines for its servers, and waits until every sentinel knows all others.
    pub(crate) async fn start(lines: &str) -> SentinelGroup {
        let mut servers = vec![RedisServer::start(lines).await];
        for _ in 0..2 {
            let replica = RedisServer::start(lines).await;
            replica.replica_of(&servers[0]).await;
            servers.push(replica);
        }
        let primary = servers[0].address().port();
        let watch = |_| {
            format!(
                "bind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 2000\n\
                 sentinel announce-ip 127.0.0.1\n"
            )
        };
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(RedisServer::start_as(&["--sentinel"], watch).await);
        }
        let group = SentinelGroup { servers, sentinels };
        group.wait_until_complete().await;
        group
    }

    /// Waits until every sentinel knows all others, and calls all servers well.
    pub(crate) async fn wait_until_complete(&self) {
        eventually("sentinels that know all others", async || self.is_complete().await.then_some(())).await;
    }

    /// Starts a server that is dead again, as a replica of the primary.
    pub(crate) async fn revive(&mut self, index: usize) {
        assert!(self.servers[index].start_again().await, "it starts again");
        let primary = self.primary().await;
        self.servers[index].replica_of(&self.servers[primary]).await;
    }

    /// Lets no replica hear any more of what the primary writes: a failover loses it.
    pub(crate) async fn cut_replicas_off(&self) {
        let primary = &self.servers[self.primary().await];
        let denied = primary.command(&["ACL", "SETUSER", "default", "-psync", "-sync"]).await;
        assert_eq!(denied.text(), "OK");
        eventually("no replica to be left", async || {
            primary.command(&["CLIENT", "KILL", "TYPE", "replica"]).await;
            (primary.info("replication", "connected_slaves").await == "0").then_some(())
        })
        .await;
    }

    /// `redis-sentinel://…`, for the configuration of an instance.
    pub(crate) fn url(&self) -> String {
        let [first, second, third] = [0, 1, 2].map(|index: usize| self.sentinels[index].address());
        format!("redis-sentinel://{first}/0?node={second}&node={third}&sentinelServiceName={NAME}")
    }

    /// The index of the server that all sentinels that live take for the primary, once they agree.
    pub(crate) async fn primary(&self) -> usize {
        eventually("a primary that all sentinels name", async || {
            let mut named = Vec::new();
            for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.is_alive()) {
                // One that is paused has no say.
                let Ok(reply) = sentinel.try_command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await
                else {
                    continue;
                };
                named.push(address_in(&reply)?);
            }
            named.dedup();
            let [address] = named[..] else { return None };
            self.servers.iter().position(|server| server.is_alive() && server.address() == address)
        })
        .await
    }

    /// Has the sentinels make another server the primary; returns its index once it is one.
    pub(crate) async fn failover(&self) -> usize {
        let before = self.primary().await;
        // It refuses while it still follows what the last one changed.
        eventually("a failover to begin", async || {
            let begun = self.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]).await;
            (begun == Reply::Text("OK".to_owned())).then_some(())
        })
        .await;
        self.other_primary_than(before).await
    }

    /// The index of the primary that follows this one.
    pub(crate) async fn other_primary_than(&self, before: usize) -> usize {
        eventually("another primary", async || {
            let now = self.primary().await;
            (now != before && self.servers[now].role().await == "master").then_some(now)
        })
        .await
    }

    async fn is_complete(&self) -> bool {
        for sentinel in &self.sentinels {
            let known = sentinel.info("sentinel", "master0").await;
            if !known.contains("status=ok") || !known.ends_with("slaves=2,sentinels=3") {
                return false;
            }
        }
        // One that missed the last change would undo it.
        let primary = self.servers[self.primary().await].address().port().to_string();
        for server in self.servers.iter().filter(|server| server.is_alive()) {
            let replication = server.command(&["INFO", "replication"]).await;
            let line = |name| field(replication.text(), name);
            let follows = line("master_port") == primary && line("master_link_status") == "up";
            if !follows && (line("role") != "master" || server.address().port().to_string() != primary) {
                return false;
            }
        }
        true
    }
}

fn address_in(reply: &Reply) -> Option<SocketAddr> {
    let [host, port] = reply.list() else { return None };
    format!("{}:{}", host.text(), port.text()).parse().ok()
}
