//! Who a peer is, and whether there is room for it, before it becomes a connection.

use std::net::IpAddr;

use axum::http::Extensions;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tidings_protocol::{Code, Problem};

use super::http_socket::ClientAddress;
use crate::api::note;
use crate::hub::Grant;
use crate::instance::Instance;
use crate::limits::{Caller, Count, Pressure, Scope, Seat, SeatLimits};
use crate::observe::Phase;

/// The cookie that may hold a token.
const COOKIE_NAME: &str = "tidings_token";

/// What a subprotocol starts with that carries a token.
const BEARER_PROTOCOL: &str = "bearer.";

/// Where a request comes from.
pub fn address_of(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ClientAddress>().and_then(|ClientAddress(address)| *address)
}

/// Takes the place of another connection that came by this request, if there is room for one more. What belongs to the peer's
/// address alone is asked first: whoever is over its own limits takes nothing from what all share.
pub(super) fn admit(instance: &Instance, extensions: &Extensions) -> Result<Seat, Problem> {
    if matches!(instance.health.phase(), Phase::Starting | Phase::Closing) {
        return Err(Code::Draining.into());
    }
    let full = |message| {
        instance.metrics.rate_limited(Scope::Instance);
        Err(Problem::new(Code::Overloaded, message))
    };
    if instance.memory.pressure() >= Pressure::Refusing {
        return full("this instance uses 85 % of its memory: try again later or elsewhere");
    }
    let caller = Caller::at(address_of(extensions));
    // Taken now and not when the connection is there: handshakes under way would overshoot the bound together.
    let seat = seat_within(instance, &caller, SeatLimits::from(&**instance.limits.load()))?;
    match instance.admit_arrival(&caller) {
        true => Ok(seat),
        false => full("more connections arrive than limits.connections_per_second: try again later"),
    }
}

/// A place for a connection of the caller, which is counted.
pub(super) fn seat(instance: &Instance, caller: &Caller) -> Result<Seat, Problem> {
    // The connection has its place among all already.
    seat_within(instance, caller, SeatLimits { instance: 0, ..SeatLimits::from(&**instance.limits.load()) })
}

fn seat_within(instance: &Instance, caller: &Caller, limits: SeatLimits) -> Result<Seat, Problem> {
    note(instance.admit(caller, Count::Connections, 1))?;
    instance.seats.take(caller, limits).map_err(|(scope, problem)| {
        instance.metrics.rate_limited(scope);
        problem
    })
}

/// What the peer may do by the credential that came with its request; `None` if none came and one is demanded.
pub(super) async fn grant_of(
    instance: &Instance,
    headers: &HeaderMap,
    address: Option<IpAddr>,
) -> Result<Option<Grant>, Problem> {
    let token = bearer(headers).or_else(|| subprotocol_token(headers)).or_else(|| cookie(instance, headers));
    match token {
        Some(token) => instance.authenticate(token, address).await.map(Some),
        None => Ok(instance.authenticator.load().anonymous()),
    }
}

/// The token of `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The subprotocols that the client offers.
pub(super) fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn subprotocol_token(headers: &HeaderMap) -> Option<&str> {
    subprotocols(headers).find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL))
}

/// A browser sends cookies whoever's page asks, so one counts only where the page is known: of this origin, or listed.
fn cookie<'a>(instance: &Instance, headers: &'a HeaderMap) -> Option<&'a str> {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let same_origin = text(SEC_FETCH_SITE) == Some("same-origin");
    let is_allowed = |origin| instance.origins.load().allows(origin, text(HOST));
    if !same_origin && !text(ORIGIN).is_some_and(is_allowed) {
        return None;
    }
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_the_header_and_among_the_subprotocols() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "bearer abc".parse().unwrap());
        headers.insert(SEC_WEBSOCKET_PROTOCOL, "tidings.v1.json, bearer.x.y.z".parse().unwrap());
        assert_eq!(bearer(&headers), Some("abc"));
        assert_eq!(subprotocol_token(&headers), Some("x.y.z"));
        headers.insert(AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }
}
