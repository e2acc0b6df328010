//! tidings: a real-time pub/sub event server.

pub mod ablation;
pub mod api;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod dialect;
pub mod freshness;
pub mod hub;
pub mod instance;
pub mod limits;
pub mod node;
pub mod observe;
pub mod server;
pub mod transport;
