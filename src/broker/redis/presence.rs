//! Presence in Redis: one task tells it who is here, and again before Redis forgets it.
//!
//! Nothing is fenced: presence is no history. After a failover or a loss of keys the next renewals bring it back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fred::types::{Key, Value};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidings_protocol::{Channel, PresenceMember, PresenceMembers};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::debug;

use super::answer;
use super::keys::Keys;
use super::script::Script;
use super::shard::Shard;
use super::shards::Shards;
use crate::broker::{BrokerError, Roster, Update};
use crate::clock::Clock;
use crate::config::Config;

/// Changes that wait for the task; who finds no room waits.
const REQUESTS_MAX: usize = 4_096;

/// Changes taken in at once: those of one channel are told in one step.
const REQUESTS_PER_ROUND: usize = 1_024;

/// Steps that Redis has not answered yet.
const UPDATES_MAX: usize = 16;

/// Members that one step forgets (`PRUNED_MAX` in presence.lua); after so many there may be more.
const PRUNED_MAX: u64 = 256;

/// Steps that only forget, after one update.
const PRUNING_STEPS_MAX: usize = 100;

/// Who is where, as all instances know it.
pub(super) struct Presence {
    store: Arc<PresenceStore>,
    requests: mpsc::Sender<Request>,
}

struct Request {
    channel: Channel,
    session: Arc<str>,
    /// `None` where it goes.
    member: Option<PresenceMember>,
    done: oneshot::Sender<()>,
}

impl Presence {
    /// Starts the task among `tasks`.
    pub(super) fn start(
        shards: Arc<Shards>,
        keys: &Keys,
        config: &Config,
        clock: Clock,
        tasks: &mut JoinSet<()>,
    ) -> Presence {
        let life = config.redis.presence_life;
        let store = Arc::new(PresenceStore {
            announce: if shards.is_cluster() { "SPUBLISH" } else { "PUBLISH" },
            shards,
            keys: keys.clone(),
            update: Script::new(UPDATE, true),
            read: Script::new(READ, true),
            look: Script::new(LOOK, true),
            life,
        });
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let (store_of_task, roster) = (store.clone(), Roster::new(life));
        let task =
            Renewals { store: store_of_task, roster, clock, requests: requested, waiting: HashMap::new() };
        tasks.spawn(task.run());
        Presence { store, requests }
    }

    pub(super) async fn enter(&self, channel: Channel, member: PresenceMember) {
        self.ask(channel, member.session.clone(), Some(member)).await;
    }

    pub(super) async fn exit(&self, channel: Channel, session: Arc<str>) {
        self.ask(channel, session, None).await;
    }

    async fn ask(&self, channel: Channel, session: Arc<str>, member: Option<PresenceMember>) {
        let (done, told) = oneshot::channel();
        // Without the task the broker has ended, and its members expire.
        if self.requests.send(Request { channel, session, member, done }).await.is_ok() {
            told.await.ok();
        }
    }

    pub(super) async fn members(
        &self,
        channel: Channel,
        limit: usize,
    ) -> Result<PresenceMembers, BrokerError> {
        self.store.read(&channel, limit).await
    }
}

/// The task: what the roster asks for is told to Redis.
struct Renewals {
    store: Arc<PresenceStore>,
    roster: Roster,
    clock: Clock,
    requests: mpsc::Receiver<Request>,
    /// Who waits until Redis was told of a session.
    waiting: HashMap<(Channel, Arc<str>), oneshot::Sender<()>>,
}

impl Renewals {
    async fn run(mut self) {
        let mut requests = Vec::with_capacity(REQUESTS_PER_ROUND);
        let mut updates = FuturesUnordered::new();
        loop {
            while updates.len() < UPDATES_MAX
                && let Some(update) = self.roster.poll_update()
            {
                let store = self.store.clone();
                updates.push(async move {
                    let told = store.update(&update).await;
                    (update, told)
                });
            }
            tokio::select! {
                count = self.requests.recv_many(&mut requests, REQUESTS_PER_ROUND) => match count {
                    0 => return,
                    _ => requests.drain(..).for_each(|request| self.handle_request(request)),
                },
                Some((update, told)) = updates.next() => self.handle_updated(update, told),
                () = sleep_until(self.roster.poll_timeout().map(|due| self.clock.instant(due))) => {
                    self.roster.handle_timeout(self.clock.now());
                }
            }
        }
    }

    fn handle_request(&mut self, request: Request) {
        let Request { channel, session, member, done } = request;
        let now = self.clock.now();
        let is_due = match member {
            Some(member) => {
                self.roster.enter(&channel, member, now);
                true
            }
            None => self.roster.exit(&channel, &session, now),
        };
        if is_due {
            // Whoever waited for the same session need not any more: what it asked for is overtaken.
            self.waiting.insert((channel, session), done);
        }
    }

    fn handle_updated(&mut self, update: Update, told: bool) {
        let gone = update.gone.iter().map(|(member, _)| member);
        for PresenceMember { session, .. } in update.here.iter().chain(gone) {
            if let Some(waiting) = self.waiting.remove(&(update.channel.clone(), session.clone())) {
                // Whoever asked may be gone by now.
                waiting.send(()).ok();
            }
        }
        self.roster.handle_updated(update, told, self.clock.now());
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

const UPDATE: &str = concat!(include_str!("lua/presence.lua"), include_str!("lua/presence_update.lua"));
const LOOK: &str = concat!(include_str!("lua/presence.lua"), include_str!("lua/presence_read.lua"));
const READ: &str = concat!(
    include_str!("lua/presence.lua"),
    include_str!("lua/presence_prune.lua"),
    include_str!("lua/presence_read.lua")
);

/// The scripts with their arguments.
struct PresenceStore {
    shards: Arc<Shards>,
    keys: Keys,
    update: Script,
    read: Script,
    /// The same without a word of those who expired.
    look: Script,
    life: Duration,
    announce: &'static str,
}

impl PresenceStore {
    /// Tells who is here and who is gone; false if that failed.
    async fn update(&self, update: &Update) -> bool {
        let mut args = vec![Value::from(update.here.len().to_string())];
        let gone = update.gone.iter().map(|(member, _)| member);
        for member in update.here.iter().chain(gone) {
            args.extend([Value::from(&*member.session), Value::from(member.json())]);
        }
        let mut expired = self.run(&self.update, &update.channel, args).await;
        for _ in 0..PRUNING_STEPS_MAX {
            match &expired {
                Ok(count) if count.as_u64() == Some(PRUNED_MAX) => {
                    expired = self.run(&self.update, &update.channel, vec!["0".into()]).await;
                }
                _ => break,
            }
        }
        expired.inspect_err(|error| debug!(%error, "redis could not be told who is present")).is_ok()
    }

    async fn read(&self, channel: &Channel, limit: usize) -> Result<PresenceMembers, BrokerError> {
        let most: Vec<Value> = vec![limit.to_string().into()];
        let answer = match self.run(&self.read, channel, most.clone()).await {
            Ok(answer) => answer,
            // Where writes are refused, who expired is announced later.
            Err(_) => self.run_as(Run::Reading, &self.look, channel, most).await?,
        };
        members(answer).ok_or(BrokerError::Unavailable)
    }

    async fn run(&self, script: &Script, channel: &Channel, rest: Vec<Value>) -> Result<Value, BrokerError> {
        self.run_as(Run::Writing, script, channel, rest).await
    }

    async fn run_as(
        &self,
        how: Run,
        script: &Script,
        channel: &Channel,
        rest: Vec<Value>,
    ) -> Result<Value, BrokerError> {
        let keys: Vec<Key> =
            vec![self.keys.expiries(channel), self.keys.members(channel), self.keys.arrivals(channel)];
        let life = self.life.as_millis().to_string();
        let announcements = self.keys.announcements(&channel.presence());
        let mut args: Vec<Value> = vec![life.into(), announcements.into(), self.announce.into()];
        args.extend(rest);
        let run = |shard: Arc<Shard>| {
            let (keys, args) = (keys.clone(), args.clone());
            async move {
                let answer = match how {
                    Run::Writing => script.run(&shard.commands, keys, args).await,
                    Run::Reading => script.run_reading(&shard.commands, keys, args).await,
                };
                answer.map_err(|error| answer::read_failed(&error))
            }
        };
        self.shards.at(channel, run).await
    }
}

/// Whether a script writes.
#[derive(Clone, Copy)]
enum Run {
    Writing,
    Reading,
}

/// What the read script gave; `None` for what no version of ours gives.
fn members(answer: Value) -> Option<PresenceMembers> {
    let mut answer = answer.into_array().into_iter();
    let count = answer.next()?.as_u64()?;
    let members = answer.map(|member| PresenceMember::read(member.as_bytes()?)).collect::<Option<_>>()?;
    Some(PresenceMembers::of(members, count as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_garbage_is_refused() {
        let json = |json: &str| Value::from(json);
        let member = json(r#"{"user":"ada","session":"s","since":5}"#);
        let list = members(Value::Array(vec![2.into(), member.clone()])).unwrap();
        assert_eq!((list.members.len(), list.count, list.more), (1, 2, true));
        for garbage in [vec![], vec![member], vec![1.into(), json("{}")], vec![1.into(), Value::Null]] {
            assert_eq!(members(Value::Array(garbage)), None);
        }
    }
}
