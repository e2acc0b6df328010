//! Where a channel stands that nobody has published on, or whose numbering is kept under another replication id: what reads
//! compute and the first write stores.
//!
//! Reads write nothing. So they cannot fill Redis with names that somebody made up, and they are answered where writes are refused:
//! out of memory, without enough replicas, after a save that failed. All instances, and the write that comes, must compute the same.
//!
//! # Another replication id
//! The epoch that continues one is a hash of that epoch, the fork and the new id. Until a write stores it, with the fork in the
//! lineage, nothing changes of these three: the offset does not move without a write. A position that a read gave is then one of the
//! epoch that is stored.
//!
//! # No publication yet
//! The epoch is a hash of a *seed*, the channel's key, and *how often a numbering of the channel was begun*. The seed and the
//! counts are in one hash, `births`: one for all channels, in a cluster one for each slot. The first publication stores the epoch with the
//! channel, and counts; a log's first mutation likewise. It must never happen that this hash gives an epoch again in
//! which something was published: somebody might stand in it, and would be told that nothing was lost. Whatever becomes of the keys:
//!
//! | what is lost | what is computed then |
//! |---|---|
//! | the channel's meta, or a part of it (evicted, expired, deleted) | another epoch: the count is higher |
//! | `births` too, or everything | another one: a new seed is drawn at random |
//! | `births` alone | the channel's own epoch, which is kept; of empty channels another one |
//! | what came last, counts among it (a failover, a restart from an older file) | another one: the replication id is another, and with it the seed, which goes on as a hash of the old one and the id |
//!
//! The last row is why a seed is bound to the replication id as a channel is: the data alone may be as they were before the first
//! publication, but data go back only with another id. Who waits at an empty channel goes on over a failover: position 0 of the epochs that
//! earlier seeds give *for the same count* is in the lineage. Had the channel been published on before, under an earlier count, what
//! that gave is not.
//!
//! A count is kept for longer than its channel: it is what is left of it. So that they do not pile up, all begin anew, under a new
//! seed, once they are more than a quarter as many as all keys (100,000 at least); who waits at an empty channel then is told of a gap.
//!
//! The seed is stored by whoever first needs it: one write for all channels, not for each. Where that is refused, a read is answered with
//! an epoch of its own, at which nobody can go on.
//!
//! Not here: how publications are stored (`store`).

use std::iter;

use fred::clients::Client;
use fred::types::{Key, Value};
use tidings_protocol::Channel;
use tracing::debug;

use super::answer::{self, Failed};
use super::script::Script;
use super::store::RedisStore;

/// What scripts answer that need births among their keys.
const UNBORN: &str = "unborn";

/// What they answer where births have no seed.
const UNSEEDED: &str = "unseeded";

/// A script that gives what a channel has, with its keys and arguments but for births and their seed.
pub(super) struct Reading<'a> {
    pub(super) script: &'a Script,
    pub(super) keys: Vec<Key>,
    pub(super) args: Vec<Value>,
    /// Whether it writes something for replicas to confirm.
    pub(super) writes: bool,
}

impl RedisStore {
    /// Runs a script that gives what a channel has. Where it was never published on, it needs the births, and these a seed.
    pub(super) async fn numbered(
        &self,
        client: &Client,
        channel: &Channel,
        Reading { script, mut keys, args, writes }: Reading<'_>,
    ) -> Result<Value, Failed> {
        let ask = async |keys: &[Key], seed: Value| {
            let (keys, args) = (keys.to_vec(), iter::once(seed).chain(args.iter().cloned()).collect());
            let answer = match writes {
                true => script.run(client, keys, args).await,
                false => script.run_reading(client, keys, args).await,
            };
            answer.map_err(|error| answer::read_failed(&error))
        };
        let mut answer = ask(&keys, "".into()).await?;
        if is_unborn(&answer) {
            keys.push(self.keys.births(channel));
            answer = ask(&keys, "".into()).await?;
        }
        if !is(&answer, UNSEEDED) {
            return Ok(answer);
        }
        let births = vec![self.keys.births(channel)];
        let seeded = self.scripts.seed.run(client, births, vec![self.new_seed()]).await;
        if let Err(error) = seeded {
            debug!(%error, "births get no seed");
            // Nothing could be written for replicas to confirm.
            if writes {
                return Err(answer::read_failed(&error));
            }
        }
        // Where it has none even so, an epoch of this answer alone: who goes on from there is told of a gap.
        ask(&keys, self.new_seed()).await
    }
}

/// Whether the script needs births among its keys, and did nothing.
pub(super) fn is_unborn(answer: &Value) -> bool {
    is(answer, UNBORN)
}

/// Whether the answer is this word alone.
fn is(answer: &Value, word: &str) -> bool {
    matches!(answer, Value::Array(words) if matches!(words.as_slice(), [only] if only.as_str().as_deref() == Some(word)))
}
