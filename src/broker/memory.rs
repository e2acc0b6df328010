//! The broker of a single instance: everything in this process's memory, gone with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, ready};
use tidings_protocol::{
    Ack, Channel, ClusterMessage, LogName, MutateCommand, Position, PresenceChange, PresenceMember,
    PresenceMembers, Publication, PublishCommand,
};
use tokio::sync::mpsc;

use super::{
    Attendance, Broker, BrokerError, BrokerEvent, ChannelHeads, InstanceCard, Peer, Publisher, Retentions,
    Store, StoreLimits, Stored, Usage,
};
use crate::clock::Clock;
use crate::freshness::Snapshot;
use crate::hub::{BrokerState, Page, PageLimit, Published};
use crate::limits::{Caller, Shares};

/// How long a publish waits for room among the announcements before it is refused: what an outage may take (P10).
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often old publications are swept out of channels that nobody touches.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps and announces in one process.
pub struct MemoryBroker {
    store: Arc<Mutex<Store>>,
    attendance: Mutex<Attendance>,
    retentions: Retentions,
    events: mpsc::Sender<BrokerEvent>,
    clock: Clock,
    card: Arc<InstanceCard>,
}

impl MemoryBroker {
    /// A broker that announces on `events`. The id of its instance tells the epochs of this start from those of any
    /// other.
    pub fn start(
        limits: StoreLimits,
        retentions: Retentions,
        events: mpsc::Sender<BrokerEvent>,
        clock: Clock,
        card: Arc<InstanceCard>,
    ) -> Self {
        let store = Arc::new(Mutex::new(Store::new(limits, card.id())));
        tokio::spawn(sweep(Arc::downgrade(&store), clock));
        MemoryBroker { store, attendance: Mutex::default(), retentions, events, clock, card }
    }

    async fn store_and_announce(
        &self,
        command: PublishCommand,
        caller: Caller,
    ) -> Result<Published, BrokerError> {
        if command.ack == Ack::Replicated {
            return Err(BrokerError::AckNotPossible);
        }
        let channel = command.channel.clone();
        let retention = self.retentions.of(&channel);
        self.announce_stored(channel, caller, |store, publisher| {
            store.publish(command, &retention, publisher)
        })
        .await
    }

    async fn write_and_announce(
        &self,
        command: MutateCommand,
        caller: Caller,
    ) -> Result<Published, BrokerError> {
        if command.ack == Ack::Replicated {
            return Err(BrokerError::AckNotPossible);
        }
        let channel = command.log.channel();
        let retention = self.retentions.of(&channel);
        let slots = self.retentions.table_slots(&command.log);
        self.announce_stored(channel, caller, |store, publisher| {
            store.mutate(&command, &retention, slots, publisher)
        })
        .await
    }

    /// Stores something, and announces it if it is new.
    async fn announce_stored(
        &self,
        channel: Channel,
        caller: Caller,
        put: impl FnOnce(&mut Store, Publisher<'_>) -> Result<Stored, BrokerError>,
    ) -> Result<Published, BrokerError> {
        // Room for the announcement comes first: then nothing that is stored can fail to be announced.
        let room = tokio::time::timeout(ANNOUNCE_TIMEOUT, self.events.reserve()).await;
        let room = room.map_err(|_| BrokerError::Overloaded)?.map_err(|_| BrokerError::Unavailable)?;
        let mut store = self.store.lock().expect("no publish panics while it holds the store");
        let publisher = Publisher { caller: &caller, unix_ms: self.clock.unix_ms(), now: self.clock.now() };
        match put(&mut store, publisher)? {
            Stored::New { published, epoch, publication } => {
                // Still under the lock: announcements have the order of offsets.
                room.send(BrokerEvent::Publication { channel, epoch, publication });
                Ok(published)
            }
            Stored::Repeated(published) => Ok(published),
        }
    }

    fn snapshot_of(&self, log: &LogName) -> Snapshot {
        let store = self.store.lock().expect("no publish panics while it holds the store");
        store.snapshot(log, self.retentions.table_slots(log))
    }

    async fn announce(&self, message: ClusterMessage) -> Result<(), BrokerError> {
        let sent = self.events.send(BrokerEvent::Told(message));
        let sent = tokio::time::timeout(ANNOUNCE_TIMEOUT, sent).await;
        sent.map_err(|_| BrokerError::Overloaded)?.map_err(|_| BrokerError::Unavailable)
    }

    fn read(&self, channel: &Channel, since: Option<&Position>, limit: PageLimit) -> Option<Page> {
        let retention = self.retentions.of(channel);
        let mut store = self.store.lock().expect("no publish panics while it holds the store");
        store.read(channel, &retention, since, limit, self.clock.now())
    }

    /// Changes who is there, and announces it on the channel's companion.
    async fn attend(&self, channel: Channel, change: impl FnOnce(&mut Attendance) -> Option<PresenceChange>) {
        // Room comes first, as for a publish; without a node there is nobody to be told.
        let Ok(room) = self.events.reserve().await else { return };
        let mut attendance = self.attendance.lock().expect("nothing panics while it holds the attendance");
        if let Some(change) = change(&mut attendance) {
            let (time, payload) = (self.clock.unix_ms(), change.payload());
            let publication = Publication { offset: None, time, id: None, key: None, payload };
            let channel = channel.presence();
            room.send(BrokerEvent::Publication { channel, epoch: None, publication: publication.into() });
        }
    }
}

async fn sweep(store: std::sync::Weak<Mutex<Store>>, clock: Clock) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let Some(store) = store.upgrade() else { return };
        store.lock().expect("no publish panics while it holds the store").expire(clock.now());
    }
}

impl Broker for MemoryBroker {
    fn publish(
        &self,
        command: PublishCommand,
        caller: Caller,
    ) -> BoxFuture<'_, Result<Published, BrokerError>> {
        self.store_and_announce(command, caller).boxed()
    }

    fn history(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        ready(Ok(self.read(&channel, since.as_ref(), limit))).boxed()
    }

    fn resume(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.history(channel, since, limit)
    }

    /// Everything is announced to the one node there is.
    fn set_interest(&self, channel: &Channel, wanted: bool) -> Option<u64> {
        let mut store = self.store.lock().expect("no publish panics while it holds the store");
        store.set_attached(channel, wanted);
        None
    }

    fn channels(&self, limit: usize) -> BoxFuture<'_, Result<ChannelHeads, BrokerError>> {
        let store = self.store.lock().expect("no publish panics while it holds the store");
        let mut channels = store.heads().map(|(channel, head)| (channel.clone(), head));
        let heads = channels.by_ref().take(limit).collect();
        ready(Ok(ChannelHeads { heads, more: channels.next().is_some() })).boxed()
    }

    fn mutate(
        &self,
        command: MutateCommand,
        caller: Caller,
    ) -> BoxFuture<'_, Result<Published, BrokerError>> {
        self.write_and_announce(command, caller).boxed()
    }

    fn snapshot(&self, log: &LogName) -> BoxFuture<'_, Result<Snapshot, BrokerError>> {
        ready(Ok(self.snapshot_of(log))).boxed()
    }

    fn confirm(&self, log: &LogName) -> BoxFuture<'_, Result<Position, BrokerError>> {
        let head = PageLimit { publications: 0, bytes: 0 };
        let page = self.read(&log.channel(), None, head);
        ready(page.map(|page| page.head()).ok_or(BrokerError::Unavailable)).boxed()
    }

    fn enter(&self, channel: &Channel, member: PresenceMember) -> BoxFuture<'_, ()> {
        let channel = channel.clone();
        self.attend(channel.clone(), move |attendance| attendance.enter(&channel, member)).boxed()
    }

    fn exit(&self, channel: &Channel, session: &Arc<str>) -> BoxFuture<'_, ()> {
        let (channel, session) = (channel.clone(), session.clone());
        self.attend(channel.clone(), move |attendance| attendance.exit(&channel, &session)).boxed()
    }

    fn members(
        &self,
        channel: &Channel,
        limit: usize,
    ) -> BoxFuture<'_, Result<PresenceMembers, BrokerError>> {
        let attendance = self.attendance.lock().expect("nothing panics while it holds the attendance");
        ready(Ok(attendance.members(channel, limit))).boxed()
    }

    fn tell(&self, message: ClusterMessage) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.announce(message).boxed()
    }

    /// There is nobody else, and the one that asks is there.
    fn peers(&self) -> Vec<Peer> {
        vec![Peer::new(self.card.info(), self.clock.now())]
    }

    fn usage(&self) -> Vec<Usage> {
        let store = self.store.lock().expect("no publish panics while it holds the store");
        let usage = |limit, shares: &Shares| Usage { limit, used: shares.used(), total: shares.total() };
        vec![usage("channels_max", store.channels()), usage("history_total_bytes", store.history())]
    }

    /// There is nobody to be told.
    fn leave(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    /// Memory cannot be lost without the process.
    fn state(&self) -> BrokerState {
        BrokerState::Up
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
