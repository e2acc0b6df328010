//! The client of the session: it follows the rules, keeps its place by the specification's own machine, and checks with a count
//! of its own that nothing is skipped, repeated or invented.

use std::collections::BTreeMap;

use tidings::dialect::native;
use tidings::hub::Transmit;
use tidings_protocol::{
    Channel, Continuity, Envelope, Frame, Offset, Outstanding, Payload, Position, Publication, Reaction,
    decode_command, decode_frame, encode_frame,
};

use super::store::{NAMES, Store};
use crate::choices::Choices;

#[derive(Default)]
pub(super) struct Client {
    held: BTreeMap<String, Held>,
    id: u64,
    /// The channels of commands that were said, by their ids.
    asked: BTreeMap<u64, String>,
}

/// A channel that was subscribed to.
struct Held {
    continuity: Continuity,
    /// The last offset delivered since anything was known to be lost.
    last: Option<Offset>,
    is_leaving: bool,
}

impl Client {
    /// Subscribes: anew, where it stopped, or at some place.
    pub(super) fn subscribe(&mut self, name: &str, choices: &mut Choices<'_>) -> Option<String> {
        if self.held.contains_key(name) {
            return None;
        }
        let place = choices.flag().then(|| format!("e{}.{}", choices.below(3), choices.number()));
        let since = place.and_then(|place| place.parse::<Position>().ok());
        let continuity = since.clone().map_or_else(Continuity::new, Continuity::since);
        let last = since.as_ref().map(|since| since.offset);
        self.held.insert(name.to_owned(), Held { continuity, last, is_leaving: false });
        let since = since.map_or(String::new(), |since| format!(",\"since\":\"{since}\""));
        Some(self.command(name, &format!("\"subscribe\":{{\"channel\":\"{name}\"{since}}}")))
    }

    pub(super) fn unsubscribe(&mut self, name: &str) -> Option<String> {
        let held = self.held.get_mut(name).filter(|held| !held.is_leaving)?;
        held.is_leaving = true;
        Some(self.command(name, &format!("\"unsubscribe\":{{\"channel\":\"{name}\"}}")))
    }

    fn command(&mut self, name: &str, body: &str) -> String {
        self.id += 1;
        self.asked.insert(self.id, name.to_owned());
        format!("{{\"id\":{},{body}}}", self.id)
    }

    /// A command was not read.
    pub(super) fn unheard(&mut self, text: &str) {
        let id = decode_command(text).ok().and_then(|(id, _)| id);
        if let Some(name) = id.and_then(|id| self.asked.remove(&id)) {
            self.held.remove(&name);
        }
    }

    /// Takes in what the session says; returns the commands that answer it.
    pub(super) fn hear(&mut self, transmit: &Transmit, store: &Store) -> Vec<String> {
        let text = match transmit {
            Transmit::Frame(envelope) => encode_frame(envelope),
            Transmit::Batch { batch, from: None } => payload(&native::batch(batch)),
            Transmit::Batch { batch, from: Some(offset) } => {
                payload(&native::batch(&batch.from_offset(*offset)))
            }
            Transmit::Ping | Transmit::Close(_) => return Vec::new(),
        };
        let text = String::from_utf8(text).expect("frames are UTF-8");
        let envelope = decode_frame(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        self.take(envelope.expect("it is of this version"), store)
    }

    /// Fails unless every subscription stands where its channel does.
    pub(super) fn has_everything(&self, store: &Store) {
        for (name, held) in self.held.iter().filter(|(_, held)| !held.is_leaving) {
            assert_eq!(held.continuity.outstanding(), None, "{name} waits for an answer");
            assert_eq!(held.continuity.position(), store.head(name).as_ref(), "{name} lacks something");
        }
    }

    fn take(&mut self, envelope: Envelope, store: &Store) -> Vec<String> {
        let Envelope { id, frame } = envelope;
        let name = match &frame {
            Frame::Subscribed(frame) => Some(&frame.channel),
            Frame::Batch(frame) => Some(&frame.channel),
            Frame::Gap(frame) => Some(&frame.channel),
            Frame::Continued(frame) => frame.channel.as_ref(),
            Frame::Unsubscribed(frame) => Some(&frame.channel),
            _ => None,
        };
        let of_id = id.and_then(|id| self.asked.remove(&id));
        let Some(name) = name.map(Channel::to_string).or(of_id) else { return Vec::new() };
        let Some(held) = self.held.get_mut(&name) else { return Vec::new() };
        let reactions = match &frame {
            Frame::Subscribed(frame) => held.continuity.subscribed(frame),
            Frame::Batch(frame) => held.continuity.batch(frame),
            Frame::Gap(frame) => held.continuity.gap(frame),
            Frame::Continued(frame) => held.continuity.continued(frame),
            Frame::History(frame) => held.continuity.history(frame),
            Frame::Error(error) if error.retryable => return self.ask_again(&name),
            Frame::Error(_) | Frame::Unsubscribed(_) => {
                self.held.remove(&name);
                return Vec::new();
            }
            _ => Vec::new(),
        };
        let asks = reactions.into_iter().filter_map(|reaction| held.react(&name, reaction, store)).collect();
        self.commands(&name, asks)
    }

    /// After a refusal for now: a subscription is given up, a page is asked for again.
    fn ask_again(&mut self, name: &str) -> Vec<String> {
        let held = self.held.get(name);
        match held.and_then(|held| held.continuity.outstanding()) {
            Some(Outstanding::History) => {
                let position = held.and_then(|held| held.continuity.position().cloned());
                self.commands(name, position.into_iter().collect())
            }
            Some(Outstanding::Subscribe) => {
                self.held.remove(name);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn commands(&mut self, name: &str, asks: Vec<Position>) -> Vec<String> {
        let ask = |since| {
            self.command(name, &format!("\"history\":{{\"channel\":\"{name}\",\"since\":\"{since}\"}}"))
        };
        asks.into_iter().map(ask).collect()
    }
}

impl Held {
    /// Checks one reaction; returns where to ask on.
    fn react(&mut self, name: &str, reaction: Reaction, store: &Store) -> Option<Position> {
        match reaction {
            Reaction::Deliver(publication) => self.deliver(name, &publication, store),
            Reaction::Gap(_) => self.last = None,
            Reaction::AskHistory(since) => return Some(since),
            Reaction::Resubscribe(at) => panic!("the server left a hole in {name} after {at:?}"),
        }
        None
    }

    fn deliver(&mut self, name: &str, publication: &Publication, store: &Store) {
        let Payload::Json(json) = &publication.payload else { panic!("text comes as JSON") };
        let text: String = serde_json::from_str(json.get()).expect("text comes as a string");
        let Some(offset) = publication.offset else { return };
        let name = NAMES.iter().find(|known| **known == name).expect("it is one of ours");
        assert!(store.texts_at(name, offset).contains(&text), "{text} was never at {name} {offset}");
        if let Some(last) = self.last {
            assert_eq!(offset, last.next(), "in {name} without a word");
        }
        self.last = Some(offset);
    }
}

/// What a frame of the wire carries, behind its header.
fn payload(frame: &[u8]) -> Vec<u8> {
    let header = match frame[1] {
        0..=125 => 2,
        126 => 4,
        _ => 10,
    };
    frame[header..].to_vec()
}
