//! What configuration is made from, and how text outside of files becomes raw values.
//!
//! The process's own environment and arguments are not read here: they come in as values.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use super::kind::Form;
use super::layer::{Layer, Walk};
use super::origin::{Origin, SourceFile};
use super::problem::{Problem, Problems};
use super::raw::{Raw, Value};
use super::raw_config::RawConfig;
use super::section::{Section, Spelling};

/// Names of environment variables that configure the server start so: `TIDINGS__SERVER__LISTEN`.
pub const ENV_PREFIX: &str = "TIDINGS__";

/// Everything that says something about the configuration; later fields win over earlier ones.
#[derive(Clone, Default)]
pub struct Sources {
    /// A file in TOML.
    pub file: Option<PathBuf>,
    /// Names and values of environment variables; those without `ENV_PREFIX` are passed over. What is not UTF-8 in them comes
    /// as U+FFFD (`to_string_lossy`) and is reported.
    pub env: Vec<(String, String)>,
    /// Flags of the command line.
    pub flags: Vec<FlagValue>,
    /// Dev mode has defaults of its own.
    pub dev: bool,
}

/// A flag that stands for a key: `--listen` for `server.listen`.
#[derive(Clone)]
pub struct FlagValue {
    /// The key's full name.
    pub key: &'static str,
    /// Read as the environment's values are.
    pub value: String,
    /// The flag's name with dashes, for reports.
    pub name: &'static str,
}

impl RawConfig {
    /// All layers, the higher over the lower.
    pub(crate) fn gather(sources: &Sources, problems: &mut Problems) -> RawConfig {
        let mut raw = RawConfig::default();
        if let Some(path) = &sources.file {
            raw.add_file(path, problems);
        }
        for (name, value) in &sources.env {
            let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
            if value.contains(char::REPLACEMENT_CHARACTER) {
                problems.push(Problem::new(Origin::Env(name.clone()), "the value is not UTF-8 text"));
            }
            raw.add_text(path.split("__"), value, &Layer::Env(name.clone()), problems);
        }
        for flag in &sources.flags {
            raw.add_text(flag.key.split('.'), &flag.value, &Layer::Flag(flag.name.to_owned()), problems);
        }
        raw
    }

    fn add_file(&mut self, path: &Path, problems: &mut Problems) {
        let text = match files::read_config(path) {
            Ok(text) => text,
            Err(message) => return problems.push(Problem::new(Origin::Default, message)),
        };
        let items = Raw::parse_file(&text);
        let file = Arc::new(SourceFile::new(path.to_owned(), text));
        match items {
            Ok(items) => {
                let layer = Layer::File(file);
                Walk { layer: &layer, raw: self, problems }.sections(items);
            }
            Err(errors) => {
                for error in errors {
                    let origin = Origin::File { file: file.clone(), span: error.span().unwrap_or(0..0) };
                    problems.push(Problem::new(origin, error.message()));
                }
            }
        }
    }

    fn add_text<'a>(
        &mut self,
        path: impl Iterator<Item = &'a str>,
        text: &str,
        layer: &Layer,
        problems: &mut Problems,
    ) {
        let mut path: Vec<String> = path.map(str::to_lowercase).collect();
        if let [section, name, ..] = path.as_mut_slice()
            && let Some(section) = Section::of_many(section, name)
        {
            *name = self.known_spelling(section, name);
        }
        let items = Raw::nested(&path, raw_from_text(form_of(&path), text));
        Walk { layer, raw: self, problems }.sections(items);
    }
}

/// How text at this path is read; TOML for whole sections and for what does not exist.
fn form_of(path: &[String]) -> Form {
    match Section::key_at(path) {
        Some((key, Spelling::Value)) => key.form,
        Some((_, Spelling::InFile)) => Form::Text,
        None => Form::Toml,
    }
}

fn raw_from_text(form: Form, text: &str) -> Raw {
    let parsed = Raw::parse_value(text);
    let fits = |raw: &Raw| match form {
        Form::Toml => true,
        Form::Text => matches!(raw.value, Value::Text(_)),
        Form::List => matches!(raw.value, Value::List(_)),
    };
    parsed.filter(fits).unwrap_or_else(|| match form {
        Form::Toml | Form::Text => Raw::text(text),
        Form::List => {
            Raw::list_of_texts(text.split(',').map(str::trim).filter(|element| !element.is_empty()))
        }
    })
}
