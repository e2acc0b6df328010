//! tidings: a real-time pub/sub event server.

pub mod ablation;
pub mod cli;
pub mod config;
pub mod hub;
