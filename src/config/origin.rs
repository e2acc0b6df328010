//! Where a value came from: the defaults, a place in a file, the environment or a flag.
//!
//! What is wrong with a value is said by `Problem`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::raw::Span;

/// The source of a value.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A place in a file.
    File {
        /// The file, as it was read.
        file: Arc<SourceFile>,
        /// The bytes of its text.
        span: Range<usize>,
    },
    /// An environment variable, by its name.
    Env(String),
    /// A flag of the command line, by its name with dashes.
    Flag(String),
}

impl Origin {
    /// The higher wins: default, file, environment, flag.
    pub(crate) fn layer(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Env(_) => 2,
            Origin::Flag(_) => 3,
        }
    }

    /// The same source, at another place of it.
    pub(crate) fn at(&self, span: Span) -> Origin {
        match self {
            Origin::File { file, .. } => Origin::File { file: file.clone(), span },
            Origin::Default | Origin::Env(_) | Origin::Flag(_) => self.clone(),
        }
    }

    /// Orders problems as a reader meets their causes: by layer, then by place in the file.
    pub(crate) fn reading_order(&self) -> (u8, usize) {
        match self {
            Origin::File { span, .. } => (self.layer(), span.start),
            Origin::Default | Origin::Env(_) | Origin::Flag(_) => (self.layer(), 0),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { file, span } => {
                write!(formatter, "{}:{}", file.path.display(), file.place(span.start).line)
            }
            Origin::Env(name) => write!(formatter, "env {name}"),
            Origin::Flag(name) => write!(formatter, "flag {name}"),
        }
    }
}

/// A configuration file that was read. Its `Debug` shows the path alone, since the text may hold secrets.
pub struct SourceFile {
    path: PathBuf,
    text: String,
}

/// A byte's place in a file; line and column count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilePlace {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Byte at which the line starts.
    pub(crate) line_start: usize,
}

impl SourceFile {
    pub(crate) fn new(path: PathBuf, text: String) -> SourceFile {
        SourceFile { path, text }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Place of the byte at `offset`; beyond the end it is the end's.
    pub(crate) fn place(&self, offset: usize) -> FilePlace {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FilePlace {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            line_start,
        }
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SourceFile({})", self.path.display())
    }
}

/// The origin of every value of a `Config`, by the value's full name: `server.listen`, `api_key[0].name`.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    pub(crate) fn insert(&mut self, name: String, origin: Origin) {
        self.0.insert(name, origin);
    }

    /// Origin of the value called `name`; `Default` for what nobody set.
    pub fn of(&self, name: &str) -> Origin {
        self.0.get(name).cloned().unwrap_or(Origin::Default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let file = SourceFile::new("t.toml".into(), "a\nßb = 1\n".to_owned());
        assert_eq!(file.place(0), FilePlace { line: 1, column: 1, line_start: 0 });
        assert_eq!(file.place(4), FilePlace { line: 2, column: 2, line_start: 2 });
        assert_eq!(file.place(10), FilePlace { line: 3, column: 1, line_start: 10 });
    }
}
