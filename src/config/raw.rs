//! A value as somebody wrote it, with the bytes of the source that it spans, before anything is known about what it should be.
//!
//! Everything that TOML can say and configuration has no use for (floats, dates) is kept by name only.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Byte range in the source. Values that come from the environment or a flag have no source; their span means nothing.
pub(crate) type Span = Range<usize>;

#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Raw>),
    Table(Vec<Item>),
    /// What it is, where no key could take it.
    Other(&'static str),
}

/// One `key = value` of a table.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) raw: Raw,
}

impl Raw {
    /// A whole file. Errors are all that TOML's grammar finds, each with its place.
    pub(crate) fn parse_file(text: &str) -> Result<Vec<Item>, Vec<toml::de::Error>> {
        match DeTable::parse_recoverable(text) {
            (table, errors) if errors.is_empty() => Ok(items(table.into_inner())),
            (_, errors) => Err(errors),
        }
    }

    /// A single value, or `None` where the text is not TOML: `25s` is not, `"25s"` and `25` are.
    pub(crate) fn parse_value(text: &str) -> Option<Raw> {
        DeValue::parse(text).ok().map(Raw::from)
    }

    pub(crate) fn text(text: impl Into<String>) -> Raw {
        Raw { value: Value::Text(text.into()), span: 0..0 }
    }

    pub(crate) fn list_of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Raw {
        Raw { value: Value::List(texts.map(Raw::text).collect()), span: 0..0 }
    }

    /// The value at the end of a path, as the tables that a file would have around it.
    pub(crate) fn nested(path: &[String], innermost: Raw) -> Vec<Item> {
        let [name, inner @ ..] = path else { return Vec::new() };
        let raw = match inner {
            [] => innermost,
            _ => Raw { value: Value::Table(Raw::nested(inner, innermost)), span: 0..0 },
        };
        vec![Item { name: name.clone(), name_span: 0..0, raw }]
    }

    /// What the value is, for "expected …, saw …"; short scalars are quoted.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Text(text) if text.chars().count() <= 40 => format!("{text:?}"),
            Value::Text(_) => "a long string".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Other(what) => (*what).to_owned(),
        }
    }
}

impl From<Spanned<DeValue<'_>>> for Raw {
    fn from(spanned: Spanned<DeValue<'_>>) -> Raw {
        let span = spanned.span();
        let value = match spanned.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => integer(&number),
            DeValue::Boolean(flag) => Value::Flag(flag),
            DeValue::Array(list) => Value::List(list.into_iter().map(Raw::from).collect()),
            DeValue::Table(table) => Value::Table(items(table)),
            DeValue::Float(_) => Value::Other("a float"),
            DeValue::Datetime(_) => Value::Other("a date or time"),
        };
        Raw { value, span }
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    i64::from_str_radix(number.as_str(), number.radix())
        .map_or(Value::Other("an integer beyond 64 bits"), Value::Integer)
}

fn items(table: DeTable<'_>) -> Vec<Item> {
    table
        .into_iter()
        .map(|(name, value)| Item {
            name_span: name.span(),
            name: name.into_inner().into_owned(),
            raw: Raw::from(value),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_error_of_a_file_is_found() {
        let errors = Raw::parse_file("a = \nb = 1\nc = 'x\n").err().expect("two lines are broken");
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn spans_cover_the_value_and_the_name() {
        let items = Raw::parse_file("a = 'bc'").unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!((items[0].name_span.clone(), items[0].raw.span.clone()), (0..1, 4..8));
    }

    #[test]
    fn values_that_no_key_takes_are_described() {
        for (text, description) in
            [("1.5", "a float"), ("9223372036854775808", "an integer beyond 64 bits"), ("0x10", "16")]
        {
            assert_eq!(Raw::parse_value(text).expect(text).describe(), description);
        }
        assert!(Raw::parse_value("25s").is_none());
    }
}
