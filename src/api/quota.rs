//! What a request learns of the limits that count it: gathered while it is handled, told in the head of its answer.

use std::cell::RefCell;
use std::future::Future;

use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use axum::response::Response;
use tidings_protocol::{Code, Problem};

use crate::hub::come_back_after;
use crate::limits::{Caller, Limited, Standing, Standings, policy_header, standing_header};

tokio::task_local! {
    /// Handlers are many and return what they like; the head of the answer is made around all of them.
    static STANDINGS: RefCell<Standings>;
    /// Who asks, once it is known.
    static CALLER: RefCell<Option<Caller>>;
}

/// Notes who asks.
pub(super) fn note_caller(caller: &Caller) {
    CALLER.try_with(|noted| *noted.borrow_mut() = Some(caller.clone())).ok();
}

/// Notes how a caller stands, or why it is refused.
pub fn note(admitted: Result<Standings, Limited>) -> Result<(), Problem> {
    match admitted {
        Ok(standings) => {
            standings.into_iter().for_each(keep);
            Ok(())
        }
        Err(limited) => {
            keep(limited.standing);
            Err(limited.problem())
        }
    }
}

/// Of each limit the last standing counts.
fn keep(standing: Standing) {
    let kept = STANDINGS.try_with(|standings| {
        let mut standings = standings.borrow_mut();
        let known = standings.iter_mut().find(|at| (at.scope, at.count) == (standing.scope, standing.count));
        match known {
            Some(known) => *known = standing,
            None => standings.push(standing),
        }
    });
    // Outside of a request nobody is told.
    kept.ok();
}

/// Handles a request, and says in the head of its answer how its caller stands. Whoever is refused for now is told when to
/// come back: by `jitter` (0 to 1), where all others are refused too. Returns the caller too, where it became known.
pub(super) async fn told(
    next: impl Future<Output = Response>,
    jitter: impl FnOnce() -> f64,
) -> (Response, Option<Caller>) {
    let told = async {
        let mut response = next.await;
        STANDINGS.with(|standings| tell(&mut response, &standings.borrow(), jitter));
        (response, CALLER.with(RefCell::take))
    };
    CALLER.scope(RefCell::default(), STANDINGS.scope(RefCell::default(), told)).await
}

fn tell(response: &mut Response, standings: &[Standing], jitter: impl FnOnce() -> f64) {
    const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
    const STANDING: HeaderName = HeaderName::from_static("ratelimit");
    let wait = match response.extensions().get::<Code>() {
        Some(Code::RateLimited) => standings.iter().find(|at| at.remaining == 0).map(|at| at.after),
        Some(Code::Overloaded | Code::Draining) => Some(come_back_after(jitter())),
        _ => None,
    };
    let headers = response.headers_mut();
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, seconds.max(1).into());
    }
    if standings.is_empty() {
        return;
    }
    for (name, text) in [(POLICY, policy_header(standings)), (STANDING, standing_header(standings))] {
        headers.insert(name, HeaderValue::try_from(text).expect("names and numbers are ASCII"));
    }
}
