//! What does it cost one instance to know who watches what?
//!
//! ```text
//! cargo bench --bench freshness              10,000 connections that watch 1,000 tags each
//! cargo bench --bench freshness -- 1000 100  fewer
//! ```
//!
//! Each connection watches tags out of a common stock, so that about a hundred connections watch each. Budgets: 32 bytes
//! per watched tag, 2 core-seconds for ten million tags that are watched again after everybody was away. One thread; CPU time of the
//! process, and its resident memory.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidings::freshness::{Allowance, Event, Log, Need, Snapshot, VersionTable};
use tidings::hub::{Lineage, SessionId, Time};
use tidings_protocol::{Epoch, Offset, Position, Tag, WatchGroup};

/// Connections that watch the same tag.
const WATCHERS: usize = 100;

/// Tags in one command.
const TAGS_PER_COMMAND: usize = 1_000;

/// Mutations of each kind that are measured.
const MUTATIONS: u64 = 20_000;

const BUDGET_BYTES: f64 = 32.0;
const BUDGET_RESUME_SECONDS: f64 = 2.0;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let connections = numbers.next().unwrap_or(10_000);
    let tags_each = numbers.next().unwrap_or(1_000);
    let watches = connections * tags_each;
    let stock = stock("ticket", (watches / WATCHERS).max(tags_each));
    println!("{connections} connections x {tags_each} tags out of {}\n", stock.len());

    let mut log = log();
    let before = resident();
    let spent = cpu(|| watch_all(&mut log, &stock, connections, tags_each, None));
    let bytes = (resident() - before) as f64 / watches as f64;
    row("bytes per watched tag", bytes, "B", Some(BUDGET_BYTES));
    row("watch", nanos(spent, watches), "ns", None);

    let since = log.position().expect("the log is known");
    for (watchers, name) in [(10, "few"), (WATCHERS, "many")] {
        mutations(&mut log, name, watchers);
    }

    for session in 0..connections {
        log.forget(SessionId(session as u64));
    }
    let spent = cpu(|| watch_all(&mut log, &stock, connections, tags_each, Some(since)));
    let per_ten_million = spent.as_secs_f64() / watches as f64 * 1e7;
    row("watch again, with a basis", nanos(spent, watches), "ns", None);
    row("ten million tags watched again", per_ten_million, "core-s", Some(BUDGET_RESUME_SECONDS));
}

/// Mutations of one tag each, which so many watch.
fn mutations(log: &mut Log<u32>, name: &str, watchers: usize) {
    let tags = stock(name, 1_000);
    for session in 0..watchers {
        watch(log, 1_000_000 + session, &tags, None);
    }
    let position = log.position().expect("the log is known");
    let mut told = 0_u64;
    let spent = cpu(|| {
        for number in 1..=MUTATIONS {
            let tags = [tags[number as usize % tags.len()].clone()].into();
            let event = Event { offset: Offset(position.offset.0 + number), tags, key: None };
            log.handle_event(position.epoch.clone(), event, &mut |_, _, _| told += 1);
        }
    });
    assert_eq!(black_box(told), MUTATIONS * watchers as u64);
    let micros = spent.as_secs_f64() * 1e6 / MUTATIONS as f64;
    row(&format!("mutation that {watchers} watch"), micros, "µs", None);
}

fn watch_all(log: &mut Log<u32>, stock: &[Tag], connections: usize, each: usize, since: Option<Position>) {
    for session in 0..connections {
        // Neighbours share most of what they watch, as users of one view do.
        let begin = session * stock.len() / connections;
        let tags: Vec<Tag> = (0..each).map(|n| stock[(begin + n) % stock.len()].clone()).collect();
        watch(log, session, &tags, since.clone());
    }
}

fn watch(log: &mut Log<u32>, session: usize, tags: &[Tag], since: Option<Position>) {
    let allowance = Allowance { granted: &[Tag::all()], tags_max: usize::MAX };
    for tags in tags.chunks(TAGS_PER_COMMAND) {
        let group = WatchGroup { since: since.clone(), except: None, tags: tags.to_vec() };
        black_box(log.watch(SessionId(session as u64), &(session as u32), &[group], allowance));
    }
}

/// A log that stands where many mutations came before.
fn log() -> Log<u32> {
    let mut log = Log::new(100_000);
    assert_eq!(log.poll_need(Time::ZERO), Some(Need::Snapshot));
    let position = Epoch::parse("bench").expect("an epoch").at(Offset(1_000_000));
    let snapshot = Snapshot { position, lineage: Lineage::default(), table: VersionTable::new(1 << 20) };
    log.handle_snapshot(Ok(snapshot), Time::ZERO, &mut |_, _, _| {});
    log
}

fn stock(name: &str, count: usize) -> Vec<Tag> {
    (0..count).map(|number| Tag::parse(&format!("{name}:{number}")).expect("a tag")).collect()
}

fn row(what: &str, figure: f64, unit: &str, budget: Option<f64>) {
    let verdict = match budget {
        Some(budget) if figure <= budget => format!("within {budget} {unit}"),
        Some(budget) => format!("OVER {budget} {unit}"),
        None => String::new(),
    };
    println!("{what:<32} {figure:>9.2} {unit:<7} {verdict}");
}

fn nanos(spent: Duration, count: usize) -> f64 {
    spent.as_nanos() as f64 / count as f64
}

/// The CPU time that it takes.
fn cpu(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let begin = now();
    work();
    now() - begin
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says so");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * rustix::param::page_size() as u64
}
