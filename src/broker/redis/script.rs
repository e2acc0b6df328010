//! The scripts that run inside Redis, each one atomic step.

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::prelude::{FredResult, LuaInterface};
use fred::types::{ClusterHash, CustomCommand, Key, Value};

use super::directory::run;
use crate::ablation::{Safeguard, ablated};

const NUMBERING: &str = include_str!("lua/numbering.lua");

/// A script that Redis knows by the hash of its text.
#[derive(Debug)]
pub(super) struct Script {
    source: String,
    hash: String,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) publish: Script,
    pub(super) publish_volatile: Script,
    pub(super) read: Script,
    pub(super) snapshot: Script,
    pub(super) confirm: Script,
    pub(super) seed: Script,
    pub(super) probe: Script,
}

impl Scripts {
    /// In a cluster each slot has births of its own.
    pub(super) fn new(is_cluster: bool) -> Self {
        let (writes, reads) = (!ablated(Safeguard::Fence), !ablated(Safeguard::ReadFence));
        let script = |body, fenced| Script::of(body, fenced, is_cluster);
        Scripts {
            publish: script(include_str!("lua/publish.lua"), writes),
            publish_volatile: script(include_str!("lua/publish_volatile.lua"), true),
            read: script(include_str!("lua/read.lua"), reads),
            snapshot: script(include_str!("lua/snapshot.lua"), reads),
            confirm: script(include_str!("lua/confirm.lua"), reads),
            seed: script(include_str!("lua/seed.lua"), true),
            probe: script(include_str!("lua/probe.lua"), true),
        }
    }
}

impl Script {
    /// A script that begins no numbering.
    pub(super) fn new(body: &str, fenced: bool) -> Self {
        Script::of(body, fenced, false)
    }

    fn of(body: &str, fenced: bool, is_cluster: bool) -> Self {
        // An entry of births takes some 70 bytes, a channel that was published on 300 at least: births are begun anew where there
        // are more than a quarter as many as keys, of a cluster with four primaries or more as many in each of its 16,384 slots.
        let (births_max, births_share) = if is_cluster { (64, 4 * 16_384 / 4) } else { (100_000, 4) };
        let constants = format!(
            "local FENCED, BIRTHS_MAX, BIRTHS_SHARE = {fenced}, {births_max}, {births_share}\n{NUMBERING}\n"
        );
        let source = constants + body;
        Script { hash: fred::util::sha1_hash(&source), source }
    }

    /// Runs the script; a server that does not know it (any more) is told its text.
    pub(super) async fn run(&self, client: &Client, keys: Vec<Key>, args: Vec<Value>) -> FredResult<Value> {
        if is_asking() {
            return self.ask(client, keys, args).await;
        }
        match client.evalsha(self.hash.as_str(), keys.clone(), args.clone()).await {
            Err(error) if is_unknown_script(&error) => client.eval(self.source.as_str(), keys, args).await,
            answer => answer,
        }
    }

    /// The same by its text, after an `ASKING`, which holds for the one command that follows on the connection.
    async fn ask(&self, client: &Client, keys: Vec<Key>, args: Vec<Value>) -> FredResult<Value> {
        let pair = client.pipeline();
        let asking = CustomCommand::new_static("ASKING", ClusterHash::Random, false);
        let queued: FredResult<()> = pair.custom(asking, Vec::<Value>::new()).await;
        queued?;
        let mut words: Vec<Value> = vec![self.source.as_str().into(), keys.len().to_string().into()];
        words.extend(keys.into_iter().map(|key| Value::Bytes(key.into_bytes())));
        words.extend(args);
        let eval = CustomCommand::new_static("EVAL", ClusterHash::Random, false);
        let queued: FredResult<()> = pair.custom(eval, words).await;
        queued?;
        pair.try_all::<Value>().await.pop().unwrap_or_else(|| Err(Error::new_canceled()))
    }

    /// Runs a script that writes nothing, where writes are refused or stopped, too.
    pub(super) async fn run_reading(
        &self,
        client: &Client,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> FredResult<Value> {
        if is_asking() {
            return self.ask(client, keys, args).await;
        }
        let words = |script: &str| {
            let count = keys.len().to_string();
            let keys = keys.iter().cloned().map(Value::from);
            [script.into(), count.into()].into_iter().chain(keys).chain(args.iter().cloned()).collect()
        };
        match run(client, "EVALSHA_RO", words(&self.hash)).await {
            Err(error) if is_unknown_script(&error) => run(client, "EVAL_RO", words(&self.source)).await,
            answer => answer,
        }
    }
}

tokio::task_local! {
    /// What runs within is asked of a server to which the slot still moves.
    static ASKING: ();
}

/// Lets all scripts that are run in `work` say that they know that the slot is not there yet.
pub(super) async fn asking<T>(work: impl Future<Output = T>) -> T {
    ASKING.scope((), work).await
}

fn is_asking() -> bool {
    ASKING.try_with(|()| ()).is_ok()
}

fn is_unknown_script(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}
