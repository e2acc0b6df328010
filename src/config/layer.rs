//! One layer of configuration: a file, an environment variable or a flag, walked into a `RawConfig`.
//!
//! The walk knows which sections and keys exist; it does not judge values.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use super::origin::{Origin, SourceFile};
use super::problem::{Problem, Problems};
use super::raw::{Item, Raw, Span, Value};
use super::raw_config::{Entry, Instance, Place, RawConfig};
use super::section::{Key, SECTIONS, Section, Shape, Spelling};
use super::suggest;

pub(crate) enum Layer {
    File(Arc<SourceFile>),
    Env(String),
    Flag(String),
}

impl Layer {
    fn origin(&self, span: Span) -> Origin {
        match self {
            Layer::File(file) => Origin::File { file: file.clone(), span },
            Layer::Env(name) => Origin::Env(name.clone()),
            Layer::Flag(name) => Origin::Flag(name.clone()),
        }
    }

    /// How somebody who writes this layer names a key.
    fn spelled(&self, place: &Place, key: &str) -> String {
        match (self, &place.instance) {
            (Layer::Env(_), Instance::Single) => {
                format!("TIDINGS__{}__{key}", place.section.replace('.', "__")).to_uppercase()
            }
            (Layer::Env(_), Instance::Named(name)) => {
                format!("TIDINGS__{}__{name}__{key}", place.section).to_uppercase()
            }
            _ => key.to_owned(),
        }
    }

    /// What a relative path in this layer is relative to.
    fn folder(&self) -> PathBuf {
        let Layer::File(file) = self else { return PathBuf::new() };
        file.path().parent().map(Path::to_owned).unwrap_or_default()
    }
}

pub(crate) struct Walk<'a> {
    pub(crate) layer: &'a Layer,
    pub(crate) raw: &'a mut RawConfig,
    pub(crate) problems: &'a mut Problems,
}

impl Walk<'_> {
    pub(crate) fn sections(&mut self, items: Vec<Item>) {
        for item in items {
            match Section::of(&item.name) {
                Some(section) => self.section(section, item.raw),
                None => self.unknown_section(&item),
            }
        }
    }

    fn section(&mut self, section: &'static Section, raw: Raw) {
        match (section.shape, raw.value) {
            (Shape::Single, Value::Table(items)) => self.single(section, raw.span, items),
            (Shape::Named(_), Value::Table(items)) => {
                items.into_iter().for_each(|item| self.named(section, item));
            }
            (Shape::List, Value::List(list)) => {
                self.raw.clear_list(section);
                for (index, raw) in list.into_iter().enumerate() {
                    self.nth(section, index, raw);
                }
            }
            (Shape::Single | Shape::Named(_) | Shape::List, _) => self.not_a_table(section, raw.span),
        }
    }

    /// Keys, and tables of the section by the same name of which there are many.
    fn single(&mut self, section: &'static Section, span: Span, items: Vec<Item>) {
        let mut keys = Vec::with_capacity(items.len());
        for item in items {
            if let (Some(below), Value::Table(_) | Value::List(_)) =
                (section.below(&item.name), &item.raw.value)
            {
                self.section(below, item.raw);
                continue;
            }
            match (Section::of_many(section.name, &item.name), &item.raw.value) {
                (Some(many), Value::Table(_)) => self.named(many, item),
                _ => keys.push(item),
            }
        }
        self.keys(section, Place::single(section), span, keys);
    }

    fn named(&mut self, section: &'static Section, item: Item) {
        if let Shape::Named(names) = section.shape
            && !names.allow(&item.name)
        {
            let message = format!("{:?} is no {} name", item.name, section.name);
            let origin = self.layer.origin(item.name_span);
            let hint = Some(names.hint().to_owned());
            return self.problems.push(Problem::new(origin, message).with_hint(hint));
        }
        match item.raw.value {
            Value::Table(items) => self.keys(section, Place::named(section, item.name), item.raw.span, items),
            _ => self.not_a_table(section, item.name_span),
        }
    }

    fn nth(&mut self, section: &'static Section, index: usize, raw: Raw) {
        match raw.value {
            Value::Table(items) => self.keys(section, Place::nth(section, index), raw.span, items),
            _ => self.not_a_table(section, raw.span),
        }
    }

    fn keys(&mut self, section: &'static Section, place: Place, span: Span, items: Vec<Item>) {
        self.raw.table_mut(place.clone(), self.layer.origin(span));
        for item in items {
            match section.key(&item.name) {
                Some((key, Spelling::Value)) => self.set(key, &place, &item.name_span, item.raw),
                Some((key, Spelling::InFile)) => {
                    if let Some(raw) = self.secret_in_file(&item.name, item.raw) {
                        self.set(key, &place, &item.name_span, raw);
                    }
                }
                None => self.unknown_key(section, &place, &item),
            }
        }
    }

    fn set(&mut self, key: &'static Key, place: &Place, name_span: &Span, raw: Raw) {
        let origin = self.layer.origin(raw.span.clone());
        let table = self.raw.table_mut(place.clone(), origin.clone());
        if !table.set(key.name, Entry { raw, origin }) {
            let message = match key.secret {
                true => format!("both `{0}` and `{0}_file` are set: keep one", key.name),
                false => format!("`{}` is set twice: keep one", key.name),
            };
            let origin = self.layer.origin(name_span.clone());
            self.problems.push(Problem::new(origin, message).hidden_if(key.sensitive));
        }
    }

    /// The content of the file that `raw` names, without the newline at its end.
    fn secret_in_file(&mut self, name: &str, raw: Raw) -> Option<Raw> {
        let problem = match &raw.value {
            Value::Text(path) => {
                let path = self.layer.folder().join(path);
                let secret = files::read_secret(&path);
                self.raw.files.push(path);
                match secret {
                    Ok(secret) => return Some(Raw { value: Value::Text(secret), span: raw.span }),
                    Err(message) => format!("{name}: {message}"),
                }
            }
            _ => format!("{name}: expected the path of a file, saw {}", raw.describe()),
        };
        self.problems.push(Problem::new(self.layer.origin(raw.span), problem));
        None
    }

    fn unknown_key(&mut self, section: &'static Section, place: &Place, item: &Item) {
        let in_files: Vec<String> =
            section.keys.iter().filter(|key| key.secret).map(|key| format!("{}_file", key.name)).collect();
        let names = section.keys.iter().map(|key| key.name).chain(in_files.iter().map(String::as_str));
        let near = suggest::nearest(&item.name, names);
        let hint = near.map(|key| format!("did you mean `{}`?", self.layer.spelled(place, key)));
        let message = format!("unknown key `{}` in {}", item.name, place.header());
        let problem = Problem::new(self.layer.origin(item.name_span.clone()), message);
        let hint = hint.or_else(|| self.home_of(&item.name));
        self.problems.push(problem.with_hint(hint).hidden_if(section.has_secrets()));
    }

    fn unknown_section(&mut self, item: &Item) {
        let near = suggest::nearest(&item.name, SECTIONS.iter().map(|section| section.name));
        let hint = self.home_of(&item.name).or_else(|| near.map(|name| format!("did you mean `{name}`?")));
        let message = match item.raw.value {
            Value::Table(_) | Value::List(_) => format!("unknown section `{}`", item.name),
            _ => format!("unknown key `{}` outside of all sections", item.name),
        };
        let problem = Problem::new(self.layer.origin(item.name_span.clone()), message);
        self.problems.push(problem.with_hint(hint));
    }

    /// "`listen` belongs to [server]", if some section has a key of that name.
    fn home_of(&self, name: &str) -> Option<String> {
        let home = SECTIONS.iter().find(|section| section.key(name).is_some())?;
        let header = match home.shape {
            Shape::Single => Place::single(home).header(),
            Shape::Named(_) => Place::named(home, "NAME").header(),
            Shape::List => Place::nth(home, 0).header(),
        };
        Some(format!("`{name}` belongs to {header}"))
    }

    fn not_a_table(&mut self, section: &Section, span: Span) {
        let name = section.name;
        let expected = match section.shape {
            Shape::Single => format!("a section [{name}] with keys"),
            Shape::Named(_) => format!("sections [{name}.NAME] with keys"),
            Shape::List => format!("sections [[{name}]] with keys"),
        };
        let problem = Problem::new(self.layer.origin(span), format!("expected {expected}"));
        self.problems.push(problem.hidden_if(section.has_secrets()));
    }
}
