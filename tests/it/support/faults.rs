//! How much a run of the tests is to be hurt.

/// How often each fault is to be injected, where `TIDINGS_FAULTS` says so: many more times than in a usual run.
pub(crate) fn faults_asked() -> Option<usize> {
    let asked = std::env::var("TIDINGS_FAULTS").ok()?;
    Some(asked.parse().expect("TIDINGS_FAULTS is a number"))
}
