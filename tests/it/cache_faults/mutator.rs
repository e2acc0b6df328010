//! A backend that changes rows and, once a change is visible, says what it touched, until that is acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::database::{Seen, Thing};
use super::scene::Stage;
use super::{ANSWER_TIMEOUT, RETRY_PAUSE};
use crate::support::Request;

pub(super) struct Mutator {
    /// Whose keys these are.
    author: usize,
    /// What it changes.
    rows: usize,
    lists: usize,
    /// Between two changes.
    pause: Duration,
    /// The acknowledgement that it asks for.
    ack: &'static str,
    stage: Arc<Stage>,
}

/// What one request came to.
enum Attempt {
    Acknowledged,
    /// Refused, or nobody knows: the same key again.
    Again,
    /// No correct server says this to a correct request.
    Wrong(String),
}

impl Mutator {
    pub(super) fn new(author: usize, size: &super::Size, ack: &'static str, stage: Arc<Stage>) -> Mutator {
        Mutator { author, rows: size.rows, lists: size.lists, pause: size.mutation_pause, ack, stage }
    }

    /// Changes one row after the other.
    pub(super) async fn run(self, change_no_more: CancellationToken) {
        let mut number = 0;
        while !change_no_more.is_cancelled() {
            // Steps that have no factor in common with the counts reach everything.
            let row = (self.author * 31 + number * 7_919) % self.rows;
            let changed = self.stage.database.change(row, number % self.lists);
            self.tell(number, &changed).await;
            number += 1;
            sleep(self.pause).await;
        }
    }

    /// Tells what changed, until it is acknowledged.
    async fn tell(&self, number: usize, changed: &Seen) {
        for turn in self.author + number.. {
            let address = self.stage.addresses[turn % self.stage.addresses.len()];
            match self.attempt(address, number, changed).await {
                Attempt::Acknowledged => return self.stage.judge.acknowledged(changed, self.stage.now()),
                Attempt::Again => sleep(RETRY_PAUSE).await,
                Attempt::Wrong(what) => return self.stage.complain(format!("a mutation: {what}")),
            }
        }
    }

    async fn attempt(&self, address: SocketAddr, number: usize, changed: &Seen) -> Attempt {
        let mut row = 0;
        let mut lists = Vec::new();
        for (thing, _) in changed {
            match thing {
                Thing::Row(number) => row = *number,
                Thing::List(_) => lists.push(thing.tag()),
            }
        }
        let body = json!({"entity": "row", "key": row, "op": "update", "tags": lists});
        let request = Request::new(address, "POST", &format!("/v1/mutations?ack={}", self.ack))
            .header("content-type", "application/json")
            .header("idempotency-key", &format!("{}-{number}", self.author))
            .body(body.to_string());
        match timeout(ANSWER_TIMEOUT, request.try_send()).await {
            Ok(Ok(answer)) => match answer.status {
                200 => Attempt::Acknowledged,
                503 | 504 => Attempt::Again,
                _ => Attempt::Wrong(answer.text()),
            },
            Ok(Err(_)) | Err(_) => Attempt::Again,
        }
    }
}
