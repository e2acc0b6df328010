//! Turns the raw values of one section's table into typed ones, and notes where each came from.

use std::sync::Arc;

use super::kind::{Fault, Kind};
use super::origin::{Origin, Origins};
use super::problem::{Problem, Problems};
use super::raw::Raw;
use super::raw_config::{Entry, Instance, Place, Table};
use super::section::{Key, Section};

pub(crate) struct Reader<'a> {
    pub(crate) section: &'static Section,
    pub(crate) place: Place,
    pub(crate) table: Option<&'a Table>,
    /// Gives what `table` does not say, before the defaults do.
    pub(crate) inherited: Option<&'a Table>,
    pub(crate) dev: bool,
    pub(crate) problems: &'a mut Problems,
    pub(crate) origins: &'a mut Origins,
}

impl Reader<'_> {
    /// The value of the key called `name`, or `None` after noting what is wrong with it.
    pub(crate) fn read<K: Kind>(&mut self, name: &'static str) -> Option<K::Value> {
        let (key, _) = self.section.key(name).expect("a field of a section is one of its keys");
        let own = self.table.and_then(|table| table.get(name));
        let Some(entry) = own.or_else(|| self.inherited?.get(name)) else {
            return self.read_default::<K>(key);
        };
        self.origins.insert(format!("{}.{name}", self.place), entry.origin.clone());
        match parse_in_range::<K>(key, &entry.raw) {
            Ok(value) => Some(value),
            Err(fault) => {
                // What is wrong with an inherited value is said once, where it stands.
                if own.is_some() {
                    self.refuse(key, entry, fault);
                }
                None
            }
        }
    }

    fn refuse(&mut self, key: &Key, entry: &Entry, fault: Fault) {
        let message = format!("{}: {}", key.name, fault.message);
        let problem = Problem::new(entry.origin.at(fault.span), message).with_hint(fault.hint);
        self.problems.push(problem.hidden_if(key.sensitive));
        fault.more.into_iter().for_each(|fault| self.refuse(key, entry, fault));
    }

    fn read_default<K: Kind>(&mut self, key: &Key) -> Option<K::Value> {
        let text = key.dev_default.filter(|_| self.dev).or(key.default);
        if let Some(text) = text {
            let raw = Raw::parse_value(text).expect("defaults are TOML");
            return Some(K::parse(&raw).expect("defaults are legal"));
        }
        let absent = K::absent();
        if absent.is_none() {
            let origin = self.table.map_or(Origin::Default, |table| table.head.clone());
            let message = format!("`{}` is missing in {}", key.name, self.place.header());
            let hint = format!("expected {}", K::EXPECTED);
            self.problems.push(Problem::new(origin, message).with_hint(Some(hint)));
        }
        absent
    }

    /// The NAME of `[section.NAME]`.
    pub(crate) fn instance_name(&mut self) -> Arc<str> {
        match &self.place.instance {
            Instance::Named(name) => name.as_str().into(),
            Instance::Single | Instance::Nth(_) => self.section.name.into(),
        }
    }
}

fn parse_in_range<K: Kind>(key: &Key, raw: &Raw) -> Result<K::Value, Fault> {
    let value = K::parse(raw)?;
    let Some((least, greatest)) = key.range else { return Ok(value) };
    let bound = |text| K::measure(&K::parse(&Raw::parse_value(text)?).ok()?);
    let measure = K::measure(&value);
    if measure < bound(least) || measure > bound(greatest) {
        let saw = if key.sensitive { String::new() } else { format!(", saw {}", raw.describe()) };
        return Err(Fault::new(raw, format!("expected {least} to {greatest}{saw}")));
    }
    Ok(value)
}
