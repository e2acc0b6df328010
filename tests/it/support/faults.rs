//! How much a run of the tests is to be hurt.

/// How often each fault is to be injected, where `TIDINGS_FAULTS` says so: many more times than in a usual run.
pub(crate) fn faults_asked() -> Option<usize> {
    let asked = std::env::var("TIDINGS_FAULTS").ok()?;
    Some(asked.parse().expect("TIDINGS_FAULTS is a number"))
}

/// Whether everything is to be done in full, which takes minutes: `TIDINGS_SOAK=1`.
pub(crate) fn is_soak() -> bool {
    std::env::var("TIDINGS_SOAK").is_ok_and(|asked| asked == "1")
}

/// The first where everything is to be done in full, else the second.
pub(crate) fn sized<T>(full: T, little: T) -> T {
    if is_soak() { full } else { little }
}
