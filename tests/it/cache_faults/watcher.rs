//! A client with a cache: it serves what its ledger calls fresh, reads what is not, and comes back after each cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tidings_protocol::{
    Command, Effect, Envelope, ErrorFrame, Frame, Freshness, Ledger, LogName, Position, Reading, Stored,
    UnwatchCommand, WatchCommand, decode_frame, encode_command,
};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::database::{Seen, Thing};
use super::scene::Stage;
use super::{ANSWER_TIMEOUT, RETRY_PAUSE};

type Socket = WebSocketStream<TcpStream>;

/// Reads of one client that are under way at a time, as browsers have it.
const READS_MAX: usize = 6;

/// What one read takes: so many milliseconds and up to four times as many.
const READ_MS: u64 = 5;

pub(super) struct Watcher {
    number: usize,
    /// What each value shows.
    wanted: Vec<Vec<Thing>>,
    /// What is cached of each.
    values: Vec<Option<Seen>>,
    ledger: Ledger<usize>,
    /// Values to be read.
    due: BTreeSet<usize>,
    /// Values that are being read.
    reading: BTreeSet<usize>,
    reads: JoinSet<Read>,
    /// Watches without an answer, as they are sent.
    asked: BTreeMap<u64, String>,
    /// Those of them that were refused for now.
    refused: BTreeSet<u64>,
    /// Watches to be sent a second time.
    again: Vec<String>,
    /// How long a lease lasts on this connection, once that was said.
    lease: Option<Duration>,
    ping_at: Duration,
    serve_pause: Duration,
    stage: Arc<Stage>,
}

/// A read that ended.
struct Read {
    key: usize,
    basis: Position,
    seen: Seen,
}

impl Watcher {
    pub(super) fn new(
        number: usize,
        wanted: Vec<Vec<Thing>>,
        serve_pause: Duration,
        stage: Arc<Stage>,
    ) -> Watcher {
        Watcher {
            number,
            values: vec![None; wanted.len()],
            wanted,
            ledger: Ledger::new(),
            due: BTreeSet::new(),
            reading: BTreeSet::new(),
            reads: JoinSet::new(),
            asked: BTreeMap::new(),
            refused: BTreeSet::new(),
            again: Vec::new(),
            lease: None,
            ping_at: Duration::ZERO,
            serve_pause,
            stage,
        }
    }

    /// Serves until it is aborted.
    pub(super) async fn run(mut self) {
        for turn in self.number.. {
            let address = self.stage.addresses[turn % self.stage.addresses.len()];
            if let Some(socket) = self.connect(address).await {
                self.live(socket).await;
                self.ledger.disconnected();
                self.asked.clear();
                self.refused.clear();
                self.again.clear();
                self.lease = None;
                self.stage.disconnected();
            }
        }
    }

    /// A connection, or none; what is cached is served meanwhile, as long as the lease allows.
    async fn connect(&mut self, address: SocketAddr) -> Option<Socket> {
        let mut connecting = pin!(async {
            sleep(RETRY_PAUSE).await;
            let opening = async {
                let stream = TcpStream::connect(address).await.ok()?;
                let opened = tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await;
                opened.ok().map(|(socket, _)| socket)
            };
            timeout(ANSWER_TIMEOUT, opening).await.ok().flatten()
        });
        let mut ticks = interval(self.serve_pause);
        loop {
            tokio::select! {
                socket = &mut connecting => return socket,
                Some(read) = self.reads.join_next() => self.keep(read.expect("a read does not panic")),
                _ = ticks.tick() => self.serve(),
            }
        }
    }

    /// Lives to the end of a connection.
    async fn live(&mut self, mut socket: Socket) {
        let mut ticks = interval(self.serve_pause);
        loop {
            for text in self.outgoing() {
                if !matches!(timeout(ANSWER_TIMEOUT, socket.send(Message::text(text))).await, Ok(Ok(()))) {
                    return;
                }
            }
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return,
                },
                Some(read) = self.reads.join_next() => self.keep(read.expect("a read does not panic")),
                _ = ticks.tick() => {
                    let refused = std::mem::take(&mut self.refused);
                    self.again.extend(refused.iter().filter_map(|id| self.asked.get(id).cloned()));
                    self.serve();
                }
            }
        }
    }

    /// What is to be sent now.
    fn outgoing(&mut self) -> Vec<String> {
        let mut texts = std::mem::take(&mut self.again);
        for effect in self.ledger.effects() {
            match effect {
                Effect::Watch(watch) => {
                    let command = WatchCommand { log: LogName::default(), groups: watch.groups };
                    let text = encode_command(Some(watch.id), &Command::Watch(command));
                    self.asked.insert(watch.id, text.clone());
                    texts.push(text);
                }
                Effect::Unwatch(tags) => {
                    let command = UnwatchCommand { log: LogName::default(), tags, escalated: Vec::new() };
                    texts.push(encode_command(None, &Command::Unwatch(command)));
                }
                Effect::UnwatchEscalated(escalated) => {
                    let command = UnwatchCommand { log: LogName::default(), tags: Vec::new(), escalated };
                    texts.push(encode_command(None, &Command::Unwatch(command)));
                }
                Effect::Stale(key) => {
                    self.due.insert(key);
                }
                Effect::Proven(_) => {}
                Effect::Forget(key) => self.stage.complain(format!("value {key} is to be forgotten")),
            }
        }
        let now = self.stage.now();
        // After what is asked: only who watches has a lease.
        if let Some(lease) = self.lease.filter(|_| now >= self.ping_at) {
            let c = now.as_millis() as u64;
            self.ledger.pinged(c);
            texts.push(encode_command(None, &Command::Ping { c }));
            self.ping_at = now + lease / 3;
        }
        self.start_reads(now);
        texts
    }

    fn hear(&mut self, text: &str) {
        match decode_frame(text) {
            Ok(Some(envelope)) => self.take(envelope),
            Ok(None) => {}
            Err(error) => self.stage.complain(format!("{error}: {text}")),
        }
    }

    fn take(&mut self, Envelope { id, frame }: Envelope) {
        match frame {
            Frame::Hello(hello) => {
                self.ledger.connected(hello.lease_ms);
                self.lease = Some(Duration::from_millis(hello.lease_ms));
                self.ping_at = Duration::ZERO;
            }
            Frame::Watched(frame) => {
                let id = id.expect("every watch has an id");
                self.asked.remove(&id);
                self.ledger.watched(id, &frame);
            }
            Frame::Invalidated(frame) => self.ledger.invalidated(&frame),
            Frame::At(frame) => self.ledger.at(&frame),
            Frame::Reset(frame) => self.ledger.reset(&frame),
            Frame::Continued(frame) => self.ledger.continued(&frame),
            Frame::Error(error) => self.refuse(id, &error),
            Frame::Pong { .. } | Frame::Unwatched {} => {}
            Frame::Disconnect(_) | Frame::Degraded(_) | Frame::Restored(_) => {}
            other => self.stage.complain(format!("{} was told {other:?}", self.number)),
        }
    }

    fn refuse(&mut self, id: Option<u64>, error: &ErrorFrame) {
        match id.filter(|_| error.retryable) {
            Some(id) => {
                self.refused.insert(id);
            }
            None => self.stage.complain(format!("{} was refused {id:?}: {}", self.number, error.message)),
        }
    }

    /// Serves every value that is fresh, and sees to the others.
    fn serve(&mut self) {
        let at = self.stage.now();
        let now = at.as_millis() as u64;
        let mut fresh = 0;
        for key in 0..self.wanted.len() {
            if self.ledger.check(&key, now) == Freshness::Fresh {
                let value = self.values[key].as_ref().expect("what the books have is cached");
                self.stage.judge.served(self.number, value, at);
                fresh += 1;
            } else if !self.ledger.is_asked(&key) {
                self.due.insert(key);
            }
        }
        self.start_reads(at);
        self.stage.stands(self.number, self.ledger.lease_until(), fresh == self.wanted.len());
    }

    fn start_reads(&mut self, at: Duration) {
        let now = at.as_millis() as u64;
        let Some(basis) = self.ledger.begin(now) else { return };
        while self.reading.len() < READS_MAX {
            let Some(key) = self.due.pop_first() else { return };
            let is_good = self.ledger.check(&key, now) == Freshness::Fresh || self.ledger.is_asked(&key);
            if is_good || !self.reading.insert(key) {
                continue;
            }
            let (stage, things, basis) = (self.stage.clone(), self.wanted[key].clone(), basis.clone());
            // As different as keys and moments are.
            let pause =
                Duration::from_millis(READ_MS + (key as u64 * 7 + at.as_micros() as u64) % (3 * READ_MS));
            self.reads.spawn(async move {
                // It is what it is somewhere on the way.
                sleep(pause / 2).await;
                let seen = stage.database.read(&things);
                sleep(pause / 2).await;
                Read { key, basis, seen }
            });
        }
    }

    fn keep(&mut self, Read { key, basis, seen }: Read) {
        self.reading.remove(&key);
        let tags = Some(seen.iter().map(|(thing, _)| thing.tag()).collect());
        match self.ledger.stored(key, Reading { tags, begun: Some(basis), ..Reading::default() }) {
            Stored::Kept => self.values[key] = Some(seen),
            Stored::Touched => {
                self.due.insert(key);
            }
            Stored::Older | Stored::NoBasis | Stored::NoTags => {}
        }
    }
}
