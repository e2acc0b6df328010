//! What the server goes through on a bad day, in little; `TIDINGS_SOAK=1` does it in full, one test at a time:
//! `TIDINGS_SOAK=1 TIDINGS_PROGRAM=target/release/tidings cargo test --test it -- soak leaks:: of_a_hundred --nocapture --test-threads=1`.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{
    API_KEY, Process, RawFrame, RawWebSocket, Request, Token, auth_config, eventually, is_soak, program,
    sized,
};

/// Honest clients in a process of their own; its report.
async fn honest(address: SocketAddr, more: &[&str]) -> Value {
    let url = format!("http://{address}");
    let mut command = Command::new(program());
    command.args(["bench", "fanout", "--json", "--url", &url]).args(more);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("the generator runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("a report, not {output:?}"));
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["delivered"], report["expected"], "{report:#}");
    report
}

fn p99(report: &Value) -> f64 {
    report["steady"]["p99_ms"].as_f64().expect("a number")
}

/// A control group (version 1) of which the memory is limited, within the one that the test runs in.
struct MemoryGroup(std::path::PathBuf);

impl MemoryGroup {
    fn new(bytes: u64) -> Option<MemoryGroup> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = groups.lines().find_map(|line| line.split_once(":memory:/"))?.1;
        let path = std::path::Path::new("/sys/fs/cgroup/memory").join(own);
        let path = path.join(format!("tidings-soak-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let group = MemoryGroup(path);
        std::fs::write(group.0.join("memory.limit_in_bytes"), bytes.to_string()).ok()?;
        Some(group)
    }

    /// Shell commands that move the shell into it.
    fn enter(&self) -> String {
        format!("echo $$ > {}", self.0.join("cgroup.procs").display())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).ok();
    }
}

/// Comes, subscribes, reads nothing for longer than anybody is waited for, and comes again.
async fn never_read(address: SocketAddr, channel: &'static str) {
    loop {
        if let Ok(mut socket) = RawWebSocket::try_handshake(address, &[]).await {
            socket.send(&RawFrame::text(&json!({"subscribe": {"channel": channel}}).to_string())).await;
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn readers_that_never_read_harm_neither_the_server_nor_its_honest_clients() {
    let (clients, deaf, seconds) = sized(("4500", 500, "60"), ("150", 30, "3"));
    // In little it is a budget alone, so that the test needs no rights.
    let group = is_soak().then(|| MemoryGroup::new(512 << 20)).flatten();
    let prelude = group.as_ref().map_or("true".to_owned(), MemoryGroup::enter);
    let toml = if group.is_some() { "" } else { "[limits]\nmemory_bytes = \"512MiB\"" };
    let server = Process::start_after(&prelude, &["dev", "--listen", "127.0.0.1:0"], toml);
    let address = server.address().await;
    let budget = server.metric("tidings_memory_budget_bytes", "").await;
    assert_eq!(budget, 536_870_912.0, "the group is seen");
    let load = ["--clients", clients, "--rate", "20", "--payload", "1024", "--seconds", seconds];
    let quiet = honest(address, &[&load[..], &["--channel", "c"]].concat()).await;
    let mut readers = JoinSet::new();
    (0..deaf).for_each(|_| drop(readers.spawn(never_read(address, "c"))));
    eventually("all of them to be here", async || {
        (server.metric("tidings_connections", "").await >= f64::from(deaf)).then_some(())
    })
    .await;
    let beside = honest(address, &[&load[..], &["--channel", "c"]].concat()).await;
    let given_up = server.metric("tidings_connections_closed_total", "slow_consumer").await.abs();
    println!(
        "{deaf} that never read beside {clients}: p99 {:.1} ms, alone {:.1} ms; {:.0} MiB resident; {given_up:.0} given up; {} of {} delivered",
        p99(&beside),
        p99(&quiet),
        server.resident_bytes() as f64 / 1_048_576.0,
        beside["delivered"],
        beside["expected"],
    );
    assert!(p99(&beside) <= 2.0 * p99(&quiet), "{:.1} ms, alone {:.1} ms", p99(&beside), p99(&quiet));
    assert_eq!(server.metric("tidings_panics_total", "").await, 0.0);
    readers.shutdown().await;
    drop(server);
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// What all clients of a storm share.
struct Storm {
    address: SocketAddr,
    cut: watch::Receiver<bool>,
    /// The last offset that was published, once no more will be.
    last: watch::Receiver<Option<u64>>,
    here: AtomicUsize,
    back: AtomicUsize,
    slowest_ms: AtomicU64,
    refused: AtomicUsize,
    lost: AtomicUsize,
}

/// One client of a storm, and where it stands.
struct Client {
    storm: Arc<Storm>,
    bearer: String,
    socket: RawWebSocket,
    position: Value,
}

fn number(n: usize, salt: usize) -> f64 {
    (n as f64 * 0.618_033_988_749_895 + salt as f64 * 0.754_877_666_246_693).fract()
}

/// Comes in, however often it takes: after a refusal when the server says, else by the backoff of every client.
async fn come_in(storm: &Storm, bearer: &str, n: usize) -> RawWebSocket {
    for attempt in 0.. {
        let pause = match RawWebSocket::try_handshake(storm.address, &[("authorization", bearer)]).await {
            Ok(mut socket) => {
                socket.wait_for_frame().await.expect("hello");
                return socket;
            }
            Err(Some(refusal)) => {
                storm.refused.fetch_add(1, Ordering::Relaxed);
                assert_eq!(refusal.status, 503, "{refusal:?}");
                let hint: f64 =
                    refusal.header("retry-after").and_then(|hint| hint.parse().ok()).expect("a hint");
                hint - 1.0 + number(n, attempt)
            }
            Err(None) => number(n, attempt) * (0.3 * 2_f64.powi(attempt as i32)).min(20.0),
        };
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    }
    unreachable!("there is always another attempt")
}

impl Client {
    async fn subscribe(&mut self, since: Option<&Value>) -> Value {
        let command = match since {
            Some(since) => json!({"id": 1, "subscribe": {"channel": "storm", "since": since}}),
            None => json!({"id": 1, "subscribe": {"channel": "storm"}}),
        };
        self.socket.send(&RawFrame::text(&command.to_string())).await;
        let frame = self.next().await.expect("it is answered");
        frame["subscribed"].clone()
    }

    /// The next frame that is text.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let frame = self.socket.wait_for_frame().await?;
            match frame.first {
                0x81 => return serde_json::from_slice(&frame.payload).ok(),
                0x88 => return None,
                _ => {}
            }
        }
    }

    fn offset(&self) -> u64 {
        self.position["offset"].as_u64().expect("an offset")
    }

    /// Reads until it is cut, or until it has the last of all.
    async fn read(&mut self, until_cut: bool) {
        let (mut cut, mut last) = (self.storm.cut.clone(), self.storm.last.clone());
        loop {
            if let Some(last) = *last.borrow()
                && self.offset() >= last
            {
                return;
            }
            let frame = tokio::select! {
                frame = self.next() => frame,
                _ = cut.wait_for(|cut| *cut), if until_cut => return,
                _ = last.changed() => continue,
            };
            let Some(frame) = frame else {
                self.storm.lost.fetch_add(1, Ordering::Relaxed);
                return;
            };
            if let Some(batch) = frame.get("batch") {
                let (first, count) =
                    (batch["first"].as_u64(), batch["publications"].as_array().map(Vec::len));
                if first != Some(self.offset() + 1) {
                    self.storm.lost.fetch_add(1, Ordering::Relaxed);
                }
                self.position["offset"] =
                    json!(first.unwrap_or_default() + count.unwrap_or_default() as u64 - 1);
            }
        }
    }
}

async fn one(storm: Arc<Storm>, n: usize) {
    let bearer = format!("Bearer {}", Token::of(&format!("user{n}")).subscribe("*").sign());
    let socket = come_in(&storm, &bearer, n).await;
    let mut client = Client { storm: storm.clone(), bearer, socket, position: Value::Null };
    client.position = client.subscribe(None).await["position"].clone();
    storm.here.fetch_add(1, Ordering::Relaxed);
    client.read(true).await;
    // Gone without a word, all at once.
    let begun = Instant::now();
    let Client { bearer, socket, mut position, .. } = client;
    drop(socket);
    tokio::time::sleep(Duration::from_secs_f64(number(n, 0) * 0.3)).await;
    let socket = come_in(&storm, &bearer, n).await;
    let mut client = Client { storm: storm.clone(), bearer, socket, position: Value::Null };
    let subscribed = client.subscribe(Some(&position)).await;
    let publications = subscribed["publications"].as_array().map_or(0, Vec::len) as u64;
    let missed =
        subscribed["position"]["offset"].as_u64().unwrap_or_default() - position["offset"].as_u64().unwrap();
    if subscribed["recovered"] != true || publications != missed {
        storm.lost.fetch_add(1, Ordering::Relaxed);
    }
    position["offset"] = subscribed["position"]["offset"].clone();
    client.position = position;
    storm.slowest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    storm.back.fetch_add(1, Ordering::Relaxed);
    client.read(false).await;
}

/// Publishes until it is told to end; the last offset.
async fn publisher(address: SocketAddr, pause: Duration, end: watch::Receiver<bool>) -> u64 {
    let mut last = 0;
    while !*end.borrow() {
        let answer =
            Request::new(address, "POST", "/v1/publish/storm").bearer(API_KEY).body("1").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        last = answer.json()["position"]["offset"].as_u64().expect("an offset");
        tokio::time::sleep(pause).await;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_drops_at_once_and_is_back_and_others_do_not_notice() {
    let count = sized(10_000, 300);
    let limits = sized("", "[limits]\nconnections_per_second = 100\nconnections_burst = 150\n");
    let server = Process::start(&["serve", "--listen", "127.0.0.1:0"], &format!("{}{limits}", auth_config()));
    let address = server.address().await;
    let token = Token::of("honest").subscribe("*").sign();
    let seconds = sized("40", "8");
    let honest_load = ["--clients", sized("100", "20"), "--rate", "20", "--seconds"];
    let who = ["--token", &token, "--api-key", API_KEY, "--channel", "honest"];

    let (cut, is_cut) = watch::channel(false);
    let (say_last, last) = watch::channel(None);
    let (end, is_over) = watch::channel(false);
    let storm = Arc::new(Storm {
        address,
        cut: is_cut,
        last,
        here: AtomicUsize::new(0),
        back: AtomicUsize::new(0),
        slowest_ms: AtomicU64::new(0),
        refused: AtomicUsize::new(0),
        lost: AtomicUsize::new(0),
    });
    let mut clients = JoinSet::new();
    (0..count).for_each(|n| drop(clients.spawn(one(storm.clone(), n))));
    reaches("all to be here", Duration::from_secs(60), || storm.here.load(Ordering::Relaxed) == count).await;
    let publisher =
        tokio::spawn(publisher(address, sized(Duration::from_secs(2), Duration::from_millis(50)), is_over));
    let quiet = honest(address, &[&honest_load[..], &[sized("10", "3")], &who].concat()).await;

    let others = tokio::spawn({
        let arguments: Vec<String> =
            [&honest_load[..], &[seconds], &who].concat().into_iter().map(str::to_owned).collect();
        async move { honest(address, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused_before = storm.refused.load(Ordering::Relaxed);
    let begun = Instant::now();
    cut.send_replace(true);
    reaches("all to be back", Duration::from_secs(30), || storm.back.load(Ordering::Relaxed) == count).await;
    let took = begun.elapsed();
    let beside = others.await.expect("the others end");
    end.send_replace(true);
    say_last.send_replace(Some(publisher.await.expect("the publisher ends")));
    let rest = async { while clients.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(30), rest).await.expect("everybody gets the last publication");
    let (lost, refused) =
        (storm.lost.load(Ordering::Relaxed), storm.refused.load(Ordering::Relaxed) - refused_before);
    println!(
        "{count} dropped at once: all back after {:.1} s (the slowest took {:.1} s), {refused} handshakes refused, {lost} lost something; others: p99 {:.1} ms, before {:.1} ms",
        took.as_secs_f64(),
        storm.slowest_ms.load(Ordering::Relaxed) as f64 / 1_000.0,
        p99(&beside),
        p99(&quiet),
    );
    assert_eq!(lost, 0);
    assert!(refused > 0, "the storm was larger than what is admitted at once");
    for nothing in ["lost", "gaps", "errors"] {
        assert_eq!(beside[nothing], 0, "{nothing} in {beside:#}");
    }
    assert_eq!(server.metric("tidings_resume_total", "gap").await, 0.0);
}

/// Waits for a number to be reached.
async fn reaches(what: &str, time: Duration, is_reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_reached() {
        assert!(begun.elapsed() < time, "waited {time:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
