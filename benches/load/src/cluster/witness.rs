//! One subscriber of all channels, which counts what it is sent and tolerates no hole in it.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::error::LoadError;
use crate::http::Target;
use crate::upgrade::upgraded;
use crate::websocket::{Decoder, Message, Opcode, client_frame};
use crate::wire::{WireBatch, WireFrame};

/// For all subscriptions, and for the last publication to arrive.
const TIMEOUT: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 256 * 1024;
const MASK: [u8; 4] = [9, 8, 7, 6];

/// What was received so far.
#[derive(Clone, Debug, Default)]
struct Seen {
    subscriptions: usize,
    publications: u64,
    /// Why nothing more is received.
    failure: Option<String>,
}

/// The subscriber, seen from outside; its task ends with its `LocalSet`.
#[derive(Debug)]
pub(super) struct Witness {
    seen: watch::Receiver<Seen>,
}

impl Witness {
    /// Subscribes to all `channels` and waits until it has them.
    pub(super) async fn join(target: &Target, channels: &[String]) -> Result<Witness, LoadError> {
        let (teller, seen) = watch::channel(Seen::default());
        let opened = open(target, channels).await.map_err(LoadError::io("connect the subscriber"))?;
        tokio::task::spawn_local(Reader { stream: opened.0, count: Count::default(), teller }.run(opened.1));
        let mut witness = Witness { seen };
        witness.wait("subscriptions", channels.len() as u64, |seen| seen.subscriptions as u64).await?;
        Ok(witness)
    }

    /// Waits until so many publications have arrived; an error if a hole was seen, or nothing more comes.
    pub(super) async fn wait_for(&mut self, publications: u64) -> Result<(), LoadError> {
        self.wait("publications", publications, |seen| seen.publications).await
    }

    async fn wait(
        &mut self,
        what: &str,
        due: u64,
        count: impl Fn(&Seen) -> u64 + Copy,
    ) -> Result<(), LoadError> {
        let done = self.seen.wait_for(|seen| seen.failure.is_some() || count(seen) >= due);
        let seen = tokio::time::timeout(TIMEOUT, done).await.map(|seen| seen.map(|seen| seen.clone()));
        match seen {
            Ok(Ok(Seen { failure: None, .. })) => Ok(()),
            Ok(Ok(Seen { failure: Some(failure), .. })) => {
                Err(LoadError::Peer(format!("the subscriber at the other instance: {failure}")))
            }
            Ok(Err(_)) => Err(LoadError::Peer("the subscriber at the other instance ended".to_owned())),
            Err(_) => Err(LoadError::Peer(format!(
                "the subscriber at the other instance had {} of {due} {what} after {TIMEOUT:?}",
                count(&self.seen.borrow())
            ))),
        }
    }
}

/// A connection on which every channel was asked for, and what came behind the response head.
async fn open(target: &Target, channels: &[String]) -> io::Result<(TcpStream, Vec<u8>)> {
    let (mut stream, rest) = upgraded(target).await?;
    for (id, channel) in channels.iter().enumerate() {
        let command = serde_json::json!({ "id": id, "subscribe": { "channel": channel } }).to_string();
        stream.write_all(&client_frame(Opcode::Text, command.as_bytes(), MASK)).await?;
    }
    Ok((stream, rest))
}

struct Reader {
    stream: TcpStream,
    count: Count,
    teller: watch::Sender<Seen>,
}

impl Reader {
    async fn run(mut self, rest: Vec<u8>) {
        if let Err(failure) = self.read(rest).await {
            self.teller.send_modify(|seen| seen.failure = Some(failure));
        }
    }

    async fn read(&mut self, rest: Vec<u8>) -> Result<(), String> {
        let mut decoder = Decoder::default();
        let mut buffer = rest;
        buffer.reserve(READ_BYTES);
        loop {
            let mut reply = Vec::new();
            let mut taken = Ok(());
            let decoded = decoder.feed(&buffer, |message| {
                if taken.is_ok() {
                    taken = self.count.message(&message, &mut reply);
                }
            });
            decoded.map_err(|error| error.to_string())?;
            taken?;
            self.teller.send_modify(|seen| {
                (seen.subscriptions, seen.publications) = (self.count.next.len(), self.count.publications);
            });
            self.stream.write_all(&reply).await.map_err(|error| error.to_string())?;
            buffer.clear();
            if self.stream.read_buf(&mut buffer).await.map_err(|error| error.to_string())? == 0 {
                return Err("the server closed its connection".to_owned());
            }
        }
    }
}

/// The next offset due on each channel, and the publications of all.
#[derive(Debug, Default)]
struct Count {
    next: HashMap<String, u64>,
    publications: u64,
}

impl Count {
    fn message(&mut self, message: &Message<'_>, reply: &mut Vec<u8>) -> Result<(), String> {
        match message {
            Message::Text(text) => self.frame(text),
            Message::Ping(payload) => {
                reply.extend_from_slice(&client_frame(Opcode::Pong, payload, MASK));
                Ok(())
            }
            Message::Pong => Ok(()),
            Message::Binary(_) => Err("a binary frame on a JSON session".to_owned()),
            Message::Close(code, reason) => {
                Err(format!("closed: {code} {}", String::from_utf8_lossy(reason)))
            }
        }
    }

    /// Whatever may be sent beside batches on a live subscription says that something was lost on the way.
    fn frame(&mut self, text: &[u8]) -> Result<(), String> {
        let unexpected = || Err(format!("unexpected: {:.200}", String::from_utf8_lossy(text)));
        let Ok(frame) = serde_json::from_slice::<WireFrame<'_>>(text) else { return unexpected() };
        match frame {
            WireFrame { batch: Some(batch), .. } => self.batch(&batch),
            WireFrame { subscribed: Some(subscribed), .. } => match subscribed.position {
                Some(position) => {
                    self.next.insert(subscribed.channel.to_owned(), position.offset + 1);
                    Ok(())
                }
                None => unexpected(),
            },
            WireFrame { hello: Some(_), .. } => Ok(()),
            _ => unexpected(),
        }
    }

    fn batch(&mut self, batch: &WireBatch<'_>) -> Result<(), String> {
        let count = batch.publications.len() as u64;
        let Some(next) = self.next.get_mut(batch.channel) else {
            return Err(format!("a batch of channel {:?}, which is not subscribed", batch.channel));
        };
        let last = *next + count - 1;
        if count == 0 || batch.first != Some(*next) || batch.last.is_some_and(|seen| seen != last) {
            return Err(format!(
                "{count} publications from {:?} to {:?} on {:?} where {next} was due",
                batch.first, batch.last, batch.channel
            ));
        }
        *next = last + 1;
        self.publications += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed() -> Count {
        let mut count = Count::default();
        count.frame(br#"{"hello":{}}"#).unwrap();
        let subscribed = r#"{"id":0,"subscribed":{"channel":"a","position":{"epoch":"e","offset":7}}}"#;
        count.frame(subscribed.as_bytes()).unwrap();
        count
    }

    fn batch(channel: &str, first: u64, last: u64) -> String {
        let data: Vec<_> = (first..=last).map(|_| r#"{"data":"aa"}"#).collect();
        let data = data.join(",");
        format!(
            r#"{{"batch":{{"channel":"{channel}","epoch":"e","first":{first},"last":{last},"publications":[{data}]}}}}"#
        )
    }

    #[test]
    fn batches_that_follow_each_other_are_counted() {
        let mut count = subscribed();
        for (first, last, total) in [(8, 8, 1), (9, 12, 5)] {
            count.frame(batch("a", first, last).as_bytes()).unwrap();
            assert_eq!(count.publications, total);
        }
    }

    #[test]
    fn a_hole_a_repetition_or_a_word_of_loss_is_refused() {
        let gap = r#"{"gap":{"channel":"a","reason":"lost"}}"#.to_owned();
        for text in [batch("a", 9, 9), batch("a", 7, 8), batch("b", 8, 8), gap, "{".to_owned()] {
            assert!(subscribed().frame(text.as_bytes()).is_err(), "{text}");
        }
        let empty = r#"{"batch":{"channel":"a","epoch":"e","first":8,"last":8,"publications":[]}}"#;
        assert!(subscribed().frame(empty.as_bytes()).is_err());
    }
}
