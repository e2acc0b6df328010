//! Whether the broker is there, as every connection is told.

/// What is known of the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokerState {
    /// It can be reached, and what it announces arrives.
    #[default]
    Up,
    /// It cannot, or some of its servers cannot: of what these hold nothing new comes, and nothing can be stored there.
    Down {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
    },
}

impl BrokerState {
    /// Whether the broker can be reached.
    pub fn is_up(self) -> bool {
        self == BrokerState::Up
    }
}

/// The servers that a broker consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerServers {
    /// Those that cannot be used.
    pub lost: usize,
    /// All of them.
    pub of: usize,
}
