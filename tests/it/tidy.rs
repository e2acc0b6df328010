//! The architecture as absences, checked over the source tree. Each check is also shown a snippet that it must refuse.
//!
//! A failure names the file, the line and what to do. What only looks like a violation belongs into the check's own
//! list of exceptions, with its reason.

mod absences;
mod layers;
mod manifests;
mod sizes;
mod source;
mod words;

use source::Source;

/// Fails with every violation in the tree.
fn demand_none(what: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{what}:\n  {}", violations.join("\n  "));
}

/// The violations that a check finds in one file with this text.
fn found_in(path: &str, text: &str, check: impl Fn(&[Source]) -> Vec<String>) -> Vec<String> {
    check(&[Source::new(path, text)])
}
