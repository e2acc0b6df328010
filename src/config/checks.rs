//! What no key can check alone: keys that must fit each other, and what each way of running asks for.

use super::Config;
use super::origin::{Origin, Origins};
use super::problem::{Problem, Problems};

impl Config {
    /// Keys that contradict each other, at the place of the one that is easier to change.
    pub(crate) fn check_across(&self, origins: &Origins, problems: &mut Problems) {
        let mut contradiction = |names: [&str; 2], why: &str| {
            // A default is never to blame alone.
            let set = names.into_iter().map(|name| origins.of(name)).find(|origin| origin.layer() > 0);
            let message = format!("{} must be {why} {}", names[0], names[1]);
            problems.push(Problem::new(set.unwrap_or(Origin::Default), message));
        };
        if self.server.timeout <= self.server.ping_interval {
            contradiction(["server.timeout", "server.ping_interval"], "more than");
        }
        if self.limits.request_bytes_max < self.limits.message_bytes_max {
            contradiction(["limits.request_bytes_max", "limits.message_bytes_max"], "at least");
        }
        let redis = &self.redis;
        if redis.client_cert.is_some() != redis.client_key.is_some() {
            contradiction(["redis.client_cert", "redis.client_key"], "set together with");
        }
        // Without a Redis nothing is forgotten by time but publications.
        let kept = self.namespaces.iter().filter(|namespace| !namespace.is_volatile());
        for namespace in kept.filter(|_| self.redis.url.is_some()) {
            if self.redis.forget_after < namespace.history_age * 2 {
                let age = format!("namespace.{}.history_age", namespace.name);
                contradiction(["redis.forget_after", &age], "at least twice");
            }
        }
        for (index, key) in self.token_keys.iter().enumerate() {
            if let Err(why) = key.decoding_key() {
                let origin = origins.of(&format!("auth.key[{index}].key"));
                problems.push(Problem::new(origin, format!("key: {why}")).hidden_if(true));
            }
        }
        for (index, key) in self.api_keys.iter().enumerate() {
            let earlier = &self.api_keys[..index];
            if earlier.iter().any(|other| other.name == key.name) {
                let message = format!("name: another API key is called {:?}", key.name);
                problems.push(Problem::new(origins.of(&format!("api_key[{index}].name")), message));
            }
            if let Some(other) = earlier.iter().find(|other| other.hash == key.hash) {
                let message = format!("hash: the API key {:?} is this very key", other.name);
                problems.push(Problem::new(origins.of(&format!("api_key[{index}].hash")), message));
            }
        }
    }

    /// Whether there is a key that tokens may be signed with.
    pub fn has_token_keys(&self) -> bool {
        self.auth.hmac_secret.is_some() || !self.token_keys.is_empty() || !self.jwks.url.is_empty()
    }

    /// Whether somebody without a credential may do something.
    fn is_open_to_anybody(&self) -> bool {
        self.namespaces.iter().any(|namespace| !namespace.anonymous.is_empty())
    }

    /// What keeps `tidings serve` from starting; empty if nothing does.
    pub fn problems_for_serve(&self) -> Problems {
        let mut problems = Problems::default();
        if !self.has_token_keys() && self.api_keys.is_empty() && !self.is_open_to_anybody() {
            let message = "no credential is configured, so nobody could connect or publish";
            let hint = "add [auth] hmac_secret_file, an [[auth.key]], [auth.jwks] url or an [[api_key]]; or try it out with `tidings dev`";
            problems.push(Problem::new(Origin::Default, message).with_hint(Some(hint.to_owned())));
        }
        problems
    }

    /// What keeps `tidings dev` from starting; empty if nothing does.
    pub fn problems_for_dev(&self) -> Problems {
        let mut problems = Problems::default();
        if !self.server.listen.ip().is_loopback() {
            let message = format!(
                "server.listen is {}, but dev mode is open to whoever reaches it",
                self.server.listen
            );
            let hint = format!("listen on 127.0.0.1:{}, or use `tidings serve`", self.server.listen.port());
            problems.push(Problem::new(Origin::Default, message).with_hint(Some(hint)));
        }
        problems
    }
}
