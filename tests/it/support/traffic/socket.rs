//! A reader by WebSocket: the client's rule for every channel, and a new connection to the next instance after each cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tidings_protocol::{
    Channel, Command, Envelope, Frame, HistoryCommand, Outstanding, SubscribeCommand, decode_frame,
    encode_command,
};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::log::Log;
use super::{ANSWER_TIMEOUT, RETRY_PAUSE, TrafficPlan};
use crate::history::{ChannelId, ClientId, Step, Want, Witness};

type Socket = WebSocketStream<TcpStream>;

/// Until the server says how long it may be silent.
const SILENCE_AT_FIRST: Duration = Duration::from_secs(10);

pub(super) struct SocketReader {
    client: ClientId,
    held: Vec<Held>,
    next_id: u64,
    silence_max: Duration,
    /// To be sent.
    out: Vec<String>,
    plan: Arc<TrafficPlan>,
    log: Arc<Log>,
}

struct Held {
    name: Channel,
    witness: Witness,
    /// The command that is out, and what it asks for.
    asked: Option<(u64, Outstanding)>,
    /// The last one was refused for now.
    asks_again: bool,
}

impl Held {
    /// Whether frames of the channel are of the subscription that holds: not before its answer.
    fn is_on(&self) -> bool {
        !matches!(self.asked, Some((_, Outstanding::Subscribe))) && !self.asks_again
    }
}

impl SocketReader {
    pub(super) fn new(client: ClientId, plan: Arc<TrafficPlan>, log: Arc<Log>) -> SocketReader {
        let held = plan.channels.iter().enumerate().map(|(index, name)| Held {
            name: Channel::parse(name).expect("a channel's name"),
            witness: Witness::new(client, ChannelId(index)),
            asked: None,
            asks_again: false,
        });
        let (held, silence_max) = (held.collect(), SILENCE_AT_FIRST);
        SocketReader { client, held, next_id: 0, silence_max, out: Vec::new(), plan, log }
    }

    /// Reads until it is aborted.
    pub(super) async fn run(mut self) {
        for turn in self.client.0.. {
            let address = self.plan.addresses[turn % self.plan.addresses.len()];
            let connected = timeout(ANSWER_TIMEOUT, async {
                let stream = TcpStream::connect(address).await.ok()?;
                let opened = tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await;
                opened.ok().map(|(socket, _)| socket)
            });
            if let Ok(Some(socket)) = connected.await {
                self.read(socket).await;
                self.disconnected();
                self.log.reconnects.fetch_add(1, Ordering::Relaxed);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Reads to the end of a connection.
    async fn read(&mut self, mut socket: Socket) {
        loop {
            for text in std::mem::take(&mut self.out) {
                if !matches!(timeout(ANSWER_TIMEOUT, socket.send(Message::text(text))).await, Ok(Ok(()))) {
                    return;
                }
            }
            let waits = self.held.iter().any(|held| held.asks_again);
            tokio::select! {
                message = timeout(self.silence_max, socket.next()) => match message {
                    Ok(Some(Ok(Message::Text(text)))) => self.handle_text(&text),
                    Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                    _ => return,
                },
                () = sleep(RETRY_PAUSE), if waits => self.ask_again(),
            }
        }
    }

    fn handle_text(&mut self, text: &str) {
        match decode_frame(text) {
            Ok(Some(envelope)) => self.handle(envelope),
            Ok(None) => {}
            Err(error) => self.log.complain(format!("{error}: {text}")),
        }
    }

    fn handle(&mut self, Envelope { id, frame }: Envelope) {
        match frame {
            Frame::Hello(hello) => {
                self.silence_max = Duration::from_millis(hello.timeout_ms);
                (0..self.held.len()).for_each(|index| self.subscribe(index));
            }
            Frame::Subscribed(frame) => self.answered(id, |witness| witness.subscribed(&frame)),
            Frame::History(frame) => self.answered(id, |witness| witness.history(&frame)),
            Frame::Batch(frame) => self.told(&frame.channel, |witness| witness.batch(&frame)),
            Frame::Gap(frame) => self.told(&frame.channel, |witness| witness.gap(&frame)),
            Frame::Continued(frame) => {
                if let Some(channel) = &frame.channel {
                    self.told(channel, |witness| witness.continued(&frame));
                }
            }
            Frame::Error(error) if error.retryable => {
                let index =
                    self.held.iter().position(|held| held.asked.is_some_and(|(of, _)| Some(of) == id));
                if let Some(index) = index {
                    (self.held[index].asked, self.held[index].asks_again) = (None, true);
                }
            }
            // After a hole a subscription is given up and taken again: what answers the giving up has no id.
            Frame::Unsubscribed(frame) if frame.code.is_none() => {}
            Frame::Disconnect(_) | Frame::Degraded(_) | Frame::Restored(_) => {}
            other => self.log.complain(format!("{:?} was told {other:?}", self.client)),
        }
    }

    /// The answer to a command.
    fn answered(&mut self, id: Option<u64>, step: impl FnOnce(&mut Witness) -> Step) {
        let asked = |held: &Held| held.asked.is_some_and(|(of, _)| Some(of) == id);
        let Some(index) = self.held.iter().position(asked) else { return };
        self.held[index].asked = None;
        let step = step(&mut self.held[index].witness);
        self.take(index, step);
    }

    /// Something came of a channel, unasked.
    fn told(&mut self, channel: &Channel, step: impl FnOnce(&mut Witness) -> Step) {
        let Some(index) = self.held.iter().position(|held| held.name == *channel) else { return };
        if self.held[index].is_on() {
            let step = step(&mut self.held[index].witness);
            self.take(index, step);
        }
    }

    fn take(&mut self, index: usize, step: Step) {
        step.events.into_iter().for_each(|event| self.log.record(event));
        match step.want {
            Some(Want::Page) => self.ask_page(index),
            Some(Want::Again) => {
                let channel = self.held[index].name.clone();
                self.send(None, &Command::Unsubscribe { channel });
                self.subscribe(index);
            }
            None => {}
        }
        self.stand(index);
    }

    fn stand(&self, index: usize) {
        let held = &self.held[index];
        let is_live = held.is_on() && held.witness.outstanding().is_none();
        let position = held.witness.position().filter(|_| is_live).cloned();
        self.log.stands(self.client, held.witness.channel(), position);
    }

    fn subscribe(&mut self, index: usize) {
        let (channel, since) = (self.held[index].name.clone(), self.held[index].witness.position().cloned());
        let command = Command::Subscribe(SubscribeCommand::new(channel, since));
        self.ask(index, Outstanding::Subscribe, &command);
    }

    fn ask_page(&mut self, index: usize) {
        let (channel, since) = (self.held[index].name.clone(), self.held[index].witness.position().cloned());
        let command = Command::History(HistoryCommand { channel, since, limit: None });
        self.ask(index, Outstanding::History, &command);
    }

    fn ask(&mut self, index: usize, what: Outstanding, command: &Command) {
        self.next_id += 1;
        (self.held[index].asked, self.held[index].asks_again) = (Some((self.next_id, what)), false);
        self.send(Some(self.next_id), command);
    }

    fn send(&mut self, id: Option<u64>, command: &Command) {
        self.out.push(encode_command(id, command));
    }

    /// Asks for all that was refused for now.
    fn ask_again(&mut self) {
        for index in 0..self.held.len() {
            match self.held[index].witness.outstanding().filter(|_| self.held[index].asks_again) {
                Some(Outstanding::Subscribe) => self.subscribe(index),
                Some(Outstanding::History) => self.ask_page(index),
                None => self.held[index].asks_again = false,
            }
        }
    }

    fn disconnected(&mut self) {
        self.out.clear();
        for index in 0..self.held.len() {
            (self.held[index].asked, self.held[index].asks_again) = (None, true);
            let step = self.held[index].witness.disconnected();
            self.take(index, step);
        }
    }
}
