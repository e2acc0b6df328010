//! The one who publishes: a thread of its own, so that its pace does not hang on 5,000 subscribers' reading.
//! It sends one publication at a time, each until it is acknowledged: the order in which it sends is the order of the truth.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::book::{Book, Position};
use crate::clock::Clock;
use crate::http::{Connection, Response, Target, escape};
use crate::latency::Latency;

/// A publication refused this often ends the publishing; with the pauses between, after about 30 s of outage.
const ATTEMPTS_MAX: u32 = 60;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What to publish, and how fast.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) target: Target,
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
    pub(crate) fn run(self) -> Published {
        let start = Instant::now();
        let mut published = Published {
            acknowledged: 0,
            elapsed: Duration::ZERO,
            answers: Latency::new(),
            retries: 0,
            contradictions: 0,
            failure: None,
        };
        let mut connection = None;
        let channels = self.book().channel_count() as u64;
        for number in 0..self.count {
            let due = Duration::from_secs_f64(number as f64 / f64::from(self.rate));
            thread::sleep(due.saturating_sub(start.elapsed()));
            if let Err(failure) = self.publish((number % channels) as usize, &mut connection, &mut published)
            {
                published.failure = Some(failure);
                break;
            }
        }
        published.elapsed = start.elapsed();
        published
    }

    fn publish(
        &self,
        channel: usize,
        connection: &mut Option<Connection>,
        published: &mut Published,
    ) -> Result<(), String> {
        let sent = self.clock.now();
        let (sequence, request) = self.request(channel, sent);
        let mut attempts = 1;
        let response = loop {
            match self.attempt(connection, &request) {
                Ok(response) => break response,
                Err(reason) if attempts == ATTEMPTS_MAX => return Err(reason),
                Err(_) => {
                    attempts += 1;
                    published.retries += 1;
                    thread::sleep(RETRY_PAUSE);
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

    fn request(&self, channel: usize, sent: u64) -> (u64, Vec<u8>) {
        let mut book = self.book();
        let (sequence, payload) = book.write(channel, sent, self.payload_bytes);
        let path = format!("/v1/publish/{}", escape(book.channel_name(channel)));
        let headers = format!(
            "content-type: application/json\r\nidempotency-key: {}\r\n",
            book.idempotency_key(channel, sequence)
        );
        (sequence, self.target.request("POST", &path, &headers, payload.as_bytes()))
    }

    /// One try; any failure costs the connection, so that no late answer is taken for another's.
    fn attempt(&self, connection: &mut Option<Connection>, request: &[u8]) -> Result<Response, String> {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(&self.target)
                .map_err(|error| format!("publisher could not connect: {error}"))?,
        };
        let response =
            open.exchange(request).map_err(|error| format!("publish was not answered: {error}"))?;
        if response.status != 200 {
            let body = String::from_utf8_lossy(&response.body);
            return Err(format!("publish was answered by {}: {body}", response.status));
        }
        *connection = Some(open);
        Ok(response)
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
