//! What takes bytes of others, as functions that take any bytes: they end without a panic, and what they say holds.
//!
//! `src/main.rs` has libFuzzer run one of them; `tests/corpus.rs` runs all of them over the kept corpus.

mod choices;
mod targets;

/// Something that takes any bytes.
#[derive(Debug)]
pub struct Target {
    /// What it is called, and the folder of its corpus.
    pub name: &'static str,
    /// Takes them; panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "bodies", run: targets::bodies },
    Target { name: "command", run: targets::command },
    Target { name: "cursor", run: targets::cursor },
    Target { name: "events", run: targets::events },
    Target { name: "frame", run: targets::frame },
    Target { name: "ledger", run: targets::ledger },
    Target { name: "names", run: targets::names },
    Target { name: "redis", run: targets::redis },
    Target { name: "requests", run: targets::requests },
    Target { name: "rules", run: targets::rules },
    Target { name: "session", run: targets::session },
    Target { name: "token", run: targets::token },
];
