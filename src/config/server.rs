//! `[server]`: where the server listens, how long it waits for its peers, and the web origins it serves.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::kind::{Fault, Form, Kind, quoted, text};
use super::raw::Raw;
use super::section::section;

mod proxy;

pub use proxy::{ClientAddressSource, Network};

section! {
    /// Where the server listens, whom it lets in, and how long it waits.
    pub struct ServerConfig: Single "server" {
        /// Address to listen on. Port 0 takes any free port.
        listen: SocketAddr = "127.0.0.1:8080";
        /// Where others reach this instance, as the view of the cluster shows it: `10.0.0.7:8080`, `http://rt-1.internal`.
        /// The listening address if absent.
        advertise: Option<String>;
        /// Web origins that browsers may connect from: exactly scheme://host, with :port unless it is the scheme's own.
        /// Requests without an Origin header do not come from a browser and are let in.
        allowed_origins: Vec<AllowedOrigin> = [];
        /// Proxies in front of this server: addresses and networks such as "10.0.0.0/8". A request that comes through one counts to
        /// the address that the proxy reports; the proxy itself has no share of its own, so that one bad client locks out nobody else.
        trusted_proxies: Vec<Network> = [];
        /// How the trusted proxies report a client's address: "x-forwarded-for" or "forwarded" (RFC 7239) in each request,
        /// or "proxy-protocol" (version 1 or 2) at the start of each connection. Only the one named here counts.
        client_address: ClientAddressSource = "x-forwarded-for";
        /// Time from SIGTERM, when /readyz turns 503, to the first closed connection. Until then newcomers are served as before.
        /// As long as load balancers need to notice.
        drain_delay: Duration = "5s" [dev "0s"] in "0s" to "1h";
        /// Connections are closed evenly over this time while draining, however few they are.
        drain_spread: Duration = "15s" [dev "0s"] in "0s" to "1h";
        /// A peer that has not sent its whole request header by then is closed.
        header_timeout: Duration = "5s" in "100ms" to "10m";
        /// A request of whose body nothing comes for so long, or less than 4 KiB where it does not end, is refused with 400 and closed.
        /// In all a body may take as long as `timeout`.
        body_timeout: Duration = "5s" in "100ms" to "10m";
        /// An HTTP connection without a request is closed after this time, if the API accepted one of its requests or if it comes
        /// from a trusted proxy; others after header_timeout. Longer than the proxies keep theirs (nginx and most balancers 60 s).
        idle_timeout: Duration = "75s" in "100ms" to "1h";
        /// Time between two WebSocket pings, and between two SSE comments.
        ping_interval: Duration = "25s" in "100ms" to "1h";
        /// A connection from which no byte came for so long is closed. More than ping_interval.
        timeout: Duration = "60s" in "200ms" to "2h";
        /// A connection that accepts no byte for so long is closed with 4408 slow_consumer.
        write_timeout: Duration = "10s" in "100ms" to "10m";
        /// A connection as old as this, give or take a tenth, is asked to come back by a new one: close 4001 reconnect. 0s: never.
        /// So long-lived connections spread again over instances that came later.
        connection_age_max: Duration = "0s" in "0s" to "30days";
        /// A socket that must authenticate and has not sent `connect` by then is closed with 4501 unauthorized.
        hello_timeout: Duration = "5s" in "100ms" to "10m";
    }
}

/// A web origin as browsers send it: `https://app.example.com`, `http://localhost:5173`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AllowedOrigin(String);

impl AllowedOrigin {
    /// The exact text that an `Origin` header must have.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Kind for AllowedOrigin {
    type Value = AllowedOrigin;
    const EXPECTED: &'static str = "an origin such as \"https://app.example.com\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<AllowedOrigin, Fault> {
        let text = text::<AllowedOrigin>(raw)?;
        match origin_mistake(text) {
            None => Ok(AllowedOrigin(text.to_owned())),
            Some(mistake) => Err(Fault::new(raw, format!("{text:?} is not an origin")).with_hint(mistake)),
        }
    }

    fn show(origin: &AllowedOrigin) -> Option<String> {
        Some(quoted(origin.as_str()))
    }
}

/// Why no browser would ever send this origin, or `None`.
fn origin_mistake(origin: &str) -> Option<&'static str> {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return Some("write scheme://host, such as https://app.example.com");
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_bytes = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    let scheme_bytes =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let own_port = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    if authority.contains('*') {
        Some("patterns are not possible: list every origin")
    } else if authority.contains(['/', '?', '#']) {
        Some("leave out everything after the host and port, the last `/` too")
    } else if authority.contains('@') {
        Some("leave out the user")
    } else if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Some("browsers send it in lower case")
    } else if own_port {
        Some("browsers leave out the scheme's own port")
    } else if port.is_some_and(|port| !is_port(port)) {
        Some("the port is a number from 1 to 65535")
    } else if host.is_empty() || !host.bytes().all(host_bytes) {
        Some("the host is a name or an address, in ASCII")
    } else if scheme.is_empty() || !scheme.bytes().all(scheme_bytes) {
        Some("the scheme is http or https, or that of an app")
    } else {
        None
    }
}

/// Without leading zeros or a sign, as browsers write it.
fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for origin in [
            "https://app.example.com",
            "http://localhost:5173",
            "http://[::1]:8080",
            "http://[::1]",
            "chrome-extension://abcdef",
        ] {
            assert_eq!(origin_mistake(origin), None, "{origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_the_reason() {
        for (origin, reason) in [
            ("", "scheme://host"),
            ("null", "scheme://host"),
            ("*", "scheme://host"),
            ("app.example.com", "scheme://host"),
            ("https://*.example.com", "patterns"),
            ("https://app.example.com/", "last `/`"),
            ("https://ada@example.com", "user"),
            ("https://App.example.com", "lower case"),
            ("https://app.example.com:443", "own port"),
            ("http://localhost:0", "port is"),
            ("http://localhost:08080", "port is"),
            ("http://localhost:", "port is"),
            ("https://", "host is"),
            ("https://a b", "host is"),
            ("://a", "scheme is"),
        ] {
            let mistake = origin_mistake(origin).unwrap_or_default();
            assert!(mistake.contains(reason), "{origin}: {mistake}");
        }
    }
}
