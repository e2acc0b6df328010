//! Asks a cluster which server holds which slots.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::prelude::{Config, FredResult};
use fred::types::Value;
use fred::types::config::{Server, ServerConfig};
use futures::future::join_all;
use tracing::{info, warn};

use super::directory::run;
use super::links::{Purpose, client};
use super::shard::AbortOnDrop;
use super::shards::{Range, Shards};

/// How often the cluster is asked.
const PAUSE: Duration = Duration::from_millis(500);

/// The least time between two surveys, however many say that the map is not right.
const REST: Duration = Duration::from_millis(20);

/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a node that is named in the configuration may take to connect and answer.
const SEED_TIMEOUT: Duration = Duration::from_secs(1);

/// Who holds which slots, as the first node says that answers of those that are named in the configuration.
pub(super) async fn first(config: &Config) -> Result<Vec<Range>, Error> {
    let mut last = Error::new(ErrorKind::Config, "no node of the cluster is named");
    for server in config.server.hosts() {
        let asked = tokio::time::timeout(SEED_TIMEOUT, ask_seed(config, &server)).await;
        match asked {
            Ok(Ok(ranges)) if !ranges.is_empty() => return Ok(ranges),
            Ok(Ok(_)) => last = Error::new(ErrorKind::Cluster, format!("{server} knows of no slots")),
            Ok(Err(error)) => last = error,
            Err(_) => last = Error::new(ErrorKind::Timeout, format!("{server} does not answer")),
        }
    }
    Err(last)
}

async fn ask_seed(config: &Config, server: &Server) -> FredResult<Vec<Range>> {
    let mut config = config.clone();
    config.server = ServerConfig::Centralized { server: server.clone() };
    let client = client(&config, Purpose::Commands)?;
    let _connection = AbortOnDrop(client.connect());
    ask(&client, &server.host).await
}

/// Keeps the map right until dropped.
pub(super) async fn keep(shards: Arc<Shards>, config: Config) {
    loop {
        // Either way it is time to look.
        tokio::time::timeout(PAUSE, shards.stale.notified()).await.ok();
        if let Some(ranges) = ask_all(&shards, &config).await
            && !shards.map().is_divided_like(&ranges)
        {
            info!(ranges = ranges.len(), "the cluster's slots are held otherwise now");
            if let Err(error) = shards.divide(ranges) {
                warn!(%error, "a server of the cluster cannot be used");
            }
        }
        tokio::time::sleep(REST).await;
    }
}

/// What most of the primaries say that answer; of two opinions with as many voices each, none.
async fn ask_all(shards: &Shards, config: &Config) -> Option<Vec<Range>> {
    let map = shards.map();
    let asked = map.shards.iter().map(|shard| async move {
        let host = shard.server.as_ref().map_or("", |server| &*server.host);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(&shard.commands, host)).await;
        answer.ok()?.ok().filter(|ranges| !ranges.is_empty())
    });
    let opinions: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    if opinions.is_empty() {
        return first(config).await.ok();
    }
    let voices = |opinion: &Vec<Range>| opinions.iter().filter(|other| *other == opinion).count();
    let most = opinions.iter().map(voices).max()?;
    let winner = opinions.iter().find(|opinion| voices(opinion) == most)?;
    let is_contested = opinions.iter().any(|other| voices(other) == most && other != winner);
    (!is_contested).then(|| winner.clone())
}

async fn ask(client: &Client, host: &str) -> FredResult<Vec<Range>> {
    let answer = run(client, "CLUSTER", vec!["SLOTS".into()]).await?;
    let mut ranges: Vec<Range> =
        answer.into_array().into_iter().filter_map(|range| read(range, host)).collect();
    ranges.sort_by_key(|range| range.first);
    Ok(ranges)
}

/// One row of `CLUSTER SLOTS`: first, last, the primary, its replicas. A node that does not know its own address is where it
/// was reached.
fn read(row: Value, reached: &str) -> Option<Range> {
    let row = row.into_array();
    let [first, last, primary, ..] = row.as_slice() else { return None };
    let number = |value: &Value| value.as_u64()?.try_into().ok();
    let primary = primary.clone().into_array();
    let [host, port, ..] = primary.as_slice() else { return None };
    let host = host.as_str().filter(|host| !host.is_empty() && host != "?");
    let server = Server::new(host.as_deref().unwrap_or(reached), port.as_u64()?.try_into().ok()?);
    Some(Range { first: number(first)?, last: number(last)?, server })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_its_primary_and_one_without_an_address_is_where_it_was_reached() {
        let row = |first: i64, host: &str| {
            let primary = Value::Array(vec![host.into(), 6_379.into(), "id".into()]);
            Value::Array(vec![first.into(), 16_383.into(), primary])
        };
        for (host, expected) in [("10.0.0.1", "10.0.0.1"), ("", "reached")] {
            let server = Server::new(expected, 6_379);
            assert_eq!(read(row(5, host), "reached"), Some(Range { first: 5, last: 16_383, server }));
        }
        assert_eq!(read(row(70_000, "a"), "reached"), None);
        assert_eq!(read(Value::Null, "reached"), None);
    }
}
