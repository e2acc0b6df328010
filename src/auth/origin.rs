//! Which pages may talk to the server, and under which host names it answers in dev mode.

use tidings_protocol::{Code, Problem};

/// The judge of `Origin` and `Host`.
#[derive(Clone, Debug)]
pub struct Origins {
    allowed: Vec<String>,
    dev: bool,
}

impl Origins {
    /// Allows exactly these origins; in dev mode every loopback origin, and only loopback hosts.
    pub fn new(allowed: Vec<String>, dev: bool) -> Self {
        Origins { allowed, dev }
    }

    /// Whether a request may be served. No origin means that no browser page sent it.
    pub fn check(&self, origin: Option<&str>, host: Option<&str>) -> Result<(), Problem> {
        // Any page of the web can make a browser post to 127.0.0.1, and can point a name of its own there: in dev
        // mode, which asks for no credential, both the name and the page must be of this machine.
        if self.dev && !host.is_some_and(is_loopback_host) {
            let host = host.unwrap_or_default();
            let message =
                format!("dev mode answers only under a loopback host, not {host:?}: use `tidings serve`");
            return Err(Problem::new(Code::OriginNotAllowed, message));
        }
        match origin {
            Some(origin) if !self.allows(origin, host) => {
                let message = format!("origin {origin:?} is not allowed: add it to server.allowed_origins");
                Err(Problem::new(Code::OriginNotAllowed, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a page of this origin may talk to the server that it asks under the name `host`.
    ///
    /// A page of the same host and port is of the same origin: the scheme is a proxy's, which takes TLS away. A name that
    /// somebody points at this server is such a host too; his pages get what anybody gets without a credential, for the
    /// cookies of another name are not sent to it.
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let Some(authority) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
        else {
            return self.is_listed(origin);
        };
        let is_same = host.is_some_and(|host| !host.is_empty() && host.eq_ignore_ascii_case(authority));
        self.is_listed(origin) || is_same || (self.dev && is_loopback_host(authority))
    }

    fn is_listed(&self, origin: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == origin)
    }
}

/// Whether `host`, perhaps with a port, names this machine and nothing else.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") || name == "[::1]" {
        return true;
    }
    name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_exactly() {
        let origins = Origins::new(vec!["https://app.example.com".to_owned()], false);
        let allowed = |origin| origins.check(origin, Some("rt.example.com")).is_ok();
        assert!(allowed(None) && allowed(Some("https://app.example.com")));
        for origin in [
            "null",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.com",
            "https://evil-app.example.com",
            "https://App.example.com",
            "https://user@app.example.com",
            "http://localhost",
            "",
        ] {
            assert!(!allowed(Some(origin)), "{origin}");
        }
    }

    #[test]
    fn a_page_of_the_same_host_and_port_is_of_the_same_origin() {
        let origins = Origins::new(Vec::new(), false);
        for (origin, host, allowed) in [
            ("https://rt.example.com", "rt.example.com", true),
            ("http://rt.example.com:8080", "rt.example.com:8080", true),
            ("https://rt.example.com", "RT.example.com", true),
            ("https://rt.example.com:8443", "rt.example.com", false),
            ("https://evil.example.com", "rt.example.com", false),
            ("https://rt.example.com.evil.com", "rt.example.com", false),
            ("ftp://rt.example.com", "rt.example.com", false),
            ("null", "null", false),
            ("https://", "", false),
        ] {
            assert_eq!(origins.allows(origin, Some(host)), allowed, "{origin} at {host}");
        }
        assert!(!origins.allows("https://rt.example.com", None));
    }

    #[test]
    fn dev_mode_serves_only_pages_and_names_of_this_machine() {
        let origins = Origins::new(Vec::new(), true);
        for (origin, host, allowed) in [
            (None, Some("127.0.0.1:8080"), true),
            (None, Some("localhost"), true),
            (None, Some("[::1]:8080"), true),
            (Some("http://localhost:5173"), Some("127.0.0.1:8080"), true),
            (Some("http://evil.com"), Some("127.0.0.1:8080"), false),
            (Some("http://localhost.evil.com"), Some("127.0.0.1:8080"), false),
            (Some("http://127.0.0.1.evil.com"), Some("127.0.0.1:8080"), false),
            (Some("null"), Some("127.0.0.1:8080"), false),
            (None, Some("evil.com:8080"), false),
            (None, Some("127.0.0.1.nip.io:8080"), false),
            (None, None, false),
        ] {
            assert_eq!(origins.check(origin, host).is_ok(), allowed, "{origin:?} at {host:?}");
        }
    }
}
