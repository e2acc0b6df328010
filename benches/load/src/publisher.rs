//! The one who publishes: a thread of its own, so that its pace does not hang on 5,000 subscribers' reading.
//! It sends one publication at a time, each until it is acknowledged: the order in which it sends is the order of the truth.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::book::{Book, Position};
use crate::clock::Clock;
use crate::http::escape;
use crate::latency::Latency;
use crate::outlet::{Outlet, Publish};

/// A publication refused this often by every server ends the publishing; with the pauses between, after about 30 s of outage.
const ROUNDS_MAX: usize = 60;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What to publish, and how fast.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) outlet: Outlet,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) clock: Clock,
    /// Publications a second, over all channels in turn.
    pub(crate) rate: u32,
    /// Publications in all.
    pub(crate) count: u64,
    pub(crate) payload_bytes: usize,
}

/// How the publishing went.
#[derive(Debug)]
pub(crate) struct Published {
    /// Publications that the server acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) elapsed: Duration,
    /// From sending a publication to its acknowledgement.
    pub(crate) answers: Latency,
    /// Attempts that failed and were made again under the same key.
    pub(crate) retries: u64,
    /// Acknowledgements that name another position than what was delivered.
    pub(crate) contradictions: u64,
    /// Why the publishing ended early.
    pub(crate) failure: Option<String>,
}

#[derive(Deserialize)]
struct Acknowledgement<'a> {
    #[serde(borrow)]
    position: Option<AcknowledgedPosition<'a>>,
}

#[derive(Deserialize)]
struct AcknowledgedPosition<'a> {
    epoch: &'a str,
    offset: u64,
}

impl Publisher {
    /// Publishes everything at the asked rate, as far as the server keeps up with it.
    pub(crate) fn run(mut self) -> Published {
        let start = Instant::now();
        let mut published = Published {
            acknowledged: 0,
            elapsed: Duration::ZERO,
            answers: Latency::new(),
            retries: 0,
            contradictions: 0,
            failure: None,
        };
        let channels = self.book().channel_count() as u64;
        for number in 0..self.count {
            let due = Duration::from_secs_f64(number as f64 / f64::from(self.rate));
            thread::sleep(due.saturating_sub(start.elapsed()));
            if let Err(failure) = self.publish((number % channels) as usize, &mut published) {
                published.failure = Some(failure);
                break;
            }
        }
        published.elapsed = start.elapsed();
        published
    }

    fn publish(&mut self, channel: usize, published: &mut Published) -> Result<(), String> {
        let sent = self.clock.now();
        let (sequence, publish) = self.request(channel, sent);
        let attempts_max = ROUNDS_MAX * self.outlet.count();
        let mut attempts = 1;
        let response = loop {
            match self.outlet.attempt(&publish) {
                Ok(response) => break response,
                Err(reason) if attempts == attempts_max => return Err(reason),
                Err(_) => {
                    published.retries += 1;
                    // The next server may well be there.
                    if attempts % self.outlet.count() == 0 {
                        thread::sleep(RETRY_PAUSE);
                    }
                    attempts += 1;
                }
            }
        };
        published.answers.record(self.clock.now() - sent);
        let position = position(&response.body)?;
        published.acknowledged += 1;
        if !self.book().acknowledge(channel, sequence, position) {
            published.contradictions += 1;
        }
        Ok(())
    }

    fn request(&self, channel: usize, sent: u64) -> (u64, Publish) {
        let mut book = self.book();
        let (sequence, payload) = book.write(channel, sent, self.payload_bytes);
        let publish = Publish {
            path: format!("/v1/publish/{}", escape(book.channel_name(channel))),
            key: book.idempotency_key(channel, sequence),
            payload,
        };
        (sequence, publish)
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no holder of the book panics")
    }
}

/// The position that an acknowledgement names; `None` on a channel without history.
fn position(body: &[u8]) -> Result<Option<Position>, String> {
    let acknowledgement: Acknowledgement<'_> = serde_json::from_slice(body)
        .map_err(|error| format!("not an acknowledgement: {error} in {}", String::from_utf8_lossy(body)))?;
    let position = acknowledgement.position;
    Ok(position.map(|position| Position { epoch: position.epoch.into(), offset: position.offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_names_a_position_or_none() {
        let stored = br#"{"position":{"epoch":"e1","offset":5},"ack":"stored"}"#;
        assert_eq!(position(stored), Ok(Some(Position { epoch: "e1".into(), offset: 5 })));
        assert_eq!(position(br#"{"position":null,"ack":"stored"}"#), Ok(None));
        assert!(position(b"<html>").is_err());
    }
}
