//! Configuration: flags over environment over file over defaults, read once into a typed and validated `Config`.
//!
//! ```text
//! Sources ──gather──▶ RawConfig ──read──▶ Config + Origins
//!            │                     │
//!            └─ unknown keys ──────┴─ wrong values ──▶ Problems (all of them, with their places)
//! ```
//!
//! Every key is one line in a `section!`: see `section.rs`. Nothing here reads the process's environment or keeps global state,
//! and nobody below this module reads configuration: each part is handed its own section.

use std::path::PathBuf;

mod section;

mod auth;
mod fresh;
mod jwks;
mod limits;
mod log;
mod mutation_log;
mod namespace;
mod redis;
mod rule;
mod server;
mod template;
mod token_key;

mod checks;
mod files;
mod kind;
mod layer;
mod names;
mod origin;
mod problem;
mod raw;
mod raw_config;
mod reader;
mod reload;
mod render;
mod sources;
mod suggest;

#[cfg(test)]
mod tests;

pub use auth::{ApiKey, AuthConfig, Secret};
pub use fresh::FreshConfig;
pub use jwks::{JwksConfig, JwksUrl};
pub use limits::{LimitRow, Limits};
pub use log::{LogConfig, LogFormat};
pub use mutation_log::{Logs, MutationLog};
pub use namespace::{BatchMode, Namespace, Namespaces, Right};
pub use origin::{Origin, Origins, SourceFile};
pub use problem::{Problem, Problems};
pub use redis::{Pem, RedisConfig, RedisUrl};
pub use rule::{Each, Rule};
pub use server::{AllowedOrigin, ClientAddressSource, Network, ServerConfig};
pub use sources::{ENV_PREFIX, FlagValue, Sources};
pub use template::{Part, Template};
pub use token_key::{KeyText, TokenAlgorithm, TokenKey, check_key, is_kid};

use raw_config::{Place, RawConfig, Table};
use reader::Reader;
use section::Section;

/// The whole configuration; every value is in its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[auth]`
    pub auth: AuthConfig,
    /// `[[auth.key]]`, in the order of the file.
    pub token_keys: Vec<TokenKey>,
    /// `[auth.jwks]`
    pub jwks: JwksConfig,
    /// `[[api_key]]`, in the order of the file.
    pub api_keys: Vec<ApiKey>,
    /// `[redis]`
    pub redis: RedisConfig,
    /// `[namespace.NAME]`
    pub namespaces: Namespaces,
    /// `[fresh]`
    pub fresh: FreshConfig,
    /// `[[rule]]`, in the order of the file.
    pub rules: Vec<Rule>,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: LogConfig,
    /// `[log.NAME]`
    pub logs: Logs,
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration in effect.
    pub config: Config,
    /// By the values' full names.
    pub origins: Origins,
    /// Files beside the configuration's own that values were read from.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads all sources. On failure every problem is reported, not the first alone.
    pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
        let mut loading = Loading { dev: sources.dev, ..Loading::default() };
        loading.raw = RawConfig::gather(sources, &mut loading.problems);
        let config = loading.read_config();
        let Loading { raw, mut problems, origins, .. } = loading;
        if let Some(config) = &config {
            config.check_across(&origins, &mut problems);
        }
        problems.sort();
        match config {
            Some(config) if problems.is_empty() => Ok(Loaded { config, origins, files: raw.files }),
            _ => Err(problems),
        }
    }
}

impl Default for Config {
    /// What holds where nobody says anything.
    fn default() -> Config {
        Config::load(&Sources::default()).expect("the defaults are legal").config
    }
}

/// A `Config` in the making.
#[derive(Default)]
struct Loading {
    dev: bool,
    raw: RawConfig,
    problems: Problems,
    origins: Origins,
}

impl Loading {
    /// `None` if a value is wrong; all sections are read even so.
    fn read_config(&mut self) -> Option<Config> {
        let server = self.single(&ServerConfig::SECTION, ServerConfig::read);
        let auth = self.single(&AuthConfig::SECTION, AuthConfig::read);
        let token_keys = self.every(&TokenKey::SECTION, TokenKey::read);
        let jwks = self.single(&JwksConfig::SECTION, JwksConfig::read);
        let api_keys = self.every(&ApiKey::SECTION, ApiKey::read);
        let redis = self.single(&RedisConfig::SECTION, RedisConfig::read);
        let namespaces = self.named(&Namespace::SECTION, Namespace::read);
        let fresh = self.single(&FreshConfig::SECTION, FreshConfig::read);
        let rules = self.every(&Rule::SECTION, Rule::read);
        let limits = self.single(&Limits::SECTION, Limits::read);
        let log = self.single(&LogConfig::SECTION, LogConfig::read);
        let logs = self.named(&MutationLog::SECTION, MutationLog::read);
        Some(Config {
            server: server?,
            auth: auth?,
            token_keys: token_keys?,
            jwks: jwks?,
            api_keys: api_keys?,
            redis: redis?,
            namespaces: namespaces.map(|(default, named)| Namespaces::new(default, named))?,
            fresh: fresh?,
            rules: rules?,
            limits: limits?,
            log: log?,
            logs: logs.map(|(default, named)| Logs::new(default, named))?,
        })
    }

    fn single<T>(&mut self, section: &'static Section, read: Read<T>) -> Option<T> {
        self.one(section, Place::single(section), None, read)
    }

    fn every<T>(&mut self, section: &'static Section, read: Read<T>) -> Option<Vec<T>> {
        let places = self.raw.places(section);
        let all: Vec<Option<T>> =
            places.into_iter().map(|place| self.one(section, place, None, read)).collect();
        all.into_iter().collect()
    }

    /// The section called `default`, and the others, which inherit from it.
    fn named<T>(&mut self, section: &'static Section, read: Read<T>) -> Option<(T, Vec<T>)> {
        let default = Place::named(section, Section::DEFAULT);
        let mut others = self.raw.places(section);
        others.retain(|place| *place != default);
        let named: Vec<Option<T>> =
            others.into_iter().map(|place| self.one(section, place, Some(&default), read)).collect();
        let default = self.one(section, default, None, read);
        Some((default?, named.into_iter().collect::<Option<_>>()?))
    }

    fn one<T>(
        &mut self,
        section: &'static Section,
        place: Place,
        inherited: Option<&Place>,
        read: Read<T>,
    ) -> Option<T> {
        let inherited: Option<&Table> = inherited.and_then(|place| self.raw.table(place));
        read(&mut Reader {
            section,
            table: self.raw.table(&place),
            place,
            inherited,
            dev: self.dev,
            problems: &mut self.problems,
            origins: &mut self.origins,
        })
    }
}

type Read<T> = fn(&mut Reader<'_>) -> Option<T>;
