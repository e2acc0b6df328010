//! Remembers what the last frames meant: 5,000 subscribers get the same bytes, and one decoding serves them all.
//! A hit needs all bytes equal, so that a remembered frame is checked as fully as one decoded anew.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::frame::Frame;

/// Frames kept. With 1,000 channels a window holds 1,000 different frames; 2,048 keep two windows.
const FRAMES_MAX: usize = 2048;
/// Larger frames are decoded each time, which bounds the cache to 2,048 * 64 KiB = 128 MiB.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Frames by their bytes; the oldest makes room for the newest.
#[derive(Debug, Default)]
pub(crate) struct FrameCache {
    frames: HashMap<Key, Known>,
    order: VecDeque<Key>,
}

/// Length and hash of a frame's bytes.
type Key = (usize, u64);

#[derive(Debug)]
struct Known {
    bytes: Box<[u8]>,
    frame: Rc<Frame>,
}

impl FrameCache {
    /// What these very bytes meant, or `None` if they are not remembered.
    pub(crate) fn get(&self, bytes: &[u8]) -> Option<Rc<Frame>> {
        let known = self.frames.get(&key(bytes))?;
        (*known.bytes == *bytes).then(|| known.frame.clone())
    }

    /// Remembers a frame that others will be sent too.
    pub(crate) fn insert(&mut self, bytes: &[u8], frame: &Rc<Frame>) {
        if bytes.len() > FRAME_BYTES_MAX || !frame.is_shared() {
            return;
        }
        if self.order.len() == FRAMES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.frames.remove(&oldest);
        }
        let key = key(bytes);
        let known = Known { bytes: bytes.into(), frame: frame.clone() };
        if self.frames.insert(key, known).is_none() {
            self.order.push_back(key);
        }
    }
}

/// The hash takes eight bytes a step. Collisions cost a decoding, never a wrong answer.
fn key(bytes: &[u8]) -> Key {
    let mut words = bytes.chunks_exact(8);
    let mut hash = 0;
    for word in &mut words {
        hash = mix(hash, u64::from_le_bytes(word.try_into().expect("chunks of exactly eight")));
    }
    let rest = words.remainder().iter().fold(0, |rest, byte| rest << 8 | u64::from(*byte));
    (bytes.len(), mix(hash, rest))
}

/// One step of the hash that rustc uses for its own tables (FxHash).
fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(reason: usize) -> Rc<Frame> {
        Rc::new(Frame::Gap { reason: reason.to_string(), position: None })
    }

    #[test]
    fn only_equal_bytes_are_a_hit() {
        let mut cache = FrameCache::default();
        cache.insert(b"the very bytes", &gap(1));
        assert_eq!(cache.get(b"the very bytes"), Some(gap(1)));
        assert_eq!(cache.get(b"the very bytez"), None);
        assert_eq!(cache.get(b"the very byte"), None);
    }

    #[test]
    fn different_bytes_of_one_hash_are_no_hit() {
        let frame = |first: u64, second: u64| [first.to_le_bytes(), second.to_le_bytes()].concat();
        // Whatever the first words make of the hash, the second words take back.
        let twin = 7 ^ mix(0, 1).rotate_left(5) ^ mix(0, 2).rotate_left(5);
        let (known, other) = (frame(1, 7), frame(2, twin));
        assert_eq!(key(&known), key(&other));
        let mut cache = FrameCache::default();
        cache.insert(&known, &gap(1));
        assert_eq!((cache.get(&known), cache.get(&other)), (Some(gap(1)), None));
    }

    #[test]
    fn frames_for_one_client_are_not_kept() {
        let mut cache = FrameCache::default();
        cache.insert(b"hello", &Rc::new(Frame::Hello));
        assert_eq!(cache.get(b"hello"), None);
    }

    #[test]
    fn the_oldest_frame_makes_room() {
        let mut cache = FrameCache::default();
        for frame in 0..=FRAMES_MAX {
            cache.insert(format!("frame {frame:08}").as_bytes(), &gap(frame));
        }
        assert_eq!(cache.frames.len(), FRAMES_MAX);
        assert_eq!(cache.get(b"frame 00000000"), None);
        assert_eq!(cache.get(b"frame 00000001"), Some(gap(1)));
    }
}
