//! The task that everything announced goes through. It owns the intake; whatever takes time is done by others, who report.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::clients::Client;
use fred::prelude::*;
use fred::types::{Message, config::Server};
use tidings_protocol::{Beacon, Channel, ClusterMessage, Position};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::answer;
use super::interest::Change;
use super::monitor::Reach;
use super::store::RedisStore;
use crate::broker::memory::retention;
use crate::broker::{BrokerEvent, Heard, Intake, IntakeRead, Interruption, Peers};
use crate::clock::Clock;
use crate::config::Namespaces;
use crate::hub::{Page, PageLimit, Time};

/// Requests and reports that wait for the receiver; who finds no room waits.
pub(super) const REQUESTS_MAX: usize = 4_096;

/// Announcements taken in before other things get a turn.
const ANNOUNCEMENTS_PER_ROUND: usize = 512;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);

/// A link on which not even this instance's own beacons arrive for so long is given up. Beacons come each second, and a lost
/// link is to be noticed within 2.5 s.
const DEAF_AFTER: Duration = Duration::from_millis(2_200);

/// The bounds of one page that the intake reads.
const PAGE: PageLimit = PageLimit { publications: 1_000, bytes: 4 << 20 };

/// What is asked of the receiver.
pub(super) enum Request {
    /// Announce this channel; answered when that is certain.
    Listen { channel: Channel, done: oneshot::Sender<()> },
    /// Take that back.
    Unlisten { channel: Channel },
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
    /// Redis announces these channels, on the link of that number.
    Listening { channels: Vec<Channel>, link: u64 },
    /// It could not be told to.
    NotListening { channels: Vec<Channel>, link: u64 },
    /// History was read, or could not be.
    Page { read: IntakeRead, page: Result<Option<Page>, ()> },
}

pub(super) struct Receiver {
    pub(super) intake: Intake,
    pub(super) peers: Arc<Mutex<Peers>>,
    pub(super) store: Arc<RedisStore>,
    pub(super) commands: Client,
    pub(super) subscriber: Client,
    pub(super) namespaces: Namespaces,
    pub(super) clock: Clock,
    pub(super) events: mpsc::Sender<BrokerEvent>,
    pub(super) changes: mpsc::Sender<Change>,
    pub(super) reporter: mpsc::Sender<Report>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) messages: broadcast::Receiver<Message>,
    pub(super) reconnects: broadcast::Receiver<Server>,
    /// Who waits until a channel is listened to.
    pub(super) waiting: HashMap<Channel, Vec<oneshot::Sender<()>>>,
    /// What instances told all in this round, to be passed on.
    pub(super) told: Vec<ClusterMessage>,
    /// How many links there were.
    pub(super) link: u64,
    /// When this instance last heard itself, or gave a link up.
    pub(super) heard_self: Time,
    /// Tries to get another link.
    pub(super) giving_up: Option<JoinHandle<()>>,
    /// Whether a link was given up because nothing came by it, and nothing has come since.
    pub(super) suspects_link: bool,
    pub(super) reach: Arc<Reach>,
    /// What went wrong since the node was last told.
    pub(super) interruptions: Vec<Interruption>,
}

impl Receiver {
    /// Runs until the node or the broker is gone.
    pub(super) async fn run(mut self) {
        self.join_cluster();
        let mut tick = tokio::time::interval(TICK);
        loop {
            // In this order: a link is known to be lost before anything is believed that was confirmed on it.
            tokio::select! {
                biased;
                reconnected = self.reconnects.recv() => match reconnected {
                    Ok(_) | Err(RecvError::Lagged(_)) => self.handle_reconnected(),
                    Err(RecvError::Closed) => return,
                },
                Some(report) = self.reports.recv() => self.handle_report(report),
                request = self.requests.recv() => match request {
                    Some(request) => self.handle_request(request),
                    None => return,
                },
                message = self.messages.recv() => match message {
                    Ok(message) => self.handle_messages(message),
                    Err(RecvError::Lagged(count)) => self.handle_lag(count),
                    Err(RecvError::Closed) => return,
                },
                _ = tick.tick() => self.handle_tick(),
            }
            if self.act().await.is_err() {
                return;
            }
        }
    }

    fn handle_reconnected(&mut self) {
        warn!(channels = self.intake.channels(), "the redis connection for announcements is new");
        self.interruptions.push(Interruption::LinkLost);
        self.link += 1;
        self.heard_self = self.clock.now();
        self.intake.handle_link_lost();
        self.intake.handle_link_restored();
        self.join_cluster();
    }

    /// Subscribes to what instances tell each other. If that fails this instance does not hear itself, and tries another link.
    fn join_cluster(&self) {
        let (client, name) = (self.subscriber.clone(), self.store.keys.cluster());
        tokio::spawn(async move {
            if let Err(error) = client.subscribe(name).await {
                debug!(%error, "cannot listen to the other instances");
            }
        });
    }

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Listening { channels, link } if link == self.link => {
                for channel in channels {
                    self.intake.handle_listening(&channel);
                    self.answer_waiting(&channel);
                }
            }
            Report::NotListening { channels, link } if link == self.link => {
                for channel in channels {
                    self.intake.handle_not_listening(&channel, self.clock.now());
                }
            }
            Report::Listening { .. } | Report::NotListening { .. } => {}
            Report::Page { read, page } => {
                self.intake.handle_page(&read, page, self.clock.now());
                self.answer_waiting(&read.channel);
            }
        }
    }

    /// Answers those who wait for the channel, if it is listened to by now.
    fn answer_waiting(&mut self, channel: &Channel) {
        if self.intake.is_listening(channel) {
            for waiting in self.waiting.remove(channel).into_iter().flatten() {
                // Whoever asked may be gone by now.
                waiting.send(()).ok();
            }
        }
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Listen { channel, done } => {
                let retention = retention(&self.namespaces, &channel);
                match self.intake.listen(&channel, &retention) {
                    true => drop(done.send(())),
                    false => self.waiting.entry(channel).or_default().push(done),
                }
            }
            Request::Unlisten { channel } => self.intake.unlisten(&channel, self.clock.now()),
            Request::Resume { channel, since, limit, done } => {
                let page = self.intake.resume(&channel, since.as_ref(), limit, self.clock.now());
                done.send(page).ok();
            }
        }
    }

    fn handle_messages(&mut self, first: Message) {
        self.handle_message(first);
        for _ in 1..ANNOUNCEMENTS_PER_ROUND {
            match self.messages.try_recv() {
                Ok(message) => self.handle_message(message),
                Err(broadcast::error::TryRecvError::Lagged(count)) => return self.handle_lag(count),
                Err(_) => return,
            }
        }
    }

    fn handle_message(&mut self, message: Message) {
        let Some(bytes) = message.value.as_bytes() else { return };
        if *message.channel == *self.store.keys.cluster() {
            return match ClusterMessage::decode(bytes) {
                Ok(ClusterMessage::Beacon(beacon)) => self.handle_beacon(beacon),
                Ok(message @ (ClusterMessage::Ask { .. } | ClusterMessage::Answer { .. })) => {
                    self.told.push(message)
                }
                Err(error) => debug!(%error, "a message between instances cannot be read"),
            };
        }
        let Some(channel) = self.store.keys.announced(&message.channel) else { return };
        match answer::announcement(bytes) {
            Ok((epoch, publication)) => {
                self.intake.handle_publication(&channel, epoch, publication.into(), self.clock.now());
            }
            Err(answer::Garbage) => {
                // Whoever writes such things may have displaced something of ours.
                warn!("an announcement cannot be read");
                self.interruptions.push(Interruption::Garbage);
                self.give_up_link();
            }
        }
    }

    fn handle_lag(&mut self, count: u64) {
        warn!(count, "announcements were dropped: more came than could be taken in");
        self.interruptions.push(Interruption::Lag);
        self.intake.handle_lag();
    }

    fn handle_beacon(&mut self, beacon: Beacon) {
        let now = self.clock.now();
        if *beacon.instance.id == *self.store.seed {
            self.heard_self = now;
            self.suspects_link = false;
            self.reach.set_deaf(false);
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
        if self.heard_self.after(DEAF_AFTER) <= now {
            // The first time the link is the suspect; if another one is silent too, somebody keeps announcements from us.
            self.reach.set_deaf(std::mem::replace(&mut self.suspects_link, true));
            self.give_up_link();
        }
        self.waiting.retain(|_, waiting| {
            waiting.retain(|done| !done.is_closed());
            !waiting.is_empty()
        });
    }

    fn give_up_link(&mut self) {
        if self.giving_up.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        warn!("the redis connection for announcements is given up");
        self.heard_self = self.clock.now();
        let client = self.subscriber.clone();
        self.giving_up = Some(tokio::spawn(async move {
            if let Err(error) = client.force_reconnection().await {
                debug!(%error, "no new connection for announcements");
            }
        }));
    }

    /// Does what the intake asks for. Fails when the node is gone.
    async fn act(&mut self) -> Result<(), mpsc::error::SendError<BrokerEvent>> {
        // Without room now, there is some at the next tick.
        while let Ok(room) = self.changes.try_reserve() {
            let Some(interest) = self.intake.poll_interest() else { break };
            room.send(Change { interest, link: self.link });
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

    fn read(&self, read: IntakeRead) {
        let (store, client, reporter) = (self.store.clone(), self.commands.clone(), self.reporter.clone());
        tokio::spawn(async move {
            let limit =
                PageLimit { publications: if read.since.is_some() { PAGE.publications } else { 0 }, ..PAGE };
            let page = store.read(&client, &read.channel, read.since.as_ref(), limit).await;
            let page = page.map(Some).map_err(|error| debug!(%error, "history cannot be read"));
            // Without a receiver the broker is gone.
            reporter.send(Report::Page { read, page }).await.ok();
        });
    }
}
