//! A TCP proxy between an instance and Redis on which everything can go wrong that goes wrong with a network.
//!
//! ```text
//!   instance ──▶ reader ══ chunks with the moment they are due ══▶ writer ──▶ Redis      (and the same back)
//! ```
//! Which direction: [`Way::Up`] leads to Redis, [`Way::Down`] back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Chunks of a stalled direction; more stay with the sender: 64 * 16 KiB = 1 MiB.
const CHUNKS_MAX: usize = 64;
const CHUNK_BYTES: usize = 16 * 1_024;

/// A proxy in front of one address. It ends with its handle, and so do its connections.
pub(crate) struct FaultProxy {
    pub(crate) address: SocketAddr,
    weather: watch::Sender<Weather>,
    counts: Arc<Counts>,
    _work: JoinSet<()>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What holds for all connections at the moment.
#[derive(Clone, Copy, Default)]
struct Weather {
    /// Connections of an earlier number are cut.
    cuts: u64,
    refuses: bool,
    stalled: [bool; 2],
    delay: [Duration; 2],
    /// Bytes a second of one connection; 0 for as many as come.
    rate: [u64; 2],
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    open: AtomicU64,
    bytes: [AtomicU64; 2],
}

impl FaultProxy {
    /// A proxy to this address, on a free port; in fair weather.
    pub(crate) async fn start(target: SocketAddr) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (weather, counts) = (watch::Sender::new(Weather::default()), Arc::new(Counts::default()));
        let mut work = JoinSet::new();
        work.spawn(accept(listener, target, weather.clone(), counts.clone()));
        FaultProxy { address, weather, counts, _work: work }
    }

    /// `redis://…`, for the configuration of an instance.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Cuts all connections, with what is on its way; returns how many there were.
    pub(crate) fn cut_all(&self) -> u64 {
        let open = self.open();
        self.weather.send_modify(|weather| weather.cuts += 1);
        open
    }

    /// From now on nothing comes through this way: bytes wait, connections stay open, new ones are made.
    pub(crate) fn stall(&self, way: Way) {
        self.weather.send_modify(|weather| weather.stalled[way as usize] = true);
    }

    /// Lets everything through again, in both directions and without delay.
    pub(crate) fn flow(&self) {
        self.weather.send_modify(|weather| {
            (weather.stalled, weather.delay, weather.rate) = Default::default();
        });
    }

    /// From now on each byte takes so long this way.
    pub(crate) fn delay(&self, way: Way, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay[way as usize] = delay);
    }

    /// From now on a connection carries no more bytes a second this way.
    pub(crate) fn throttle(&self, way: Way, rate: u64) {
        self.weather.send_modify(|weather| weather.rate[way as usize] = rate);
    }

    /// Whether new connections are closed at once.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.weather.send_modify(|weather| weather.refuses = refuses);
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Connections that were let through since the start.
    pub(crate) fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once.
    pub(crate) fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Bytes that came through this way.
    pub(crate) fn bytes(&self, way: Way) -> u64 {
        self.counts.bytes[way as usize].load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    weather: watch::Sender<Weather>,
    counts: Arc<Counts>,
) {
    // Connections end with this task, and it with the proxy.
    let mut connections = JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if weather.borrow().refuses {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        let (weather, counts) = (weather.subscribe(), counts.clone());
        connections.spawn(async move {
            carry(near, target, weather, &counts).await;
            counts.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Carries one connection until either end closes, or it is cut.
async fn carry(near: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>, counts: &Counts) {
    let cuts = weather.borrow().cuts;
    let Ok(far) = TcpStream::connect(target).await else { return };
    let pumped = weather.clone();
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = pump(Way::Up, near_read, far_write, pumped.clone(), counts) => {}
        () = pump(Way::Down, far_read, near_write, pumped, counts) => {}
        _ = weather.wait_for(|weather| weather.cuts != cuts) => {}
    }
}

/// Carries one direction until it ends.
async fn pump(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    counts: &Counts,
) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let delays = weather.clone();
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            if from.read_buf(&mut chunk).await.unwrap_or_default() == 0 {
                return;
            }
            let due = Instant::now() + delays.borrow().delay[way as usize];
            if sender.send((due, chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        let mut free_at = Instant::now();
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due.max(free_at)).await;
            let rate = weather.borrow().rate[way as usize];
            if rate > 0 {
                free_at = free_at.max(due) + Duration::from_secs_f64(chunk.len() as f64 / rate as f64);
            }
            let flows = weather.wait_for(|weather| !weather.stalled[way as usize]).await.is_ok();
            if !flows || to.write_all(&chunk).await.is_err() {
                return;
            }
            counts.bytes[way as usize].fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    };
    // The writer ends after the last chunk of a reader that ended, and before one that it cannot write to.
    tokio::pin!(write);
    tokio::select! {
        () = &mut write => {}
        () = read => write.await,
    }
}
