//! A server that is asked for more than it has: memory, descriptors, a tenant's share.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{
    EventStream, Process, RawFrame, RawWebSocket, Request, Token, WebSocket, auth_config, eventually, within,
};

async fn subscriber(address: SocketAddr, channel: &str) -> WebSocket {
    let mut socket = WebSocket::connect(address, &[]).await;
    socket.expect("hello").await;
    socket.subscribe(channel).await;
    socket
}

/// A subscriber that reads nothing, with small buffers.
async fn stalled(address: SocketAddr, channel: &str) -> RawWebSocket {
    let mut socket = RawWebSocket::handshake(address, Some(4_096), &[]).await;
    socket.send(&RawFrame::text(&json!({"id": 1, "subscribe": {"channel": channel}}).to_string())).await;
    for _ in 0..2 {
        socket.frame().await;
    }
    socket
}

/// A mailbox holds what the memory does not, and nothing else ends a slow reader.
const MAILBOXES: &str = "[server]\nwrite_timeout = \"10m\"\n[namespace.default]\nhistory_size = 0\nbatch_window = \"10ms\"\n[limits]\nmailbox_bytes = \"64MiB\"\nmemory_bytes = \"128MiB\"";

#[tokio::test]
async fn short_memory_refuses_newcomers_and_costs_the_slowest_readers_and_nobody_else() {
    let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], MAILBOXES);
    let address = process.address().await;
    let budget = 128_u64 << 20;
    let mut honest = subscriber(address, "honest").await;
    let mut slow = Vec::new();
    for n in 0..8 {
        slow.push(stalled(address, &format!("slow{n}")).await);
    }
    let large = json!("x".repeat(300_000));
    let batch = (0..8).map(|n| json!({"channel": format!("slow{n}"), "data": large}).to_string());
    let batch = batch.collect::<Vec<_>>().join("\n");
    let (mut refused, mut round, mut highest) = (false, 0, 0);
    let flood = async {
        while process.metric("tidings_shed_total", "").await == 0.0 {
            Request::new(address, "POST", "/v1/batch").body(&batch).send().await;
            let published = Request::new(address, "POST", "/v1/publish/honest").body(round.to_string());
            assert_eq!(published.send().await.status, 200);
            assert_eq!(honest.data("honest", 1).await, [json!(round)], "who reads is served");
            round += 1;
            highest = highest.max(process.resident_bytes());
            if !refused && Request::new(address, "GET", "/readyz").send().await.status == 503 {
                refused = true;
                let handshake = RawWebSocket::try_handshake(address, &[]).await.err().flatten();
                let handshake = handshake.expect("an answer");
                let wait: u64 =
                    handshake.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a hint");
                assert!(handshake.status == 503 && (1..=5).contains(&wait), "{handshake:?}");
                let mut stream = EventStream::open(Request::new(address, "GET", "/sse?channel=c")).await;
                stream.is_turned_away().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), flood).await.expect("memory becomes short");
    assert!(refused, "newcomers were refused before anybody was given up");
    assert!(highest < budget + (16 << 20), "{highest} bytes of {budget}");
    eventually("slow readers to be gone", async || {
        let closed = process.metric("tidings_connections_closed_total", "slow_consumer").await;
        (closed >= 1.0).then_some(())
    })
    .await;
    let published = Request::new(address, "POST", "/v1/publish/honest").body("\"after\"").send().await;
    assert_eq!(published.status, 200);
    assert_eq!(honest.data("honest", 1).await, [json!("after")]);
    assert_eq!(process.metric("tidings_panics_total", "").await, 0.0);
    drop(slow);
}

#[tokio::test]
async fn when_descriptors_run_out_those_who_are_here_go_on_and_others_wait() {
    let toml = "[server]\nheader_timeout = \"10m\"";
    let process = Process::start_after("ulimit -n 60", &["dev", "--listen", "127.0.0.1:0"], toml);
    let address = process.address().await;
    let mut here = subscriber(address, "c").await;
    let mut idle = Vec::new();
    for n in 0..80 {
        idle.push(connect_from(n, address).await);
    }
    eventually("the end of descriptors", async || process.stderr().contains("not accepting").then_some(()))
        .await;
    for n in 0..20 {
        here.send(json!({"publish": {"channel": "c", "data": n}})).await;
        assert_eq!(here.data("c", 1).await, [json!(n)]);
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("it runs").count();
    assert!(open <= 56, "{open} of 60 descriptors");
    drop(idle);
    let answer = within("a place", Request::new(address, "GET", "/livez").send()).await;
    assert_eq!(answer.status, 200);
    subscriber(address, "d").await;
}

/// A socket from one of the loopback addresses, 127.0.1.0 and so on.
async fn connect_from(number: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.bind(SocketAddr::from(([127, 0, 1, number], 0))).expect("the address is of this machine");
    socket.connect(address).await.expect("the kernel takes it")
}

/// What a socket is answered; `None` where it was closed.
async fn asked(stream: &mut TcpStream, request: &Request) -> Option<u16> {
    stream.write_all(&request.bytes()).await.ok()?;
    let mut answer = [0; 1_024];
    let length = within("an answer or the end", stream.read(&mut answer)).await.ok()?;
    String::from_utf8_lossy(&answer[..length]).split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn one_address_holds_half_of_the_descriptors_and_probes_from_elsewhere_are_answered() {
    let toml = "[server]\nheader_timeout = \"10m\"";
    let process = Process::start_after("ulimit -n 100", &["dev", "--listen", "127.0.0.1:0"], toml);
    let address = process.address().await;
    let probe = Request::new(address, "GET", "/livez");
    let mut greedy = Vec::new();
    for _ in 0..150 {
        let mut stream = connect_from(1, address).await;
        assert_eq!(asked(&mut stream, &probe).await, Some(200), "each is served when it comes");
        greedy.push(stream);
    }
    let (mut neighbour, mut later) = (connect_from(2, address).await, connect_from(3, address).await);
    assert_eq!(asked(&mut neighbour, &probe).await, Some(200));
    let held = process.metric("tidings_limit_used", "limit=\"sockets\"").await;
    assert!((30.0..=50.0).contains(&held), "{held} sockets, of 90 descriptors for connections");
    assert!(!process.stderr().contains("not accepting"));
    let (newest, oldest) = (greedy.last_mut().expect("there are"), 0);
    assert_eq!(asked(newest, &probe).await, Some(200), "what it used last stays");
    assert_eq!(asked(&mut greedy[oldest], &probe).await, None, "what it left idle longest is closed");
    drop(greedy);
    assert_eq!(
        (asked(&mut neighbour, &probe).await, asked(&mut later, &probe).await),
        (Some(200), Some(200))
    );
    eventually("the sockets to be given back", async || {
        (process.metric("tidings_limit_used", "limit=\"sockets\"").await <= 3.0).then_some(())
    })
    .await;
}

/// The longest of the 99 fastest in a hundred.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Publishes so often, one after the other, and says how long each took.
async fn publish_times(address: SocketAddr, token: &str, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let answer = Request::new(address, "POST", "/v1/publish/quiet").bearer(token).body("1").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        times.push(begun.elapsed());
        // Within its own limit.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    times
}

/// Publishes at this rate until it is stopped; counts what was accepted and what was refused.
async fn flood(address: SocketAddr, token: String, per_second: u32) -> (usize, usize) {
    let (mut accepted, mut refused) = (0, 0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        ticks.tick().await;
        let answer = Request::new(address, "POST", "/v1/publish/loud").bearer(&token).body("1").send().await;
        match answer.status {
            200 => accepted += 1,
            _ => refused += usize::from(answer.code() == "rate_limited"),
        }
    }
    (accepted, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_at_ten_times_its_limit_is_refused_and_its_neighbour_is_as_fast_as_before() {
    let limits = "[limits]\nrate_burst = \"1s\"\ntenant_publishes_per_second = 50\nuser_publishes_per_second = 0\nuser_commands_per_second = 0";
    let toml = format!("{}{limits}", auth_config());
    let process = Process::start(&["serve", "--listen", "127.0.0.1:0"], &toml);
    let address = process.address().await;
    let of = |tenant: &str| Token::of("ada").tenant(tenant).publish("*").sign();
    let (loud, quiet) = (of("loud"), of("quiet"));
    let mut ratios = Vec::new();
    // A machine with other work to do makes one round slow, not three.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = p99(publish_times(address, &quiet, 90).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let flood = tokio::spawn(flood(address, loud.clone(), 500));
        let during = p99(publish_times(address, &quiet, 90).await);
        let (accepted, refused) = flood.await.expect("it ends");
        assert!((100..=220).contains(&accepted), "{accepted} of a tenant that may 50 a second");
        assert!(refused >= 3 * accepted, "{refused} refused, {accepted} accepted");
        ratios.push(during.as_secs_f64() / before.as_secs_f64());
        if ratios.last() <= Some(&2.0) {
            return;
        }
    }
    panic!("the neighbour's p99 by the tenant's flood, against its own before: {ratios:?}");
}

#[tokio::test]
async fn one_large_message_does_not_hold_up_the_small_ones_beside_it() {
    let process =
        Process::start(&["dev", "--listen", "127.0.0.1:0"], "[namespace.default]\nbatch_window = \"10ms\"");
    let address = process.address().await;
    let (mut large, mut small) = (subscriber(address, "large").await, subscriber(address, "small").await);
    let sender = tokio::spawn(async move {
        for n in 0..20 {
            let data = format!("\"{n}{}\"", "x".repeat(990_000));
            let answer = Request::new(address, "POST", "/v1/publish/large").body(data).send().await;
            assert_eq!(answer.status, 200);
        }
    });
    let reader = tokio::spawn(async move { large.data("large", 20).await.len() });
    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        let begun = Instant::now();
        Request::new(address, "POST", "/v1/publish/small").body(n.to_string()).send().await;
        assert_eq!(small.data("small", 1).await, [json!(n)]);
        slowest = slowest.max(begun.elapsed());
    }
    sender.await.expect("all are accepted");
    assert_eq!(within("the large ones", reader).await.expect("it reads"), 20);
    assert!(slowest < Duration::from_secs(1), "{slowest:?} for a small one");
}

#[tokio::test]
async fn connections_that_are_old_enough_come_back_by_new_ones_and_miss_nothing() {
    let toml = "[server]\nconnection_age_max = \"1s\"";
    let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], toml);
    let address = process.address().await;
    let publisher = tokio::spawn(async move {
        for n in 1..=60 {
            Request::new(address, "POST", "/v1/publish/c").body(n.to_string()).send().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (mut since, mut next, mut generations) = (None::<Value>, 1_u64, 0);
    while next <= 60 {
        let begun = Instant::now();
        let mut socket = WebSocket::connect(address, &[]).await;
        socket.expect("hello").await;
        let subscribed = match &since {
            Some(since) => socket.resume("c", since).await,
            None => socket.subscribe("c").await,
        };
        assert!(since.is_none() || subscribed["recovered"] == true, "{subscribed}");
        let position = &subscribed["position"];
        next = position["offset"].as_u64().unwrap().max(next - 1) + 1;
        let epoch = position["epoch"].clone();
        let (frames, closed) = socket.closed().await;
        for batch in frames.iter().filter_map(|frame| frame.get("batch")) {
            assert_eq!(batch["first"], next, "no hole");
            next += batch["publications"].as_array().unwrap().len() as u64;
        }
        since = Some(json!({"epoch": epoch, "offset": next - 1}));
        let lived = begun.elapsed();
        assert_eq!((closed.code, &closed.reason[..10]), (4001, "reconnect:"));
        let disconnect = &frames.last().unwrap()["disconnect"];
        assert!(disconnect["reconnect"] == true && disconnect["after_ms"].is_u64(), "{disconnect}");
        assert!(lived > Duration::from_millis(850), "{lived:?}");
        generations += 1;
    }
    assert!(generations >= 2, "{generations}");
    publisher.await.unwrap();
    let mut stream = EventStream::open(Request::new(address, "GET", "/sse?channel=c")).await;
    stream.expect("hello").await;
    let cursor = stream.cursor();
    stream.rest().await;
    assert!(stream.retry.is_some(), "an EventSource is told when to come back");
    Request::new(address, "POST", "/v1/publish/c").body("61").send().await;
    let again = Request::new(address, "GET", "/sse?channel=c").header("last-event-id", &cursor);
    let mut stream = EventStream::open(again).await;
    stream.expect("hello").await;
    assert_eq!(stream.expect("message").await["data"], 61);
}

#[tokio::test]
async fn a_server_that_may_open_too_few_files_says_so_at_its_start() {
    for (files, is_warned) in [("256", true), ("4096", false)] {
        let toml = format!("{}[limits]\nconnections_max = 1000\n", auth_config());
        let process =
            Process::start_after(&format!("ulimit -n {files}"), &["serve", "--listen", "127.0.0.1:0"], &toml);
        process.address().await;
        assert_eq!(process.stderr().contains("LimitNOFILE"), is_warned, "{files}: {}", process.stderr());
    }
}
