//! What is wrong with a configuration, said so that it can be put right: all of it at once, each with its place.
//!
//! A report never repeats a secret: lines that hold one are cut after the `=`.

use std::fmt;

use super::origin::{Origin, SourceFile};
use super::raw::Span;
use super::section::secret_names;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    origin: Origin,
    message: String,
    hint: Option<String>,
    /// The value must not be shown.
    hidden: bool,
}

impl Problem {
    pub(crate) fn new(origin: Origin, message: impl Into<String>) -> Problem {
        Problem { origin, message: message.into(), hint: None, hidden: false }
    }

    /// What to do about it; shown beside the caret.
    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Problem {
        self.hint = hint;
        self
    }

    pub(crate) fn hidden_if(mut self, hidden: bool) -> Problem {
        self.hidden |= hidden;
        self
    }

    fn fmt_plain(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(formatter, ": {hint}"))
    }

    fn fmt_excerpt(&self, formatter: &mut fmt::Formatter<'_>, file: &SourceFile, span: &Span) -> fmt::Result {
        let place = file.place(span.start);
        let excerpt = Excerpt::of(file, span, self.hidden);
        let gutter = " ".repeat(place.line.to_string().len());
        writeln!(formatter, "{}:{}:{}: {}", file.path().display(), place.line, place.column, self.message)?;
        writeln!(formatter, "{gutter} |")?;
        writeln!(formatter, "{} | {}", place.line, excerpt.line)?;
        write!(formatter, "{gutter} | {}{}", " ".repeat(excerpt.indent), "^".repeat(excerpt.carets))?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(formatter, " {hint}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { file, span } => return self.fmt_excerpt(formatter, file, span),
            Origin::Env(name) => write!(formatter, "environment variable {name}: ")?,
            Origin::Flag(name) => write!(formatter, "flag {name}: ")?,
            Origin::Default => {}
        }
        self.fmt_plain(formatter)
    }
}

/// A line as it may be shown, and where the carets go under it, in characters.
struct Excerpt {
    line: String,
    indent: usize,
    carets: usize,
}

impl Excerpt {
    fn of(file: &SourceFile, span: &Span, hidden: bool) -> Excerpt {
        let line_start = file.place(span.start).line_start;
        let line = file.text()[line_start..].lines().next().unwrap_or_default();
        let start = (span.start - line_start).min(line.len());
        let end = (span.end.max(span.start) - line_start).clamp(start, line.len());
        let indent = line[..start].chars().count();
        let carets = line[start..end].chars().count().max(1);
        let visible = |text: &str| text.replace(char::is_control, " ");
        match secret_start(file.text(), line_start, line, hidden.then_some(start)) {
            None => Excerpt { line: visible(line), indent, carets },
            Some(cut) => {
                let shown = format!("{}***", visible(&line[..cut]));
                let indent = indent.min(shown.chars().count() - 3);
                let carets = carets.min(shown.chars().count() - indent);
                Excerpt { line: shown, indent, carets }
            }
        }
    }
}

/// Byte of `line` from which on it may hold a secret: after the `=` of a secret's name or beside the byte `hidden`.
fn secret_start(text: &str, line_start: usize, line: &str, hidden: Option<usize>) -> Option<usize> {
    let before = &text[..line_start];
    let opened = secret_names()
        .filter_map(|name| before.rfind(name))
        .any(|at| ["\"\"\"", "'''"].iter().any(|quotes| before[at..].matches(quotes).count() % 2 == 1));
    if opened {
        return Some(0);
    }
    let after = |at: usize| line[at..].find('=').map(|equals| at + equals);
    let named = secret_names().filter_map(|name| line.find(name)).filter_map(after);
    let beside = hidden.map(|at| line[..at].rfind('=').or_else(|| after(at)).unwrap_or(0));
    let equals = named.chain(beside).min()?;
    Some(if line[equals..].starts_with("= ") { equals + 2 } else { (equals + 1).min(line.len()) })
}

/// Everything that is wrong, in the order in which a reader meets it.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    pub(crate) fn sort(&mut self) {
        self.0.sort_by_key(|problem| problem.origin.reading_order());
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many things are wrong.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(formatter, "{problem}\n")?;
        }
        let plural = if self.len() == 1 { "" } else { "s" };
        write!(formatter, "{} problem{plural} in the configuration", self.len())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn report(text: &str, span: Span, hidden: bool) -> String {
        let file = Arc::new(SourceFile::new("t.toml".into(), text.to_owned()));
        Problem::new(Origin::File { file, span }, "bad").hidden_if(hidden).to_string()
    }

    #[test]
    fn carets_stand_under_the_span_whatever_the_characters() {
        let report = report("x = 1\n\tß = \"é\"", 12..16, false);
        assert_eq!(report, "t.toml:2:6: bad\n  |\n2 |  ß = \"é\"\n  |      ^^^");
    }

    #[test]
    fn a_span_over_several_lines_or_past_the_end_stays_on_its_line() {
        assert_eq!(report("a = [\n1]", 4..8, false), "t.toml:1:5: bad\n  |\n1 | a = [\n  |     ^");
        assert_eq!(report("a = ", 4..4, false), "t.toml:1:5: bad\n  |\n1 | a = \n  |     ^");
    }

    #[test]
    fn no_excerpt_holds_a_secret() {
        let rows = [
            ("hmac_secret = \"canary\"", 14..22, true),
            ("hmac_secret = \"canary", 14..21, false),
            ("auth = { hmac_secret = \"canary\", x = 1 }", 33..34, false),
            ("hmac_secret = \"\"\"\ncanary\n", 18..19, false),
            ("hmac_secert = \"canary\"", 0..11, true),
            ("hash='canary'", 5..13, true),
            ("canary", 0..6, true),
        ];
        for (text, span, hidden) in rows {
            let report = report(text, span, hidden);
            assert!(report.contains("***") && !report.contains("canary"), "{report}");
        }
    }
}
