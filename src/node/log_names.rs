//! Which mutation logs there are on this instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use tidings_protocol::{Code, LogName, Problem};

use super::LogRules;
use crate::limits::{Account, Caller, Shares};

/// The logs that are used here: the default one, those that are configured, and others as long as there are fewer than
/// `logs_max`. Another log appears when somebody writes to it. One that holds nothing can be watched, in case somebody
/// does; such logs have places of their own, so that whoever only reads takes none from those who write.
pub(super) struct LogNames {
    configured: BTreeSet<LogName>,
    others: Mutex<Others>,
}

/// Logs that are neither the default one nor configured, and whom they are counted to.
struct Others {
    written: Places,
    awaited: Places,
}

struct Places {
    logs: BTreeMap<LogName, Account>,
    shares: Shares,
}

/// Whether a log's place was taken just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It was not known before.
    New,
    /// It has one, or needs none.
    Known,
}

impl LogNames {
    pub(super) fn new(rules: &LogRules) -> Self {
        let configured = rules.logs.iter().filter_map(|log| LogName::parse(&log.name).ok());
        let configured: BTreeSet<LogName> = configured.filter(|log| !log.is_default()).collect();
        let places = rules.logs_max.saturating_sub(configured.len());
        let empty = || Places { logs: BTreeMap::new(), shares: Shares::new(places) };
        LogNames { configured, others: Mutex::new(Others { written: empty(), awaited: empty() }) }
    }

    /// Whether the log has a place.
    pub(super) fn knows(&self, log: &LogName) -> bool {
        let others = self.others();
        self.needs_no_place(log)
            || others.written.logs.contains_key(log)
            || others.awaited.logs.contains_key(log)
    }

    /// The log is written to, or was found to hold something; refused where there are too many, or the caller has its share.
    pub(super) fn admit(&self, log: &LogName, caller: &Caller) -> Result<Place, Problem> {
        if self.needs_no_place(log) {
            return Ok(Place::Known);
        }
        let mut others = self.others();
        let place = others.written.take(log, caller)?;
        others.awaited.give_back(log);
        Ok(place)
    }

    /// The log holds nothing, and is watched; refused likewise.
    pub(super) fn admit_awaited(&self, log: &LogName, caller: &Caller) -> Result<(), Problem> {
        let mut others = self.others();
        if self.needs_no_place(log) || others.written.logs.contains_key(log) {
            return Ok(());
        }
        others.awaited.take(log, caller).map(drop)
    }

    /// What was to be written into the log first was not.
    pub(super) fn give_back(&self, log: &LogName) {
        self.others().written.give_back(log);
    }

    /// Logs beside the default and the configured ones, and the most that there may be.
    pub(super) fn usage(&self) -> (usize, usize) {
        let others = self.others();
        (others.written.shares.used(), others.written.shares.total())
    }

    fn needs_no_place(&self, log: &LogName) -> bool {
        log.is_default() || self.configured.contains(log)
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().expect("nothing panics while it holds the names")
    }
}

impl Places {
    fn take(&mut self, log: &LogName, caller: &Caller) -> Result<Place, Problem> {
        if self.logs.contains_key(log) {
            return Ok(Place::Known);
        }
        let account = self.shares.take(caller, 1).map_err(|refused| {
            let what = "mutation logs beside the default and the configured ones";
            let mut problem = refused.problem(Code::LimitReached, "logs_max", what);
            problem.message = format!("{}; or configure [log.{log}]", problem.message).into();
            problem
        })?;
        self.logs.insert(log.clone(), account);
        Ok(Place::New)
    }

    fn give_back(&mut self, log: &LogName) {
        if let Some(account) = self.logs.remove(log) {
            self.shares.close(account, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn who_only_watches_takes_no_place_from_those_who_write() {
        let mut config = Config::default();
        config.limits.logs_max = 4;
        let names = LogNames::new(&LogRules::new(&config));
        let key = |name: &str| Caller { key: Some(name.into()), ..Caller::default() };
        let log = |name: &str| LogName::parse(name).unwrap();
        let is_full = |outcome: Result<(), Problem>| outcome.is_err_and(|it| it.code == Code::LimitReached);
        for n in 0..2 {
            names.admit_awaited(&log(&format!("junk{n}")), &key("eve")).unwrap();
        }
        assert!(is_full(names.admit_awaited(&log("junk2"), &key("eve"))), "its share");
        names.admit_awaited(&log("shop"), &key("ada")).unwrap();
        assert_eq!(names.admit(&log("shop"), &key("backend")), Ok(Place::New));
        assert_eq!(names.admit(&log("shop"), &key("backend")), Ok(Place::Known));
        names.admit_awaited(&log("more"), &key("ada")).expect("what is written gives its other place back");
        assert_eq!(names.admit(&log("second"), &key("backend")), Ok(Place::New));
        assert!(is_full(names.admit(&log("third"), &key("backend")).map(drop)));
        names.give_back(&log("second"));
        assert_eq!(names.usage(), (1, 4));
        assert_eq!(
            names.admit(&log("third"), &key("backend")),
            Ok(Place::New),
            "nothing was written to the second"
        );
        assert!(
            names.knows(&log("third")) && !names.knows(&log("second")) && names.knows(&LogName::default())
        );
    }
}
