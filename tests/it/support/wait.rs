//! Waiting for conditions, never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at a condition that cannot be awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What the future gives, or a failed test that says what was waited for.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(result) => result,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
