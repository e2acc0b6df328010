//! Rules: whatever a mutation says, what it touches is made of legal tags, or it is refused.

use tidings::config::{Each, Rule, Template};
use tidings::freshness::Rules;
use tidings_protocol::{Operation, Tag, decode_mutations};

/// The first line is a template of the rules, the rest a request's body.
pub(crate) fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, body) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(template) = Template::parse(template) else { return };
    let Ok(mutations) = decode_mutations(body, None) else { return };
    for each in [None, Some(Each::Before), Some(Each::After), Some(Each::Both)] {
        let rule = |entity: &str, changed: &[&str]| Rule {
            entity: entity.to_owned(),
            on: vec![Operation::Create, Operation::Update, Operation::Delete],
            changed: changed.iter().map(|field| (*field).to_owned()).collect(),
            each,
            tags: vec![template.clone()],
        };
        let rules = Rules::new(vec![rule("ticket", &[]), rule("user", &["name"])]);
        for mutation in &mutations.events {
            match rules.tags_for(mutation) {
                Ok(tags) => {
                    assert!(!tags.is_empty(), "a mutation touches something");
                    assert!(tags.iter().all(|tag| Tag::parse(tag.as_str()).is_ok()), "{tags:?}");
                }
                Err(unrendered) => assert!(!unrendered.to_string().is_empty()),
            }
        }
    }
}
