//! Which positions mean something in the present epoch of a log (R66).

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::{ContinuedFrame, Epoch, Offset, Position};

/// Numberings that are remembered; the server remembers as many.
const RENAMES_MAX: usize = 64;

/// The present epoch, and those before it that it continues.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbering {
    epoch: Option<Epoch>,
    renames: VecDeque<Rename>,
}

/// Up to `shared` the offsets of `from` are those of `to`.
#[derive(Clone, Debug)]
struct Rename {
    from: Epoch,
    shared: Offset,
    to: Epoch,
}

impl Numbering {
    /// The present epoch.
    pub(super) fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// Another epoch is the present one.
    pub(super) fn enter(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
    }

    /// Remembers what the server says of two epochs. False where that is no change of names: the offsets differ.
    pub(super) fn learn(&mut self, continued: &ContinuedFrame) -> bool {
        let ContinuedFrame { from, position, .. } = continued;
        let is_rename = from.offset == position.offset && from.epoch != position.epoch;
        if is_rename {
            self.renames.retain(|rename| rename.from != from.epoch);
            let rename = Rename { from: from.epoch.clone(), shared: from.offset, to: position.epoch.clone() };
            self.renames.push_back(rename);
            if self.renames.len() > RENAMES_MAX {
                self.renames.pop_front();
            }
        }
        is_rename
    }

    /// The offset of the same place in the present epoch; `None` where nobody said that there is one.
    pub(super) fn offset_of(&self, position: &Position) -> Option<Offset> {
        let present = self.epoch.as_ref()?;
        let mut epoch = &position.epoch;
        // Renames may form a circle only if a server lies; it is left after as many steps as there are.
        for _ in 0..=self.renames.len() {
            if epoch == present {
                return Some(position.offset);
            }
            let rename = self.renames.iter().find(|rename| rename.from == *epoch)?;
            if position.offset > rename.shared {
                return None;
            }
            epoch = &rename.to;
        }
        None
    }

    /// Which of two positions is later; `None` where they cannot be compared.
    pub(super) fn order(&self, one: &Position, other: &Position) -> Option<Ordering> {
        if one.epoch == other.epoch {
            return Some(one.offset.cmp(&other.offset));
        }
        Some(self.offset_of(one)?.cmp(&self.offset_of(other)?))
    }

    /// Whether `one` is before `other`, or nobody can tell.
    pub(super) fn precedes(&self, one: &Position, other: &Position) -> bool {
        self.order(one, other).is_none_or(Ordering::is_lt)
    }

    /// Whether both are known to be the same place; where there is none, false.
    pub(super) fn is_same(&self, one: Option<&Position>, other: Option<&Position>) -> bool {
        one.zip(other).is_some_and(|(one, other)| self.order(one, other) == Some(Ordering::Equal))
    }

    /// Whether a value with this basis does not reflect a mutation, unless that is its exception; or nobody can tell.
    pub(super) fn misses(&self, basis: &Position, except: Option<&Position>, mutation: &Position) -> bool {
        self.precedes(basis, mutation) && !self.is_same(except, Some(mutation))
    }
}
