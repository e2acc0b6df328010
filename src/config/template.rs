//! Tags with placeholders: `org:{row.org_id}:tickets`.
//!
//! What a template renders to is not said here, but that it can render to a tag.

use tidings_protocol::Tag;

use super::kind::{Fault, Form, Kind, quoted, text};
use super::raw::Raw;

/// A tag with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself.
    Text(String),
    /// `{entity}`
    Entity,
    /// `{key}`
    Key,
    /// `{row.field}`, with the name of the field.
    Field(String),
}

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a `{` is not closed")?;
            parts.extend(literal(before)?);
            parts.push(placeholder(name)?);
            rest = after;
        }
        parts.extend(literal(rest)?);
        let template = Template { text: text.to_owned(), parts };
        // A letter is the most harmless thing that a value can be.
        match Tag::parse(&template.filled_with("x")) {
            Ok(_) => Ok(template),
            Err(invalid) => Err(format!("it can be no tag: {invalid}")),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether it takes anything from a row.
    pub fn names_a_row(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(_)))
    }

    fn filled_with(&self, value: &str) -> String {
        let filled = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Entity | Part::Key | Part::Field(_) => value,
        });
        filled.collect()
    }
}

fn literal(text: &str) -> Result<Option<Part>, String> {
    match text.contains('}') {
        true => Err("a `}` stands without its `{`".to_owned()),
        false => Ok((!text.is_empty()).then(|| Part::Text(text.to_owned()))),
    }
}

fn placeholder(name: &str) -> Result<Part, String> {
    match (name, name.strip_prefix("row.")) {
        ("entity", _) => Ok(Part::Entity),
        ("key", _) => Ok(Part::Key),
        (_, Some(field)) if !field.is_empty() && !field.contains('{') => Ok(Part::Field(field.to_owned())),
        _ => Err(format!("unknown placeholder {{{name}}}: there are {{entity}}, {{key}} and {{row.FIELD}}")),
    }
}

impl Kind for Template {
    type Value = Template;
    const EXPECTED: &'static str = "a tag, with {entity}, {key} and {row.FIELD} where values stand";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<Template, Fault> {
        let text = text::<Template>(raw)?;
        Template::parse(text).map_err(|why| Fault::new(raw, format!("{text:?}: {why}")))
    }

    fn show(template: &Template) -> Option<String> {
        Some(quoted(&template.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_placeholders() {
        let template = Template::parse("org:{row.org_id}:{entity}s:{key}:*").unwrap();
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            template.parts(),
            [
                text("org:"),
                Part::Field("org_id".to_owned()),
                text(":"),
                Part::Entity,
                text("s:"),
                Part::Key,
                text(":*")
            ]
        );
        assert!(template.names_a_row() && !Template::parse("{entity}").unwrap().names_a_row());
    }

    #[test]
    fn what_can_never_be_a_tag_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "at least one character"),
            ("a b", "' ' at byte 1"),
            ("{key}*", "'*' at byte 1"),
            ("a:*:{key}", "'*' at byte 2"),
            ("a:{row}", "unknown placeholder {row}"),
            ("a:{row.}", "unknown placeholder {row.}"),
            ("a:{id}", "unknown placeholder {id}"),
            ("a:{key", "not closed"),
            ("a:key}", "without its `{`"),
            ("a:{{key}}", "unknown placeholder {{key}"),
            (&"a:".repeat(16), "at most 16 segments"),
        ] {
            let refused = Template::parse(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
