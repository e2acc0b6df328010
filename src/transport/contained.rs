//! The boundary that a defect does not cross: it ends the task that met it, and is counted.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tracing::error;

use crate::observe::Metrics;

/// Runs a task that serves one peer to its end, or to its defect.
pub(super) async fn contained(metrics: Arc<Metrics>, task: impl Future<Output = ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        error!("a connection ended by a defect");
        metrics.panicked();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_defect_ends_its_task_and_is_counted() {
        let metrics = Arc::new(Metrics::new());
        contained(metrics.clone(), async {}).await;
        assert!(metrics.encode(true).contains("tidings_panics_total 0"));
        contained(metrics.clone(), async { panic!("a defect") }).await;
        assert!(metrics.encode(true).contains("tidings_panics_total 1"));
    }
}
