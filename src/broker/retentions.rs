//! What each channel keeps, as configuration has it.

use tidings_protocol::{Channel, LogName};

use crate::config::{Config, Logs, Namespaces};
use crate::hub::Retention;

/// What each channel keeps: by its namespace, or as the mutation log that it belongs to.
#[derive(Clone, Debug)]
pub struct Retentions {
    namespaces: Namespaces,
    logs: Logs,
}

impl Retentions {
    /// As configured.
    pub fn new(config: &Config) -> Retentions {
        Retentions { namespaces: config.namespaces.clone(), logs: config.logs.clone() }
    }

    /// As the streams want to know it. Companions keep nothing: who is there can be asked.
    pub fn of(&self, channel: &Channel) -> Retention {
        if let Some(log) = channel.log() {
            let log = self.logs.of(&log);
            return Retention {
                publications_max: log.events,
                bytes_max: log.events_bytes,
                age_max: log.events_age,
            };
        }
        let namespace = self.namespaces.of(channel.as_str());
        Retention {
            publications_max: if channel.is_presence() { 0 } else { namespace.history_size },
            bytes_max: namespace.history_bytes,
            age_max: namespace.history_age,
        }
    }

    /// Slots of a new table of the log's versions.
    pub fn table_slots(&self, log: &LogName) -> usize {
        self.logs.of(log).table_slots
    }
}
