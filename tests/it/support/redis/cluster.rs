//! Three primaries that share the slots, and a replica of each.

use super::server::field;
use super::{RedisServer, Reply};
use crate::support::{eventually, free_port};

/// How many slots there are.
const SLOTS: u16 = 16_384;

/// Primaries at first: the nodes of indices 0 to 2, whose replicas are 3 to 5.
const SHARDS: usize = 3;

/// A cluster of six nodes.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

/// A node as another one sees it.
struct Seen {
    port: u16,
    /// The primary that it follows.
    primary: String,
    is_up: bool,
}

impl RedisCluster {
    /// Starts a cluster, with further lines for its nodes, and waits until every node calls it whole.
    pub(crate) async fn start(lines: &str) -> RedisCluster {
        let mut nodes = Vec::new();
        for _ in 0..2 * SHARDS {
            let bus = free_port();
            let lines = format!(
                "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1000\n\
                 cluster-replica-validity-factor 0\ncluster-announce-ip 127.0.0.1\n{lines}"
            );
            nodes.push(RedisServer::start(&lines).await);
        }
        let cluster = RedisCluster { nodes };
        cluster.introduce().await;
        cluster.share_slots().await;
        for shard in 0..SHARDS {
            let primary = cluster.id(shard).await;
            cluster.order(SHARDS + shard, &["CLUSTER", "REPLICATE", &primary]).await;
        }
        cluster.wait_until_whole().await;
        cluster
    }

    /// `redis-cluster://…`, for the configuration of an instance.
    pub(crate) fn url(&self) -> String {
        let others: Vec<String> =
            self.nodes[1..].iter().map(|node| format!("node={}", node.address())).collect();
        format!("redis-cluster://{}?{}", self.nodes[0].address(), others.join("&"))
    }

    /// The slot of a key.
    pub(crate) async fn slot_of(&self, key: &str) -> u16 {
        self.any().command(&["CLUSTER", "KEYSLOT", key]).await.integer() as u16
    }

    /// The index of the node that all nodes that live take for the owner of a key, once they agree.
    pub(crate) async fn primary_of(&self, key: &str) -> usize {
        let slot = self.slot_of(key).await;
        eventually("an owner that all nodes name", async || {
            let mut named = Vec::new();
            for node in self.nodes.iter().filter(|node| node.is_alive()) {
                // One that is paused has no say.
                let Ok(reply) = node.try_command(&["CLUSTER", "SLOTS"]).await else { continue };
                named.push(owner_among(&reply, slot)?);
            }
            named.dedup();
            let [port] = named[..] else { return None };
            self.nodes.iter().position(|node| node.is_alive() && node.address().port() == port)
        })
        .await
    }

    /// Kills the owner of a key; returns its index.
    pub(crate) async fn kill_primary_of(&mut self, key: &str) -> usize {
        let primary = self.primary_of(key).await;
        self.nodes[primary].kill9();
        primary
    }

    /// Has a replica of the key's owner take over in good order; returns its index once it owns the key.
    pub(crate) async fn failover_of(&self, key: &str) -> usize {
        let before = self.primary_of(key).await;
        let id = self.id(before).await;
        let replica = eventually("a replica", async || {
            let seen = seen_by(&self.nodes[before]).await;
            let replica = seen.iter().find(|node| node.primary == id && node.is_up)?;
            self.nodes.iter().position(|node| node.address().port() == replica.port)
        })
        .await;
        self.nodes[replica].wait_in_sync(&self.nodes[before]).await;
        self.order(replica, &["CLUSTER", "FAILOVER"]).await;
        eventually("the replica to take over", async || {
            (self.primary_of(key).await == replica).then_some(replica)
        })
        .await
    }

    /// Moves a slot with its keys to another primary, as an operator's tool does.
    pub(crate) async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to).await;
        self.move_keys(slot, from, to, usize::MAX).await;
        self.end_move(slot, from, to).await;
    }

    /// From now on keys of the slot move.
    pub(crate) async fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let (text, ids) = (slot.to_string(), [self.id(from).await, self.id(to).await]);
        self.order(to, &["CLUSTER", "SETSLOT", &text, "IMPORTING", &ids[0]]).await;
        self.order(from, &["CLUSTER", "SETSLOT", &text, "MIGRATING", &ids[1]]).await;
    }

    /// Moves so many keys of the slot; returns how many there were.
    pub(crate) async fn move_keys(&self, slot: u16, from: usize, to: usize, most: usize) -> usize {
        let (text, port) = (slot.to_string(), self.nodes[to].address().port().to_string());
        let mut moved = 0;
        while moved < most {
            let count = (most - moved).min(100).to_string();
            let keys = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &text, &count]).await;
            let keys: Vec<&str> = keys.list().iter().map(Reply::text).collect();
            if keys.is_empty() {
                break;
            }
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            self.order(from, &[&migrate[..], &keys].concat()).await;
            moved += keys.len();
        }
        moved
    }

    /// The slot is the other primary's.
    pub(crate) async fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (text, id) = (slot.to_string(), self.id(to).await);
        for node in [to, from] {
            self.order(node, &["CLUSTER", "SETSLOT", &text, "NODE", &id]).await;
        }
    }

    /// Waits until every node that lives serves all slots, and every replica is in touch with its primary.
    pub(crate) async fn wait_until_whole(&self) {
        eventually("a whole cluster", async || {
            for node in self.nodes.iter().filter(|node| node.is_alive()) {
                let info = node.command(&["CLUSTER", "INFO"]).await;
                let replication = node.command(&["INFO", "replication"]).await;
                let linked = ["", "up"].contains(&&*field(replication.text(), "master_link_status"));
                if field(info.text(), "cluster_state") != "ok" || !linked {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    fn any(&self) -> &RedisServer {
        self.nodes.iter().find(|node| node.is_alive()).expect("a node lives")
    }

    async fn id(&self, node: usize) -> String {
        self.nodes[node].command(&["CLUSTER", "MYID"]).await.text().to_owned()
    }

    async fn order(&self, node: usize, words: &[&str]) {
        let reply = self.nodes[node].command(words).await;
        assert_eq!(reply, Reply::Text("OK".to_owned()), "{words:?}");
    }

    async fn introduce(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            // Nodes that all call themselves the first would have to settle it among themselves.
            let epoch = (index + 1).to_string();
            self.order(index, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            let port = node.address().port().to_string();
            let bus = node.command(&["CONFIG", "GET", "cluster-port"]).await.list()[1].text().to_owned();
            self.order(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        eventually("nodes that know each other", async || {
            for node in &self.nodes {
                let seen = seen_by(node).await;
                if seen.len() != self.nodes.len() || !seen.iter().all(|node| node.is_up) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    async fn share_slots(&self) {
        for shard in 0..SHARDS {
            let bound = |shard: usize| usize::from(SLOTS) * shard / SHARDS;
            let (first, last) = (bound(shard).to_string(), (bound(shard + 1) - 1).to_string());
            self.order(shard, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        }
    }
}

/// All nodes, as one of them sees them.
async fn seen_by(node: &RedisServer) -> Vec<Seen> {
    let reply = node.command(&["CLUSTER", "NODES"]).await;
    let seen = reply.text().lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, address, flags, primary, _, _, _, link, ..] = words[..] else { return None };
        let port = address.split('@').next()?.rsplit(':').next()?.parse().ok()?;
        let has = |flag: &str| flags.split(',').any(|known| known == flag);
        let is_up = link == "connected" && !has("fail") && !has("fail?") && !has("handshake");
        Some(Seen { port, primary: primary.to_owned(), is_up })
    });
    seen.collect()
}

/// The port of the owner of a slot, among the answer to `CLUSTER SLOTS`.
fn owner_among(reply: &Reply, slot: u16) -> Option<u16> {
    let owner = reply.list().iter().find_map(|range| {
        let [first, last, primary, ..] = range.list() else { return None };
        let holds = (first.integer()..=last.integer()).contains(&i64::from(slot));
        holds.then(|| primary.list()[1].integer())
    });
    owner?.try_into().ok()
}
