//! The table of keys: every key's name, type, default, range and doc is written once, in a `section!`.
//!
//! From it come the typed struct, the reading of files, environment and flags, `config init`, `config show`, "did you mean",
//! and the table of limits. A new key is one line in its section.

use super::kind::{Form, Kind};
use super::names::Names;
use super::{
    ApiKey, AuthConfig, FreshConfig, JwksConfig, Limits, LogConfig, MutationLog, Namespace, RedisConfig,
    Rule, ServerConfig, TokenKey,
};

/// A group of keys that stands under one name in the file.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) doc: &'static [&'static str],
    pub(crate) keys: &'static [Key],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `[server]`
    Single,
    /// `[namespace.chat]`: any number, each with a name; `default` gives the others their defaults. A single section may bear
    /// the same name: what is no key of it is one of these.
    Named(Names),
    /// `[[api_key]]`: any number, in order.
    List,
}

/// All sections, in the order in which a file shows them.
pub(crate) static SECTIONS: [Section; 12] = [
    ServerConfig::SECTION,
    AuthConfig::SECTION,
    TokenKey::SECTION,
    JwksConfig::SECTION,
    ApiKey::SECTION,
    RedisConfig::SECTION,
    Namespace::SECTION,
    FreshConfig::SECTION,
    Rule::SECTION,
    Limits::SECTION,
    LogConfig::SECTION,
    MutationLog::SECTION,
];

impl Section {
    /// Of sections with names, the one that the others inherit from.
    pub(crate) const DEFAULT: &str = "default";

    /// The section called `name`; where two are, the single one.
    pub(crate) fn of(name: &str) -> Option<&'static Section> {
        Section::all_of(name).next()
    }

    fn all_of(name: &str) -> impl Iterator<Item = &'static Section> {
        SECTIONS.iter().filter(move |section| section.name == name)
    }

    /// The section of which `[section.name]` would be one of many.
    pub(crate) fn of_many(section: &str, name: &str) -> Option<&'static Section> {
        let is_key = |section: &Section| section.shape == Shape::Single && section.key(name).is_some();
        match Section::all_of(section).any(is_key) {
            true => None,
            false => Section::all_of(section).find(|section| matches!(section.shape, Shape::Named(_))),
        }
    }

    /// The section that stands below this one under `name`: `[[auth.key]]` below `[auth]`.
    pub(crate) fn below(&self, name: &str) -> Option<&'static Section> {
        let is_it = |section: &&Section| section.name.split_once('.') == Some((self.name, name));
        SECTIONS.iter().find(is_it)
    }

    /// The key that ends this path.
    pub(crate) fn key_at(path: &[String]) -> Option<(&'static Key, Spelling)> {
        let (section, key) = (path.first()?, path.last()?);
        let below = || Section::of(section)?.below(path.get(1)?);
        if path.len() > 2
            && let Some(below) = below()
        {
            return below.key(key);
        }
        Section::all_of(section).find_map(|section| section.key(key))
    }

    /// The key called `name`, and how it is spelled there.
    pub(crate) fn key(&self, name: &str) -> Option<(&'static Key, Spelling)> {
        let plain = |name: &str| self.keys.iter().find(|key| key.name == name);
        let in_file = || name.strip_suffix("_file").and_then(plain).filter(|key| key.secret);
        let found = plain(name).map(|key| (key, Spelling::Value));
        found.or_else(|| in_file().map(|key| (key, Spelling::InFile)))
    }

    /// A typo here may have put a secret where nobody hides it.
    pub(crate) fn has_secrets(&self) -> bool {
        self.keys.iter().any(|key| key.sensitive)
    }
}

/// Names of all keys whose values no report may repeat.
pub(crate) fn secret_names() -> impl Iterator<Item = &'static str> {
    let keys = SECTIONS.iter().flat_map(|section| section.keys);
    keys.filter(|key| key.sensitive).map(|key| key.name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `hmac_secret = "…"`
    Value,
    /// `hmac_secret_file = "path"`: the value is the file's content.
    InFile,
}

pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
    /// In TOML; `None` for keys that are optional or must be written.
    pub(crate) default: Option<&'static str>,
    /// In TOML, where dev mode has another.
    pub(crate) dev_default: Option<&'static str>,
    /// Least and greatest value, in TOML.
    pub(crate) range: Option<(&'static str, &'static str)>,
    pub(crate) example: &'static str,
    pub(crate) form: Form,
    pub(crate) sensitive: bool,
    pub(crate) secret: bool,
}

impl Key {
    pub(crate) const fn of<K: Kind>(name: &'static str, doc: &'static [&'static str]) -> Key {
        Key {
            name,
            doc,
            default: None,
            dev_default: None,
            range: None,
            example: K::EXAMPLE,
            form: K::FORM,
            sensitive: K::SENSITIVE,
            secret: K::SECRET,
        }
    }

    pub(crate) const fn default(mut self, default: &'static str) -> Key {
        self.default = Some(default);
        self
    }

    pub(crate) const fn dev_default(mut self, default: &'static str) -> Key {
        self.dev_default = Some(default);
        self
    }

    pub(crate) const fn range(mut self, least: &'static str, greatest: &'static str) -> Key {
        self.range = Some((least, greatest));
        self
    }
}

/// Declares a section: a struct whose fields are keys.
///
/// ```text
/// /// What the key means; the lines appear in the commented file.
/// name: Type as Kind = default [dev default] in least to greatest;
/// ```
///
/// `as Kind` is left out where the type is its own kind. Default and range are TOML. A key without a default is optional if it
/// is an `Option`, else it must be written. `given` fields are no keys: the reader supplies them.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        pub struct $Config:ident: $shape:ident $(($names:ident))? $section:literal {
            $(given $(#[doc = $given_doc:literal])+ $given:ident: $Given:ty = $supply:expr;)?
            $(
                $(#[doc = $key_doc:literal])+
                $key:ident: $Type:ty $(as $Kind:ty)?
                $(= $default:tt $([dev $dev:tt])? $(in $least:tt to $greatest:tt)?)?;
            )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Config {
            $($(#[doc = $given_doc])+ pub $given: $Given,)?
            $($(#[doc = $key_doc])+ pub $key: $Type,)+
        }

        impl $Config {
            pub(crate) const SECTION: $crate::config::section::Section = $crate::config::section::Section {
                name: $section,
                shape: $crate::config::section::Shape::$shape $(($crate::config::names::Names::$names))?,
                doc: &[$($doc),+],
                keys: &[$(
                    $crate::config::section::Key::of::<section!(@kind $Type $(, $Kind)?)>(
                        stringify!($key),
                        &[$($key_doc),+],
                    )
                    $(
                        .default(stringify!($default))
                        $(.dev_default(stringify!($dev)))?
                        $(.range(stringify!($least), stringify!($greatest)))?
                    )?
                ),+],
            };

            /// Reads every key, so that every problem is found; `None` if there was one.
            pub(crate) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Option<Self> {
                $(let $given = $supply(reader);)?
                $(let $key = reader.read::<section!(@kind $Type $(, $Kind)?)>(stringify!($key));)+
                Some(Self { $($given,)? $($key: $key?,)+ })
            }

            /// Every key with its value in TOML, or `None` where it is absent.
            pub(crate) fn shown(&self) -> Vec<(&'static str, Option<String>)> {
                use $crate::config::kind::Kind as _;
                vec![$((
                    stringify!($key),
                    <section!(@kind $Type $(, $Kind)?)>::show(&self.$key),
                )),+]
            }
        }
    };
    (@kind $Type:ty) => { $Type };
    (@kind $Type:ty, $Kind:ty) => { $Kind };
}
pub(crate) use section;
