//! What a Redis must be for positions to be kept, and what it had better be.

use std::collections::HashMap;

use fred::clients::Client;
use fred::types::Value;
use tidings_protocol::LogName;
use tracing::{info, warn};

use super::directory::run;
use super::shard::Shard;
use super::shards::Map;
use super::store::RedisStore;

/// The oldest version: the first with sharded pub/sub.
const VERSION_MIN: (u32, u32) = (7, 0);

/// Redis's own bound of what waits for a subscriber, in bytes.
const SUBSCRIBER_BUFFER: u64 = 32 << 20;

/// Asks which rights the scripts lack.
const RIGHTS: &str = include_str!("lua/rights.lua");

/// Refuses a Redis that cannot be used, with what to do; warns of one that may lose things.
pub(super) async fn check(
    shard: &Shard,
    map: &Map,
    store: &RedisStore,
    replicas: usize,
) -> Result<(), String> {
    let client = &shard.commands;
    check_version(&info_of(client, "server").await?)?;
    check_rights(shard, store, replicas).await?;
    let replication = info_of(client, "replication").await?;
    check_replication(&replication)?;
    store.try_out(shard, map).await?;
    let settings = Settings { client };
    settings.check_eviction().await;
    settings.check_buffer().await;
    settings.check_replicas(&replication, replicas).await;
    if shard.server.is_some() {
        settings.check_coverage().await;
    }
    Ok(())
}

/// A section of `INFO`: the scripts read it too, so that without the right to it nothing works.
async fn info_of(client: &Client, section: &'static str) -> Result<HashMap<String, String>, String> {
    let answer = run(client, "INFO", vec![section.into()]).await.map_err(|error| {
        if error.details().contains("NOPERM") {
            "the user lacks the right to INFO, which tells a failover: `ACL SETUSER <user> +info`".to_owned()
        } else {
            error.to_string()
        }
    })?;
    Ok(pairs(&answer.into_string().unwrap_or_default()))
}

fn pairs(info: &str) -> HashMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.trim().split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn check_version(server: &HashMap<String, String>) -> Result<(), String> {
    let version = server.get("redis_version").map_or("", String::as_str);
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let seen = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match seen >= VERSION_MIN {
        true => Ok(()),
        false => Err(format!("its version is {version:?}, and 7.0 is the oldest that works")),
    }
}

fn check_replication(replication: &HashMap<String, String>) -> Result<(), String> {
    if replication.get("role").is_none_or(|role| role != "master") {
        return Err(
            "it is a replica: name the primary, or use redis-sentinel:// or redis-cluster://".to_owned()
        );
    }
    match replication.get("master_replid").is_none_or(String::is_empty) {
        true => {
            Err("INFO does not say its master_replid, without which a failover goes unnoticed".to_owned())
        }
        false => Ok(()),
    }
}

/// A script that lacks a right in its middle has done one half: so it is refused before it begins.
async fn check_rights(shard: &Shard, store: &RedisStore, replicas: usize) -> Result<(), String> {
    let log = LogName::default().channel();
    let [subscribe, unsubscribe] = match shard.server.is_some() {
        true => ["SSUBSCRIBE", "SUNSUBSCRIBE"],
        false => ["SUBSCRIBE", "UNSUBSCRIBE"],
    };
    let args = vec![
        RIGHTS.into(),
        "0".into(),
        store.keys.versions(&log).into(),
        store.keys.announcements(&log).into(),
        store.announce.into(),
        subscribe.into(),
        unsubscribe.into(),
        store.keys.cluster().into(),
        if replicas > 0 { "wait".into() } else { "".into() },
    ];
    let missing = run(&shard.commands, "EVAL", args).await.map_err(|error| error.to_string())?;
    let missing: Vec<String> = missing.into_array().into_iter().filter_map(Value::into_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let prefix = store.keys.prefix();
    Err(format!(
        "the user lacks the right to {}, or to what begins with {prefix}: `ACL SETUSER <user> ~{prefix}:* &{prefix}:* +{}`",
        missing.join(", ").to_uppercase(),
        missing.join(" +")
    ))
}

/// What the server is configured to, where we may look.
struct Settings<'a> {
    client: &'a Client,
}

impl Settings<'_> {
    async fn get(&self, name: &'static str) -> Option<String> {
        let answer = run(self.client, "CONFIG", vec!["GET".into(), name.into()]).await;
        match answer {
            // A map in one version of the protocol, a list in the other.
            Ok(Value::Map(map)) => map.inner().into_values().next()?.into_string(),
            Ok(answer) => answer.into_array().pop()?.into_string(),
            Err(_) => {
                info!(setting = name, "redis does not let us look at a setting: it goes unchecked");
                None
            }
        }
    }

    async fn check_eviction(&self) {
        if let Some(policy) = self.get("maxmemory-policy").await.filter(|policy| policy != "noeviction") {
            warn!(
                %policy,
                "redis may evict histories, which are gaps then, and tables of mutation logs, without which all caches are stale: set maxmemory-policy noeviction"
            );
        }
    }

    async fn check_buffer(&self) {
        let limits = self.get("client-output-buffer-limit").await.unwrap_or_default();
        let words: Vec<&str> = limits.split(' ').collect();
        let hard = words.iter().position(|word| *word == "pubsub").and_then(|at| words.get(at + 1));
        let hard = hard.and_then(|hard| hard.parse::<u64>().ok());
        if let Some(bytes) = hard.filter(|bytes| (1..SUBSCRIBER_BUFFER).contains(bytes)) {
            warn!(
                bytes,
                "redis closes subscribers that fall behind by so little: set client-output-buffer-limit pubsub 32mb 8mb 60"
            );
        }
    }

    async fn check_coverage(&self) {
        if self.get("cluster-require-full-coverage").await.is_some_and(|value| value == "yes") {
            warn!(
                "while one primary is replaced, the others refuse everything: set cluster-require-full-coverage no"
            );
        }
    }

    async fn check_replicas(&self, replication: &HashMap<String, String>, wanted: usize) {
        let connected = replication.get("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0);
        if connected < wanted {
            warn!(
                connected,
                wanted, "fewer replicas than redis.replicas: ack \"replicated\" cannot be reached"
            );
        }
        let least = self.get("min-replicas-to-write").await;
        // With one replica alone, a primary that was made of it would refuse all writes until there is another one.
        if connected > 1 && least.is_some_and(|least| least == "0") {
            warn!(
                "a primary that is cut off from its replicas accepts what a failover will lose: set min-replicas-to-write 1"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_is_refused_by_its_number() {
        for (version, fits) in [("7.0.15", true), ("8.2.0", true), ("6.2.14", false), ("", false)] {
            let server = pairs(&format!("# Server\r\nredis_version:{version}\r\n"));
            assert_eq!(check_version(&server).is_ok(), fits, "{version}");
        }
    }

    #[test]
    fn a_server_is_a_primary_that_says_its_replication_id() {
        for (info, fits) in [
            ("role:master\r\nmaster_replid:0f1e\r\n", true),
            ("role:slave\r\nmaster_replid:0f1e\r\n", false),
            ("role:master\r\nconnected_slaves:0\r\n", false),
            ("role:master\r\nmaster_replid:\r\n", false),
            ("", false),
        ] {
            assert_eq!(check_replication(&pairs(info)).is_ok(), fits, "{info}");
        }
    }
}
