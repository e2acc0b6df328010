//! What instances that share a broker tell each other. MessagePack, between instances of one cluster; no client sees it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Channel, ClusterAnswer, ClusterAsk, Position};

/// An instance, as it presents itself to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// Unlike that of any other start of any instance.
    pub id: Arc<str>,
    /// Where others reach it.
    pub address: String,
    /// The program's version.
    pub version: String,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
    /// Its connections.
    pub connections: u64,
}

/// What every instance says once a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Who says it.
    pub instance: InstanceInfo,
    /// Counts its beacons: one that is missing was lost, and other announcements may have been lost with it.
    pub number: u64,
    /// The channels that it published on since its last beacon, each with its head; `None` where the outcome of a
    /// publish is unknown.
    pub heads: Vec<(Channel, Option<Position>)>,
    /// It is its last one.
    pub leaving: bool,
}

/// A message from one instance to all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// A sign of life.
    Beacon(Beacon),
    /// Something to be done by every instance, and answered.
    Ask {
        /// The instance that asks.
        from: Arc<str>,
        /// Tells its questions apart.
        number: u64,
        /// What.
        ask: ClusterAsk,
    },
    /// What one instance has done or found.
    Answer {
        /// The instance that asked.
        to: Arc<str>,
        /// Its number of the question.
        number: u64,
        /// The instance that answers.
        from: Arc<str>,
        /// What.
        answer: ClusterAnswer,
    },
}
