//! Asks the sentinels who the primary is. One that was deposed hears of it some ten seconds later, and until then takes in
//! what will be lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::prelude::{Config, ServerInterface};
use fred::types::config::{Server, ServerConfig};
use futures::future::join_all;
use tracing::{debug, warn};

use super::directory::run;
use super::links::{Purpose, client};
use super::shard::AbortOnDrop;
use super::shards::Shards;

/// How often they are asked.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a sentinel may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Leaves a primary that most sentinels do not call one, until dropped.
pub(super) async fn keep(shards: Arc<Shards>, config: Config) {
    let ServerConfig::Sentinel { hosts, service_name, username, password } = config.server.clone() else {
        return;
    };
    let own = Config { username, password, database: None, ..config };
    let asked: Result<Vec<_>, Error> = hosts.into_iter().map(|server| ask_at(&own, server)).collect();
    let (sentinels, _connections): (Vec<Client>, Vec<AbortOnDrop>) = match asked {
        Ok(sentinels) => sentinels.into_iter().unzip(),
        Err(error) => return warn!(%error, "the sentinels cannot be asked"),
    };
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(primary) = named_by_most(&sentinels, &service_name).await else { continue };
        let map = shards.map();
        let astray = map.shards.iter().flat_map(|shard| &shard.clients).filter(|client| {
            client
                .sentinel_primary()
                .is_some_and(|server| (&*server.host, server.port) != (&*primary.0, primary.1))
        });
        join_all(astray.map(leave)).await;
    }
}

fn ask_at(own: &Config, server: Server) -> Result<(Client, AbortOnDrop), Error> {
    let config = Config { server: ServerConfig::Centralized { server }, ..own.clone() };
    let client = client(&config, Purpose::Commands)?;
    let connection = AbortOnDrop(client.connect());
    Ok((client, connection))
}

async fn leave(client: &Client) {
    warn!("the sentinels name another primary: a redis connection is given up");
    if let Err(error) = client.force_reconnection().await {
        debug!(%error, "no new connection");
    }
}

/// The host and port that more than half of all sentinels name.
async fn named_by_most(sentinels: &[Client], service: &str) -> Option<(String, u16)> {
    let asked = sentinels.iter().map(|sentinel| async move {
        let answer = run(sentinel, "SENTINEL", vec!["GET-MASTER-ADDR-BY-NAME".into(), service.into()]);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()?.ok()?.into_array();
        let [host, port] = answer.as_slice() else { return None };
        Some((host.as_string()?, port.as_u64()?.try_into().ok()?))
    });
    let mut voices: HashMap<(String, u16), usize> = HashMap::new();
    for named in join_all(asked).await.into_iter().flatten() {
        *voices.entry(named).or_default() += 1;
    }
    voices.into_iter().find(|(_, count)| count * 2 > sentinels.len()).map(|(named, _)| named)
}
