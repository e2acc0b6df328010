//! `[[rule]]`: which tags a mutation touches.
//!
//! How a rule is applied is said by `freshness`.

use tidings_protocol::{Operation, Tag};

use super::kind::{Fault, Form, Kind, Words, quoted, text, unexpected};
use super::raw::Raw;
use super::section::section;
use super::template::Template;

section! {
    /// Which tags the mutations of an entity touch. Every rule that fits a mutation adds its tags; where none fits, they are
    /// `{entity}:{key}`, and on create and delete `{entity}` too. Rules alone are read again while the server runs.
    pub struct Rule: List "rule" {
        /// The entity, as mutations name it.
        entity: String as Entity;
        /// Which mutations of it: "create", "update", "delete".
        on: Vec<Operation> as Operations = ["create", "update", "delete"];
        /// Fields of the row: an update counts only if one of them differs between `before` and `after`. None: every update.
        changed: Vec<String> = [];
        /// The row that {row.FIELD} is taken from: "before", "after", or "before,after" for once with each.
        /// If absent: after, and before of what is deleted.
        each: Option<Each>;
        /// The tags, with {entity}, {key} and {row.FIELD} where values stand.
        tags: Vec<Template> as Templates;
    }
}

/// Which rows of a mutation a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// The old one.
    Before,
    /// The new one.
    After,
    /// One after the other.
    Both,
}

impl Words for Each {
    const EXPECTED: &'static str = "\"before\", \"after\" or \"before,after\"";
    const EXAMPLE: &'static str = "\"before,after\"";
    const WORDS: &'static [(&'static str, Each)] =
        &[("before,after", Each::Both), ("before", Each::Before), ("after", Each::After)];
}

impl Words for Operation {
    const EXPECTED: &'static str = "\"create\", \"update\" or \"delete\"";
    const WORDS: &'static [(&'static str, Operation)] =
        &[("create", Operation::Create), ("update", Operation::Update), ("delete", Operation::Delete)];
}

/// The name of an entity.
pub(crate) struct Entity;

impl Kind for Entity {
    type Value = String;
    const EXPECTED: &'static str = "the name of an entity, which can stand in a tag";
    const EXAMPLE: &'static str = "\"ticket\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<String, Fault> {
        let name = text::<Entity>(raw)?;
        match Tag::parse(name) {
            Ok(tag) if !tag.is_subtree() => Ok(name.to_owned()),
            _ => Err(unexpected::<Entity>(raw)),
        }
    }

    fn show(name: &String) -> Option<String> {
        Some(quoted(name))
    }
}

/// A list that must not be empty.
pub(crate) struct AtLeastOne<K>(std::marker::PhantomData<K>);

/// Which mutations.
pub(crate) type Operations = AtLeastOne<Operation>;

/// The tags of a rule.
pub(crate) type Templates = AtLeastOne<Template>;

impl<K: Kind> Kind for AtLeastOne<K> {
    type Value = Vec<K::Value>;
    const EXPECTED: &'static str = "a list of at least one string";
    const EXAMPLE: &'static str = "[\"tickets\", \"ticket:{key}\"]";
    const FORM: Form = Form::List;

    fn parse(raw: &Raw) -> Result<Self::Value, Fault> {
        match Vec::<K>::parse(raw)? {
            none if none.is_empty() => Err(unexpected::<Self>(raw)),
            some => Ok(some),
        }
    }

    fn show(values: &Self::Value) -> Option<String> {
        Vec::<K>::show(values)
    }
}
