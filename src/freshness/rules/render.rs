//! A template and a mutation make a tag, or say why not.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;
use tidings_protocol::{Code, Mutation, Problem, Row, Tag};

use super::By;
use crate::config::{Part, Template};

/// What a tag is made from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) by: By,
    pub(super) template: &'a Template,
    pub(super) mutation: &'a Mutation,
}

/// Why a mutation has no tags: a sentence that names the rule, the placeholder and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrendered(String);

impl fmt::Display for Unrendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unrendered {}

impl From<Unrendered> for Problem {
    fn from(unrendered: Unrendered) -> Problem {
        Problem::new(Code::TagInvalid, unrendered.0)
    }
}

impl Source<'_> {
    pub(super) fn lacks_row(&self, row: &str) -> Unrendered {
        let op = self.mutation.op.as_str();
        self.refuse(format!("takes a field from `{row}`, which this {op} does not say"))
    }

    fn refuse(&self, why: impl fmt::Display) -> Unrendered {
        let Source { by, template, mutation } = self;
        Unrendered(format!(
            "{by} for {:?}: the tag {:?} {why}",
            shortened(&mutation.entity),
            template.as_str()
        ))
    }
}

/// The tag, with the fields of a row by its name. A value stands for no more than itself: it holds no `*`.
pub(super) fn render(source: Source<'_>, row: Option<(&str, &Row)>) -> Result<Tag, Unrendered> {
    let Mutation { entity, key, .. } = source.mutation;
    let mut text = String::new();
    for part in source.template.parts() {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Entity => text.push_str(legal(&source, "{entity}", entity)?),
            Part::Key => text.push_str(legal(&source, "{key}", key)?),
            Part::Field(field) => {
                let value = value_of(&source, field, row)?;
                text.push_str(legal(&source, &format!("{{row.{field}}}"), &value)?);
            }
        }
    }
    Tag::parse(&text).map_err(|invalid| source.refuse(format!("became {:?}: {invalid}", shortened(&text))))
}

/// The field's value as text: a string as it is, a number or a flag as it was written.
fn value_of<'a>(
    source: &Source<'_>,
    field: &str,
    row: Option<(&str, &'a Row)>,
) -> Result<Cow<'a, str>, Unrendered> {
    let (name, row) = row.expect("a template that names a row is rendered with one");
    let value = row.get(field);
    let value = value
        .ok_or_else(|| source.refuse(format!("takes {field:?} from `{name}`, which has no such field")))?;
    text_of(value).map_err(|saw| {
        source.refuse(format!("takes {field:?} from `{name}`, which is {saw} there: a string, a number or a flag can stand in a tag"))
    })
}

fn text_of(value: &RawValue) -> Result<Cow<'_, str>, &'static str> {
    match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).map(Cow::Owned).map_err(|_| "no text"),
        Some(b'{') => Err("an object"),
        Some(b'[') => Err("a list"),
        Some(b'n') => Err("null"),
        _ => Ok(Cow::Borrowed(value.get())),
    }
}

fn legal<'a>(source: &Source<'_>, placeholder: &str, value: &'a str) -> Result<&'a str, Unrendered> {
    let is_legal = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | ',' | '*');
    match value.char_indices().find(|(_, c)| !is_legal(*c)) {
        None => Ok(value),
        Some((index, c)) => Err(source.refuse(format!(
            "has {placeholder}, which is {:?}: {c:?} at byte {index} cannot stand in a tag",
            shortened(value)
        ))),
    }
}

/// What is enough to know a value by.
fn shortened(value: &str) -> String {
    value.chars().take(60).collect()
}
