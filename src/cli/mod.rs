//! The command line.

pub mod event_stream;
pub mod exit;
pub mod target;

pub mod cluster;
pub mod config;
pub mod connections;
pub mod disconnect;
pub mod health;
pub mod keys;
pub mod mutate;
pub mod publish;
pub mod revoke;
pub mod rules;
pub mod serve;
pub mod subscribe;
pub mod token;

mod backoff;
mod http;
mod operator;
mod post;
mod random;
mod reload;

#[cfg(test)]
mod fixture;
