//! The address that limits count a request to.
//!
//! A trusted proxy reports its clients' addresses; what anybody else reports of itself counts for nothing. Only the one way
//! of reporting that is configured is read: a proxy that sets one header passes the others on as the client sent them.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::{ClientAddressSource, Network, ServerConfig};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies in front of this server.
#[derive(Clone, Debug)]
pub(super) struct Proxies {
    trusted: Vec<Network>,
    source: ClientAddressSource,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A client: every request counts to its address.
    Client(IpAddr),
    /// A trusted proxy that names the client in each request.
    Proxy,
    /// A trusted proxy that asks for itself: it has no share.
    ProxyItself,
}

impl Proxies {
    /// Those of the configuration.
    pub(super) fn new(server: &ServerConfig) -> Proxies {
        Proxies { trusted: server.trusted_proxies.clone(), source: server.client_address }
    }

    /// Whether a connection from here begins with a PROXY header.
    pub(super) fn begins_with_header(&self, address: IpAddr) -> bool {
        self.source == ClientAddressSource::ProxyProtocol && self.is_trusted(address)
    }

    /// Who a connection from this address is.
    pub(super) fn peer(&self, address: IpAddr) -> Peer {
        if self.is_trusted(address) { Peer::Proxy } else { Peer::Client(address) }
    }

    /// The address that a request counts to; `None` where a trusted proxy names no client.
    pub(super) fn client_of(&self, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
        match peer {
            Peer::Client(address) => Some(address),
            Peer::ProxyItself => None,
            Peer::Proxy => self.reported(headers),
        }
    }

    /// The last address of the header that is no trusted proxy's: each proxy appends whom it was asked by, so what stands
    /// before that was written by the client. Where all are trusted, the first is the client's.
    fn reported(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let name = match self.source {
            ClientAddressSource::XForwardedFor => X_FORWARDED_FOR,
            ClientAddressSource::Forwarded => FORWARDED,
            ClientAddressSource::ProxyProtocol => return None,
        };
        let fields: Vec<&str> =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut first = None;
        for element in fields.iter().rev().flat_map(|field| field.rsplit(',')) {
            let node = match self.source {
                ClientAddressSource::Forwarded => forwarded_for(element)?,
                ClientAddressSource::XForwardedFor | ClientAddressSource::ProxyProtocol => element,
            };
            // What is no address ends the chain of those that can be believed.
            let address = address_of(node.trim())?;
            if !self.is_trusted(address) {
                return Some(address);
            }
            first = Some(address);
        }
        first
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

/// The value of `for` in one element of `Forwarded` (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// `192.0.2.1`, `192.0.2.1:47`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:47`.
fn address_of(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    let address = bare.parse().ok().or_else(|| Some(node.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(source: ClientAddressSource) -> Proxies {
        let toml = "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tidings.toml");
        std::fs::write(&file, toml).unwrap();
        let sources = crate::config::Sources { file: Some(file), dev: true, ..Default::default() };
        let server = crate::config::Config::load(&sources).unwrap().config.server;
        Proxies { source, ..Proxies::new(&server) }
    }

    fn client(source: ClientAddressSource, peer: &str, header: &str, values: &[&str]) -> Option<String> {
        let proxies = proxies(source);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::try_from(header).unwrap(), value.parse().unwrap());
        }
        let peer = proxies.peer(peer.parse().unwrap());
        proxies.client_of(peer, &headers).map(|address| address.to_string())
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_as_far_as_proxies_wrote() {
        use ClientAddressSource::XForwardedFor;
        for (peer, values, expected) in [
            ("192.0.2.9", &["198.51.100.1"][..], Some("192.0.2.9")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::ffff:10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            // A client wrote the first; its proxy appended who it is.
            ("10.0.0.1", &["203.0.113.5, 198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["203.0.113.5", "198.51.100.1, 10.0.0.2"], Some("198.51.100.1")),
            ("10.0.0.1", &["198.51.100.1:4711"], Some("198.51.100.1")),
            ("10.0.0.1", &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("10.0.0.1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &["10.0.0.7, 10.0.0.2"], Some("10.0.0.7")),
            // Nothing before what cannot be read is believed.
            ("10.0.0.1", &["198.51.100.1, unknown"], None),
            ("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"], None),
            ("10.0.0.1", &[""], None),
            ("10.0.0.1", &[], None),
        ] {
            let client = client(XForwardedFor, peer, "x-forwarded-for", values);
            assert_eq!(client.as_deref(), expected, "{peer} {values:?}");
        }
    }

    #[test]
    fn forwarded_is_read_where_it_is_configured_and_nowhere_else() {
        use ClientAddressSource::{Forwarded, ProxyProtocol, XForwardedFor};
        for (source, header, value, expected) in [
            (Forwarded, "forwarded", "for=198.51.100.1;proto=https", Some("198.51.100.1")),
            (Forwarded, "forwarded", "For=\"[2001:db8::1]:47\"", Some("2001:db8::1")),
            (Forwarded, "forwarded", "for=203.0.113.5, by=x;for=198.51.100.1", Some("198.51.100.1")),
            (Forwarded, "forwarded", "for=_hidden", None),
            (Forwarded, "forwarded", "proto=https", None),
            (Forwarded, "x-forwarded-for", "198.51.100.1", None),
            (XForwardedFor, "forwarded", "for=198.51.100.1", None),
            (ProxyProtocol, "x-forwarded-for", "198.51.100.1", None),
        ] {
            assert_eq!(
                client(source, "10.0.0.1", header, &[value]).as_deref(),
                expected,
                "{header}: {value}"
            );
        }
    }
}
