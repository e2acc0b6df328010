//! What the publisher sent: the truth that deliveries are judged by. Every payload carries the run, its channel, its
//! number there and the moment it was sent; the book keeps its hash, and the position at which anybody first saw it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::Deserialize;

/// One unbroken numbering of a channel, as the server names it. Only equality means anything.
pub(crate) type Epoch = Arc<str>;

/// A place in a channel's stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
}

/// What the book says of a delivered payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The `sequence`-th publication of its channel (from 1), byte for byte, sent at `sent` (ns on the run's clock).
    Genuine { sequence: u64, sent: u64 },
    /// Not sent by this run on this channel, altered, or at another's position.
    Foreign,
}

/// All that was published in one run.
#[derive(Debug)]
pub(crate) struct Book {
    run: String,
    channels: Vec<Channel>,
    index: HashMap<String, usize>,
}

#[derive(Debug)]
struct Channel {
    name: String,
    sent: Vec<Sent>,
    places: HashMap<Position, u64>,
    acknowledged: u64,
}

#[derive(Debug)]
struct Sent {
    hash: u64,
    /// Where it was first seen or acknowledged.
    place: Option<Position>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    run: &'a str,
    channel: usize,
    sequence: u64,
    sent: u64,
}

impl Book {
    /// A book for `channels`; `run` tells its payloads from those of other runs.
    pub(crate) fn new(run: String, channels: Vec<String>) -> Self {
        let index = channels.iter().cloned().enumerate().map(|(index, name)| (name, index)).collect();
        let channels = channels
            .into_iter()
            .map(|name| Channel { name, sent: Vec::new(), places: HashMap::new(), acknowledged: 0 })
            .collect();
        Book { run, channels, index }
    }

    pub(crate) fn channel_count(&self) -> usize {
        self.channels.len()
    }

    pub(crate) fn channel_name(&self, channel: usize) -> &str {
        &self.channels[channel].name
    }

    pub(crate) fn channel_named(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Enters the next publication of `channel`: its number, and its JSON of at least `bytes` bytes.
    pub(crate) fn write(&mut self, channel: usize, sent: u64, bytes: usize) -> (u64, String) {
        let sequence = self.channels[channel].sent.len() as u64 + 1;
        let head = format!(
            "{{\"run\":\"{}\",\"channel\":{channel},\"sequence\":{sequence},\"sent\":{sent},\"padding\":\"",
            self.run
        );
        let padding = "x".repeat(bytes.saturating_sub(head.len() + 2));
        let payload = format!("{head}{padding}\"}}");
        self.channels[channel].sent.push(Sent { hash: hash(&payload), place: None });
        (sequence, payload)
    }

    /// A key under which a retry of this publication is the same publication.
    pub(crate) fn idempotency_key(&self, channel: usize, sequence: u64) -> String {
        format!("{}-{channel}-{sequence}", self.run)
    }

    /// The server stored publication `sequence` at `position`. False if that contradicts what was delivered.
    pub(crate) fn acknowledge(&mut self, channel: usize, sequence: u64, position: Option<Position>) -> bool {
        let channel = &mut self.channels[channel];
        channel.acknowledged = channel.acknowledged.max(sequence);
        channel.place(sequence, position.as_ref())
    }

    /// Number of the last acknowledged publication of `channel`: what every subscriber is owed.
    pub(crate) fn acknowledged(&self, channel: usize) -> u64 {
        self.channels[channel].acknowledged
    }

    /// Who `data`, delivered at `position`, is.
    pub(crate) fn identify(&mut self, channel: usize, position: Option<&Position>, data: &str) -> Identity {
        let Ok(payload) = serde_json::from_str::<Payload<'_>>(data) else { return Identity::Foreign };
        if payload.channel != channel || payload.run != self.run {
            return Identity::Foreign;
        }
        let channel = &mut self.channels[channel];
        let index = payload.sequence.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let Some(sent) = index.and_then(|index| channel.sent.get(index)) else { return Identity::Foreign };
        if sent.hash != hash(data) || !channel.place(payload.sequence, position) {
            return Identity::Foreign;
        }
        Identity::Genuine { sequence: payload.sequence, sent: payload.sent }
    }
}

impl Channel {
    /// Notes that `sequence` stands at `position`. False if something else stands there, or it stands elsewhere in that epoch.
    fn place(&mut self, sequence: u64, position: Option<&Position>) -> bool {
        let Some(position) = position else { return true };
        let sent = &mut self.sent[sequence as usize - 1];
        match &sent.place {
            Some(known) if known == position => return true,
            Some(known) if known.epoch == position.epoch => return false,
            Some(_) => {}
            None => sent.place = Some(position.clone()),
        }
        *self.places.entry(position.clone()).or_insert(sequence) == sequence
    }
}

fn hash(payload: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: "e1".into(), offset }
    }

    fn book() -> (Book, String) {
        let mut book = Book::new("r1".into(), vec!["bench".into()]);
        let (sequence, payload) = book.write(0, 77, 128);
        assert_eq!((sequence, payload.len()), (1, 128));
        (book, payload)
    }

    #[test]
    fn what_was_sent_is_recognised_wherever_it_first_appears() {
        let (mut book, payload) = book();
        let genuine = Identity::Genuine { sequence: 1, sent: 77 };
        assert_eq!(book.identify(0, Some(&at(9)), &payload), genuine);
        assert_eq!(book.identify(0, Some(&at(9)), &payload), genuine);
        assert!(book.acknowledge(0, 1, Some(at(9))));
        assert_eq!(book.acknowledged(0), 1);
    }

    #[test]
    fn altered_or_unsent_payloads_are_foreign() {
        let (mut book, payload) = book();
        for foreign in
            [payload.replacen('x', "y", 1), payload.replace("r1", "r2"), "42".into(), format!("{payload} ")]
        {
            assert_eq!(book.identify(0, Some(&at(9)), &foreign), Identity::Foreign, "{foreign}");
        }
        let unsent = payload.replace("\"sequence\":1", "\"sequence\":2");
        assert_eq!(book.identify(0, Some(&at(9)), &unsent), Identity::Foreign);
    }

    #[test]
    fn two_payloads_at_one_position_or_one_at_two_are_foreign() {
        let (mut book, first) = book();
        let (_, second) = book.write(0, 78, 128);
        assert!(book.acknowledge(0, 1, Some(at(9))));
        assert_eq!(book.identify(0, Some(&at(9)), &second), Identity::Foreign);
        assert_eq!(book.identify(0, Some(&at(10)), &first), Identity::Foreign);
        assert!(!book.acknowledge(0, 1, Some(at(11))));
    }

    #[test]
    fn a_new_epoch_may_number_anew() {
        let (mut book, payload) = book();
        assert!(book.acknowledge(0, 1, Some(at(9))));
        let anew = Position { epoch: "e2".into(), offset: 1 };
        assert_eq!(book.identify(0, Some(&anew), &payload), Identity::Genuine { sequence: 1, sent: 77 });
    }
}
