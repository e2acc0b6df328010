//! Real Redis servers that a test starts, hurts and ends: one alone, a group with sentinels, a cluster.

mod cluster;
mod reply;
mod sentinel;
mod server;

pub(crate) use cluster::RedisCluster;
pub(crate) use reply::Reply;
pub(crate) use sentinel::SentinelGroup;
pub(crate) use server::{Data, RedisServer};
