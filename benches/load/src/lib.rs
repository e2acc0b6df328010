//! The load generator of tidings: holds thousands of subscribers, publishes, and counts what was lost, repeated,
//! reordered or altered. Its decoder shares no code with the server, so that a mistake there cannot hide itself here.
//!
//! ```text
//! publisher ──► server ──► subscriber → link → (websocket | http, sse) → frame → check
//!     └────────► book ◄────────────────────────────────────────────────────┘
//! ```
//! `floor` measures beside it what the kernel alone costs, `cluster` what a way through Redis costs,
//! `watch` how soon clients know what mutations touched. Everything runs against loopback.

mod book;
mod check;
mod child;
mod chunked;
mod cli;
mod clock;
mod cluster;
mod crowd;
mod error;
mod fanout;
mod floor;
mod frame;
mod frame_cache;
mod http;
mod lane;
mod latency;
mod link;
mod measurement;
mod outlet;
mod process;
mod publisher;
mod random;
mod redis;
mod report;
mod sse;
mod subscriber;
mod tally;
mod upgrade;
mod watch;
mod websocket;
mod wire;

pub use cli::{
    ClusterArgs, Command, FanoutArgs, FloorArgs, Host, RawServerArgs, RawSinkArgs, WatchArgs, run,
};
pub use cluster::{Budget, ClusterReport, CostRow, LatencyRow, cluster};
pub use error::LoadError;
pub use fanout::fanout;
pub use floor::{CpuRow, FloorReport, MemoryRow, floor};
pub use latency::LatencySummary;
pub use link::Transport;
pub use measurement::Measurement;
pub use report::{FanoutReport, ServerCost};
pub use watch::{WatchBudget, WatchReport, WatchRow, watch};
