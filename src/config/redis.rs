//! `[redis]`: the store that several instances share. Without a URL an instance keeps everything in its own memory.

use std::fmt;
use std::time::Duration;

use super::kind::{Count, Fault, Form, Kind, quoted, text, unexpected};
use super::raw::Raw;
use super::section::section;

section! {
    /// Instances with the same Redis and prefix are one cluster: they share channels, histories and positions.
    pub struct RedisConfig: Single "redis" {
        /// redis://host:6379, rediss:// for TLS, redis-sentinel://host:26379?sentinelServiceName=main,
        /// redis-cluster://host:6379?node=other:6379; a user and password go before the host. Redis 7.0 or newer.
        url: Option<RedisUrl>;
        /// Certificates, as PEM, that servers of a rediss:// URL may be signed by, beside those that the system trusts.
        ca: Option<Pem>;
        /// The certificate, as PEM, that this instance shows to servers that ask for one.
        client_cert: Option<Pem>;
        /// The private key of that certificate, as PEM.
        client_key: Option<Pem>;
        /// What every key and pub/sub channel begins with. Databases of one server (redis://host/2) are clusters of their own.
        prefix: String as Prefix = "tidings";
        /// Replicas that must confirm a publish that asks for ack "replicated". 0: none can. With fewer than there are, a
        /// failover that somebody orders may choose one that did not confirm; after a crash the one that has most is chosen.
        replicas: usize as Count = 0 in 0 to 16;
        /// How long a channel that lost its last subscriber is still listened to, for those who come back.
        linger: Duration = "10s" in "0s" to "1h";
        /// Who was in a channel on an instance that died is still shown for so long, and at most a quarter longer.
        presence_life: Duration = "30s" in "1s" to "1h";
        /// The numbering of a channel that nobody reads or writes for so long is forgotten: gap(epoch) for who resumes.
        /// At least twice the namespaces' history_age.
        forget_after: Duration = "7days" in "1s" to "365days";
    }
}

/// Where Redis is and how to log in. Neither `Debug` nor `config show` gives the password away.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    const SCHEMES: [&str; 6] =
        ["redis", "rediss", "redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster"];

    /// The URL itself, password included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether TLS is spoken.
    pub fn is_encrypted(&self) -> bool {
        self.0.starts_with("rediss")
    }

    /// The URL without user and password.
    pub fn masked(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("redis", ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        // A query may hold a password of the sentinels.
        let harmless = |pair: &&str| !pair.to_ascii_lowercase().contains("pass");
        let query = query.split('&').filter(harmless).filter(|pair| !pair.is_empty());
        let query = query.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{host}{mark}{query}")
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.masked())
    }
}

impl Kind for RedisUrl {
    type Value = RedisUrl;
    const EXPECTED: &'static str = "a URL such as \"redis://127.0.0.1:6379\"";
    const EXAMPLE: &'static str = "\"redis://127.0.0.1:6379\"";
    const FORM: Form = Form::Text;
    const SENSITIVE: bool = true;
    const SECRET: bool = true;

    fn parse(raw: &Raw) -> Result<RedisUrl, Fault> {
        let text = text::<RedisUrl>(raw)?.trim();
        match text.split_once("://") {
            Some((scheme, rest)) if RedisUrl::SCHEMES.contains(&scheme) && !rest.is_empty() => {
                Ok(RedisUrl(text.to_owned()))
            }
            _ => Err(unexpected::<RedisUrl>(raw)
                .with_hint(format!("the scheme is one of {}", RedisUrl::SCHEMES.join(", ")))),
        }
    }

    fn show(url: &RedisUrl) -> Option<String> {
        Some(quoted(&url.masked()))
    }
}

/// Certificates or a key as PEM. Neither `Debug` nor `config show` gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(Box<[u8]>);

impl Pem {
    /// The text itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pem(***)")
    }
}

impl Kind for Pem {
    type Value = Pem;
    const EXPECTED: &'static str = "a text that holds `-----BEGIN …-----`";
    const EXAMPLE: &'static str = "\"-----BEGIN CERTIFICATE-----…\"";
    const FORM: Form = Form::Text;
    const SENSITIVE: bool = true;
    const SECRET: bool = true;

    fn parse(raw: &Raw) -> Result<Pem, Fault> {
        let text = text::<Pem>(raw)?;
        match text.contains("-----BEGIN ") {
            true => Ok(Pem(text.as_bytes().into())),
            false => Err(unexpected::<Pem>(raw)),
        }
    }

    fn show(_: &Pem) -> Option<String> {
        Some(quoted("***"))
    }
}

/// What keys begin with. A brace in it would move every key of a cluster to one slot, a glob sign would match others' keys.
pub(crate) struct Prefix;

impl Kind for Prefix {
    type Value = String;
    const EXPECTED: &'static str = "1 to 64 letters, digits, `-`, `_`, `.`, `:` and `/`";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<String, Fault> {
        let text = text::<Prefix>(raw)?;
        let legal = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
        match text.len() {
            1..=64 if legal => Ok(text.to_owned()),
            _ => Err(unexpected::<Prefix>(raw)),
        }
    }

    fn show(prefix: &String) -> Option<String> {
        Some(quoted(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_password() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
            ("rediss://ada:canary@host:6379", "rediss://host:6379"),
            ("redis://:canary@word@host", "redis://host"),
            (
                "redis-sentinel://u:canary@h:1/0?sentinelServiceName=main&sentinelPassword=canary",
                "redis-sentinel://h:1/0?sentinelServiceName=main",
            ),
        ] {
            assert_eq!(format!("{:?}", RedisUrl(url.to_owned())), shown);
        }
    }
}
