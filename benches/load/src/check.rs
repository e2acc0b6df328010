//! The judge of one subscriber: every delivery is held against the server's own story (positions) and against the truth
//! (the publisher's numbers). It neither reads sockets nor decodes; it can be wrong about nothing it was not told.
//!
//! ```text
//!   subscribed ──► live ──batch──► live          next span, next number: delivered
//!                   │  └──batch──► live          a hole, an overlap, a step back: counted, told, gone on from there
//!                   ├──gap──────► live           what is missing up to the next publication was declared
//!                   └──cut──► resuming ──subscribed / hello──► live
//! ```

use std::ops::Range;

use crate::book::{Identity, Position};
use crate::frame::{Batch, Frame, Publication, Recovery, Span};
use crate::tally::Tally;

/// Messages kept of one subscriber; a broken server breaks the same way many times.
const FINDINGS_MAX: usize = 4;
/// Holes remembered to tell late publications from repeated ones; a run with more is lost anyway.
const HOLES_MAX: usize = 1024;

/// What one publication turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Received for the first time; it was sent at this moment (ns).
    Fresh { sent: u64 },
    /// Anything else; the tally says what.
    Other,
}

/// Follows one subscriber of one channel through a run.
#[derive(Debug)]
pub(crate) struct Judge {
    channel: usize,
    /// Position of the last thing delivered: what a reconnect resumes from.
    position: Option<Position>,
    /// Number of the publication that should come next, from 1.
    next: u64,
    /// Position and next number when the last SSE cursor came.
    cursor: (Option<Position>, u64),
    /// Numbers that an SSE reconnect may bring again.
    repeatable: Range<u64>,
    holes: Vec<Range<u64>>,
    /// A gap was declared since the last publication.
    gap_is_open: bool,
    /// A failed resume was announced, whose gap has to follow before anything else.
    gap_is_owed: bool,
    /// A recovery said `more`; live batches have to wait.
    catches_up: bool,
    resumes: bool,
    tally: Tally,
    findings: Vec<String>,
}

impl Judge {
    /// A judge for a subscriber that joins before the first publication of the run.
    pub(crate) fn new(channel: usize) -> Self {
        Judge {
            channel,
            position: None,
            next: 1,
            cursor: (None, 1),
            repeatable: 0..0,
            holes: Vec::new(),
            gap_is_open: false,
            gap_is_owed: false,
            catches_up: false,
            resumes: false,
            tally: Tally::default(),
            findings: Vec::new(),
        }
    }

    pub(crate) fn channel(&self) -> usize {
        self.channel
    }

    /// Where the subscriber stands, to resume from.
    pub(crate) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether history has to be asked for further.
    pub(crate) fn catches_up(&self) -> bool {
        self.catches_up
    }

    /// Whether everything up to publication `last` was received or passed over.
    pub(crate) fn has_reached(&self, last: u64) -> bool {
        self.next > last
    }

    pub(crate) fn findings(&self) -> &[String] {
        &self.findings
    }

    /// The connection is gone; a WebSocket resumes from its last position.
    pub(crate) fn cut(&mut self) {
        self.resumes = true;
        self.catches_up = false;
        self.gap_is_owed = false;
    }

    /// The connection is gone; an event stream resumes from its last cursor, and what came after that may come again.
    pub(crate) fn cut_to_cursor(&mut self) {
        self.cut();
        let (position, next) = self.cursor.clone();
        self.repeatable = next..self.next;
        self.position = position;
    }

    /// An SSE cursor arrived: everything before it will not come again.
    pub(crate) fn cursor_moved(&mut self) {
        self.cursor = (self.position.clone(), self.next);
    }

    /// Judges one frame; `on_arrival` learns of each publication in it.
    pub(crate) fn accept(&mut self, frame: &Frame, mut on_arrival: impl FnMut(Arrival)) {
        match frame {
            Frame::Batch(batch) => self.batch(batch, &mut on_arrival),
            Frame::Subscribed(recovery) => self.subscribed(recovery, &mut on_arrival),
            Frame::History { publications, more } => {
                self.recover(publications, &mut on_arrival);
                self.catches_up = *more;
            }
            Frame::Gap { reason, position } => self.gap(reason, position.as_ref()),
            Frame::Continued { from, position } => self.continued(from, position),
            Frame::Hello | Frame::Refused(_) | Frame::Disconnect(_) | Frame::Other => {}
        }
    }

    fn batch(&mut self, batch: &Batch, on_arrival: &mut impl FnMut(Arrival)) {
        if batch.channel != self.channel {
            self.break_continuity(format!("a batch of channel number {} was delivered", batch.channel));
            return;
        }
        if self.catches_up {
            self.break_continuity("a live batch came while history was still owed".to_owned());
        }
        if let Some(span) = &batch.span {
            self.advance(span);
        }
        for publication in &batch.publications {
            on_arrival(self.arrival(publication));
        }
    }

    fn subscribed(&mut self, recovery: &Recovery, on_arrival: &mut impl FnMut(Arrival)) {
        if recovery.recovered == Some(false) {
            self.gap_is_owed = true;
            return;
        }
        self.recover(&recovery.publications, on_arrival);
        self.catches_up = recovery.more;
        if recovery.recovered == Some(true) {
            self.confirm_resume();
            if !recovery.more && self.position != recovery.position {
                self.break_continuity(format!(
                    "recovered up to {:?}, while the answer says {:?}",
                    self.position, recovery.position
                ));
            }
        }
        if !recovery.more {
            self.position = recovery.position.clone();
        }
    }

    /// Publications read from history: each must follow the one before it.
    fn recover(&mut self, publications: &[Publication], on_arrival: &mut impl FnMut(Arrival)) {
        for publication in publications {
            if let Some(Position { epoch, offset }) = &publication.position {
                self.advance(&Span { epoch: epoch.clone(), first: *offset, last: *offset });
            }
            on_arrival(self.arrival(publication));
        }
    }

    fn gap(&mut self, reason: &str, position: Option<&Position>) {
        self.tally.gaps += 1;
        self.note(format!("gap ({reason}) declared after {:?}, now at {position:?}", self.position));
        self.position = position.cloned();
        self.gap_is_open = true;
        self.gap_is_owed = false;
        self.catches_up = false;
        self.resumes = false;
    }

    fn continued(&mut self, from: &Position, position: &Position) {
        if self.position.as_ref().is_some_and(|known| known != from) {
            self.break_continuity(format!(
                "continued from {from:?}, but delivered was up to {:?}",
                self.position
            ));
        }
        self.position = Some(position.clone());
    }

    /// Holds a span against the position before it, and moves the position to its end.
    fn advance(&mut self, span: &Span) {
        if self.gap_is_owed {
            self.gap_is_owed = false;
            self.break_continuity("a failed resume was not followed by its gap".to_owned());
        }
        let reached = match &self.position {
            Some(known) if known.epoch != span.epoch => {
                self.break_continuity(format!(
                    "epoch {} became {} without gap or word",
                    known.epoch, span.epoch
                ));
                0
            }
            Some(known) if span.first > known.offset + 1 => {
                self.break_continuity(format!("offset {} was followed by {}", known.offset, span.first));
                0
            }
            // An overlap is no break: whether its publications may come again is judged one by one.
            Some(known) => known.offset,
            None => 0,
        };
        self.position = Some(Position { epoch: span.epoch.clone(), offset: span.last.max(reached) });
    }

    fn arrival(&mut self, publication: &Publication) -> Arrival {
        let Identity::Genuine { sequence, sent } = publication.identity else {
            self.tally.foreign += 1;
            self.note(format!("a payload at {:?} is not what was published there", publication.position));
            return Arrival::Other;
        };
        if sequence < self.next {
            return self.step_back(sequence, sent);
        }
        if sequence > self.next {
            self.skip_to(sequence);
        }
        self.next = sequence + 1;
        self.gap_is_open = false;
        self.confirm_resume();
        self.tally.delivered += 1;
        Arrival::Fresh { sent }
    }

    /// A number below the expected one: late, repeated by right, or a duplicate.
    fn step_back(&mut self, sequence: u64, sent: u64) -> Arrival {
        if self.fill_hole(sequence) {
            self.tally.lost -= 1;
            self.tally.disorder += 1;
            self.tally.delivered += 1;
            self.note(format!("publication {sequence} came after {}", self.next - 1));
            return Arrival::Fresh { sent };
        }
        if self.repeatable.contains(&sequence) {
            self.repeatable.start = sequence + 1;
            self.tally.repeats += 1;
        } else {
            self.tally.duplicates += 1;
            self.note(format!("publication {sequence} came again after {}", self.next - 1));
        }
        Arrival::Other
    }

    /// Counts the numbers from the expected one to before `sequence` as declared or lost.
    fn skip_to(&mut self, sequence: u64) {
        let missing = sequence - self.next;
        if self.gap_is_open {
            self.tally.declared += missing;
            return;
        }
        self.tally.lost += missing;
        self.note(format!("publications {} to {} never came", self.next, sequence - 1));
        if self.holes.len() < HOLES_MAX {
            self.holes.push(self.next..sequence);
        }
    }

    /// Whether `sequence` was missing; it no longer is.
    fn fill_hole(&mut self, sequence: u64) -> bool {
        let Some(place) = self.holes.iter().position(|hole| hole.contains(&sequence)) else { return false };
        let hole = self.holes.swap_remove(place);
        let rest = [hole.start..sequence, sequence + 1..hole.end];
        self.holes.extend(rest.into_iter().filter(|part| !part.is_empty()));
        true
    }

    /// A reconnect is answered well once, by its recovery or by the first publication after it.
    fn confirm_resume(&mut self) {
        self.tally.resumed += u64::from(std::mem::take(&mut self.resumes));
    }

    fn break_continuity(&mut self, finding: String) {
        self.tally.discontinuities += 1;
        self.note(finding);
    }

    fn note(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// The count after the run, in which `last` publications were made.
    pub(crate) fn finish(&mut self, last: u64) -> Tally {
        if !self.has_reached(last) {
            self.skip_to(last + 1);
            self.next = last + 1;
        } else {
            // Reconnected at the head: there was nothing to recover, and nothing is missing.
            self.confirm_resume();
        }
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: u64 = 7;

    fn at(epoch: &str, offset: u64) -> Position {
        Position { epoch: epoch.into(), offset }
    }

    /// Publication `sequence` at offset `sequence + 100` of epoch "a".
    fn publication(sequence: u64) -> Publication {
        let identity = Identity::Genuine { sequence, sent: SENT };
        Publication { position: Some(at("a", sequence + 100)), identity }
    }

    fn batch_of(epoch: &str, sequences: Range<u64>) -> Frame {
        let span = Span { epoch: epoch.into(), first: sequences.start + 100, last: sequences.end + 99 };
        let publications = sequences.map(publication).collect();
        Frame::Batch(Batch { channel: 0, span: Some(span), publications })
    }

    fn batch(sequences: Range<u64>) -> Frame {
        batch_of("a", sequences)
    }

    fn gap(position: Position) -> Frame {
        Frame::Gap { reason: "trimmed".into(), position: Some(position) }
    }

    fn recovery(recovered: Option<bool>, head: u64, more: bool, sequences: Range<u64>) -> Frame {
        let publications = sequences.map(publication).collect();
        Frame::Subscribed(Recovery { position: Some(at("a", head)), recovered, more, publications })
    }

    /// A judge subscribed at offset 100, where publication 1 has offset 101.
    fn subscribed() -> Judge {
        let mut judge = Judge::new(0);
        judge.accept(&recovery(None, 100, false, 0..0), |_| {});
        judge
    }

    /// The tally of one that was sent `frames` of a run of four publications.
    fn tally(frames: &[Frame]) -> Tally {
        let mut judge = subscribed();
        frames.iter().for_each(|frame| judge.accept(frame, |_| {}));
        judge.finish(4)
    }

    const ALL: Tally = Tally {
        delivered: 4,
        lost: 0,
        gaps: 0,
        declared: 0,
        duplicates: 0,
        repeats: 0,
        disorder: 0,
        foreign: 0,
        discontinuities: 0,
        resumed: 0,
    };

    #[test]
    fn everything_in_order_is_clean() {
        assert_eq!(tally(&[batch(1..3), batch(3..5)]), ALL);
    }

    #[test]
    fn a_skip_is_lost_and_a_jump() {
        let expected = Tally { delivered: 3, lost: 1, discontinuities: 1, ..ALL };
        assert_eq!(tally(&[batch(1..3), batch(4..5)]), expected);
    }

    #[test]
    fn a_hole_hidden_by_renumbering_is_still_lost() {
        let span = Span { epoch: "a".into(), first: 103, last: 103 };
        let renumbered =
            Frame::Batch(Batch { channel: 0, span: Some(span), publications: vec![publication(4)] });
        assert_eq!(tally(&[batch(1..3), renumbered]), Tally { delivered: 3, lost: 1, ..ALL });
    }

    #[test]
    fn a_missing_end_is_lost() {
        assert_eq!(tally(&[batch(1..4)]), Tally { delivered: 3, lost: 1, ..ALL });
    }

    #[test]
    fn a_swap_is_disorder() {
        let expected = Tally { disorder: 1, discontinuities: 1, ..ALL };
        assert_eq!(tally(&[batch(1..2), batch(3..4), batch(2..3), batch(4..5)]), expected);
    }

    #[test]
    fn a_repetition_is_a_duplicate() {
        assert_eq!(tally(&[batch(1..3), batch(2..3), batch(3..5)]), Tally { duplicates: 1, ..ALL });
    }

    #[test]
    fn an_epoch_change_without_a_word_is_a_break() {
        assert_eq!(tally(&[batch(1..3), batch_of("b", 3..5)]), Tally { discontinuities: 1, ..ALL });
    }

    #[test]
    fn an_epoch_change_with_a_word_is_none() {
        let continued = Frame::Continued { from: at("a", 102), position: at("b", 102) };
        assert_eq!(tally(&[batch(1..3), continued, batch_of("b", 3..5)]), ALL);
        let elsewhere = Frame::Continued { from: at("a", 101), position: at("b", 102) };
        assert_eq!(tally(&[batch(1..3), elsewhere, batch_of("b", 3..5)]).discontinuities, 1);
    }

    #[test]
    fn a_foreign_payload_is_counted_and_not_delivered() {
        let mut frame = batch(1..5);
        let Frame::Batch(batch) = &mut frame else { unreachable!("made as a batch") };
        batch.publications[1].identity = Identity::Foreign;
        assert_eq!(tally(&[frame]), Tally { delivered: 3, lost: 1, foreign: 1, ..ALL });
    }

    #[test]
    fn a_declared_gap_is_counted_and_nothing_is_lost_in_silence() {
        let expected = Tally { delivered: 2, gaps: 1, declared: 2, ..ALL };
        assert_eq!(tally(&[batch(1..2), gap(at("a", 103)), batch(4..5)]), expected);
        assert_eq!(tally(&[batch(1..3), gap(at("a", 104))]), expected);
    }

    #[test]
    fn a_resume_delivers_what_was_missed_page_by_page() {
        let mut judge = subscribed();
        judge.accept(&batch(1..2), |_| {});
        judge.cut();
        judge.accept(&recovery(Some(true), 104, true, 2..3), |_| {});
        assert!(judge.catches_up());
        judge.accept(
            &Frame::History { publications: vec![publication(3), publication(4)], more: false },
            |_| {},
        );
        assert!(!judge.catches_up());
        assert_eq!(judge.finish(4), Tally { resumed: 1, ..ALL });
    }

    #[test]
    fn a_resume_that_claims_more_than_it_brings_is_a_break() {
        let mut judge = subscribed();
        judge.cut();
        judge.accept(&recovery(Some(true), 104, false, 1..4), |_| {});
        assert_eq!(judge.finish(4), Tally { delivered: 3, lost: 1, discontinuities: 1, resumed: 1, ..ALL });
    }

    #[test]
    fn a_live_batch_before_the_history_that_is_owed_is_a_break() {
        let mut judge = subscribed();
        judge.cut();
        judge.accept(&recovery(Some(true), 102, true, 1..2), |_| {});
        judge.accept(&batch(2..5), |_| {});
        assert_eq!(judge.finish(4), Tally { discontinuities: 1, resumed: 1, ..ALL });
    }

    #[test]
    fn a_failed_resume_has_to_declare_its_gap() {
        let failed = || recovery(Some(false), 103, false, 0..0);
        let mut told = subscribed();
        told.cut();
        [failed(), gap(at("a", 103)), batch(4..5)].iter().for_each(|frame| told.accept(frame, |_| {}));
        assert_eq!(told.finish(4), Tally { delivered: 1, gaps: 1, declared: 3, ..ALL });
        let mut silent = subscribed();
        silent.cut();
        [failed(), batch(4..5)].iter().for_each(|frame| silent.accept(frame, |_| {}));
        assert_eq!(silent.finish(4).lost, 3);
        assert!(silent.tally.discontinuities > 0);
    }

    #[test]
    fn an_event_stream_may_repeat_what_came_after_its_cursor_once() {
        let mut judge = subscribed();
        judge.accept(&batch(1..2), |_| {});
        judge.cursor_moved();
        judge.accept(&batch(2..4), |_| {});
        judge.cut_to_cursor();
        judge.accept(&batch(2..5), |_| {});
        judge.accept(&batch(3..4), |_| {});
        assert_eq!(judge.finish(4), Tally { repeats: 2, duplicates: 1, resumed: 1, ..ALL });
    }

    #[test]
    fn an_event_stream_may_not_repeat_what_its_cursor_covers() {
        let mut judge = subscribed();
        judge.accept(&batch(1..4), |_| {});
        judge.cursor_moved();
        judge.cut_to_cursor();
        judge.accept(&batch(3..5), |_| {});
        assert_eq!(judge.finish(4), Tally { duplicates: 1, resumed: 1, ..ALL });
    }

    #[test]
    fn fresh_publications_tell_when_they_were_sent() {
        let mut arrivals = Vec::new();
        let mut judge = subscribed();
        judge.accept(&batch(1..2), |arrival| arrivals.push(arrival));
        judge.accept(&batch(1..2), |arrival| arrivals.push(arrival));
        assert_eq!(arrivals, [Arrival::Fresh { sent: SENT }, Arrival::Other]);
    }
}
