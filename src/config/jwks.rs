//! `[auth.jwks]`: where the keys of an issuer of tokens are fetched from.

use std::fmt;
use std::time::Duration;

use hyper::Uri;

use super::kind::{Fault, Form, Kind, quoted};
use super::raw::{Raw, Value};
use super::section::section;

section! {
    /// Keys that an issuer of tokens publishes (JSON Web Key Set, RFC 7517). Each is known by its `kid`, and secrets are none.
    pub struct JwksConfig: Single "auth.jwks" {
        /// Where: https://host/path, or http:// on this machine; one, or a list. Nothing is fetched from anywhere else.
        url: Vec<JwksUrl> as JwksUrls = [];
        /// How often they are fetched again. A key that a token names and nobody knows makes it sooner, once in 10 s at most.
        refresh: Duration = "5m" in "1s" to "1day";
    }
}

/// An address that keys are fetched from.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

impl JwksUrl {
    /// The address.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether the way there is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    fn parse(text: &str) -> Option<JwksUrl> {
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let legal = match uri.scheme_str() {
            Some("https") => true,
            // What comes over an open network could be anybody's.
            Some("http") => is_here,
            _ => false,
        };
        let has_user = authority.as_str().contains('@');
        (legal && !has_user && !host.is_empty()).then_some(JwksUrl(uri))
    }
}

impl fmt::Display for JwksUrl {
    /// Without the query, which may hold a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(formatter, "{}://{authority}{}", self.0.scheme_str().unwrap_or_default(), self.0.path())
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// One address or several.
pub(crate) struct JwksUrls;

impl JwksUrls {
    /// Issuers that one server trusts; each costs a connection now and then.
    const MOST: usize = 16;
}

impl Kind for JwksUrls {
    type Value = Vec<JwksUrl>;
    const EXPECTED: &'static str = "an address such as \"https://id.example.com/jwks.json\" (http:// on this machine alone), or a list of at most 16";
    const FORM: Form = Form::List;
    const SENSITIVE: bool = true;

    fn parse(raw: &Raw) -> Result<Vec<JwksUrl>, Fault> {
        let refused = || Fault::new(raw, format!("expected {}", JwksUrls::EXPECTED));
        let one = |raw: &Raw| match &raw.value {
            Value::Text(text) => JwksUrl::parse(text).ok_or_else(refused),
            _ => Err(refused()),
        };
        match &raw.value {
            Value::List(list) if list.len() <= JwksUrls::MOST => list.iter().map(one).collect(),
            Value::List(_) => Err(refused()),
            _ => Ok(vec![one(raw)?]),
        }
    }

    fn show(urls: &Vec<JwksUrl>) -> Option<String> {
        Some(format!("[{}]", urls.iter().map(|url| quoted(&url.to_string())).collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for (url, legal) in [
            ("https://id.example.com/.well-known/jwks.json", true),
            ("https://id.example.com:8443/keys?v=1", true),
            ("http://127.0.0.1:9000/jwks", true),
            ("http://[::1]:9000/jwks", true),
            ("http://localhost/jwks", true),
            ("http://id.example.com/jwks", false),
            ("http://127.0.0.1.example.com/jwks", false),
            ("http://localhost.example.com/jwks", false),
            ("https://user:canary@id.example.com/jwks", false),
            ("http://127.0.0.1@example.com/jwks", false),
            ("file:///etc/passwd", false),
            ("/jwks", false),
            ("", false),
        ] {
            assert_eq!(JwksUrl::parse(url).is_some(), legal, "{url}");
        }
    }

    #[test]
    fn one_address_may_stand_alone() {
        let urls = JwksUrls::parse(&Raw::text("https://a.example/k?secret=canary")).expect("is legal");
        assert_eq!(JwksUrls::show(&urls).as_deref(), Some("[\"https://a.example/k\"]"));
        assert!(JwksUrls::parse(&Raw::list_of_texts(["https://a.example"; 17].into_iter())).is_err());
        assert!(JwksUrls::parse(&Raw::list_of_texts(["https://a.example", "ftp://b"].into_iter())).is_err());
    }
}
