//! What caches are caches of: rows, and lists of rows, each with a version.

use std::sync::Mutex;

use tidings_protocol::Tag;

/// What has a version, and a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    Row(usize),
    List(usize),
}

/// Things as they were at one moment, with the version of each.
pub(super) type Seen = Vec<(Thing, u64)>;

/// Rows, each of which is in one list. A change is visible as a whole, as after a commit.
pub(super) struct Database {
    tables: Mutex<Tables>,
}

struct Tables {
    /// The version of each row, and the list that it is in.
    rows: Vec<(u64, usize)>,
    /// The version of each list.
    lists: Vec<u64>,
}

impl Thing {
    pub(super) fn tag(self) -> Tag {
        let text = match self {
            Thing::Row(number) => format!("row:{number}"),
            Thing::List(number) => format!("list:{number}"),
        };
        Tag::parse(&text).expect("names and numbers are tags")
    }
}

impl Database {
    pub(super) fn new(rows: usize, lists: usize) -> Database {
        let rows = (0..rows).map(|row| (0, row % lists)).collect();
        Database { tables: Mutex::new(Tables { rows, lists: vec![0; lists] }) }
    }

    /// Changes a row and moves it to a list, which may be its own; returns all that changed, as it is now.
    pub(super) fn change(&self, row: usize, list: usize) -> Seen {
        let mut tables = self.tables.lock().expect("nobody panics here");
        let (version, left) = &mut tables.rows[row];
        *version += 1;
        let mut changed = vec![(Thing::Row(row), *version)];
        let mut lists = vec![std::mem::replace(left, list), list];
        lists.dedup();
        for list in lists {
            tables.lists[list] += 1;
            changed.push((Thing::List(list), tables.lists[list]));
        }
        changed
    }

    /// These things as they are now.
    pub(super) fn read(&self, things: &[Thing]) -> Seen {
        let tables = self.tables.lock().expect("nobody panics here");
        let version = |thing| match thing {
            Thing::Row(number) => tables.rows[number].0,
            Thing::List(number) => tables.lists[number],
        };
        things.iter().map(|thing| (*thing, version(*thing))).collect()
    }
}
