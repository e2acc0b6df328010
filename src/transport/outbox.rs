//! Bytes on their way to one socket: whole frames, of which the first may be written in part.

use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::hub::Time;

/// Slices handed to one vectored write. A window rarely brings a connection more frames than this.
pub(super) const SLICES: usize = 32;

/// Whole frames in order. Few writes have more than two: those take no memory of their own.
pub(super) type Frames = SmallVec<[Bytes; 2]>;

/// What must still be written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: Frames,
    /// When the peer last accepted something, while anything waits.
    stalled_since: Option<Time>,
}

impl Outbox {
    /// Adds a whole frame.
    pub(super) fn push(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.frames.push(frame);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The number of frames, the first of which may be written in part.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Puts `end` in place of the last byte of the frame at `index`. The other bytes of that frame stay shared.
    pub(super) fn replace_last_byte(&mut self, index: usize, end: Bytes) {
        let frame = &mut self.frames[index];
        frame.truncate(frame.len() - 1);
        self.frames.insert(index + 1, end);
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    /// The first bytes to write.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let count = self.frames.len().min(SLICES);
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(frame);
        }
        count
    }

    /// Exchanges all frames for an empty buffer.
    pub(super) fn swap(&mut self, frames: &mut Frames) {
        std::mem::swap(&mut self.frames, frames);
    }

    /// The peer accepted `written` bytes.
    pub(super) fn advance(&mut self, mut written: usize) {
        let mut whole = 0;
        for frame in &mut self.frames {
            if written < frame.len() {
                frame.advance(written);
                break;
            }
            written -= frame.len();
            whole += 1;
        }
        match whole == self.frames.len() {
            // A new one, for the old may have grown: an idle connection keeps no buffer.
            true => self.frames = Frames::new(),
            false => drop(self.frames.drain(..whole)),
        }
    }

    /// Whether the peer had no room for something the last time it was noted.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Notes whether the last write made progress; returns when the peer counts as stuck, if anything waits.
    pub(super) fn note_progress(&mut self, progress: bool, now: Time, patience: Duration) -> Option<Time> {
        match self.is_empty() {
            true => self.stalled_since = None,
            false if progress => self.stalled_since = Some(now),
            false => {}
        }
        match self.is_empty() {
            true => None,
            false => Some(self.stalled_since.get_or_insert(now).after(patience)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"abc"));
        outbox.push(Bytes::from_static(b"de"));
        outbox
    }

    #[test]
    fn a_write_may_end_anywhere() {
        for written in 0..=5 {
            let mut outbox = outbox();
            outbox.advance(written);
            let mut left = Frames::new();
            outbox.swap(&mut left);
            assert_eq!(
                left.into_iter().flatten().collect::<Vec<u8>>(),
                b"abcde"[written..],
                "after {written}"
            );
        }
    }

    #[test]
    fn a_frame_ends_in_other_bytes_and_what_follows_it_stays() {
        for (index, expected) in [(0, "abX\nde"), (1, "abcdX\n")] {
            let mut outbox = outbox();
            outbox.replace_last_byte(index, Bytes::from_static(b"X\n"));
            let mut left = Frames::new();
            outbox.swap(&mut left);
            assert_eq!(left.concat(), expected.as_bytes());
        }
    }

    #[test]
    fn a_peer_is_stuck_when_nothing_was_accepted_for_long() {
        let seconds = |s| Time(Duration::from_secs(s));
        let patience = Duration::from_secs(10);
        let mut outbox = outbox();
        assert_eq!(outbox.note_progress(false, seconds(1), patience), Some(seconds(11)));
        assert_eq!(outbox.note_progress(false, seconds(5), patience), Some(seconds(11)));
        outbox.advance(1);
        assert_eq!(outbox.note_progress(true, seconds(6), patience), Some(seconds(16)));
        outbox.advance(4);
        assert_eq!(outbox.note_progress(true, seconds(7), patience), None);
    }
}
