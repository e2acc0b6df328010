//! Rules of a running server, read again when it is told to (SIGHUP) and when the file changes.
//!
//! All else that configuration says holds until the server is started again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::{Config, Sources};
use crate::freshness::Rules;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Reads rules again.
pub(super) struct Reload {
    sources: Sources,
    rules: watch::Sender<Arc<Rules>>,
    /// As the file was when it was read last.
    read: Option<Looks>,
    /// As it was at the last look.
    seen: Option<Looks>,
}

/// What tells one state of a file from another.
type Looks = (SystemTime, u64);

impl Reload {
    /// The rules of `sources` are those that hold now.
    pub(super) fn new(sources: Sources, rules: watch::Sender<Arc<Rules>>) -> Self {
        let looks = sources.file.as_deref().and_then(looks_of);
        Reload { sources, rules, read: looks, seen: looks }
    }

    /// Returns when the file has changed, and is written no more: a look later it is as it was.
    pub(super) async fn file_changed(&mut self) {
        let Some(file) = self.sources.file.clone() else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let looks = looks_of(&file);
            let is_settled = looks == self.seen;
            self.seen = looks;
            // A file that is not there is about to be: editors replace files so.
            if is_settled && looks.is_some() && looks != self.read {
                return;
            }
        }
    }

    /// Reads the configuration, and has its rules hold. One that is wrong changes nothing.
    pub(super) fn read(&mut self) {
        self.read = self.sources.file.as_deref().and_then(looks_of);
        self.seen = self.read;
        match Config::load(&self.sources) {
            Err(problems) => {
                warn!(%problems, "the configuration cannot be read again: the rules stay as they are");
            }
            Ok(loaded) => {
                let rules = Rules::new(loaded.config.rules);
                let count = rules.len();
                let is_new = self.rules.send_if_modified(|current| {
                    let is_new = **current != rules;
                    *current = Arc::new(rules);
                    is_new
                });
                match is_new {
                    true => info!(
                        rules = count,
                        "rules reloaded; everything else in the configuration holds until a restart"
                    ),
                    false => info!(
                        rules = count,
                        "the configuration was read again: its rules are the same, and nothing else is reloaded"
                    ),
                }
            }
        }
    }
}

fn looks_of(file: &Path) -> Option<Looks> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
