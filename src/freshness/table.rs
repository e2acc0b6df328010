//! The version table: for every tag there is or ever was, the last mutation that touched it, in a fixed number of slots.
//!
//! A slot belongs to all tags whose hash leads to it, so a tag may seem to be touched when another one was: somebody reads
//! a value again in vain. The other way round there is no error. The table never forgets, and so answers for any position
//! of its epoch.
//!
//! What a tag `a:b` and a subtree `a:*` are to each other takes three kinds of slots:
//!
//! | slot | holds the last mutation that touched |
//! |---|---|
//! | `a:b` | this very tag |
//! | `a:*` | the subtree as a whole |
//! | below `a` | anything in the subtree |

use smallvec::{SmallVec, smallvec};
use tidings_protocol::{Offset, Tag};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionTable {
    versions: Box<[u64]>,
}

impl VersionTable {
    /// The bytes of a slot where it is stored, the most significant first.
    pub const SLOT_BYTES: usize = 8;

    /// A table in which nothing was touched, of a power of two of slots.
    pub fn new(slots: usize) -> Self {
        debug_assert!(slots.is_power_of_two());
        VersionTable { versions: vec![0; slots].into() }
    }

    /// The table as a broker stored it: slots that are missing at the end were never touched.
    pub fn from_bytes(bytes: &[u8], slots: usize) -> Self {
        let mut table = VersionTable::new(slots);
        for (slot, bytes) in table.versions.iter_mut().zip(bytes.chunks_exact(Self::SLOT_BYTES)) {
            *slot = bytes.iter().fold(0, |version, byte| version << 8 | u64::from(*byte));
        }
        table
    }

    /// The number of slots.
    pub fn slots(&self) -> usize {
        self.versions.len()
    }

    /// The mutation at `offset` touched the tag or subtree.
    pub fn touch(&mut self, tag: &Tag, offset: Offset) {
        for hash in touched(tag) {
            let slot = &mut self.versions[slot_of(hash, self.versions.len())];
            *slot = (*slot).max(offset.0);
        }
    }

    /// The last mutation that may have touched the tag, or anything in the subtree; 0 for none.
    pub fn version(&self, tag: &Tag) -> Offset {
        let versions = asked(tag).map(|hash| self.versions[slot_of(hash, self.versions.len())]);
        Offset(versions.max().unwrap_or(0))
    }
}

/// The slots that a mutation of the tag or subtree is written to, in a table of so many.
pub fn slots_touched(tag: &Tag, slots: usize) -> impl Iterator<Item = u32> {
    touched(tag).map(move |hash| slot_of(hash, slots) as u32)
}

fn slot_of(hash: u64, slots: usize) -> usize {
    hash as usize & (slots - 1)
}

/// The hashes under which a mutation of the tag is kept.
pub(super) fn touched(tag: &Tag) -> impl Iterator<Item = u64> {
    std::iter::once(hash(Kind::Itself, tag.as_str()))
        .chain(up_to_root(tag.name()).map(|name| hash(Kind::Below, name)))
}

/// The hashes under which mutations are kept that touch the tag, or anything in the subtree. Whoever comes back asks after everything that
/// it has, so each byte is hashed once: a subtree's name goes on where that of its root ends.
pub(super) fn asked(tag: &Tag) -> impl Iterator<Item = u64> {
    let subtree = |root: u64| finish(step(step(root, b':'), b'*'));
    let mut name = Kind::Itself.seed();
    let mut hashes: SmallVec<[u64; Tag::SEGMENTS_MAX + 2]> = smallvec![finish(step(name, b'*'))];
    for byte in tag.name().bytes() {
        if byte == b':' {
            hashes.push(subtree(name));
        }
        name = step(name, byte);
    }
    if !tag.name().is_empty() {
        hashes.push(subtree(name));
    }
    hashes.push(if tag.is_subtree() { hash(Kind::Below, tag.name()) } else { finish(name) });
    hashes.into_iter()
}

/// `a:b:c`, `a:b`, `a`, and the empty name of the root.
fn up_to_root(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| {
        (!name.is_empty()).then(|| name.rsplit_once(':').map_or("", |(above, _)| above))
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Itself,
    Below,
}

impl Kind {
    fn seed(self) -> u64 {
        // The offset basis of FNV-1a, and that after one byte that no tag holds.
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        match self {
            Kind::Itself => BASIS,
            Kind::Below => step(BASIS, 1),
        }
    }
}

/// FNV-1a of 64 bits: the same on every instance and in every version, because tables outlive both. That somebody can find
/// names that collide costs those who depend on them a read in vain, no more.
fn hash(kind: Kind, name: &str) -> u64 {
    finish(name.bytes().fold(kind.seed(), step))
}

fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The last step of SplitMix64: the slot is taken from the low bits, which FNV-1a alone mixes badly.
fn finish(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    #[test]
    fn a_mutation_touches_what_covers_it_and_what_it_covers() {
        for (touched, asked, is_touched) in [
            ("a:b", "a:b", true),
            ("a:b", "a:c", false),
            ("a:b", "a", false),
            ("a:b", "a:b:c", false),
            ("a:b", "a:*", true),
            ("a:b", "a:b:*", true),
            ("a:b", "*", true),
            ("a:b", "b:*", false),
            ("a", "a:*", true),
            ("a:*", "a", true),
            ("a:*", "a:b:c", true),
            ("a:*", "ab", false),
            ("a:b:*", "a:*", true),
            ("a:b:*", "a", false),
            ("a:*", "a:b:*", true),
            ("a:b:*", "a:c:*", false),
            ("*", "x:y", true),
            ("*", "x:*", true),
            ("a", "*", true),
        ] {
            let mut table = VersionTable::new(1 << 16);
            table.touch(&tag(touched), Offset(7));
            let expected = Offset(if is_touched { 7 } else { 0 });
            assert_eq!(table.version(&tag(asked)), expected, "{asked} after a mutation of {touched}");
        }
    }

    #[test]
    fn a_version_never_goes_back() {
        let mut table = VersionTable::new(16);
        table.touch(&tag("a"), Offset(9));
        table.touch(&tag("a"), Offset(4));
        assert_eq!(table.version(&tag("a")), Offset(9));
    }

    #[test]
    fn a_stored_table_is_the_table_and_may_be_short() {
        let slots = 1 << 10;
        let mut table = VersionTable::new(slots);
        let mut bytes = Vec::new();
        for (tag, offset) in [("a:b", 300), ("c", 1 << 40)] {
            table.touch(&Tag::parse(tag).unwrap(), Offset(offset));
            for slot in slots_touched(&Tag::parse(tag).unwrap(), slots) {
                let at = slot as usize * VersionTable::SLOT_BYTES;
                bytes.resize(bytes.len().max(at + 8), 0);
                bytes[at..at + 8].copy_from_slice(&offset.to_be_bytes());
            }
        }
        assert_eq!(VersionTable::from_bytes(&bytes, slots), table);
        assert_eq!(VersionTable::from_bytes(&[], slots), VersionTable::new(slots));
    }

    /// With D distinct tags touched, another tag seems to be touched with a probability near 1 - e^(-D/slots); each touch of
    /// a top-level tag writes its own slot, that below it and that below the root.
    #[test]
    fn collisions_are_as_rare_as_chance() {
        let slots = 1 << 16;
        let mut table = VersionTable::new(slots);
        for number in 0..2_000 {
            table.touch(&tag(&format!("t{number}")), Offset(1));
        }
        let asked = 20_000;
        let hits = (0..asked).filter(|n| table.version(&tag(&format!("other:{n}"))).0 > 0).count();
        let expected = 1.0 - (-4_001.0_f64 / slots as f64).exp();
        // Each question looks at four slots: its own, and the subtrees `other:n:*`, `other:*` and `*`; the last two are the
        // same for all.
        let ratio = hits as f64 / asked as f64 / (2.0 * expected);
        assert!((0.8..1.2).contains(&ratio), "{hits} of {asked}, {ratio} of what chance gives");
    }
}
