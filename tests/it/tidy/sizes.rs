//! Files and functions that can be read, and texts that speak of the project alone.

use std::fs;

use super::source::{Source, root, tree};
use super::{demand_none, found_in};

/// A longer file holds two nouns. Test modules do not count.
const FILE_LINES_MAX: usize = 400;

/// A longer function is two.
const FUNCTION_LINES_MAX: usize = 60;

/// Functions that may be longer, with the reason.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

fn is_measured(file: &Source) -> bool {
    let is_code = file.path.ends_with(".rs") || file.path.ends_with(".js");
    is_code && !file.is_test() && !file.is_in("protocol/vectors")
}

fn long_files(files: &[Source]) -> Vec<String> {
    let lines = |file: &Source| file.code.trim_end().lines().count();
    let long = files.iter().filter(|file| is_measured(file) && lines(file) > FILE_LINES_MAX);
    long.map(|file| {
        format!(
            "{} has {} lines, {FILE_LINES_MAX} are the most: find its second noun",
            file.path,
            lines(file)
        )
    })
    .collect()
}

/// The name of the function that begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let rest = line.trim_start();
    let after_keyword = ["fn ", "function ", "function* "].into_iter().find_map(|keyword| {
        let (before, after) = rest.split_once(keyword)?;
        before.split(' ').all(|word| word.is_empty() || is_modifier(word)).then_some(after)
    });
    // A method of a JavaScript class has no keyword.
    let method = || {
        let rest = rest.strip_prefix("async ").unwrap_or(rest);
        let (name, _) = rest.strip_suffix(") {")?.split_once('(')?;
        let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '#' || c == '_');
        (is_name && !matches!(name, "" | "if" | "for" | "while" | "switch" | "catch")).then_some(name)
    };
    let name = after_keyword.or_else(method)?;
    name.split(['(', '<']).next()
}

fn is_modifier(word: &str) -> bool {
    matches!(word, "async" | "const" | "unsafe" | "extern" | "export" | "default") || word.starts_with("pub")
}

fn long_functions(files: &[Source]) -> Vec<String> {
    files.iter().filter(|file| is_measured(file)).flat_map(long_functions_of).collect()
}

/// Formatted code closes a function at its own indentation.
fn long_functions_of(file: &Source) -> Vec<String> {
    let lines: Vec<&str> = file.code.lines().collect();
    let mut long = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let closing = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let length = lines[index..].iter().position(|line| *line == closing).map_or(1, |end| end + 1);
        // A declaration without a body would run on to the end of what holds it.
        let next = lines[index + 1..].iter().position(|other| {
            function_name(other).is_some()
                && !other.starts_with(&format!("{} ", closing.trim_end_matches('}')))
        });
        let is_declaration = next.is_some_and(|next| next + 1 < length);
        let is_allowed =
            LONG_FUNCTIONS.iter().any(|(path, function, _)| *path == file.path && *function == name);
        if length > FUNCTION_LINES_MAX && !is_declaration && !is_allowed {
            long.push(format!(
                "{}:{} {name} has {length} lines, {FUNCTION_LINES_MAX} are the most: it is two functions",
                file.path,
                index + 1
            ));
        }
    }
    long
}

/// Paths of one machine, and hosts that packages came from. In pieces, so that this file does not hold them.
const FOREIGN: [&str; 6] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("registry.", "npmjs"),
    concat!("registry.", "yarnpkg"),
    concat!("index.", "crates.io"),
];

fn foreign(files: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            let said = FOREIGN.iter().find(|word| line.contains(**word));
            violations.extend(said.map(|word| format!("{}:{} says {word}", file.path, index + 1)));
        }
    }
    violations
}

/// The names in the table of limits that `README.md` does not have.
fn undocumented(limits: &str, readme: &str) -> Vec<String> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let names = limits.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(": ")?;
        (is_name(name) && rest.contains(" = ")).then_some(name)
    });
    let missing = names
        .filter(|name| !readme.contains(&format!("`{name}`")) && !readme.contains(&format!("limits.{name}")));
    missing.map(|name| format!("README.md does not name the limit `{name}`")).collect()
}

#[test]
fn no_file_is_too_long_to_read() {
    demand_none("files have one noun", long_files(&tree()));
    let long = "fn f();\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(found_in("src/x.rs", &long, long_files).len(), 1);
    assert_eq!(found_in("protocol/js/x.js", &long, long_files).len(), 1);
    assert!(found_in("protocol/js/test/x.js", &long, long_files).is_empty());
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert!(found_in("src/x.rs", &tested, long_files).is_empty());
}

#[test]
fn no_function_is_too_long_to_read() {
    demand_none("functions do one thing", long_functions(&tree()));
    let body = "        call();\n".repeat(FUNCTION_LINES_MAX);
    for (path, text, count) in [
        ("src/x.rs", format!("impl X {{\n    pub(crate) async fn f(\n{body}    }}\n}}\n"), 1),
        ("src/x.rs", format!("trait X {{\n    fn f();\n    fn g();\n{body}}}\n"), 0),
        ("protocol/js/x.js", format!("export async function f() {{\n{body}}}\n"), 1),
        ("protocol/js/x.js", format!("class X {{\n  #f(a) {{\n{body}  }}\n}}\n"), 1),
        ("src/x.rs", format!("fn f() {{\n    call();\n}}\nconst X: &str = \"\n{body}\";\n"), 0),
    ] {
        assert_eq!(found_in(path, &text, long_functions).len(), count, "{text}");
    }
}

#[test]
fn texts_speak_of_the_project_alone() {
    demand_none("no path of a machine and no host of packages", foreign(&tree()));
    for word in FOREIGN {
        assert_eq!(found_in("README.md", &format!("see https://{word}x"), foreign).len(), 1, "{word}");
    }
}

#[test]
fn every_limit_is_documented() {
    let read =
        |path: &str| fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    demand_none("every limit is documented", undocumented(&read("src/config/limits.rs"), &read("README.md")));
}

#[test]
fn an_undocumented_limit_is_noticed() {
    let limits = "        /// Bytes.\n        mailbox_bytes: usize as Size = \"256KiB\" in 1 to \"64MiB\";\n    pub name: &'static str,\n";
    assert_eq!(undocumented(limits, "nothing").len(), 1);
    assert!(undocumented(limits, "| `mailbox_bytes` | 256KiB |").is_empty());
}
