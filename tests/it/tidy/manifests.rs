//! What the manifests promise: the protocol stays small (I1), no unsafe code, no lock across an await (I6).

use std::fs;

use toml::Table;

use super::demand_none;
use super::source::root;

/// What the protocol may depend on: nothing that runs, listens or waits.
const PROTOCOL_MAY: [&str; 5] = ["serde", "serde_json", "rmp-serde", "bytes", "base64"];

fn manifest(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn table(text: &str) -> Table {
    text.parse().expect("manifests are TOML")
}

fn protocol_dependencies(manifest: &str) -> Vec<String> {
    let manifest = table(manifest);
    let keys =
        manifest.get("dependencies").and_then(|table| table.as_table()).into_iter().flat_map(Table::keys);
    keys.filter(|name| !PROTOCOL_MAY.contains(&name.as_str()))
        .map(|name| format!("protocol/Cargo.toml depends on {name}: the protocol has no runtime and no I/O"))
        .collect()
}

fn lints(workspace: &str) -> Vec<String> {
    let workspace = table(workspace);
    let level = |group: &str, lint: &str| {
        let lints = workspace.get("workspace")?.get("lints")?.get(group)?;
        lints.get(lint)?.as_str().map(str::to_owned)
    };
    [("rust", "unsafe_code", "forbid"), ("clippy", "await_holding_lock", "deny")]
        .into_iter()
        .filter(|(group, lint, wanted)| level(group, lint).as_deref() != Some(wanted))
        .map(|(group, lint, wanted)| format!("[workspace.lints.{group}] lacks {lint} = {wanted:?}"))
        .collect()
}

fn members(workspace: &str) -> Vec<String> {
    let workspace = table(workspace);
    let members = workspace["workspace"]["members"].as_array().expect("the workspace has members");
    members.iter().filter_map(|member| member.as_str()).map(|member| format!("{member}/Cargo.toml")).collect()
}

fn inherits_lints(manifest: &str) -> bool {
    let manifest = table(manifest);
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    inherits.and_then(|inherits| inherits.as_bool()) == Some(true)
}

#[test]
fn the_protocol_depends_on_no_runtime() {
    demand_none("the protocol stays small", protocol_dependencies(&manifest("protocol/Cargo.toml")));
    assert_eq!(protocol_dependencies("[dependencies]\nserde = \"1\"\ntokio = \"1\"").len(), 1);
}

#[test]
fn unsafe_code_is_forbidden_and_no_lock_lives_across_an_await() {
    let workspace = manifest("Cargo.toml");
    demand_none("the workspace's lints", lints(&workspace));
    let members = members(&workspace);
    assert!(members.len() >= 3, "{members:?}");
    for member in members {
        assert!(inherits_lints(&manifest(&member)), "{member} needs [lints] workspace = true");
    }
    assert_eq!(lints("[workspace.lints.rust]\nunsafe_code = \"deny\"").len(), 2);
    assert!(!inherits_lints("[lints.rust]\nunsafe_code = \"forbid\""));
    assert!(!inherits_lints("[package]\nname = \"x\""));
}
