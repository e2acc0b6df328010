//! `RawConfig` mirrors the file: sections, tables, keys and raw values, whichever layer each value came from.
//!
//! Nothing in it is checked but that sections, names and keys exist; `Config` is what may be relied on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::origin::Origin;
use super::raw::Raw;
use super::section::{Section, Shape};

/// Where a table stands: `server`, `namespace.chat`, `api_key[0]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) section: &'static str,
    pub(crate) instance: Instance,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instance {
    Single,
    Named(String),
    Nth(usize),
}

impl Place {
    pub(crate) fn single(section: &Section) -> Place {
        Place { section: section.name, instance: Instance::Single }
    }

    pub(crate) fn named(section: &Section, name: impl Into<String>) -> Place {
        Place { section: section.name, instance: Instance::Named(name.into()) }
    }

    pub(crate) fn nth(section: &Section, index: usize) -> Place {
        Place { section: section.name, instance: Instance::Nth(index) }
    }

    fn is_of(&self, section: &Section) -> bool {
        let is_one = match self.instance {
            Instance::Single => section.shape == Shape::Single,
            Instance::Named(_) => matches!(section.shape, Shape::Named(_)),
            Instance::Nth(_) => section.shape == Shape::List,
        };
        is_one && self.section == section.name
    }

    /// Whether it is one of a list.
    pub(crate) fn is_nth(&self) -> bool {
        matches!(self.instance, Instance::Nth(_))
    }

    /// As the file heads the table: `[server]`, `[namespace.chat]`, `[[api_key]]`.
    pub(crate) fn header(&self) -> String {
        match &self.instance {
            Instance::Single => format!("[{}]", self.section),
            Instance::Named(name) => format!("[{}.{}]", self.section, bare_or_quoted(name)),
            Instance::Nth(_) => format!("[[{}]]", self.section),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instance {
            Instance::Single => formatter.write_str(self.section),
            Instance::Named(name) => write!(formatter, "{}.{name}", self.section),
            Instance::Nth(index) => write!(formatter, "{}[{index}]", self.section),
        }
    }
}

/// A name as TOML takes it for a key.
fn bare_or_quoted(name: &str) -> String {
    let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { super::kind::quoted(name) }
}

/// The keys written in one table.
pub(crate) struct Table {
    /// Where the table was first begun.
    pub(crate) head: Origin,
    entries: BTreeMap<&'static str, Entry>,
}

/// A value that wins over those of all lower layers.
pub(crate) struct Entry {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

impl Table {
    pub(crate) fn new(head: Origin) -> Table {
        Table { head, entries: BTreeMap::new() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Sets a value over that of a lower layer; false if this very layer had set it already.
    pub(crate) fn set(&mut self, key: &'static str, entry: Entry) -> bool {
        let layer = entry.origin.layer();
        self.entries.insert(key, entry).is_none_or(|previous| previous.origin.layer() < layer)
    }
}

#[derive(Default)]
pub(crate) struct RawConfig {
    tables: BTreeMap<Place, Table>,
    /// Files that values stand in, one each.
    pub(crate) files: Vec<PathBuf>,
}

impl RawConfig {
    pub(crate) fn table(&self, place: &Place) -> Option<&Table> {
        self.tables.get(place)
    }

    /// The table at `place`, begun at `head` if it is new.
    pub(crate) fn table_mut(&mut self, place: Place, head: Origin) -> &mut Table {
        self.tables.entry(place).or_insert_with(|| Table::new(head))
    }

    /// Places of all tables of a section: by name, or in order.
    pub(crate) fn places(&self, section: &Section) -> Vec<Place> {
        self.tables.keys().filter(|place| place.is_of(section)).cloned().collect()
    }

    /// Forgets a list, so that a higher layer's takes its place.
    pub(crate) fn clear_list(&mut self, section: &Section) {
        debug_assert_eq!(section.shape, Shape::List);
        self.tables.retain(|place, _| !place.is_of(section));
    }

    /// The name of a namespace, in the case in which a lower layer wrote it; else in lower case.
    pub(crate) fn known_spelling(&self, section: &Section, name: &str) -> String {
        let named = |place: Place| match place.instance {
            Instance::Named(known) if known.eq_ignore_ascii_case(name) => Some(known),
            _ => None,
        };
        self.places(section).into_iter().find_map(named).unwrap_or_else(|| name.to_lowercase())
    }
}
