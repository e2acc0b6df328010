//! Source files as the checks see them: with and without comments, strings and test modules.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 4] = ["target", "node_modules", "dist", ".git"];

/// One text file of the repository.
pub(super) struct Source {
    /// Its path below the repository, with `/`.
    pub(super) path: String,
    /// Its text as it stands.
    pub(super) text: String,
    /// Its code, line by line: comments, strings and test modules are blank. The text itself, where it is not Rust.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        let code = match path.ends_with(".rs") {
            true => without_test_modules(&without_comments_and_strings(text)),
            false => text.to_owned(),
        };
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Whether it lies in this folder, or is this file.
    pub(super) fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it only tests.
    pub(super) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "test" | "tests.rs"))
    }

    /// The lines of code, numbered from 1, as `path:line`.
    pub(super) fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (format!("{}:{}", self.path, index + 1), line))
    }
}

/// The repository's root.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository.
pub(super) fn tree() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    let read = |path: PathBuf| {
        let name =
            path.strip_prefix(root()).expect("it lies in the root").to_string_lossy().replace('\\', "/");
        // What is not UTF-8 is no text.
        fs::read_to_string(&path).ok().map(|text| Source::new(&name, &text))
    };
    let files: Vec<Source> = paths.into_iter().filter_map(read).collect();
    assert!(files.len() > 20, "only {} files were found", files.len());
    files
}

/// Every Rust file below `src`.
pub(super) fn server() -> Vec<Source> {
    tree().into_iter().filter(|source| source.is_in("src") && source.path.ends_with(".rs")).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A link may lead anywhere, back up included.
        if SKIPPED.contains(&name) || path.is_symlink() {
            continue;
        }
        match path.is_dir() {
            true => walk(&path, paths),
            false => paths.push(path),
        }
    }
}

/// Blanks out comments and the insides of strings and characters; lines stay where they are.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = blank_length(rest, code.chars().next_back());
        match length {
            0 => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
            _ => {
                code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
        }
    }
    code
}

/// The bytes of the comment, string or character that `text` begins with; 0 where it begins with code.
fn blank_length(text: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if text.starts_with('"') {
        return quoted_length(text, '"').unwrap_or(text.len());
    }
    if !in_word && (text.starts_with('r') || text.starts_with("br")) {
        return raw_length(text).unwrap_or(0);
    }
    // A lifetime has no closing quote where a character has one.
    let is_character = text.starts_with("'\\") || text.chars().nth(2) == Some('\'');
    if text.starts_with('\'') && is_character { quoted_length(text, '\'').unwrap_or(0) } else { 0 }
}

fn quoted_length(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}

fn raw_length(text: &str) -> Option<usize> {
    let after = text.trim_start_matches('b').strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let opening = text.len() - inside.len();
    Some(inside.find(&closing).map_or(text.len(), |end| opening + end + closing.len()))
}

/// Blanks out `#[cfg(test)] mod …`; formatted code closes a module at its own indentation.
fn without_test_modules(code: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = code.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let opens =
            lines.peek().is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        kept.push(line);
        if line.trim() != "#[cfg(test)]" || !opens {
            continue;
        }
        let closing = format!("{indent}}}");
        for inside in lines.by_ref() {
            kept.push("");
            if inside == closing {
                break;
            }
        }
    }
    kept.join("\n")
}

#[test]
fn comments_strings_and_test_modules_are_no_code() {
    let text = r##"use a; // async
/* async
*/ let s = "async \" async"; let r = r#"async"#; let b = b"async"; let c = '"'; let l: &'static str;
#[cfg(test)]
mod tests {
    fn f() { async }
}
fn after() {}
"##;
    let source = Source::new("src/x.rs", text);
    assert!(!source.code.contains("async"), "{}", source.code);
    for kept in ["use a;", "let s =", "let l: &'static str;", "fn after() {}"] {
        assert!(source.code.contains(kept), "{kept} in {}", source.code);
    }
    assert_eq!(source.code.lines().count(), text.lines().count());
    let line = source.lines().find(|(_, line)| line.contains("after")).expect("it is code").0;
    assert_eq!(line, "src/x.rs:8");
}
