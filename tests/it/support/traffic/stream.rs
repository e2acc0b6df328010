//! A reader of an event stream, as simple as a browser's: it shows what comes and comes back with the last cursor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::json;
use tidings_protocol::{ContinuedFrame, Epoch, GapFrame, Offset, Payload, Position};
use tokio::time::{sleep, timeout};

use super::log::Log;
use super::{ANSWER_TIMEOUT, RETRY_PAUSE, TrafficPlan, head};
use crate::history::{ChannelId, ClientId, Event, PublishId};
use crate::support::{EventStream, Request};

pub(super) struct StreamReader {
    client: ClientId,
    /// Where each channel stands for the application.
    positions: Vec<Position>,
    /// The last cursor, and where each channel stood when it came.
    cursor: Option<(String, Vec<Position>)>,
    /// Where each channel stood when the stream began.
    since: Vec<Position>,
    plan: Arc<TrafficPlan>,
    log: Arc<Log>,
}

/// The data of one publication.
#[derive(Deserialize)]
struct Message {
    channel: String,
    epoch: Epoch,
    offset: Offset,
    data: String,
}

impl StreamReader {
    pub(super) fn new(client: ClientId, plan: Arc<TrafficPlan>, log: Arc<Log>) -> StreamReader {
        StreamReader { client, positions: Vec::new(), cursor: None, since: Vec::new(), plan, log }
    }

    /// Reads until it is aborted.
    pub(super) async fn run(mut self) {
        self.begin().await;
        for turn in self.client.0.. {
            let request = self.request(turn);
            let opened = timeout(ANSWER_TIMEOUT, EventStream::try_open(request)).await;
            if let Ok(Ok(stream)) = opened {
                self.read(stream).await;
                (0..self.positions.len())
                    .for_each(|index| self.log.stands(self.client, ChannelId(index), None));
                self.log.reconnects.fetch_add(1, Ordering::Relaxed);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// The stream itself does not say where it begins: it is asked to begin at what is the head now.
    async fn begin(&mut self) {
        for (index, name) in self.plan.channels.iter().enumerate() {
            let position = loop {
                match head(&self.plan.addresses, name).await {
                    Some(position) => break position,
                    None => sleep(RETRY_PAUSE).await,
                }
            };
            let (client, channel) = (self.client, ChannelId(index));
            self.log.record(Event::Began { client, channel, position: Some(position.clone()) });
            self.since.push(position);
        }
    }

    fn request(&self, turn: usize) -> Request {
        let address = self.plan.addresses[turn % self.plan.addresses.len()];
        let channels = self.plan.channels.iter().zip(&self.since);
        let subscribe = channels.map(|(channel, since)| json!({"channel": channel, "since": since}));
        let body = json!({"subscribe": subscribe.collect::<Vec<_>>()}).to_string();
        let request =
            Request::new(address, "POST", "/sse").header("content-type", "application/json").body(body);
        match &self.cursor {
            Some((cursor, _)) => request.header("last-event-id", cursor),
            None => request,
        }
    }

    /// Reads to the end of a stream.
    async fn read(&mut self, mut stream: EventStream) {
        if stream.head.status != 200 {
            // Only a server that is busy refuses a correct request.
            if !matches!(stream.head.status, 429 | 503) {
                self.log.complain(format!("a stream was refused: {:?}", stream.head));
            }
            return;
        }
        let from = self.cursor.as_ref().map_or(&self.since, |(_, positions)| positions);
        self.positions = from.clone();
        for (index, position) in self.positions.iter().enumerate() {
            let (client, channel, position) = (self.client, ChannelId(index), position.clone());
            self.log.record(Event::Resumed { client, channel, position });
            self.stand(index);
        }
        loop {
            let Some(event) = stream.read_event().await else { return };
            if let Err(error) = self.handle(&event.name, &event.data) {
                self.log.complain(format!("{error}: {event:?}"));
            }
            // A cursor comes with an event, and holds for all up to it.
            let id = &stream.last_event_id;
            if !id.is_empty() && self.cursor.as_ref().is_none_or(|(known, _)| known != id) {
                self.cursor = Some((id.clone(), self.positions.clone()));
            }
        }
    }

    fn handle(&mut self, name: &str, data: &str) -> Result<(), serde_json::Error> {
        let client = self.client;
        match name {
            "hello" | "degraded" | "restored" | "disconnect" => {}
            "message" => {
                let Message { channel, epoch, offset, data } = serde_json::from_str(data)?;
                let position = epoch.at(offset);
                let publish = PublishId::of(&Payload::text(data.as_bytes()).expect("JSON strings are text"));
                let channel = self.moved(&channel, &position);
                let position = Some(position);
                self.log.record(Event::Delivered { client, channel, position, publish });
            }
            "gap" => {
                let GapFrame { channel, reason, position } = serde_json::from_str(data)?;
                let to = position.clone().expect("channels with history say where a gap ends");
                let channel = self.moved(channel.as_str(), &to);
                self.log.record(Event::Gap { client, channel, reason, position });
            }
            "continued" => {
                let ContinuedFrame { channel, from, position, .. } = serde_json::from_str(data)?;
                let channel = channel.expect("only channels are watched here");
                let channel = self.moved(channel.as_str(), &position);
                self.log.record(Event::Continued { client, channel, from, position });
            }
            _ => self.log.complain(format!("{client:?} was told {name}: {data}")),
        }
        Ok(())
    }

    fn moved(&mut self, name: &str, position: &Position) -> ChannelId {
        let index = self.plan.channels.iter().position(|known| known == name);
        let index = index.expect("only channels that were asked for");
        self.positions[index] = position.clone();
        self.stand(index);
        ChannelId(index)
    }

    fn stand(&self, index: usize) {
        self.log.stands(self.client, ChannelId(index), Some(self.positions[index].clone()));
    }
}
