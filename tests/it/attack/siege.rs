//! A server under attack: the real binary, honest clients whose latency is measured beside the attack, and what must be left of it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{Answer, Process, Request, WebSocket, eventually, within};

/// The channel of the honest clients, in a namespace that gathers nothing.
const CHANNEL: &str = "honest:1";

/// Honest subscribers beside every attack.
const SUBSCRIBERS: usize = 3;

/// Round trips in one window; the slowest of them counts, and of windows the median: one hiccup of the machine proves nothing.
const ROUND_TRIPS: usize = 20;
const WINDOWS: usize = 5;

/// How much slower than in quiet an honest client may be, and by how much in any case: the machine is small, and the attackers
/// live on it too.
const RATIO_MAX: u32 = 4;
const FLOOR: Duration = Duration::from_millis(100);

/// Memory that a server keeps after any attack: what its allocator and its threads hold on to.
const KEPT_BYTES_MAX: u64 = 24 << 20;

/// Between two round trips: honest clients are no flood.
const PAUSE: Duration = Duration::from_millis(2);

/// How long memory and sockets may take to come back: longer than the five seconds that a stranger has.
const RECOVERY: Duration = Duration::from_secs(15);

/// One siege at a time: attackers of another one would be taken for those of this.
static ONE: Mutex<()> = Mutex::const_new(());

pub(super) struct Siege {
    pub(super) address: SocketAddr,
    process: Process,
    publisher: WebSocket,
    subscribers: Vec<WebSocket>,
    quiet: Duration,
    resident: u64,
    descriptors: usize,
    sent: u64,
    _one: MutexGuard<'static, ()>,
}

impl Siege {
    /// Starts a server in dev mode with honest clients, and measures them in quiet.
    pub(super) async fn begin(toml: &str) -> Siege {
        let _one = ONE.lock().await;
        let toml = format!("[namespace.honest]\nbatch_mode = \"immediate\"\n{toml}");
        let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], &toml);
        let address = process.address().await;
        let mut subscribers = Vec::new();
        for _ in 0..SUBSCRIBERS {
            let mut subscriber = greeted(address).await;
            subscriber.subscribe(CHANNEL).await;
            subscribers.push(subscriber);
        }
        let publisher = greeted(address).await;
        let (quiet, sent) = (Duration::ZERO, 0);
        let mut siege = Siege {
            address,
            process,
            publisher,
            subscribers,
            quiet,
            resident: 0,
            descriptors: 0,
            sent,
            _one,
        };
        // The first window is slower than all others, with nobody to blame.
        siege.window().await;
        siege.quiet = siege.windows().await;
        siege.resident = siege.process.resident_bytes();
        siege.descriptors = siege.descriptors();
        siege
    }

    /// A request to the besieged server.
    pub(super) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    /// What the server has in memory beyond what it had in quiet.
    pub(super) fn grown_bytes(&self) -> u64 {
        self.process.resident_bytes().saturating_sub(self.resident)
    }

    /// Sockets and files that the server holds beyond those in quiet.
    pub(super) fn grown_descriptors(&self) -> usize {
        self.descriptors().saturating_sub(self.descriptors)
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).map_or(0, Iterator::count)
    }

    /// Runs an attack to its end, measures the honest clients beside it for as long, and the memory; returns what the attack gave.
    pub(super) async fn endure<T: Send + 'static>(
        &mut self,
        what: &str,
        bytes_max: u64,
        attack: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let attack = tokio::spawn(attack);
        let (mut windows, mut peak) = (Vec::new(), 0);
        while windows.len() < WINDOWS || !attack.is_finished() {
            windows.push(self.window().await);
            peak = peak.max(self.grown_bytes());
        }
        windows.sort_unstable();
        let beside = windows[windows.len() / 2];
        let quiet = self.quiet;
        println!("{what}: {beside:?} beside it, {quiet:?} in quiet, {} KiB more at its peak", peak >> 10);
        assert!(beside <= quiet * RATIO_MAX + FLOOR, "{what}: {beside:?}, in quiet {quiet:?}");
        assert!(peak <= bytes_max, "{what} took {peak} bytes");
        let given = attack.await.expect("an attacker does not panic");
        self.is_whole(what).await;
        given
    }

    /// The server answers, met no defect, holds nothing of the attackers, and has its memory back.
    async fn is_whole(&mut self, what: &str) {
        let begun = Instant::now();
        while self.grown_descriptors() > 0 || self.grown_bytes() > KEPT_BYTES_MAX {
            let (sockets, kib) = (self.grown_descriptors(), self.grown_bytes() >> 10);
            assert!(
                begun.elapsed() < RECOVERY,
                "after {what}: {sockets} sockets and {kib} KiB are still held"
            );
            // Honest clients go on meanwhile: they show that they live.
            self.window().await;
        }
        let metrics = self.metrics().await;
        assert_eq!(metrics.metric("tidings_panics_total", ""), 0.0, "after {what}");
        let honest = (SUBSCRIBERS + 1) as f64;
        eventually(&format!("only the honest to be connected after {what}"), async || {
            (self.metrics().await.metric("tidings_connections", "") == honest).then_some(())
        })
        .await;
    }

    pub(super) async fn metrics(&self) -> Answer {
        self.request("GET", "/metrics").send().await
    }

    /// The slowest way of each of some windows, of which the middle one.
    async fn windows(&mut self) -> Duration {
        let mut windows = Vec::new();
        for _ in 0..WINDOWS {
            windows.push(self.window().await);
        }
        windows.sort_unstable();
        windows[WINDOWS / 2]
    }

    /// The longest that a publication took to reach all subscribers. All of them come, in order.
    async fn window(&mut self) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..ROUND_TRIPS {
            self.sent += 1;
            let begun = Instant::now();
            let publish = json!({"publish": {"channel": CHANNEL, "data": self.sent}});
            self.publisher.send(publish).await;
            for subscriber in &mut self.subscribers {
                assert_eq!(subscriber.data(CHANNEL, 1).await, [json!(self.sent)]);
            }
            longest = longest.max(begun.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        longest
    }
}

/// A WebSocket that was greeted.
pub(super) async fn greeted(address: SocketAddr) -> WebSocket {
    let mut socket = WebSocket::connect(address, &[]).await;
    within("a greeting", socket.expect("hello")).await;
    socket
}
