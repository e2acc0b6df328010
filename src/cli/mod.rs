//! The command line.

pub mod exit;
pub mod target;

pub mod cluster;
pub mod config;
pub mod connections;
pub mod disconnect;
pub mod health;
pub mod keys;
pub mod publish;
pub mod serve;
pub mod subscribe;
pub mod token;

mod backoff;
mod event_stream;
mod http;
mod operator;
mod random;

#[cfg(test)]
mod fixture;
