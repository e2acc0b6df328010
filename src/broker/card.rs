//! What this instance says of itself to those that it shares the broker with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_protocol::InstanceInfo;

/// This instance: its name, its place, and how many connections it has at the moment.
#[derive(Debug)]
pub struct InstanceCard {
    id: Arc<str>,
    address: String,
    started: u64,
    connections: AtomicU64,
}

impl InstanceCard {
    /// An instance without connections. `id` is unlike that of any other start, `address` is where others reach it, and
    /// `started` is in milliseconds since 1970.
    pub fn new(id: &str, address: String, started: u64) -> Self {
        InstanceCard { id: id.into(), address, started, connections: AtomicU64::new(0) }
    }

    /// Its name, with which the names of its sessions begin.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Somebody connected.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody is gone.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// All of it, as it is now.
    pub fn info(&self) -> InstanceInfo {
        InstanceInfo {
            id: self.id.clone(),
            address: self.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}
