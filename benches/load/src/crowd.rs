//! All subscribers of a run as one: their judges, what is decoded once for all of them, and what they measured.
//! Owned by one thread and never borrowed across an await.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::book::Position;
use crate::check::{Arrival, Judge};
use crate::clock::Clock;
use crate::frame::{Frame, FrameError, FrameReader};
use crate::frame_cache::FrameCache;
use crate::latency::Latency;
use crate::sse::{Event, split_cursor};
use crate::tally::Tally;

/// Different complaints kept; each is counted.
const COMPLAINTS_MAX: usize = 32;

/// The subscribers' common state.
#[derive(Debug)]
pub(crate) struct Crowd {
    clock: Clock,
    reader: FrameReader,
    cache: FrameCache,
    members: Vec<Member>,
    /// Deliveries to subscribers that were connected when the publication was sent.
    pub(crate) steady: Latency,
    /// Deliveries of what was sent before the subscriber was back.
    pub(crate) catch_up: Latency,
    /// Connections that ended other than by our own cut, or could not be made.
    pub(crate) errors: u64,
    /// Connections made again, after cuts and errors alike.
    pub(crate) reconnects: u64,
    complaints: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Member {
    judge: Judge,
    /// When it (last) joined; `None` while it is away.
    live_since: Option<u64>,
    has_joined_before: bool,
}

/// What a subscriber has to do about a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    Nothing,
    /// Ask for the next page of history after this position.
    AskOn(Position),
    /// The server refused the subscription, or said goodbye: the connection is of no more use.
    Leave(String),
}

impl Crowd {
    /// Subscribers of which number `i` holds channel `channel_of(i)`.
    pub(crate) fn new(clock: Clock, reader: FrameReader, channels: impl Iterator<Item = usize>) -> Self {
        let member =
            |channel| Member { judge: Judge::new(channel), live_since: None, has_joined_before: false };
        Crowd {
            clock,
            reader,
            cache: FrameCache::default(),
            members: channels.map(member).collect(),
            steady: Latency::new(),
            catch_up: Latency::new(),
            errors: 0,
            reconnects: 0,
            complaints: BTreeMap::new(),
        }
    }

    pub(crate) fn judge(&mut self, member: usize) -> &mut Judge {
        &mut self.members[member].judge
    }

    /// Takes a WebSocket text message to `member`.
    pub(crate) fn message(&mut self, member: usize, text: &[u8]) -> Result<Reaction, FrameError> {
        let channel = self.members[member].judge.channel();
        let frame = self.decode(text, |reader| reader.message(channel, text))?;
        if matches!(*frame, Frame::Subscribed(_)) {
            self.joined(member);
        }
        Ok(self.take(member, &frame))
    }

    /// Takes a block of an event stream to `member`; returns its cursor, if it has one.
    pub(crate) fn block(
        &mut self,
        member: usize,
        block: &[u8],
    ) -> Result<(Reaction, Option<String>), FrameError> {
        // The cursor is a connection's own; what stands before it is shared.
        let (shared, cursor) = split_cursor(block)?;
        let reader = &self.reader;
        let frame = match self.cache.get(shared) {
            Some(frame) => frame,
            None => {
                let frame = Rc::new(reader.event(&Event::parse(shared)?)?);
                self.cache.insert(shared, &frame);
                frame
            }
        };
        if *frame == Frame::Hello {
            self.joined(member);
        }
        let reaction = self.take(member, &frame);
        if cursor.is_some() {
            self.members[member].judge.cursor_moved();
        }
        Ok((reaction, cursor))
    }

    fn decode(
        &mut self,
        bytes: &[u8],
        read: impl FnOnce(&FrameReader) -> Result<Frame, FrameError>,
    ) -> Result<Rc<Frame>, FrameError> {
        if let Some(frame) = self.cache.get(bytes) {
            return Ok(frame);
        }
        let frame = Rc::new(read(&self.reader)?);
        self.cache.insert(bytes, &frame);
        Ok(frame)
    }

    fn take(&mut self, member: usize, frame: &Frame) -> Reaction {
        let now = self.clock.now();
        let Member { judge, live_since, .. } = &mut self.members[member];
        let live_since = live_since.unwrap_or(u64::MAX);
        judge.accept(frame, |arrival| match arrival {
            Arrival::Fresh { sent } if sent < live_since => self.catch_up.record(now.saturating_sub(sent)),
            Arrival::Fresh { sent } => self.steady.record(now.saturating_sub(sent)),
            Arrival::Other => {}
        });
        match frame {
            Frame::Subscribed(_) | Frame::History { .. } if judge.catches_up() => {
                judge.position().cloned().map_or(Reaction::Nothing, Reaction::AskOn)
            }
            Frame::Refused(reason) => Reaction::Leave(format!("the server refused: {reason}")),
            Frame::Disconnect(reason) => Reaction::Leave(format!("the server said goodbye: {reason}")),
            _ => Reaction::Nothing,
        }
    }

    fn joined(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.live_since = Some(self.clock.now());
        self.reconnects += u64::from(member.has_joined_before);
        member.has_joined_before = true;
    }

    /// `member` lost its connection.
    pub(crate) fn left(&mut self, member: usize) {
        self.members[member].live_since = None;
    }

    pub(crate) fn complain(&mut self, complaint: String) {
        self.errors += 1;
        if self.complaints.len() < COMPLAINTS_MAX || self.complaints.contains_key(&complaint) {
            *self.complaints.entry(complaint).or_default() += 1;
        }
    }

    /// Number of subscribers that are connected and subscribed.
    pub(crate) fn live_count(&self) -> usize {
        self.members.iter().filter(|member| member.live_since.is_some()).count()
    }

    /// Whether every subscriber is connected and has all that `last_of` its channel says was published.
    pub(crate) fn is_settled(&self, last_of: impl Fn(usize) -> u64) -> bool {
        let settled = |member: &Member| {
            member.live_since.is_some() && member.judge.has_reached(last_of(member.judge.channel()))
        };
        self.members.iter().all(settled)
    }

    /// Closes the count: everybody's tallies, and what there is to say about them.
    pub(crate) fn finish(&mut self, last_of: impl Fn(usize) -> u64) -> (Tally, Vec<String>) {
        let mut total = Tally::default();
        let mut findings = self.complaint_lines();
        for (number, member) in self.members.iter_mut().enumerate() {
            total.add(&member.judge.finish(last_of(member.judge.channel())));
            if findings.len() < COMPLAINTS_MAX {
                findings.extend(
                    member.judge.findings().iter().map(|finding| format!("subscriber {number}: {finding}")),
                );
            }
        }
        (total, findings)
    }

    /// Every kind of complaint with its count.
    pub(crate) fn complaint_lines(&self) -> Vec<String> {
        self.complaints.iter().map(|(complaint, count)| format!("{count} x {complaint}")).collect()
    }
}
