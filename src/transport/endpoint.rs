//! The HTTP side of WebSockets: requests that become connections.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use axum::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper_util::rt::TokioIo;
use tidings_protocol::{Code, Problem, SUBPROTOCOL_JSON};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tracing::debug;

use super::admission::{address_of, admit, grant_of, seat, subprotocols};
use super::contained::contained;
use super::inbound::Inbound;
use super::performer::{Performer, Places};
use super::task::Connection;
use super::websocket::WebSocketWire;
use super::wire::Wire;
use crate::api::ApiError;
use crate::hub::{Grant, Session, SessionConfig};
use crate::instance::{Instance, caller_of};
use crate::node::{Member, Profile, SharedMailbox};

/// `GET /ws`
pub async fn websocket(
    State(instance): State<Arc<Instance>>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let address = address_of(request.extensions());
    let (mut parts, _) = request.into_parts();
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let request = axum::http::Request::from_parts(parts, ());
    let not_websocket =
        |code, why: &dyn Display| Problem::new(code, format!("no WebSocket handshake: {why}"));
    if !request.headers().contains_key(UPGRADE) {
        return Err(not_websocket(Code::UpgradeRequired, &"the header Upgrade: websocket is missing").into());
    }
    let response = create_response(&request).map_err(|error| not_websocket(Code::BadRequest, &error))?;
    let cannot = || not_websocket(Code::BadRequest, &"the connection cannot be upgraded");
    let upgrade = upgrade.ok_or_else(cannot)?;
    // What is no handshake takes nothing from those who come with one.
    let place = admit(&instance, request.extensions())?;
    let grant = grant_of(&instance, request.headers(), address).await?;
    let seat = |grant: &Grant| seat(&instance, &caller_of(grant, address).identity());
    let identity = grant.as_ref().map(seat).transpose()?;
    let places = Places { address: place, identity };
    let admitted = Admitted { grant, has_passes: false, places, address };

    let mut response = response.map(|()| Body::empty());
    if subprotocols(request.headers()).any(|offered| offered == SUBPROTOCOL_JSON) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_JSON));
    }
    let (tasks, metrics) = (instance.tasks.clone(), instance.metrics.clone());
    tasks.spawn(contained(metrics, async move {
        match upgrade.await {
            Ok(upgraded) => take_over(instance, upgraded, admitted),
            Err(error) => debug!(%error, "upgrade failed"),
        }
    }));
    Ok(response)
}

/// Takes the bare socket out of hyper's hands and gives it a task of its own: a fresh one, which does not keep the memory
/// that the handshake took.
fn take_over(instance: Arc<Instance>, upgraded: hyper::upgrade::Upgraded, admitted: Admitted) {
    let parts = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => parts,
        Err(_) => return debug!("the upgraded connection is no TCP socket"),
    };
    let wire = WebSocketWire::new(parts.io.into_inner(), &parts.read_buf, &instance.limits.load());
    let config = instance.websocket.load_full();
    open(&instance, config, admitted, wire, |session| session);
}

/// A peer that becomes a connection.
pub(super) struct Admitted {
    /// What it may do; `None` until it has said who it is.
    pub(super) grant: Option<Grant>,
    /// Tokens for single channels came with it.
    pub(super) has_passes: bool,
    pub(super) places: Places,
    pub(super) address: Option<IpAddr>,
}

/// Starts the task of a connection.
pub(super) fn open<W: Wire>(
    instance: &Arc<Instance>,
    config: Arc<SessionConfig>,
    admitted: Admitted,
    wire: W,
    prepare: impl FnOnce(Session) -> Session,
) {
    let Admitted { grant, has_passes, places, address } = admitted;
    let profile = Profile::new(W::KIND.into(), instance.clock.unix_ms());
    let mailbox = Arc::new(SharedMailbox::new(instance.limits.load().mailbox_bytes, profile));
    let member: Member = instance.node.enter(mailbox.clone());
    grant.iter().for_each(|grant| member.identify(grant));
    let caller = grant.as_ref().map(|grant| caller_of(grant, address)).unwrap_or_default();
    if has_passes {
        member.add_pass();
    }
    // What was revoked before it could be found with the connection, it looks at by itself.
    let is_revoked = |grant: &Grant| instance.node.is_revoked(&grant.user, &grant.credential);
    if has_passes || grant.as_ref().is_some_and(is_revoked) {
        mailbox.recheck();
    }
    let session =
        Session::new(config, member.name().to_string(), grant, instance.jitter(), instance.clock.now());
    let connection = Connection {
        session: prepare(session),
        wire,
        mailbox,
        performer: Performer { instance: instance.clone(), member, caller, address, places, pages: None },
        inbound: Inbound::new(instance.clone(), address),
        node: instance.node.clone(),
        clock: instance.clock,
        metrics: instance.metrics.clone(),
        write_timeout: instance.config.server.write_timeout,
    };
    instance.tasks.spawn(connection.run());
}
