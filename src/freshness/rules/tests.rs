use tidings_protocol::decode_mutations;

use super::*;
use crate::config::{Config, FlagValue, Sources};

const RULES: &str = r#"[
    { entity = "ticket", on = ["create", "delete"], tags = ["tickets", "ticket:{key}", "org:{row.org_id}:tickets"] },
    { entity = "ticket", on = ["update"], changed = ["status"], each = "before,after",
      tags = ["ticket:{key}", "tickets:status:{row.status}"] },
    { entity = "user", each = "before", tags = ["{entity}s:{row.team}"] },
]"#;

fn rules(toml: &str) -> Rules {
    let flag = FlagValue { key: "rule", value: toml.to_owned(), name: "--rules" };
    let loaded = Config::load(&Sources { flags: vec![flag], ..Sources::default() });
    Rules::new(loaded.unwrap_or_else(|problems| panic!("{problems}")).config.rules)
}

fn mutation(json: &str) -> Mutation {
    let mut mutations = decode_mutations(json, None).unwrap_or_else(|problem| panic!("{json}: {problem}"));
    mutations.events.remove(0)
}

/// `tag by`, for each tag.
fn explain(toml: &str, json: &str) -> Vec<String> {
    let touched = rules(toml).explain(&mutation(json)).unwrap_or_else(|refused| panic!("{json}: {refused}"));
    touched.into_iter().map(|(tag, by)| format!("{tag} by {by}")).collect()
}

fn refused(toml: &str, json: &str) -> String {
    rules(toml).tags_for(&mutation(json)).expect_err(json).to_string()
}

#[test]
fn a_rule_gives_its_tags_to_the_mutations_that_it_is_for() {
    let created = r#"{"entity":"ticket","key":"42","op":"create","after":{"org_id":7,"status":"open"}}"#;
    assert_eq!(
        explain(RULES, created),
        ["tickets by rule 1", "ticket:42 by rule 1", "org:7:tickets by rule 1"]
    );
    let deleted = r#"{"entity":"ticket","key":"42","op":"delete","before":{"org_id":"acme"}}"#;
    assert_eq!(explain(RULES, deleted)[2], "org:acme:tickets by rule 1");
}

#[test]
fn a_row_that_moves_from_one_list_to_another_touches_both() {
    let moved = r#"{"entity":"ticket","key":"42","op":"update","before":{"status":"open"},"after":{"status":"done"}}"#;
    assert_eq!(
        explain(RULES, moved),
        ["ticket:42 by rule 2", "tickets:status:open by rule 2", "tickets:status:done by rule 2"]
    );
}

#[test]
fn without_a_rule_that_fits_an_entity_and_its_key_are_touched() {
    let update = r#"{"entity":"note","key":"1","op":"update"}"#;
    assert_eq!(explain(RULES, update), ["note:1 by no rule"]);
    for op in ["create", "delete"] {
        let json = format!(r#"{{"entity":"note","key":"1","op":"{op}","tags":["notes","note"]}}"#);
        assert_eq!(explain(RULES, &json), ["note:1 by no rule", "note by no rule", "notes by the mutation"]);
    }
    let unchanged = r#"{"entity":"ticket","key":"42","op":"update","before":{"status":"a","title":"x"},"after":{"status":"a","title":"y"}}"#;
    assert_eq!(explain(RULES, unchanged), ["ticket:42 by no rule"]);
    let nothing_to_render = r#"{"entity":"user","key":"1","op":"create","after":{"team":"a"}}"#;
    assert_eq!(explain(RULES, nothing_to_render), ["user:1 by no rule", "user by no rule"]);
}

#[test]
fn a_field_changes_where_it_is_written_otherwise_or_nobody_knows() {
    let rule = r#"[{ entity = "t", changed = ["n"], tags = ["changed"] }]"#;
    for (rows, is_changed) in [
        (r#""before":{"n":1},"after":{"n":1}"#, false),
        (r#""before":{"n":1},"after":{"n":2}"#, true),
        (r#""before":{"n":1},"after":{}"#, true),
        (r#""before":{"n":null},"after":{}"#, true),
        (r#""before":{"m":1},"after":{"m":2}"#, false),
        (r#""after":{"n":1}"#, true),
        (r#""before":{"n":1}"#, true),
    ] {
        let json = format!(r#"{{"entity":"t","key":"1","op":"update",{rows}}}"#);
        let expected = if is_changed { "changed by rule 1" } else { "t:1 by no rule" };
        assert_eq!(explain(rule, &json), [expected], "{rows}");
    }
    let created = r#"{"entity":"t","key":"1","op":"create","after":{"n":1}}"#;
    assert_eq!(explain(rule, created), ["changed by rule 1"], "only updates have changes");
}

#[test]
fn the_row_is_the_one_that_the_rule_says_or_the_newest() {
    let rows = r#""before":{"v":"old"},"after":{"v":"new"}"#;
    for (each, op, rows, expected) in [
        ("", "update", rows, &["new"][..]),
        ("", "delete", r#""before":{"v":"old"}"#, &["old"]),
        ("", "update", r#""before":{"v":"old"}"#, &["old"]),
        ("each = 'before',", "update", rows, &["old"]),
        ("each = 'after',", "update", rows, &["new"]),
        ("each = 'before,after',", "update", rows, &["old", "new"]),
        ("each = 'before,after',", "create", r#""after":{"v":"new"}"#, &["new"]),
        ("each = 'before,after',", "delete", r#""before":{"v":"old"}"#, &["old"]),
        ("each = 'before,after',", "update", r#""before":{"v":"same"},"after":{"v":"same"}"#, &["same"]),
    ] {
        let rule = format!("[{{ entity = 't', {each} tags = ['{{row.v}}'] }}]");
        let json = format!(r#"{{"entity":"t","key":"1","op":"{op}",{rows}}}"#);
        let expected: Vec<String> = expected.iter().map(|tag| format!("{tag} by rule 1")).collect();
        assert_eq!(explain(&rule, &json), expected, "{each} {op} {rows}");
    }
}

#[test]
fn a_tag_that_cannot_be_made_refuses_the_mutation_and_says_why() {
    let update = |rows: &str| format!(r#"{{"entity":"ticket","key":"42","op":"update",{rows}}}"#);
    for (json, words) in [
        (
            update(r#""after":{"status":"a"}"#),
            ["rule 2 for \"ticket\"", "from `before`, which this update does not say"],
        ),
        (
            update(r#""before":{"status":"a"},"after":{"status":"wait list"}"#),
            ["{row.status}", "\"wait list\": ' ' at byte 4"],
        ),
        (update(r#""before":{"status":"a"},"after":{"status":"*"}"#), ["rule 2", "'*' at byte 0"]),
        (update(r#""before":{"status":"ä"},"after":{"status":"a"}"#), ["rule 2", "'ä' at byte 0"]),
        (update(r#""before":{"status":"a"},"after":{}"#), ["\"status\" from `after`", "has no such field"]),
        (
            update(r#""before":{"status":"a"},"after":{"status":null}"#),
            ["\"status\" from `after`", "which is null there"],
        ),
        (update(r#""before":{"status":"a"},"after":{"status":{}}"#), ["rule 2", "an object"]),
        (
            r#"{"entity":"ticket","key":"42","op":"create"}"#.to_owned(),
            ["org:{row.org_id}:tickets", "from `after`, which this create"],
        ),
        (
            r#"{"entity":"note","key":"a b","op":"update"}"#.to_owned(),
            ["no rule for \"note\"", "{key}, which is \"a b\""],
        ),
        (
            format!(r#"{{"entity":"note","key":"{}","op":"update"}}"#, "k".repeat(256)),
            ["no rule", "at most 256 bytes"],
        ),
    ] {
        let refused = refused(RULES, &json);
        for word in words {
            assert!(refused.contains(word), "{json}: {refused}");
        }
    }
}

#[test]
fn numbers_keep_their_digits_and_texts_lose_their_escapes() {
    let rule = r#"[{ entity = "t", tags = ["v:{row.v}"] }]"#;
    for (value, tag) in [
        ("12345678901234567890123", "v:12345678901234567890123"),
        ("1.50", "v:1.50"),
        ("true", "v:true"),
        ("\"\\u0061:b\"", "v:a:b"),
    ] {
        let json = format!(r#"{{"entity":"t","key":"1","op":"create","after":{{"v":{value}}}}}"#);
        assert_eq!(explain(rule, &json), [format!("{tag} by rule 1")], "{value}");
    }
}
