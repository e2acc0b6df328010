//! Instances on servers that replace each other: sentinels, clusters, replicas that confirm; and what a Redis must be.
//!
//! `TIDINGS_FAULTS=n` injects each fault n times instead of once or twice.

mod cluster;
mod partial;
mod replicated;
mod sentinel;
mod start_up;
mod tls;

use crate::support::{Outcome, Traffic, eventually, faults_asked};

/// How often a fault is injected; `share` of what is asked for, for faults that take long.
fn times(usual: usize, share: usize) -> usize {
    faults_asked().map_or(usual, |asked| (asked / share).max(1))
}

/// Waits for so many more acknowledged publishes.
async fn some_traffic(traffic: &Traffic, publishes: u64) {
    let before = traffic.acked();
    eventually("some traffic", async || (traffic.acked() >= before + publishes).then_some(())).await;
}

/// One row of what is printed: the fault, how often it happened, and what came of it.
fn report(fault: &str, injected: usize, proofs: &[String], outcome: &Outcome) {
    println!("{fault}: injected {injected} times, {} violations\n{outcome}", outcome.violations.len());
    proofs.iter().for_each(|proof| println!("    {proof}"));
}
