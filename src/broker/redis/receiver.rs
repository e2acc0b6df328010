//! The task that everything announced goes through. It owns the intake; whatever takes time is done by others, who report.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::types::Message;
use tidings_protocol::{Beacon, Channel, ClusterMessage, Position};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::answer;
use super::inputs::{Input, Inputs};
use super::interest::WantedHere;
use super::line::{FromLine, Heard as FromServer, Line, Room};
use super::shards::{Map, Shards};
use super::store::{Reader, RedisStore};
use crate::broker::{
    BrokerEvent, Heard, Intake, IntakeLimits, IntakeRead, Interest, Interruption, Peers, Retentions,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::hub::{Page, PageLimit, Retention, Time};

/// Requests and reports that wait for the receiver; who finds no room waits.
const REQUESTS_MAX: usize = 4_096;

/// Reads of the intake at once.
const READS_MAX: usize = 64;

/// Channels that linger at once.
const LINGERING_MAX: usize = 10_000;

/// Announcements taken in before other things get a turn.
const ANNOUNCEMENTS_PER_ROUND: usize = 512;

/// How often it is logged that something announced is not as it should be; all of it is counted.
const WARN_EVERY: Duration = Duration::from_secs(5);

/// The bounds of one page that the intake reads.
const PAGE: PageLimit = PageLimit { publications: 1_000, bytes: 4 << 20 };

/// What is asked of the receiver.
pub(super) enum Request {
    /// What the tail holds after `since`; answered by `None` where only Redis can tell.
    Resume {
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
        done: oneshot::Sender<Option<Page>>,
    },
}

/// What others have done for it.
#[derive(Debug)]
pub(super) enum Report {
    /// On the link of that number, a server announces some channels, and others not.
    Listening { listening: Vec<Channel>, refused: Vec<Channel>, shard: u64, link: u64 },
    /// On the link of that number, a server announces these channels no more.
    Unlistened { channels: Vec<Channel>, shard: u64, link: u64 },
    /// History was read, or could not be.
    Page { read: IntakeRead, page: Result<Option<Page>, ()> },
}

struct Receiver {
    intake: Intake,
    peers: Arc<Mutex<Peers>>,
    store: Arc<RedisStore>,
    shards: Arc<Shards>,
    /// Which channel is on which server.
    map: Arc<Map>,
    /// By the numbers of the servers.
    lines: HashMap<u64, Line>,
    clock: Clock,
    events: mpsc::Sender<BrokerEvent>,
    reporter: mpsc::Sender<Report>,
    wanted: Arc<WantedHere>,
    speaker: mpsc::Sender<FromLine>,
    /// For announcements that wait in here, of all lines.
    room: Room,
    inputs: Inputs,
    /// What instances told all in this round, to be passed on.
    told: Vec<ClusterMessage>,
    /// What went wrong since the node was last told.
    interruptions: Vec<Interruption>,
    /// Of what the intake has counted as foreign, what the node was told of.
    foreign: u64,
    /// When the next thing is logged of announcements that are not as they should be.
    warn_at: Time,
}

/// Starts what takes announcements in; returns where it is asked, where it is told what is wanted, and whom it hears of.
pub(super) fn start(
    config: &Config,
    shards: &Arc<Shards>,
    store: Arc<RedisStore>,
    clock: Clock,
    events: mpsc::Sender<BrokerEvent>,
    tasks: &mut JoinSet<()>,
) -> (mpsc::Sender<Request>, Arc<WantedHere>, Arc<Mutex<Peers>>) {
    let (asker, requests) = mpsc::channel(REQUESTS_MAX);
    let wanted = Arc::<WantedHere>::default();
    let peers = Arc::new(Mutex::new(Peers::default()));
    let (reporter, reports) = mpsc::channel(REQUESTS_MAX);
    let (speaker, heard) = mpsc::channel(config.limits.broker_announcements_max);
    let room = Room::new(config.limits.broker_announcements_bytes);
    let mut maps = shards.maps();
    let map = maps.borrow_and_update().clone();
    let receiver = Receiver {
        intake: Intake::new(intake_limits(config)),
        peers: peers.clone(),
        store,
        shards: shards.clone(),
        map,
        lines: HashMap::new(),
        clock,
        events,
        reporter,
        wanted: wanted.clone(),
        speaker,
        room,
        inputs: Inputs::new(maps, reports, requests, wanted.clone(), heard),
        told: Vec::new(),
        interruptions: Vec::new(),
        foreign: 0,
        warn_at: Time::ZERO,
    };
    tasks.spawn(receiver.run());
    (asker, wanted, peers)
}

fn intake_limits(config: &Config) -> IntakeLimits {
    IntakeLimits {
        linger: config.redis.linger,
        lingering_max: LINGERING_MAX,
        tail_bytes_max: config.limits.history_total_bytes,
        reads_max: READS_MAX,
        refresh: config.redis.forget_after / 3,
    }
}

impl Receiver {
    /// Runs until the node or the broker is gone.
    async fn run(mut self) {
        self.open_lines();
        while let Some(input) = self.inputs.next().await {
            match input {
                Input::Tick => self.handle_tick(),
                Input::Map(map) => self.handle_map(map),
                Input::Report(report) => self.handle_report(report),
                Input::Request(request) => self.handle_request(request),
                Input::Wanted => self.handle_wanted(),
                Input::Heard(heard) => self.handle_heard(heard),
            }
            if self.act().await.is_err() {
                return;
            }
        }
    }

    fn open_lines(&mut self) {
        let now = self.clock.now();
        for shard in &self.map.shards {
            let (speaker, reporter) = ((self.speaker.clone(), self.room.clone()), self.reporter.clone());
            let open = || Line::open(shard, &self.store.keys, speaker, reporter, now);
            self.lines.entry(shard.number).or_insert_with(open);
        }
    }

    /// Channels are on other servers than before.
    fn handle_map(&mut self, map: Arc<Map>) {
        let before = std::mem::replace(&mut self.map, map);
        self.lines.retain(|number, _| self.map.shards.iter().any(|shard| shard.number == *number));
        self.open_lines();
        self.intake.handle_server_lost(|channel| before.number_of(channel) != self.map.number_of(channel));
    }

    fn handle_renewed(&mut self, shard: u64) {
        let Some(line) = self.lines.get_mut(&shard) else { return };
        warn!(
            shard,
            channels = self.intake.channels().len(),
            "the redis connection for announcements is new"
        );
        self.interruptions.push(Interruption::LinkLost);
        line.renew(self.clock.now());
        self.peers.lock().expect("nobody panics with the peers").handle_renewed();
        self.intake.handle_server_lost(|channel| self.map.number_of(channel) == Some(shard));
    }

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Listening { listening, refused, shard, link } => {
                if self.lines.get(&shard).is_none_or(|line| line.link != link) {
                    return;
                }
                for channel in &refused {
                    self.intake.handle_not_listening(channel, self.clock.now());
                }
                for channel in listening.iter().filter(|name| self.map.number_of(name) == Some(shard)) {
                    self.intake.handle_listening(channel);
                }
            }
            Report::Unlistened { channels, shard, link } => {
                if self.lines.get(&shard).is_some_and(|line| line.link == link) {
                    channels.iter().for_each(|channel| self.intake.handle_unlistened(channel));
                }
            }
            Report::Page { read, page } => self.intake.handle_page(&read, page, self.clock.now()),
        }
    }

    /// The node wants other channels than before.
    fn handle_wanted(&mut self) {
        for (channel, number) in self.wanted.take() {
            match number {
                Some(number) => {
                    let retention = tail_retention(&self.store.retentions, &channel);
                    self.intake.listen(&channel, number, &retention);
                }
                None => self.intake.unlisten(&channel, self.clock.now()),
            }
        }
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Resume { channel, since, limit, done } => {
                let page = self.intake.resume(&channel, since.as_ref(), limit, self.clock.now());
                done.send(page).ok();
            }
        }
    }

    fn handle_heard(&mut self, first: FromLine) {
        let mut dropped = self.handle_one(first);
        for _ in 1..ANNOUNCEMENTS_PER_ROUND {
            let Some(next) = self.inputs.try_heard() else { break };
            dropped += self.handle_one(next);
        }
        if dropped > 0 {
            self.handle_lag(dropped);
        }
    }

    /// Whether what comes by this line is heard: every line brings what instances tell all, and once is enough.
    fn is_leading(&self, shard: u64) -> bool {
        let now = self.clock.now();
        let lines =
            self.map.shards.iter().filter_map(|shard| Some((shard.number, self.lines.get(&shard.number)?)));
        let mut hearing = lines.filter(|(_, line)| line.hears(now));
        hearing.next().is_some_and(|(number, _)| number == shard)
    }

    /// Returns how many were dropped on their way here.
    fn handle_one(&mut self, (shard, heard): FromLine) -> u64 {
        match heard {
            FromServer::Renewed => self.handle_renewed(shard),
            FromServer::Message(message, _room) => self.handle_message(shard, &message),
            FromServer::Dropped(count) => return count,
        }
        0
    }

    fn handle_message(&mut self, shard: u64, message: &Message) {
        let Some(bytes) = message.value.as_bytes() else { return };
        if *message.channel == *self.store.keys.cluster() {
            return match ClusterMessage::decode(bytes) {
                Ok(ClusterMessage::Beacon(beacon)) => self.handle_beacon(shard, beacon),
                Ok(message @ (ClusterMessage::Ask { .. } | ClusterMessage::Answer { .. })) => {
                    if self.is_leading(shard) {
                        self.told.push(message);
                    }
                }
                Err(error) => debug!(%error, "a message between instances cannot be read"),
            };
        }
        let Some(channel) = self.store.keys.announced(&message.channel) else { return };
        let now = self.clock.now();
        match answer::announcement(bytes) {
            Ok((epoch, publication)) => {
                self.intake.handle_publication(&channel, epoch, publication.into(), now);
            }
            Err(answer::Garbage) => {
                self.warn_of(&channel, "an announcement cannot be read");
                self.interruptions.push(Interruption::Garbage);
                self.intake.handle_unreadable(&channel);
            }
        }
        let foreign = self.intake.foreign();
        if std::mem::replace(&mut self.foreign, foreign) != foreign {
            self.warn_of(
                &channel,
                "instances disagree about whether the channel's namespace has a history_size",
            );
            self.interruptions.push(Interruption::Foreign);
        }
    }

    fn warn_of(&mut self, channel: &Channel, what: &'static str) {
        let now = self.clock.now();
        if self.warn_at <= now {
            self.warn_at = now.after(WARN_EVERY);
            warn!(%channel, "{what}");
        }
    }

    fn handle_lag(&mut self, count: u64) {
        warn!(count, "announcements were dropped: more came than could be taken in");
        self.interruptions.push(Interruption::Lag);
        self.intake.handle_lag();
    }

    fn handle_beacon(&mut self, shard: u64, beacon: Beacon) {
        let now = self.clock.now();
        if *beacon.instance.id == *self.store.seed
            && let Some(line) = self.lines.get_mut(&shard)
        {
            line.handle_own_beacon(now);
        }
        let heard = self.peers.lock().expect("nobody panics with the peers").handle_beacon(&beacon, now);
        if heard == Heard::Missed {
            warn!(instance = %beacon.instance.id, "a beacon is missing, and perhaps announcements with it");
            self.interruptions.push(Interruption::BeaconMissed);
            self.intake.handle_lag();
        }
        for (channel, head) in beacon.heads {
            self.intake.handle_head(&channel, head, now);
        }
    }

    fn handle_tick(&mut self) {
        let now = self.clock.now();
        if self.peers.lock().expect("nobody panics with the peers").handle_timeout(now) {
            warn!("an instance fell silent: the heads of all channels are compared");
            self.interruptions.push(Interruption::Silence);
            self.intake.handle_doubt();
        }
        self.intake.handle_timeout(now);
        for shard in &self.map.shards {
            if let Some(line) = self.lines.get_mut(&shard.number) {
                line.handle_timeout(shard.answers_subscriber(), now);
                shard.set_deaf(line.is_deaf);
            }
        }
    }

    /// Does what the intake asks for. Fails when the node is gone.
    async fn act(&mut self) -> Result<(), mpsc::error::SendError<BrokerEvent>> {
        while let Some(interest) = self.intake.poll_interest() {
            self.pursue(interest);
        }
        while let Some(read) = self.intake.poll_read() {
            self.read(read);
        }
        for interruption in self.interruptions.drain(..) {
            self.events.send(BrokerEvent::Interrupted(interruption)).await?;
        }
        for message in self.told.drain(..) {
            self.events.send(BrokerEvent::Told(message)).await?;
        }
        while let Some(event) = self.intake.poll_event() {
            self.events.send(event).await?;
        }
        Ok(())
    }

    fn pursue(&mut self, interest: Interest) {
        let (Interest::Listen(channel) | Interest::Unlisten(channel)) = &interest;
        let line = self.map.number_of(channel).and_then(|number| self.lines.get(&number));
        let refused = line.map_or(Err(interest.clone()), |line| line.ask(interest));
        if let Err(Interest::Listen(channel)) = refused {
            self.intake.handle_not_listening(&channel, self.clock.now());
        }
    }

    fn read(&self, read: IntakeRead) {
        let (store, shards, reporter) = (self.store.clone(), self.shards.clone(), self.reporter.clone());
        tokio::spawn(async move {
            let limit =
                PageLimit { publications: if read.since.is_some() { PAGE.publications } else { 0 }, ..PAGE };
            let page =
                store.read_at(&shards, &read.channel, read.since.as_ref(), limit, Reader::Subscriber).await;
            let page = page.map(Some).map_err(|error| debug!(%error, "history cannot be read"));
            // Without a receiver the broker is gone.
            reporter.send(Report::Page { read, page }).await.ok();
        });
    }
}

/// What the tail of a channel keeps. Nobody resumes in that of a log but the one node here, which has it all.
fn tail_retention(retentions: &Retentions, channel: &Channel) -> Retention {
    let retention = retentions.of(channel);
    match channel.is_log() {
        true => Retention { publications_max: 1, ..retention },
        false => retention,
    }
}
