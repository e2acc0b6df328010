//! Each layer names only itself and what stands below it.

use super::source::{Source, server};
use super::words::words;
use super::{demand_none, found_in};

/// The layers, lowest first.
const LAYERS: [&[&str]; 10] = [
    &["ablation", "config", "limits"],
    &["hub"],
    &["clock", "observe"],
    &["broker", "freshness"],
    &["node"],
    &["dialect", "auth"],
    &["instance"],
    &["api", "transport", "console"],
    &["server"],
    &["cli"],
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top-level modules that a line names after `crate::`.
fn modules_named(line: &str) -> Vec<&str> {
    let mut named = Vec::new();
    for (_, after) in
        line.match_indices("crate::").map(|(index, found)| (index, &line[index + found.len()..]))
    {
        match after.strip_prefix('{') {
            None => named.extend(words(after).next()),
            Some(group) => named.extend(group.split(',').filter_map(|item| words(item).next())),
        }
    }
    named
}

/// The top-level module that a file belongs to; `None` for `main.rs` and `lib.rs`, which name everything.
fn module_of(path: &str) -> Option<&str> {
    let module = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    (!matches!(module, "main" | "lib")).then_some(module)
}

fn upward(files: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        let Some(module) = module_of(&file.path) else { continue };
        let Some(layer) = layer_of(module) else {
            violations.push(format!(
                "{}: the module {module} has no layer: give it one in {}",
                file.path,
                file!()
            ));
            continue;
        };
        for (at, line) in file.lines() {
            let is_above = |name: &&str| *name != module && layer_of(name).is_some_and(|other| other > layer);
            violations.extend(modules_named(line).iter().filter(|name| is_above(name)).map(|name| {
                format!("{at}: {module} names {name}, which stands above it: turn the dependency around")
            }));
        }
    }
    violations
}

#[test]
fn modules_name_only_what_stands_below_them() {
    demand_none("each layer names only what stands below it", upward(&server()));
}

#[test]
fn naming_what_stands_above_is_noticed() {
    for (path, line, count) in [
        ("src/hub/x.rs", "use crate::node::Node;", 1),
        ("src/hub/x.rs", "use crate::{config::Limits, node::Node};", 1),
        ("src/hub/x.rs", "let node = crate::node::Node::new();", 1),
        ("src/hub/x.rs", "use crate::observe::Metrics;", 1),
        ("src/hub/x.rs", "use crate::hub::Batch; use crate::ablation::ablated;", 0),
        ("src/dialect/x.rs", "use crate::transport::Wire;", 1),
        ("src/transport/x.rs", "use crate::{auth::Grant, dialect::native, node::Node};", 0),
        ("src/node.rs", "use crate::broker::Broker;", 0),
        ("src/broker/x.rs", "// crate::node knows", 0),
        ("src/main.rs", "use crate::cli::run;", 0),
        ("src/helpers.rs", "", 1),
    ] {
        assert_eq!(found_in(path, line, upward).len(), count, "{path}: {line}");
    }
}
