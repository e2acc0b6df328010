//! What is tested: a broker, as the rows use it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use tidings::broker::{
    Broker, BrokerError, BrokerEvent, InstanceCard, MemoryBroker, Peer, RedisBroker, Retentions, StoreLimits,
};
use tidings::clock::Clock;
use tidings::config::Config;
use tidings::freshness::Snapshot;
use tidings::hub::{Page, PageLimit, Published};
use tidings::limits::Caller;
use tidings_protocol::{
    Ack, Channel, LogName, MutateCommand, Payload, Position, PresenceMember, PresenceMembers, PublishCommand,
};
use tokio::sync::mpsc;

use super::reading::ALL;
use crate::support::{RedisServer, Reply, config, within};

/// Announcements that wait for the test.
const EVENTS_MAX: usize = 1_000;

/// Any implementation of a broker: asked, and listened to, by one instance.
pub(super) trait Subject {
    /// Publishes a text.
    async fn publish(
        &mut self,
        channel: &str,
        text: &str,
        key: Option<&str>,
        ack: Ack,
    ) -> Result<Published, BrokerError>;

    /// What the channel holds; `None` where it has no positions.
    async fn history(&mut self, channel: &str, since: Option<&Position>, limit: PageLimit) -> Option<Page>;

    /// The same for somebody who listens.
    async fn resume(&mut self, channel: &str, since: Option<&Position>, limit: PageLimit) -> Option<Page>;

    /// What the channel holds, of those that no client can name too.
    async fn read(&mut self, channel: &Channel, since: Option<&Position>) -> Page;

    /// The same for somebody who listens to a log.
    async fn resume_log(&mut self, log: &str, since: &Position) -> Page;

    async fn listen_to(&mut self, channel: &Channel);

    async fn unlisten_to(&mut self, channel: &Channel);

    async fn listen(&mut self, channel: &str) {
        self.listen_to(&named(channel)).await;
    }

    async fn unlisten(&mut self, channel: &str) {
        self.unlisten_to(&named(channel)).await;
    }

    async fn mutate(&mut self, command: MutateCommand) -> Result<Published, BrokerError>;

    async fn snapshot(&mut self, log: &str) -> Result<Snapshot, BrokerError>;

    async fn confirm(&mut self, log: &str) -> Result<Position, BrokerError>;

    /// What is announced next.
    async fn heard(&mut self) -> BrokerEvent;

    /// The channels that hold something, and where they stand.
    async fn channels(&mut self) -> BTreeMap<String, Position>;

    /// The channels that are announced here, where not simply all are.
    async fn announced(&mut self) -> Vec<String>;

    /// Loses all that is stored.
    async fn forget_everything(&mut self);

    /// A log as it stands, which must be known.
    async fn standing(&mut self, log: &str) -> Snapshot {
        self.snapshot(log).await.expect("a log can be read")
    }

    /// The position of a publish that must succeed.
    async fn position(&mut self, channel: &str, text: &str) -> Position {
        let published = self.publish(channel, text, None, Ack::Stored).await.expect("it is stored");
        published.position.expect("the channel keeps history")
    }
}

/// A broker as the server uses it.
pub(super) struct BrokerSubject {
    broker: Arc<dyn Broker>,
    events: mpsc::Receiver<BrokerEvent>,
    /// What came while something else was waited for.
    heard: VecDeque<BrokerEvent>,
    forget: Forget,
}

/// How all that is stored is lost.
enum Forget {
    /// With the process: a new start of it.
    Start(Box<Config>, u32),
    /// The server is told to.
    Flush(SocketAddr),
}

impl BrokerSubject {
    pub(super) fn memory(toml: &str) -> BrokerSubject {
        let config = config(toml, true);
        let (broker, events) = memory(&config, 0);
        BrokerSubject { broker, events, heard: VecDeque::new(), forget: Forget::Start(Box::new(config), 0) }
    }

    pub(super) async fn redis(server: &RedisServer, toml: &str) -> BrokerSubject {
        BrokerSubject::redis_at(&server.url(), server.address(), toml).await
    }

    /// On a Redis that is reached by `url`, at whose server `flushed` all can be forgotten.
    pub(super) async fn redis_at(url: &str, flushed: SocketAddr, toml: &str) -> BrokerSubject {
        let table = if toml.contains("[redis]") { "" } else { "[redis]\n" };
        let config = config(&format!("{toml}{table}linger = \"0s\"\nurl = \"{url}\"\n"), true);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let card = Arc::new(InstanceCard::new("suite", String::new(), 0));
        let broker = RedisBroker::start(&config, sender, Clock::start(), card).await;
        let broker = Arc::new(broker.unwrap_or_else(|refused| panic!("{refused}")));
        BrokerSubject { broker, events, heard: VecDeque::new(), forget: Forget::Flush(flushed) }
    }

    /// What the channel holds after a position, if that can be read.
    pub(super) async fn try_history(&self, channel: &str, since: &Position) -> Option<Page> {
        self.broker.history(named(channel), Some(since.clone()), ALL).await.ok().flatten()
    }

    /// A session is in the channel from a moment on.
    pub(super) async fn enter(&self, channel: &str, session: &str, since: u64) {
        let member = PresenceMember { user: "ada".into(), session: session.into(), since };
        within("an entry", self.broker.enter(&named(channel), member)).await;
    }

    /// The sessions that are in a channel, those that are listed, and how many there are.
    pub(super) async fn sessions(&self, channel: &str, limit: usize) -> (Vec<String>, usize) {
        let members = within("a list", self.broker.members(&named(channel), limit)).await;
        let PresenceMembers { members, count, .. } = members.expect("members can be listed");
        (members.iter().map(|member| member.session.to_string()).collect(), count)
    }

    /// The instances that it hears of.
    pub(super) fn peers(&self) -> Vec<Peer> {
        self.broker.peers()
    }
}

fn memory(config: &Config, start: u32) -> (Arc<dyn Broker>, mpsc::Receiver<BrokerEvent>) {
    let limits = StoreLimits {
        channels_max: config.limits.channels_max,
        bytes_max: config.limits.history_total_bytes,
        key_age: config.limits.idempotency_window,
    };
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let retentions = Retentions::new(config);
    let card = Arc::new(InstanceCard::new(&format!("start{start}"), String::new(), 0));
    let broker = MemoryBroker::start(limits, retentions, sender, Clock::start(), card);
    (Arc::new(broker), events)
}

pub(super) fn named(channel: &str) -> Channel {
    Channel::parse(channel).expect("it is a channel's name")
}

/// The publish of a text.
pub(super) fn command(channel: &str, text: &str, key: Option<&str>, ack: Ack) -> PublishCommand {
    PublishCommand {
        channel: named(channel),
        payload: Payload::text(text.as_bytes()).expect("it is text"),
        key: None,
        id: None,
        idempotency_key: key.map(Into::into),
        ack,
    }
}

impl Subject for BrokerSubject {
    async fn publish(
        &mut self,
        channel: &str,
        text: &str,
        key: Option<&str>,
        ack: Ack,
    ) -> Result<Published, BrokerError> {
        let answer = self.broker.publish(command(channel, text, key, ack), Caller::default());
        within("an answer to a publish", answer).await
    }

    async fn history(&mut self, channel: &str, since: Option<&Position>, limit: PageLimit) -> Option<Page> {
        let page = self.broker.history(named(channel), since.cloned(), limit);
        within("history", page).await.expect("history can be read")
    }

    async fn resume(&mut self, channel: &str, since: Option<&Position>, limit: PageLimit) -> Option<Page> {
        let page = self.broker.resume(named(channel), since.cloned(), limit);
        within("history", page).await.expect("history can be read")
    }

    async fn read(&mut self, channel: &Channel, since: Option<&Position>) -> Page {
        let page = self.broker.history(channel.clone(), since.cloned(), ALL);
        within("history", page).await.expect("history can be read").expect("it has positions")
    }

    async fn resume_log(&mut self, log: &str, since: &Position) -> Page {
        let log = LogName::parse(log).expect("it is a log's name");
        let page = self.broker.resume(log.channel(), Some(since.clone()), ALL);
        within("history", page).await.expect("history can be read").expect("it has positions")
    }

    async fn listen_to(&mut self, channel: &Channel) {
        let Some(number) = self.broker.set_interest(channel, true) else { return };
        loop {
            match within("a listening", self.events.recv()).await.expect("the broker runs") {
                BrokerEvent::Listening { channel: of, number: of_call }
                    if of == *channel && of_call >= number =>
                {
                    return;
                }
                event => self.heard.push_back(event),
            }
        }
    }

    async fn unlisten_to(&mut self, channel: &Channel) {
        self.broker.set_interest(channel, false);
    }

    async fn mutate(&mut self, command: MutateCommand) -> Result<Published, BrokerError> {
        within("an answer to a mutation", self.broker.mutate(command, Caller::default())).await
    }

    async fn snapshot(&mut self, log: &str) -> Result<Snapshot, BrokerError> {
        let log = LogName::parse(log).expect("it is a log's name");
        within("a snapshot", self.broker.snapshot(&log)).await
    }

    async fn confirm(&mut self, log: &str) -> Result<Position, BrokerError> {
        let log = LogName::parse(log).expect("it is a log's name");
        within("a confirmation", self.broker.confirm(&log)).await
    }

    async fn heard(&mut self) -> BrokerEvent {
        loop {
            let event = match self.heard.pop_front() {
                Some(event) => event,
                None => within("an announcement", self.events.recv()).await.expect("the broker runs"),
            };
            if !matches!(event, BrokerEvent::Listening { .. }) {
                return event;
            }
        }
    }

    async fn channels(&mut self) -> BTreeMap<String, Position> {
        let channels = within("a list", self.broker.channels(1_000)).await.expect("channels can be listed");
        assert!(!channels.more, "all are listed");
        channels.heads.into_iter().map(|(channel, head)| (channel.to_string(), head)).collect()
    }

    async fn announced(&mut self) -> Vec<String> {
        let Forget::Flush(server) = self.forget else { panic!("memory announces everything") };
        let reply = Reply::ask(server, &["PUBSUB", "CHANNELS", "*{*"]).await.expect("it answers");
        let name = |reply: &Reply| {
            let name = reply.text().strip_prefix("tidings:{").and_then(|rest| rest.strip_suffix('}'));
            name.expect("it is the name of a channel").to_owned()
        };
        reply.list().iter().map(name).collect()
    }

    async fn forget_everything(&mut self) {
        match &mut self.forget {
            Forget::Start(config, starts) => {
                *starts += 1;
                (self.broker, self.events) = memory(config, *starts);
            }
            Forget::Flush(server) => {
                let reply = Reply::ask(*server, &["FLUSHALL"]).await;
                assert_eq!(reply.expect("it answers").text(), "OK");
            }
        }
    }
}
