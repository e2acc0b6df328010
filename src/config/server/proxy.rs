//! Proxies in front of the server: which ones are trusted, and how they report their clients' addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::kind::{Fault, Form, Kind, Words, quoted, text};
use crate::config::raw::Raw;

/// An address or a network of addresses: `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether the address is in the network. An IPv4 address inside IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl Kind for Network {
    type Value = Network;
    const EXPECTED: &'static str = "an address or a network such as \"10.0.0.0/8\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<Network, Fault> {
        let text = text::<Network>(raw)?;
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network: IpNet| Network(network.trunc())).map_err(|_| {
            Fault::new(raw, format!("{text:?} is neither an address nor a network"))
                .with_hint("write an address, or one with the number of its leading bits: 10.0.0.0/8")
        })
    }

    fn show(Network(network): &Network) -> Option<String> {
        let is_single = network.prefix_len() == network.max_prefix_len();
        Some(quoted(&if is_single { network.addr().to_string() } else { network.to_string() }))
    }
}

/// What in a connection of a trusted proxy names the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddressSource {
    /// The header `X-Forwarded-For` of each request.
    XForwardedFor,
    /// The header `Forwarded` of each request.
    Forwarded,
    /// The first bytes of the connection.
    ProxyProtocol,
}

impl Words for ClientAddressSource {
    const EXPECTED: &'static str = "\"x-forwarded-for\", \"forwarded\" or \"proxy-protocol\"";
    const WORDS: &'static [(&'static str, ClientAddressSource)] = &[
        ("x-forwarded-for", ClientAddressSource::XForwardedFor),
        ("forwarded", ClientAddressSource::Forwarded),
        ("proxy-protocol", ClientAddressSource::ProxyProtocol),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Option<Network> {
        let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        parsed.ok().map(Network)
    }

    #[test]
    fn a_network_contains_its_addresses_in_either_form() {
        for (net, address, contained) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network = network(net).expect(net);
            assert_eq!(network.contains(address.parse().unwrap()), contained, "{address} in {net}");
        }
    }
}
