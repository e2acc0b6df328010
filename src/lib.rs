//! tidings: a real-time pub/sub event server.

pub mod cli;
pub mod config;
