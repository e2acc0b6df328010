//! The scripts that run inside Redis, each one atomic step.

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::prelude::{FredResult, LuaInterface};
use fred::types::{ClusterHash, CustomCommand, Key, Value};

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
}

impl Scripts {
    pub(super) fn new() -> Self {
        let (writes, reads) = (!ablated(Safeguard::Fence), !ablated(Safeguard::ReadFence));
        Scripts {
            publish: Script::new(include_str!("lua/publish.lua"), writes),
            publish_volatile: Script::new(include_str!("lua/publish_volatile.lua"), true),
            read: Script::new(include_str!("lua/read.lua"), reads),
            snapshot: Script::new(include_str!("lua/snapshot.lua"), reads),
            confirm: Script::new(include_str!("lua/confirm.lua"), reads),
        }
    }
}

impl Script {
    pub(super) fn new(body: &str, fenced: bool) -> Self {
        let source = format!("local FENCED = {fenced}\n{NUMBERING}\n{body}");
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
