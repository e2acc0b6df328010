//! A backend that publishes one thing after the other, each under its key until the outcome is known.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_protocol::{Ack, Position};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::{ANSWER_TIMEOUT, RETRY_PAUSE, TrafficPlan};
use crate::history::{ChannelId, Event, PublishId};
use crate::support::{Answer, Request};

/// Between the names that one publisher takes one after the other.
const NAMES_APART: u32 = 10_000;

pub(super) struct Publisher {
    /// What this publisher's next publish is called. Who gives a publish up without knowing what became of it goes on
    /// under another name: it may still come, after what follows it.
    next: PublishId,
    /// The address that is tried next.
    address: usize,
    plan: Arc<TrafficPlan>,
    log: Arc<Log>,
}

/// What one attempt came to.
enum Attempt {
    Stored(Option<Position>, Ack),
    /// Surely not stored by this attempt.
    Refused,
    /// Nobody knows.
    Doubtful,
    /// No correct server says this to a correct request.
    Wrong(String),
}

impl Publisher {
    pub(super) fn new(author: u32, plan: Arc<TrafficPlan>, log: Arc<Log>) -> Publisher {
        Publisher { next: PublishId { author, number: 1 }, address: author as usize, plan, log }
    }

    pub(super) async fn run(mut self, publish_no_more: CancellationToken) {
        while !publish_no_more.is_cancelled() {
            let channel = (self.next.author + self.next.number) as usize % self.plan.channels.len();
            self.publish(self.next, ChannelId(channel)).await;
            self.next.number += 1;
            tokio::select! {
                () = sleep(self.plan.pause) => {}
                () = publish_no_more.cancelled() => {}
            }
        }
    }

    async fn publish(&mut self, publish: PublishId, channel: ChannelId) {
        self.log.published.fetch_add(1, Ordering::Relaxed);
        let give_up = Instant::now() + self.plan.patience;
        let mut is_doubtful = false;
        while Instant::now() < give_up {
            self.log.attempts.fetch_add(1, Ordering::Relaxed);
            match self.attempt(publish, channel).await {
                Attempt::Stored(position, ack) => {
                    return self.log.record(Event::Acked { publish, channel, position, ack });
                }
                Attempt::Refused => {}
                Attempt::Doubtful => is_doubtful = true,
                Attempt::Wrong(what) => {
                    self.log.complain(format!("publish {publish}: {what}"));
                    is_doubtful = true;
                    break;
                }
            }
            self.address += 1;
            sleep(RETRY_PAUSE).await;
        }
        if is_doubtful {
            self.log.unknown.fetch_add(1, Ordering::Relaxed);
            self.next = PublishId { author: publish.author + NAMES_APART, number: 0 };
        } else {
            self.log.record(Event::Failed { publish, channel });
        }
    }

    async fn attempt(&self, publish: PublishId, channel: ChannelId) -> Attempt {
        let address = self.plan.addresses[self.address % self.plan.addresses.len()];
        let ack = match self.plan.ack {
            Ack::None => "none",
            Ack::Stored => "stored",
            Ack::Replicated => "replicated",
        };
        let path = format!("/v1/publish/{}?ack={ack}", self.plan.channels[channel.0]);
        let request = Request::new(address, "POST", &path)
            .header("content-type", "text/plain")
            .header("idempotency-key", &publish.key())
            .body(publish.payload(publish.number as usize % 200).as_bytes());
        match timeout(ANSWER_TIMEOUT, request.try_send()).await {
            Ok(Ok(answer)) => Attempt::of(&answer),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Attempt::Refused,
            Ok(Err(_)) | Err(_) => Attempt::Doubtful,
        }
    }
}

impl Attempt {
    fn of(answer: &Answer) -> Attempt {
        if answer.status == 200 {
            let body = answer.json();
            let position = serde_json::from_value(body["position"].clone());
            let ack = serde_json::from_value(body["ack"].clone());
            return match (position, ack) {
                (Ok(position), Ok(ack)) => Attempt::Stored(position, ack),
                _ => Attempt::Wrong(answer.text()),
            };
        }
        match &*answer.code() {
            "broker_unavailable" | "overloaded" | "draining" | "rate_limited" | "limit_reached" => {
                Attempt::Refused
            }
            "outcome_unknown" | "replication_unconfirmed" => Attempt::Doubtful,
            _ => Attempt::Wrong(answer.text()),
        }
    }
}
