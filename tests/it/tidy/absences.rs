//! Words that must not stand in some places (I2, I3, I4, I5, I7, I8 of the architecture).

use super::source::{Source, server, tree};
use super::words::{says, words};
use super::{demand_none, found_in};

/// The layers, and the machines of shells, without async, clock, I/O, randomness, locks, logs and metrics.
const PURE: [&str; 8] = [
    "src/hub",
    "src/dialect",
    "src/freshness",
    "src/node/inquiry",
    "src/broker/intake",
    "src/broker/peers",
    "src/broker/roster",
    "src/broker/wanted",
];

const IMPURE_WORDS: [&str; 22] = [
    "async",
    ".await",
    "tokio",
    "futures",
    "Instant::now",
    "SystemTime",
    "rand",
    "HashMap",
    "HashSet",
    "fred",
    "axum",
    "hyper",
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "tracing",
    "Mutex",
    "RwLock",
    "parking_lot",
    "dashmap",
    "prometheus_client",
];

fn impure(files: &[Source]) -> Vec<String> {
    let pure =
        |file: &&Source| PURE.iter().any(|folder| file.is_in(folder) || file.path == format!("{folder}.rs"));
    said(
        files.iter().filter(pure),
        &IMPURE_WORDS,
        "belongs to node, transport or observe: hand it in, or return an outcome",
    )
}

/// Where nothing is serialized: what is serialized is a promise, and its type belongs to the protocol or the API.
fn serialized(files: &[Source]) -> Vec<String> {
    const FOLDERS: [&str; 6] =
        ["src/hub", "src/freshness", "src/broker", "src/node", "src/node.rs", "src/transport"];
    let inside = |file: &&Source| FOLDERS.iter().any(|folder| file.is_in(folder));
    said(
        files.iter().filter(inside),
        &["Serialize"],
        "is a promise to somebody: make it a type of the protocol or the API",
    )
}

/// The hub knows neither a broker's nor a wire's product, in no part of any identifier.
fn products_in_the_hub(files: &[Source]) -> Vec<String> {
    const PRODUCTS: [&str; 5] = ["redis", "pusher", "mercure", "http", "fred"];
    let lines = files.iter().filter(|file| file.is_in("src/hub")).flat_map(Source::lines);
    let product = |line: &str| {
        let named = |word: &str| PRODUCTS.into_iter().find(|product| word.to_lowercase().contains(product));
        words(line).find_map(named)
    };
    lines
        .filter_map(|(at, line)| Some(format!("{at} names {}: translate at the edge", product(line)?)))
        .collect()
}

/// Dialects encode batches; sessions and the hub are none of their business.
fn the_hub_in_dialects(files: &[Source]) -> Vec<String> {
    let dialects = files.iter().filter(|file| file.is_in("src/dialect"));
    said(dialects, &["Hub", "Session", "SessionConfig"], "belongs to the hub: a dialect only translates")
}

/// Queues without a bound. `mpsc::channel()` is std's, which has none; tokio's takes its bound.
fn unbounded(files: &[Source]) -> Vec<String> {
    let rust = files.iter().filter(|file| file.path.ends_with(".rs") && !file.is_test());
    let words = [
        "unbounded_channel",
        "unbounded",
        "UnboundedSender",
        "UnboundedReceiver",
        "mpsc::channel()",
        "LinkedList",
    ];
    said(rust, &words, "has no bound: give it one from the limits")
}

/// Who may ask what time it is, or throw dice: the server draws the seed that it hands on. Everybody else is handed a
/// `Time` and a seed.
const CLOCKS: [&str; 7] =
    ["src/clock.rs", "src/server.rs", "src/cli", "benches", "examples", "tests", "protocol/tests"];

/// On the way of a publication nothing is dropped in passing: what does not fit, lags or fails is a value of a type
/// (`BrokerEvent::Lost`, `Mail::forgotten`, `Accept::Behind`, an error), never a result thrown away.
fn dropped_in_passing(files: &[Source]) -> Vec<String> {
    const FOLDERS: [&str; 5] = ["src/hub", "src/broker", "src/node", "src/transport", "src/freshness"];
    // The library that talks to Redis drops what lags, and says so: here that becomes a value. What is refused for lack of
    // room is answered `Overloaded`, or asked again.
    const WHERE_LAG_BECOMES_LOSS: [&str; 2] = ["src/broker/redis/line.rs", "src/broker/redis/replicated.rs"];
    let inside = |file: &&Source| {
        FOLDERS.iter().any(|folder| file.is_in(folder))
            && !WHERE_LAG_BECOMES_LOSS.contains(&file.path.as_str())
    };
    said(
        files.iter().filter(inside),
        &["try_send", "broadcast", "Lagged", "let _ ="],
        "loses something without a word: make the loss a value that somebody must handle",
    )
}

fn clocks(files: &[Source]) -> Vec<String> {
    let others = |file: &&Source| {
        file.path.ends_with(".rs") && !file.is_test() && !CLOCKS.iter().any(|allowed| file.is_in(allowed))
    };
    let words = ["Instant::now", "SystemTime", "rand", "RandomState", "fastrand", "getrandom"];
    said(
        files.iter().filter(others),
        &words,
        "makes a history impossible to replay: take a Time or a seed from clock.rs",
    )
}

/// The places where one of the phrases stands in code.
fn said<'a>(files: impl Iterator<Item = &'a Source>, phrases: &[&str], why: &str) -> Vec<String> {
    let lines = files.flat_map(Source::lines);
    lines
        .filter_map(|(at, line)| {
            let phrase = phrases.iter().find(|phrase| says(line, phrase))?;
            Some(format!("{at} says `{phrase}`, which {why}"))
        })
        .collect()
}

#[test]
fn the_pure_layers_are_pure() {
    demand_none(
        "hub, dialect and freshness have no async, clock, I/O, lock, log or metric",
        impure(&server()),
    );
}

#[test]
fn impurity_is_noticed() {
    for bad in [
        "async fn f() {}",
        "x.await;",
        "let m = Mutex::new(1);",
        "tracing::info!(1);",
        "use std::collections::HashMap;",
    ] {
        assert_eq!(found_in("src/hub/x.rs", bad, impure).len(), 1, "{bad}");
        assert_eq!(found_in("src/dialect/x.rs", bad, impure).len(), 1, "{bad}");
        assert!(found_in("src/transport/x.rs", bad, impure).is_empty(), "{bad}");
    }
    for good in [
        "// async",
        "let s = \"async\";",
        "let once = OnceLock::new();",
        "#[cfg(test)]\nmod tests {\n    x.await\n}",
    ] {
        assert!(found_in("src/hub/x.rs", good, impure).is_empty(), "{good}");
    }
}

#[test]
fn only_promises_are_serialized() {
    demand_none("hub, freshness, broker, node and transport serialize nothing", serialized(&server()));
    for (path, bad) in [("src/broker/x.rs", "#[derive(Serialize)]"), ("src/node.rs", "use serde::Serialize;")]
    {
        assert_eq!(found_in(path, bad, serialized).len(), 1, "{path}");
        assert!(found_in("src/api/x.rs", bad, serialized).is_empty());
    }
}

#[test]
fn the_hub_knows_no_product_and_dialects_do_not_know_the_hub() {
    demand_none("the hub knows no product", products_in_the_hub(&server()));
    demand_none("dialects do not know the hub", the_hub_in_dialects(&server()));
    assert_eq!(found_in("src/hub/x.rs", "struct RedisHub;", products_in_the_hub).len(), 1);
    assert_eq!(found_in("src/hub/x.rs", "fn status_of_http() {}", products_in_the_hub).len(), 1);
    assert!(found_in("src/hub/x.rs", "/// Redis has it.", products_in_the_hub).is_empty());
    assert_eq!(
        found_in("src/dialect/x.rs", "use crate::hub::{Batch, Session};", the_hub_in_dialects).len(),
        1
    );
    assert!(found_in("src/dialect/x.rs", "use crate::hub::Batch;", the_hub_in_dialects).is_empty());
}

#[test]
fn every_queue_has_a_bound() {
    demand_none("every queue has a bound", unbounded(&tree()));
    for bad in [
        "let (a, b) = mpsc::unbounded_channel();",
        "let (a, b) = mpsc::channel();",
        "rx: UnboundedReceiver<u8>",
    ] {
        assert_eq!(found_in("src/node/x.rs", bad, unbounded).len(), 1, "{bad}");
    }
    assert!(found_in("src/node/x.rs", "let (a, b) = mpsc::channel(COMMANDS_MAX);", unbounded).is_empty());
    assert!(found_in("tests/it/x.rs", "let (a, b) = mpsc::unbounded_channel();", unbounded).is_empty());
}

#[test]
fn time_and_randomness_come_in_as_arguments() {
    demand_none("only the clock knows the time", clocks(&tree()));
    for bad in ["let now = Instant::now();", "SystemTime::now()", "use rand::Rng;", "RandomState::new()"] {
        assert_eq!(found_in("src/node/x.rs", bad, clocks).len(), 1, "{bad}");
        assert!(found_in("src/clock.rs", bad, clocks).is_empty(), "{bad}");
        assert!(found_in("benches/load/src/x.rs", bad, clocks).is_empty(), "{bad}");
    }
}

/// Maps whose keys peers choose draw their seed: whoever knows it can make all keys collide.
fn fixed_seeds(files: &[Source]) -> Vec<String> {
    let words = [
        "BuildHasherDefault",
        "with_hasher",
        "FxHashMap",
        "FxHashSet",
        "AHashMap",
        "FnvHashMap",
        "DefaultHasher",
    ];
    let code = files.iter().filter(|file| file.is_in("src") || file.is_in("protocol/src"));
    said(code, &words, "hashes alike in every process: use a map that draws its seed")
}

/// What a peer presents is compared with a secret, or its hash, in a time that tells nothing.
fn hasty_comparisons(files: &[Source]) -> Vec<String> {
    let words =
        ["hash ==", "== hash", "secret ==", "== secret", "signature ==", "== signature", "key ==", "== key"];
    let auth = files.iter().filter(|file| file.is_in("src/auth"));
    said(auth, &words, "takes longer the more is right: compare in constant time (`ct_eq`)")
}

#[test]
fn hashes_are_seeded_and_secrets_compared_in_constant_time() {
    demand_none("no hash has a fixed seed", fixed_seeds(&tree()));
    demand_none("no secret is compared in haste", hasty_comparisons(&server()));
    let bad = "let m = HashMap::with_hasher(BuildHasherDefault::default());";
    assert_eq!(found_in("src/node/x.rs", bad, fixed_seeds).len(), 1);
    assert!(found_in("src/node/x.rs", "let m = HashMap::new();", fixed_seeds).is_empty());
    assert_eq!(found_in("src/auth/x.rs", "if known.hash == hash {", hasty_comparisons).len(), 1);
    assert!(found_in("src/auth/x.rs", "if bool::from(known.ct_eq(&hash)) {", hasty_comparisons).is_empty());
}

#[test]
fn loss_is_a_value() {
    demand_none("hub, broker, node and transport drop nothing in passing", dropped_in_passing(&server()));
}

#[test]
fn loss_without_a_word_is_noticed() {
    for bad in ["fn f() { sender.try_send(event).ok(); }", "fn f() { let _ = sender.send(event); }"] {
        assert_eq!(found_in("src/node/x.rs", bad, dropped_in_passing).len(), 1, "{bad}");
    }
    assert!(found_in("src/cli/x.rs", "fn f() { let _ = 1; }", dropped_in_passing).is_empty());
}
