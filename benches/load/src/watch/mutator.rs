//! Mutations at a fixed rate, several under way at a time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::touches::Touches;
use super::watchers::tag_name;
use crate::error::LoadError;
use crate::http::Target;
use crate::lane::Lane;

/// Enough for 1,000 a second, each of which takes 64 ms.
const LANES: usize = 64;

/// What sends mutations, each of which touches the next tag.
#[derive(Debug)]
pub(super) struct Mutator {
    target: Target,
    tags: usize,
    touches: Rc<RefCell<Touches>>,
    lanes: Vec<Lane>,
    /// Number of the next mutation.
    next: Rc<Cell<u64>>,
}

impl Mutator {
    pub(super) async fn open(
        target: Target,
        tags: usize,
        touches: Rc<RefCell<Touches>>,
    ) -> Result<Mutator, LoadError> {
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            lanes.push(Lane::open(&target).await?);
        }
        Ok(Mutator { target, tags, touches, lanes, next: Rc::default() })
    }

    /// Sends so many more, one every `pause`; returns how long that took. An error if one is not acknowledged. Needs a
    /// `LocalSet`.
    pub(super) async fn send(&mut self, count: u64, pause: Duration) -> Result<Duration, LoadError> {
        let (start, first) = (Instant::now(), self.next.get());
        let mut tasks = JoinSet::new();
        for mut lane in self.lanes.drain(..) {
            let (target, tags) = (self.target.clone(), self.tags as u64);
            let (next, touches) = (self.next.clone(), self.touches.clone());
            tasks.spawn_local(async move {
                while next.get() < first + count {
                    let number = next.replace(next.get() + 1);
                    sleep_until(start + pause.mul_f64((number - first) as f64)).await;
                    let tag = (number % tags) as usize;
                    let body = serde_json::json!({"tags": [tag_name(tag)]}).to_string();
                    let headers = "content-type: application/json\r\n";
                    let request = target.request("POST", "/v1/invalidate", headers, body.as_bytes());
                    touches.borrow_mut().sent(tag);
                    lane.demand(&request, || format!("mutation {number}")).await?;
                }
                Ok::<Lane, LoadError>(lane)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            self.lanes.push(ended.expect("a mutator reports its errors, it does not panic")?);
        }
        Ok(start.elapsed())
    }
}
