//! How a caller stands at a limit, and how HTTP says it (draft-ietf-httpapi-ratelimit-headers).

use std::fmt::Write;
use std::time::Duration;

use tidings_protocol::{Code, Problem};

use super::{Count, Scope};

/// How a caller stands at one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The level.
    pub scope: Scope,
    /// What is counted.
    pub count: Count,
    /// How many may come in `window`, saved up for as long.
    pub quota: u32,
    /// The time in which the quota is filled again.
    pub window: Duration,
    /// How many may come now.
    pub remaining: u32,
    /// When there will be more: at once where the quota is whole.
    pub after: Duration,
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// How the caller stands there.
    pub standing: Standing,
    /// Events a second.
    pub per_second: usize,
}

impl Limited {
    /// What the caller is told.
    pub fn problem(&self) -> Problem {
        let Standing { scope, count, after, .. } = self.standing;
        let message = format!(
            "more than limits.{}_{}_per_second, which is {}: try again in {} ms",
            scope.as_str(),
            count.as_str(),
            self.per_second,
            after.as_millis().max(1)
        );
        Problem::new(Code::RateLimited, message)
    }
}

/// `RateLimit-Policy`: what holds.
pub fn policy_header(standings: &[Standing]) -> String {
    list(standings, |text, standing| write!(text, ";q={};w={}", standing.quota, seconds(standing.window)))
}

/// `RateLimit`: what is left of it.
pub fn standing_header(standings: &[Standing]) -> String {
    list(standings, |text, standing| write!(text, ";r={};t={}", standing.remaining, seconds(standing.after)))
}

fn list(standings: &[Standing], rest: impl Fn(&mut String, &Standing) -> std::fmt::Result) -> String {
    let mut text = String::new();
    for standing in standings {
        let comma = if text.is_empty() { "" } else { ", " };
        let (scope, count) = (standing.scope.as_str(), standing.count.as_str());
        let written = write!(text, "{comma}\"{scope}-{count}\"").and_then(|()| rest(&mut text, standing));
        written.expect("a string takes everything");
    }
    text
}

/// Whole seconds, none of them too few.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lists_of_structured_fields() {
        let user = Standing {
            scope: Scope::User,
            count: Count::Publishes,
            quota: 500,
            window: Duration::from_secs(5),
            remaining: 499,
            after: Duration::from_millis(10),
        };
        let tenant =
            Standing { scope: Scope::Tenant, quota: 50, remaining: 0, after: Duration::ZERO, ..user };
        assert_eq!(policy_header(&[user]), "\"user-publishes\";q=500;w=5");
        assert_eq!(
            standing_header(&[user, tenant]),
            "\"user-publishes\";r=499;t=1, \"tenant-publishes\";r=0;t=0"
        );
        assert_eq!(standing_header(&[]), "");
    }
}
