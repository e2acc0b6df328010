//! What is cached: rows of a database and lists of them, and the tags that each depends on.

use std::sync::LazyLock;

use tidings_protocol::Tag;

use crate::simulation::random::Random;

/// Rows; the first are written all the time, the others seldom.
const ROWS: usize = 9;
const BUSY_ROWS: usize = 4;

/// Lists; each row is in one at a time.
const LISTS: usize = 3;

/// A value that somebody caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) usize);

/// The tags of each key: the rows, the lists, everything there is of rows, and a page that shows a list beside a row.
static TAGS: LazyLock<Vec<Vec<Tag>>> = LazyLock::new(|| {
    let rows = (0..ROWS).map(|row| vec![tag(format!("row:{row}"))]);
    let lists = (0..LISTS).map(|list| vec![tag(format!("list:{list}"))]);
    let all = [vec![tag("row:*".to_owned())], vec![tag("list:0".to_owned()), tag("row:8".to_owned())]];
    rows.chain(lists).chain(all).collect()
});

impl Key {
    /// Any of them.
    pub(crate) fn any(random: &mut Random) -> Key {
        Key(random.below(TAGS.len()))
    }

    /// What its value depends on.
    pub(crate) fn tags(self) -> &'static [Tag] {
        &TAGS[self.0]
    }
}

/// What somebody changes.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The row that its author is shown, if it is one.
    pub(crate) row: Option<Key>,
    pub(crate) tags: Vec<Tag>,
}

impl Change {
    /// A row, or now and then one that moves between lists, or a whole list of lists.
    pub(crate) fn any(random: &mut Random) -> Change {
        let row = match random.chance(800) {
            true => random.below(BUSY_ROWS),
            false => BUSY_ROWS + random.below(ROWS - BUSY_ROWS),
        };
        let mut tags = vec![tag(format!("row:{row}")), tag(format!("list:{}", row % LISTS))];
        match random.below(40) {
            0 => return Change { row: None, tags: vec![tag("list:*".to_owned())] },
            1..=4 => tags.push(tag(format!("list:{}", (row + 1) % LISTS))),
            _ => {}
        }
        Change { row: Some(Key(row)), tags }
    }

    /// The keys whose values it changes, a bit each.
    pub(crate) fn touches(&self) -> u32 {
        let overlap = |one: &Tag, other: &Tag| one.covers(other) || other.covers(one);
        let is_touched = |tags: &[Tag]| tags.iter().any(|tag| self.tags.iter().any(|of| overlap(of, tag)));
        let touched = TAGS.iter().enumerate().filter(|(_, tags)| is_touched(tags));
        touched.fold(0, |bits, (key, _)| bits | 1 << key)
    }
}

fn tag(text: String) -> Tag {
    Tag::parse(&text).expect("the names above are tags")
}
