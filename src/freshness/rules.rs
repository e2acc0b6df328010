//! Rules: which tags a mutation touches.
//!
//! Every rule that fits the mutation adds its tags, and so does the mutation itself; where no rule gives any, what it touches is
//! `{entity}:{key}`, and on create and delete `{entity}`. A tag that cannot be made refuses the mutation: a tag left out would
//! leave a value stale.
//!
//! A rule is about rows as follows. It is rendered once for each row that it looks at and that is there; of a tag that takes
//! something from a row, each row that the operation has must be there, and hold the field. A tag that takes nothing from a row is rendered
//! once.

mod render;

pub use render::Unrendered;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidings_protocol::{Mutation, Operation, Row, Tag};

use crate::config::{Each, Rule, Template};
use render::{Source, render};

/// All rules, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Indices into `rules`.
    by_entity: BTreeMap<String, Vec<usize>>,
}

/// What made a mutation touch a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The rule of this index.
    Rule(usize),
    /// No rule gave any.
    Default,
    /// The mutation names it.
    Mutation,
}

/// Rules are counted from 1, as people do.
impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Rule(index) => write!(f, "rule {}", index + 1),
            By::Default => f.write_str("no rule"),
            By::Mutation => f.write_str("the mutation"),
        }
    }
}

impl Rules {
    /// Rules in this order.
    pub fn new(rules: Vec<Rule>) -> Rules {
        let mut by_entity: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            by_entity.entry(rule.entity.clone()).or_default().push(index);
        }
        Rules { rules, by_entity }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What the mutation touches: at least one tag, each once.
    pub fn tags_for(&self, mutation: &Mutation) -> Result<Vec<Tag>, Unrendered> {
        Ok(self.explain(mutation)?.into_iter().map(|(tag, _)| tag).collect())
    }

    /// What the mutation touches, each tag once, with what gave it first.
    pub fn explain(&self, mutation: &Mutation) -> Result<Vec<(Tag, By)>, Unrendered> {
        let mut touched = Touched::default();
        let of_entity = self.by_entity.get(&mutation.entity).into_iter().flatten();
        for index in of_entity.copied().filter(|index| fits(&self.rules[*index], mutation)) {
            add_tags(&self.rules[index], By::Rule(index), mutation, &mut touched)?;
        }
        if touched.tags.is_empty() {
            add_default(mutation, &mut touched)?;
        }
        mutation.tags.iter().for_each(|tag| touched.add(tag.clone(), By::Mutation));
        Ok(touched.tags)
    }
}

/// Whether the rule has anything to say of the mutation. Where a row is missing nobody knows what changed, so that everything
/// may have.
fn fits(rule: &Rule, mutation: &Mutation) -> bool {
    let is_touched = match (mutation.op, &mutation.before, &mutation.after) {
        (Operation::Update, Some(before), Some(after)) if !rule.changed.is_empty() => {
            rule.changed.iter().any(|field| differs(before, after, field))
        }
        _ => true,
    };
    rule.on.contains(&mutation.op) && is_touched
}

/// Values that are written alike are alike; others may be and count as changed, which is one read too many at worst.
fn differs(before: &Row, after: &Row, field: &str) -> bool {
    let text = |row: &Row| row.get(field).map(|value| value.get().to_owned());
    text(before) != text(after)
}

/// What is touched so far, each tag once.
#[derive(Default)]
struct Touched {
    tags: Vec<(Tag, By)>,
    seen: BTreeSet<Tag>,
}

impl Touched {
    fn add(&mut self, tag: Tag, by: By) {
        if self.seen.insert(tag.clone()) {
            self.tags.push((tag, by));
        }
    }
}

fn add_default(mutation: &Mutation, touched: &mut Touched) -> Result<(), Unrendered> {
    let whole = match mutation.op {
        Operation::Create | Operation::Delete => Some("{entity}"),
        Operation::Update => None,
    };
    for text in ["{entity}:{key}"].into_iter().chain(whole) {
        let template = Template::parse(text).expect("placeholders and a colon make a template");
        let source = Source { by: By::Default, template: &template, mutation };
        touched.add(render(source, None)?, By::Default);
    }
    Ok(())
}

fn add_tags(rule: &Rule, by: By, mutation: &Mutation, touched: &mut Touched) -> Result<(), Unrendered> {
    for template in &rule.tags {
        let source = Source { by, template, mutation };
        if !template.names_a_row() {
            touched.add(render(source, None)?, by);
            continue;
        }
        for (name, row) in rows(rule.each, mutation) {
            let row = row.ok_or_else(|| source.lacks_row(name))?;
            touched.add(render(source, Some((name, row)))?, by);
        }
    }
    Ok(())
}

/// The rows to look at, by name; `None` for one that the operation has and the mutation does not say.
fn rows(each: Option<Each>, mutation: &Mutation) -> Vec<(&'static str, Option<&Row>)> {
    let Mutation { op, before, after, .. } = mutation;
    let before = ("before", before.as_ref(), *op != Operation::Create);
    let after = ("after", after.as_ref(), *op != Operation::Delete);
    let looked_at = match each {
        Some(Each::Before) => vec![before],
        Some(Each::After) => vec![after],
        Some(Each::Both) => vec![before, after],
        // The row as it is; of what is no more, as it was.
        None if after.1.is_some() || after.2 && before.1.is_none() => vec![after],
        None => vec![before],
    };
    let said = looked_at.into_iter().filter(|(_, row, is_needed)| row.is_some() || *is_needed);
    said.map(|(name, row, _)| (name, row)).collect()
}

#[cfg(test)]
mod tests;
