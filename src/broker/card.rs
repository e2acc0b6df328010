//! What this instance says of itself to those that it shares the broker with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidings_protocol::{Alike, InstanceInfo};

/// This instance: its name, its place, and how many connections it has at the moment.
#[derive(Debug)]
pub struct InstanceCard {
    id: Arc<str>,
    address: String,
    started: u64,
    connections: AtomicU64,
    alike: Mutex<Alike>,
}

impl InstanceCard {
    /// An instance without connections. `id` is unlike that of any other start, `address` is where others reach it, and
    /// `started` is in milliseconds since 1970.
    pub fn new(id: &str, address: String, started: u64) -> Self {
        InstanceCard {
            id: id.into(),
            address,
            started,
            connections: AtomicU64::new(0),
            alike: Mutex::default(),
        }
    }

    /// Its name, with which the names of its sessions begin.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// What it has that all others should have, from now on.
    pub fn set_alike(&self, alike: Alike) {
        *self.alike.lock().expect("nobody panics with it") = alike;
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
            alike: self.alike.lock().expect("nobody panics with it").clone(),
        }
    }
}
