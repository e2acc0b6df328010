//! Whoever has said nothing yet: what a stranger costs, and for how long.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::siege::Siege;
use crate::support::{Process, RawWebSocket, auth_config, eventually};

const FEW: usize = 500;
const MANY: usize = 3_000;

/// What one of them may cost, in memory of the server.
const BYTES_MAX: u64 = 16 << 10;

/// What the server has for a head and for a credential, by default, and what a busy machine adds.
const LIFE: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(8);

async fn connect(process: &Process, opening: &[u8], count: usize) -> Vec<TcpStream> {
    let address = process.address().await;
    let open = async || {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        stream.write_all(opening).await.expect("there is room for so little");
        stream
    };
    let mut strangers = Vec::new();
    while strangers.len() < count {
        strangers.extend(join_all((0..100).map(|_| open())).await);
    }
    strangers
}

fn descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).map_or(0, Iterator::count)
}

/// Waits until the server has accepted so many more.
async fn accepted(process: &Process, before: usize, count: usize) {
    eventually("the strangers to be accepted", async || {
        (descriptors(process) >= before + count).then_some(())
    })
    .await;
}

/// The slope between few and many: what the server keeps for itself is in both. The strangers have longer than they would by
/// default, so that a slow machine sees all of them at once.
async fn check_memory(what: &str, opening: &[u8]) {
    let mut all = Vec::new();
    // What the process allocates meanwhile for other reasons is in the slope too: of three rounds the least counts.
    for _ in 0..3 {
        let each = memory_of_one(opening).await;
        println!("{what}: {each} bytes each");
        all.push(each);
        if each <= BYTES_MAX {
            return;
        }
    }
    panic!("{what} cost {all:?} bytes each");
}

async fn memory_of_one(opening: &[u8]) -> u64 {
    let toml = format!("{}[server]\nheader_timeout = \"1m\"", auth_config());
    let process = Process::start(&["serve", "--listen", "127.0.0.1:0"], &toml);
    process.address().await;
    let before = descriptors(&process);
    let few = connect(&process, opening, FEW).await;
    accepted(&process, before, FEW).await;
    let with_few = process.resident_bytes();
    let many = connect(&process, opening, MANY - FEW).await;
    accepted(&process, before, MANY).await;
    let each = process.resident_bytes().saturating_sub(with_few) / (MANY - FEW) as u64;
    drop((few, many));
    each
}

/// How long strangers stay if the server is left as it is.
async fn check_time(opening: &[u8]) {
    let process = Process::start(&["serve", "--listen", "127.0.0.1:0"], &auth_config());
    process.address().await;
    let (before, begun) = (descriptors(&process), Instant::now());
    let strangers = connect(&process, opening, FEW).await;
    while descriptors(&process) > before || begun.elapsed() < LIFE {
        assert!(begun.elapsed() < LIFE + LATE, "{} are left", descriptors(&process) - before);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(strangers);
}

const HALF_A_HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nx: y";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_silent_strangers_cost_16_kib_each() {
    check_memory("strangers that say nothing", b"").await;
    check_memory("strangers with half a head", HALF_A_HEAD).await;
    let long = [HALF_A_HEAD, &[b'y'; 6_000]].concat();
    check_memory("strangers with almost a whole head", &long).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_strangers_are_gone_after_5_seconds() {
    futures::join!(check_time(b""), check_time(HALF_A_HEAD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_without_a_credential_costs_16_kib() {
    let toml = format!(
        "{}[server]\nhello_timeout = \"15s\"\n[limits]\nconnections_per_second = 100_000\nconnections_burst = 100_000",
        auth_config()
    );
    let process = Process::start(&["serve", "--listen", "127.0.0.1:0"], &toml);
    let address = process.address().await;
    let open = async |count: usize| {
        let mut strangers = Vec::new();
        while strangers.len() < count {
            strangers.extend(join_all((0..50).map(|_| RawWebSocket::handshake(address, None, &[]))).await);
        }
        strangers
    };
    let few = open(200).await;
    let with_few = process.resident_bytes();
    let many = open(1_000).await;
    let each = process.resident_bytes().saturating_sub(with_few) / many.len() as u64;
    println!("WebSockets without a credential: {each} bytes each");
    assert!(each <= BYTES_MAX, "they cost {each} bytes each");
    drop((few, many));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_without_a_credential_is_told_why_it_ends_after_5_seconds() {
    let process = Process::start(&["serve", "--listen", "127.0.0.1:0"], &auth_config());
    let address = process.address().await;
    let before = descriptors(&process);
    let mut strangers = join_all((0..100).map(|_| RawWebSocket::handshake(address, None, &[]))).await;
    tokio::time::sleep(LIFE / 2).await;
    assert_eq!(descriptors(&process), before + strangers.len(), "nobody is hurried");
    let codes = join_all(strangers.iter_mut().map(RawWebSocket::close_codes)).await;
    assert!(codes.iter().all(|codes| *codes == [4501]), "{codes:?}");
    drop(strangers);
    eventually("their sockets to be gone", async || (descriptors(&process) <= before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_slow_down_who_is_known() {
    let mut siege = Siege::begin("").await;
    let address = siege.address;
    let attack = async move {
        for _ in 0..10 {
            let held = join_all((0..200).map(|_| TcpStream::connect(address))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(held);
        }
    };
    siege.endure("silent sockets that come and go", 24 << 20, attack).await;
}
