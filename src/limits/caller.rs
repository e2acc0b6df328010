//! Who asks, on the levels that limits count by.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// A level at which something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All that this instance is asked.
    Instance,
    /// The peer's address.
    Address,
    /// One connection.
    Connection,
    /// The user of a token, within its tenant.
    User,
    /// The tenant of a credential.
    Tenant,
    /// An API key.
    Key,
}

impl Scope {
    /// Every level, the narrowest first.
    pub const ALL: [Scope; 6] =
        [Scope::Connection, Scope::User, Scope::Key, Scope::Address, Scope::Tenant, Scope::Instance];

    /// The level's name in keys, headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Instance => "instance",
            Scope::Address => "address",
            Scope::Connection => "connection",
            Scope::User => "user",
            Scope::Tenant => "tenant",
            Scope::Key => "key",
        }
    }
}

/// What is counted per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// New WebSockets and event streams.
    Connections,
    /// Commands on a socket, requests over HTTP.
    Commands,
    /// Publications.
    Publishes,
    /// Bytes of data in publications.
    Bytes,
    /// Mutations.
    Mutations,
    /// Credentials that did not hold.
    FailedCredentials,
}

impl Count {
    /// The count's name in keys and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Count::Connections => "connections",
            Count::Commands => "commands",
            Count::Publishes => "publishes",
            Count::Bytes => "bytes",
            Count::Mutations => "mutations",
            Count::FailedCredentials => "failed_credentials",
        }
    }
}

/// Who asks, as far as it is known; what is `None` is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The user of its token; anonymous ones have none.
    pub user: Option<Arc<str>>,
    /// Its tenant.
    pub tenant: Option<Arc<str>>,
    /// The name of its API key.
    pub key: Option<Arc<str>>,
}

/// Which bucket of a level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// The only one.
    Whole,
    /// An address, or a network that one customer has whole.
    Address(IpAddr),
    /// A user within a tenant.
    User(Option<Arc<str>>, Arc<str>),
    /// What a credential says.
    Named(Arc<str>),
    /// One that several share, because there are more names than places.
    Shared(u8),
}

impl Name {
    /// The bucket of an address.
    pub fn of_address(address: IpAddr) -> Name {
        Name::Address(network(address))
    }
}

impl Caller {
    /// A caller of which only the address is known.
    pub fn at(address: Option<IpAddr>) -> Caller {
        Caller { address, ..Caller::default() }
    }

    /// The same without its address, which counts as such before anything else is known.
    pub fn identity(self) -> Caller {
        Caller { address: None, ..self }
    }

    /// An idempotency key as this caller's own, which no other caller can have used before: the first 12 characters name the
    /// API key, or the user within its tenant, or the address of whoever has neither; the rest is the key.
    pub fn own_key(&self, key: &str) -> Arc<str> {
        let owner = match (&self.key, &self.user) {
            (Some(name), _) => format!("key {name}"),
            (None, Some(user)) => {
                let tenant = self.tenant.as_deref().unwrap_or_default();
                format!("user {} {tenant} {user}", tenant.len())
            }
            (None, None) => format!("address {:?}", self.address.map(network)),
        };
        let digest = Sha256::digest(owner.as_bytes());
        // 72 bits: of a billion callers no two meet.
        format!("{}{key}", URL_SAFE_NO_PAD.encode(&digest[..9])).into()
    }

    /// The bucket that it has at this level; `None` where it is not counted there.
    pub fn name(&self, scope: Scope) -> Option<Name> {
        match scope {
            Scope::Instance => Some(Name::Whole),
            Scope::Address => self.address.map(Name::of_address),
            // A connection has meters of its own.
            Scope::Connection => None,
            Scope::User => self.user.clone().map(|user| Name::User(self.tenant.clone(), user)),
            Scope::Tenant => self.tenant.clone().map(Name::Named),
            Scope::Key => self.key.clone().map(Name::Named),
        }
    }
}

/// What one customer of a provider has: an IPv4 address, or the 64 bits before any IPv6 address that it makes up.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_counted_where_it_is_known_and_nowhere_else() {
        let stranger = Caller::default();
        let ada = Caller { user: Some("ada".into()), tenant: Some("acme".into()), ..Caller::default() };
        let backend = Caller { key: Some("backend".into()), ..Caller::default() };
        for (caller, counted) in [
            (&stranger, vec![Scope::Instance]),
            (&ada, vec![Scope::User, Scope::Tenant, Scope::Instance]),
            (&backend, vec![Scope::Key, Scope::Instance]),
        ] {
            let scopes = Scope::ALL.into_iter().filter(|scope| caller.name(*scope).is_some());
            assert_eq!(scopes.collect::<Vec<_>>(), counted, "{caller:?}");
        }
        let namesake = Caller { tenant: Some("other".into()), ..ada.clone() };
        assert_ne!(ada.name(Scope::User), namesake.name(Scope::User), "users of two tenants are two");
    }

    #[test]
    fn an_idempotency_key_belongs_to_who_used_it() {
        let named = |key: &str| Caller { key: Some(key.into()), ..Caller::default() };
        let user = |tenant: Option<&str>, user: &str| Caller {
            tenant: tenant.map(Into::into),
            user: Some(user.into()),
            ..Caller::default()
        };
        let address = |text: &str| Caller::at(Some(text.parse().unwrap()));
        let callers = [
            named("ada"),
            named("backend"),
            user(None, "ada"),
            user(Some("acme"), "ada"),
            user(Some("acm"), "e ada"),
            address("10.0.0.1"),
            address("10.0.0.2"),
            Caller::default(),
        ];
        for (index, one) in callers.iter().enumerate() {
            assert!(one.own_key("order-17").ends_with("order-17"));
            assert_eq!(one.own_key("order-17").len(), 20);
            assert_eq!(one.own_key("order-17"), one.clone().own_key("order-17"));
            for other in &callers[index + 1..] {
                assert_ne!(one.own_key("order-17"), other.own_key("order-17"), "{one:?} and {other:?}");
            }
        }
        let elsewhere = Caller { address: Some([10, 0, 0, 1].into()), ..user(None, "ada") };
        assert_eq!(elsewhere.own_key("k"), user(None, "ada").own_key("k"), "a user may retry from anywhere");
    }

    #[test]
    fn an_address_counts_as_what_one_customer_has() {
        for (one, other, same) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            let name = |text: &str| Caller::at(Some(text.parse().unwrap())).name(Scope::Address);
            assert_eq!(name(one) == name(other), same, "{one} and {other}");
        }
    }
}
