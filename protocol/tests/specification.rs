//! The specification, executed: its examples are read and written by the crate, its tables list what the crate has,
//! and every rule that code or a test cites is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tidings_protocol::{
    CloseCode, Code, Position, decode_command, decode_frame, encode_command, encode_frame,
};

const SPECIFICATION: &str = include_str!("../README.md");

/// The lines of every fenced block with this info string.
fn examples(info: &str) -> Vec<&'static str> {
    let mut lines = Vec::new();
    let mut fence = None;
    for line in SPECIFICATION.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(opened)) => fence = Some(opened),
            (Some(_), Some(_)) => fence = None,
            (Some(opened), None) if opened == info => lines.push(line),
            _ => {}
        }
    }
    assert!(!lines.is_empty(), "the specification has no ```{info}");
    lines
}

/// The rows of the table under a rule, as cells without code marks.
fn table_of(rule: &str) -> Vec<Vec<&'static str>> {
    let (_, after) = SPECIFICATION.split_once(&format!("\n**{rule}.** ")).expect(rule);
    let rows =
        after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect()
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[test]
fn every_command_in_the_specification_is_one() {
    for text in examples("json client") {
        let (id, command) = decode_command(text).unwrap_or_else(|refused| panic!("{text}: {refused:?}"));
        let written = encode_command(id, &command);
        let (again_id, again) = decode_command(&written).expect(&written);
        assert_eq!(again_id, id, "{text}");
        assert_eq!(format!("{again:?}"), format!("{command:?}"), "{text}");
    }
}

#[test]
fn every_frame_in_the_specification_is_written_as_it_stands_there() {
    for text in examples("json server") {
        let envelope = decode_frame(text).expect(text).expect(text);
        assert_eq!(String::from_utf8(encode_frame(&envelope)).unwrap(), text);
    }
}

#[test]
fn what_the_specification_calls_refused_is() {
    for code in [Code::BadFrame, Code::UnknownCommand] {
        for text in examples(&format!("json refused {code}")) {
            assert_eq!(decode_command(text).expect_err(text).problem.code, code, "{text}");
        }
    }
}

#[test]
fn both_forms_of_a_position_in_the_specification_are_the_same() {
    let object: Position = serde_json::from_str(r#"{"epoch":"7-k3v9q","offset":81239}"#).unwrap();
    assert!(SPECIFICATION.contains(&serde_json::to_string(&object).unwrap()));
    assert!(SPECIFICATION.contains(&format!("\"{object}\"")));
}

#[test]
fn the_table_of_errors_is_the_registry() {
    let expected = Code::ALL.iter().map(|code| {
        vec![
            code.slug().to_owned(),
            code.status().to_string(),
            yes_or_no(code.retryable()).to_owned(),
            code.meaning().to_owned(),
        ]
    });
    assert_eq!(table_of("R30"), expected.collect::<Vec<_>>());
}

#[test]
fn the_table_of_closes_is_the_registry() {
    let expected = CloseCode::ALL.iter().map(|code| {
        vec![code.number().to_string(), code.slug().to_owned(), yes_or_no(code.reconnect()).to_owned()]
    });
    let listed = table_of("R31").into_iter().map(|row| row[..3].to_vec());
    assert_eq!(listed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn rules_are_numbered_without_a_hole() {
    let numbers: Vec<usize> = rules().into_iter().collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}

#[test]
fn every_rule_that_is_cited_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository");
    let rules = rules();
    let mut cited = 0;
    for file in sources(root) {
        let text = fs::read_to_string(&file).expect("sources are UTF-8");
        for number in citations(&text) {
            assert!(rules.contains(&number), "{} cites R{number}, which is not there", file.display());
            cited += 1;
        }
    }
    assert!(cited >= 8, "only {cited} citations were found");
}

#[test]
fn citations_are_found_in_comments_and_only_as_such() {
    assert_eq!(citations("/// Checks it (R1).\n// as R22 demands; R10-R13, R2 …"), [1, 22, 10, 13, 2]);
    assert_eq!(citations("// (R7, R99)"), [7, 99]);
    assert!(citations("let R1 = ATTR7; struct R8; // XR9, R, R1x").is_empty());
}

fn rules() -> BTreeSet<usize> {
    let number = |line: &str| line.strip_prefix("**R")?.split_once(".**")?.0.parse().ok();
    SPECIFICATION.lines().filter_map(number).collect()
}

/// The numbers of the rules cited in the comments of a source text.
fn citations(text: &str) -> Vec<usize> {
    let comments = text.lines().filter_map(|line| Some(line.split_once("//")?.1));
    comments
        .flat_map(|comment| comment.split(|c: char| !c.is_ascii_alphanumeric()))
        .filter_map(|word| word.strip_prefix('R')?.parse().ok())
        .collect()
}

/// The Rust and JavaScript sources below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    const SKIPPED: [&str; 3] = ["target", "node_modules", "dist"];
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("readable").path())
    {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') || (entry.is_dir() && SKIPPED.contains(&name)) {
            continue;
        }
        if entry.is_dir() {
            files.extend(sources(&entry));
        } else if (name.ends_with(".rs") || name.ends_with(".js")) && name != "specification.rs" {
            files.push(entry);
        }
    }
    files
}
