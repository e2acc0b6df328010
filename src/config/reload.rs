//! What of a configuration may change while the server runs, and what it takes to have the rest.

use std::collections::BTreeMap;

use super::{Config, Limits, LogConfig, ServerConfig};

impl Config {
    /// This configuration, with all of `new` that may change while the server runs: credentials, origins, rules, the age of
    /// connections, the filter of the log, and limits but for those that parts are built with.
    pub fn reloaded(&self, new: &Config) -> Config {
        Config {
            server: ServerConfig {
                allowed_origins: new.server.allowed_origins.clone(),
                connection_age_max: new.server.connection_age_max,
                ..self.server.clone()
            },
            auth: new.auth.clone(),
            token_keys: new.token_keys.clone(),
            jwks: new.jwks.clone(),
            api_keys: new.api_keys.clone(),
            rules: new.rules.clone(),
            limits: reloaded(&self.limits, &new.limits),
            log: LogConfig { filter: new.log.filter.clone(), ..self.log.clone() },
            ..self.clone()
        }
    }

    /// Names of the keys in which the two differ; of lists, and of what is never shown, those of the section.
    pub fn differences(&self, other: &Config) -> Vec<String> {
        let (ours, theirs) = (self.by_name(), other.by_name());
        let names = ours.keys().chain(theirs.keys());
        let mut differing: Vec<String> =
            names.filter(|name| ours.get(*name) != theirs.get(*name)).cloned().collect();
        let hidden = [
            ("auth", self.auth != other.auth),
            ("auth.key", self.token_keys != other.token_keys),
            ("redis", self.redis != other.redis),
        ];
        for (section, differs) in hidden {
            let is_named = || differing.iter().any(|name| name.starts_with(&format!("{section}.")));
            if differs && !is_named() {
                differing.push(section.to_owned());
            }
        }
        differing.sort();
        differing.dedup();
        differing
    }

    fn by_name(&self) -> BTreeMap<String, Vec<Option<String>>> {
        let mut by_name = BTreeMap::<String, Vec<Option<String>>>::new();
        for (place, keys) in self.tables() {
            for (key, value) in keys {
                let name = match place.is_nth() {
                    true => place.section.to_owned(),
                    false => format!("{place}.{key}"),
                };
                by_name.entry(name).or_default().push(value);
            }
        }
        by_name
    }
}

/// Limits that a part was built with stay as they are until the server is started again.
fn reloaded(ours: &Limits, new: &Limits) -> Limits {
    Limits {
        header_bytes_max: ours.header_bytes_max,
        headers_max: ours.headers_max,
        tags_per_connection: ours.tags_per_connection,
        batch_publications_max: ours.batch_publications_max,
        batch_bytes_max: ours.batch_bytes_max,
        history_total_bytes: ours.history_total_bytes,
        channels_max: ours.channels_max,
        broker_pending_bytes: ours.broker_pending_bytes,
        broker_announcements_bytes: ours.broker_announcements_bytes,
        broker_announcements_max: ours.broker_announcements_max,
        idempotency_bytes: ours.idempotency_bytes,
        idempotency_window: ours.idempotency_window,
        logs_max: ours.logs_max,
        ..new.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use std::io::Write;

    fn config(toml: &str) -> Config {
        let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
        file.write_all(toml.as_bytes()).expect("a file can be written");
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
    }

    #[test]
    fn what_may_change_changes_and_what_may_not_is_named() {
        let secret = |letter: &str| format!("[auth]\nhmac_secret = \"{}\"", letter.repeat(32));
        let rule = "[[rule]]\nentity = \"a\"\ntags = [\"t\"]";
        for (old, new, changed, needs_restart) in [
            ("", "", vec![], vec![]),
            ("", "[limits]\nmessage_bytes_max = 7", vec!["limits.message_bytes_max"], vec![]),
            ("", "[limits]\nchannels_max = 7", vec![], vec!["limits.channels_max"]),
            ("", "[log]\nfilter = \"debug\"\nformat = \"json\"", vec!["log.filter"], vec!["log.format"]),
            (
                "",
                "[server]\nallowed_origins = [\"https://a.b\"]\ntimeout = \"70s\"",
                vec!["server.allowed_origins"],
                vec!["server.timeout"],
            ),
            ("", rule, vec!["rule"], vec![]),
            (&secret("a"), &secret("b"), vec!["auth"], vec![]),
            ("", "[redis]\nurl = \"redis://h\"", vec![], vec!["redis.url"]),
            ("[redis]\nurl = \"redis://:a@h\"", "[redis]\nurl = \"redis://:b@h\"", vec![], vec!["redis"]),
            ("", "[namespace.chat]\nhistory_size = 7", vec![], vec!["namespace.chat.history_size"]),
        ] {
            let (old, new) = (config(old), config(new));
            let effective = old.reloaded(&new);
            assert_eq!(old.differences(&effective), changed, "changed by {new:?}");
            let mut left = effective.differences(&new);
            left.retain(|name| !name.starts_with("namespace.chat.") || name.ends_with("history_size"));
            assert_eq!(left, needs_restart, "left of {new:?}");
        }
    }
}
