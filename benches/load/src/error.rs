//! Why a run could not be made. What a run *found* is not an error but part of its report.

use std::io;

/// A run that could not start or had to stop, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The options contradict each other or the machine: the caller must change them.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The server, or a process of the measurement, did not do its part.
    #[error("{0}")]
    Peer(String),
}

impl LoadError {
    /// For `map_err`: names what was tried when the system refused it.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> LoadError {
        let what = what.into();
        move |source| LoadError::Io { what, source }
    }

    /// Exit code of a program that ends with this error: 2 for usage, 1 for everything met at run time.
    pub fn exit_code(&self) -> u8 {
        match self {
            LoadError::Usage(_) => 2,
            LoadError::Io { .. } | LoadError::Peer(_) => 1,
        }
    }
}
