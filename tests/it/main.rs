//! Tests against the whole of tidings: its pure machines over simulated time, real servers over real sockets, and the
//! source tree itself.

mod support;

#[cfg(feature = "ablation")]
mod ablation;
mod access;
mod attack;
mod auth;
mod batching;
mod broker_suite;
mod budgets;
mod cache_faults;
mod cluster;
mod degraded;
mod drain;
mod errors;
mod examples;
mod faults_happen;
mod first_minute;
mod framing;
mod freshness;
mod history;
mod http;
mod leaks;
mod limits;
mod liveness;
mod load;
mod model;
mod mutations;
mod origins;
mod overload;
mod presence;
mod proxies;
mod publish;
mod rates;
mod redis_faults;
mod redis_groups;
mod reload;
mod resume;
mod rules;
mod shares;
mod simulation;
mod slow_consumer;
mod soak;
mod sse;
mod subscribe;
mod tidy;
mod traffic;
mod watching;
