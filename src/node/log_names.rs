//! Which mutation logs there are on this instance.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tidings_protocol::{Code, LogName, Problem};

use super::LogRules;

/// The logs that are used here: the default one, those that are configured, and others as long as there are fewer than
/// `logs_max`.
pub(super) struct LogNames {
    logs_max: usize,
    configured: BTreeSet<LogName>,
    others: Mutex<BTreeSet<LogName>>,
}

impl LogNames {
    pub(super) fn new(rules: &LogRules) -> Self {
        let configured = rules.logs.iter().filter_map(|log| LogName::parse(&log.name).ok());
        let configured = configured.filter(|log| !log.is_default()).collect();
        LogNames { logs_max: rules.logs_max, configured, others: Mutex::default() }
    }

    /// The log is used from now on, or was before; refused where there are too many.
    pub(super) fn admit(&self, log: &LogName) -> Result<(), Problem> {
        if log.is_default() || self.configured.contains(log) {
            return Ok(());
        }
        let mut others = self.others.lock().expect("nothing panics while it holds the names");
        if !others.contains(log) && others.len() + self.configured.len() >= self.logs_max {
            let message = format!(
                "limits.logs_max {} mutation logs are in use: use one of them, or configure [log.{log}]",
                self.logs_max
            );
            return Err(Problem::new(Code::LimitReached, message));
        }
        others.insert(log.clone());
        Ok(())
    }
}
