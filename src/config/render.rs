//! Configuration as TOML: the commented file that a new installation starts from, and the effective one.

use super::raw_config::Place;
use super::section::{Key, SECTIONS, Section, Shape};
use super::{
    ApiKey, AuthConfig, Config, FreshConfig, JwksConfig, Limits, Loaded, LogConfig, MutationLog, Namespace,
    RedisConfig, Rule, ServerConfig, TokenKey,
};

const HEADING: &str = "\
# Configuration of tidings.
#
# Every key stands here with its default; take the `#` away from what you change.
# The environment wins over this file: TIDINGS__SERVER__LISTEN=0.0.0.0:8080. Flags win over both.
# Durations are written \"25s\", sizes \"1MiB\". `tidings check` finds every mistake at once.
";

impl Config {
    /// A file with every key, its meaning and its default, all commented out.
    pub fn commented_file() -> String {
        let sections: Vec<String> = SECTIONS.iter().map(commented_section).collect();
        format!("{HEADING}\n{}", sections.join("\n"))
    }

    /// Every table with its keys and values.
    pub(super) fn tables(&self) -> Vec<(Place, Vec<ShownKey>)> {
        let Config {
            server,
            auth,
            token_keys,
            jwks,
            api_keys,
            redis,
            namespaces,
            fresh,
            rules,
            limits,
            log,
            logs,
        } = self;
        let mut tables = vec![
            (Place::single(&ServerConfig::SECTION), server.shown()),
            (Place::single(&AuthConfig::SECTION), auth.shown()),
        ];
        tables.extend(
            token_keys.iter().enumerate().map(|(i, key)| (Place::nth(&TokenKey::SECTION, i), key.shown())),
        );
        tables.push((Place::single(&JwksConfig::SECTION), jwks.shown()));
        tables.extend(
            api_keys.iter().enumerate().map(|(i, key)| (Place::nth(&ApiKey::SECTION, i), key.shown())),
        );
        tables.push((Place::single(&RedisConfig::SECTION), redis.shown()));
        tables.extend(
            namespaces.iter().map(|one| (Place::named(&Namespace::SECTION, &*one.name), one.shown())),
        );
        tables.push((Place::single(&FreshConfig::SECTION), fresh.shown()));
        tables
            .extend(rules.iter().enumerate().map(|(i, rule)| (Place::nth(&Rule::SECTION, i), rule.shown())));
        tables.push((Place::single(&Limits::SECTION), limits.shown()));
        tables.push((Place::single(&LogConfig::SECTION), log.shown()));
        tables.extend(logs.iter().map(|one| (Place::named(&MutationLog::SECTION, &*one.name), one.shown())));
        tables
    }
}

fn commented_section(section: &Section) -> String {
    let header = match section.shape {
        Shape::Single => Place::single(section).header(),
        Shape::Named(_) => Place::named(section, Section::DEFAULT).header(),
        // A list's element has keys that must be written, so its header waits for them.
        Shape::List => format!("# {}", Place::nth(section, 0).header()),
    };
    let doc = comment(section.doc);
    let keys: Vec<String> = section.keys.iter().map(commented_key).collect();
    format!("{doc}{header}\n\n{}", keys.join("\n"))
}

fn commented_key(key: &Key) -> String {
    let mut lines = comment(key.doc);
    if let Some(dev) = key.dev_default {
        lines += &format!("# In dev mode: {dev}.\n");
    }
    if let Some((least, greatest)) = key.range {
        lines += &format!("# From {least} to {greatest}.\n");
    }
    lines += &format!("# {} = {}\n", key.name, key.default.unwrap_or(key.example));
    if key.secret {
        lines += &format!("# Better in a file of its own:\n# {0}_file = \"/run/secrets/{0}\"\n", key.name);
    }
    lines
}

fn comment(doc: &[&str]) -> String {
    doc.iter().map(|line| format!("# {}\n", line.trim())).collect()
}

impl Loaded {
    /// The effective configuration in TOML, secrets as `"***"`; with `origins`, each line says where its value came from.
    pub fn show(&self, origins: bool) -> String {
        let tables: Vec<String> = self
            .config
            .tables()
            .into_iter()
            .map(|(place, keys)| self.show_table(&place, &keys, origins))
            .collect();
        tables.join("\n")
    }

    fn show_table(&self, place: &Place, keys: &[ShownKey], origins: bool) -> String {
        let lines: Vec<(String, String)> = keys
            .iter()
            .map(|(key, value)| {
                let line = match value {
                    Some(value) => format!("{key} = {value}"),
                    None => format!("# {key} is not set"),
                };
                (line, self.origins.of(&format!("{place}.{key}")).to_string())
            })
            .collect();
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or_default();
        let shown: String = lines
            .iter()
            .map(|(line, origin)| match origins {
                true => format!("{line:width$}  # {origin}\n"),
                false => format!("{line}\n"),
            })
            .collect();
        format!("{}\n{shown}", place.header())
    }
}

/// A key's name and its value in TOML, if it has one.
type ShownKey = (&'static str, Option<String>);
