//! `[log]`: how much is logged, and in which form.

use tracing_subscriber::EnvFilter;

use super::kind::{Fault, Form, Kind, Words, quoted, text};
use super::raw::Raw;
use super::section::section;

section! {
    /// The log goes to standard error.
    pub struct LogConfig: Single "log" {
        /// "text" for people, "json" for machines; "auto" is text on a terminal and JSON elsewhere.
        format: LogFormat = "auto";
        /// Least level, or levels by module: "info", "warn,tidings::transport=debug".
        /// What goes wrong with Redis is said by tidings::broker; the library beneath says it in many more words.
        filter: String as LogFilter = "info,fred=error";
    }
}

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// A line that people read.
    Text,
    /// A JSON object per line.
    Json,
}

impl Words for LogFormat {
    const EXPECTED: &'static str = "\"auto\", \"text\" or \"json\"";
    const WORDS: &'static [(&'static str, LogFormat)] =
        &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
}

/// Directives of tracing's filter, known to parse.
pub(crate) struct LogFilter;

impl Kind for LogFilter {
    type Value = String;
    const EXPECTED: &'static str = "a level such as \"info\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<String, Fault> {
        let text = text::<LogFilter>(raw)?;
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(Fault::new(raw, format!("{text:?} is no log filter: {error}"))
                .with_hint("a level: error, warn, info, debug, trace; or module=level, with commas between")),
        }
    }

    fn show(filter: &String) -> Option<String> {
        Some(quoted(filter))
    }
}
