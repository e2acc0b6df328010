//! The command line.

pub mod exit;

pub mod config;
pub mod serve;

#[cfg(test)]
mod fixture;
