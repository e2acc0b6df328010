//! The configuration of a running server, read again when it is told to (SIGHUP) and when one of its files changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use crate::config::{Config, Sources};
use crate::instance::Instance;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Changes how much is logged.
pub(super) type SetFilter = Box<dyn Fn(&str) + Send>;

/// Reads the configuration again.
pub(super) struct Reload {
    sources: Sources,
    instance: Arc<Instance>,
    set_filter: SetFilter,
    /// The configuration's own, and those that it names.
    files: Vec<PathBuf>,
    /// As the files were when they were read last.
    read: Vec<Option<Looks>>,
    /// As they were at the last look.
    seen: Vec<Option<Looks>>,
}

/// What tells one state of a file from another.
type Looks = (SystemTime, u64);

impl Reload {
    /// What `sources` say is in effect; `named` are the files that they name.
    pub(super) fn new(
        sources: Sources,
        named: Vec<PathBuf>,
        instance: Arc<Instance>,
        set_filter: SetFilter,
    ) -> Self {
        let mut reload =
            Reload { sources, instance, set_filter, files: Vec::new(), read: Vec::new(), seen: Vec::new() };
        reload.watch(named);
        reload
    }

    fn watch(&mut self, named: Vec<PathBuf>) {
        self.files = self.sources.file.iter().cloned().chain(named).collect();
        self.read = looks_of(&self.files);
        self.seen.clone_from(&self.read);
    }

    /// Returns when a file has changed, and is written no more: a look later all are as they were.
    pub(super) async fn file_changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let looks = looks_of(&self.files);
            let is_settled = looks == self.seen;
            self.seen = looks;
            // A file that is not there is about to be: editors replace files so.
            if is_settled && self.seen.iter().all(Option::is_some) && self.seen != self.read {
                return;
            }
        }
    }

    /// Reads the configuration, and has hold what of it can. One that is wrong changes nothing.
    pub(super) fn read(&mut self) {
        let loaded = match Config::load(&self.sources) {
            Ok(loaded) => loaded,
            Err(problems) => {
                self.read = looks_of(&self.files);
                self.seen.clone_from(&self.read);
                return warn!(%problems, "the configuration cannot be read again: everything stays as it is");
            }
        };
        self.watch(loaded.files);
        let reloaded = match self.instance.reload(&loaded.config) {
            Ok(reloaded) => reloaded,
            Err(problem) => {
                return warn!(%problem, "the configuration cannot be used: everything stays as it is");
            }
        };
        (self.set_filter)(&loaded.config.log.filter);
        match reloaded.changed.is_empty() {
            true => info!("the configuration was read again: nothing of it changes"),
            false => info!(changed = reloaded.changed.join(", "), "the configuration was reloaded"),
        }
        for key in reloaded.needs_restart {
            warn!("{key}: needs a restart");
        }
    }
}

fn looks_of(files: &[PathBuf]) -> Vec<Option<Looks>> {
    let looks_of = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(|file| looks_of(file)).collect()
}
