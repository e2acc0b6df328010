//! The accept loop: sockets become HTTP connections, within bounds, until the server stops.
//!
//! axum's own `serve` waits for ever for a request's head and forgets upgraded sockets; this loop does neither.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::client_address::{Peer, Proxies};
use super::contained::contained;
use super::http_socket::HttpSocket;
use super::proxy_header;
use crate::instance::Instance;
use crate::limits::{Scope, Sockets};
use crate::observe::descriptors_max;

/// How long to wait when the process has no descriptors left: existing connections go on meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What the kernel may hold of what a peer has not read. Left alone it grows to 4 MiB for each stalled socket; what does
/// not fit waits in the mailbox, where it is counted.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// One descriptor of so many is kept from connections: for files, for Redis, for whatever those who are here need.
const DESCRIPTORS_KEPT: u64 = 10;

/// What all sockets of a listener share.
struct Listening {
    http: http1::Builder,
    router: Router,
    proxies: Arc<Proxies>,
    sockets: Arc<Sockets>,
    instance: Arc<Instance>,
}

/// Accepts until the instance stops.
pub async fn accept(listener: TcpListener, router: Router, instance: Arc<Instance>) {
    let descriptors = Descriptors::new();
    let listening = Arc::new(Listening {
        http: http(&instance),
        router,
        proxies: Arc::new(Proxies::new(&instance.config.server)),
        sockets: instance.sockets.clone(),
        instance: instance.clone(),
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = instance.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let was_last = descriptors.are_scarce_at(&stream);
                // On the heap: inside another future it would be held twice.
                let serve = Box::pin(serve(stream, peer.ip(), listening.clone()));
                instance.tasks.spawn(contained(instance.metrics.clone(), serve));
                if was_last {
                    descriptors.wait_for_more(&instance).await;
                }
            }
            Err(error) if is_exhausted(&error) => {
                warn!(%error, "no descriptors left: not accepting for a moment");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            Err(error) => debug!(%error, "a peer left before it was accepted"),
        }
    }
}

/// How many descriptors connections may take.
struct Descriptors {
    most: u64,
}

impl Descriptors {
    fn new() -> Descriptors {
        Descriptors { most: connection_descriptors_max() }
    }

    /// Whether this one, which was just opened, is among the last. The kernel gives out the lowest number that is free, so as
    /// many are open.
    fn are_scarce_at(&self, opened: &impl AsRawFd) -> bool {
        u64::try_from(opened.as_raw_fd()).is_ok_and(|number| number >= self.most)
    }

    /// Returns when connections may take more again. Meanwhile those who come are in the kernel's queue, and take none.
    async fn wait_for_more(&self, instance: &Instance) {
        warn!(most = self.most, "connections have all the descriptors that they may: not accepting");
        let is_scarce = || File::open("/dev/null").map_or(true, |file| self.are_scarce_at(&file));
        while !instance.stopping.is_cancelled() && is_scarce() {
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
    }
}

/// Descriptors that connections may take.
pub fn connection_descriptors_max() -> u64 {
    let all = descriptors_max().unwrap_or(u64::MAX);
    all - all / DESCRIPTORS_KEPT
}

fn http(instance: &Instance) -> http1::Builder {
    let (server, limits) = (&instance.config.server, &instance.config.limits);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    // Until a request was accepted, `HttpSocket` waits no longer than header_timeout.
    http.header_read_timeout(server.idle_timeout);
    http.max_buf_size(limits.header_bytes_max);
    http.max_headers(limits.headers_max);
    http
}

async fn serve(mut stream: TcpStream, address: IpAddr, listening: Arc<Listening>) {
    let Listening { http, router, proxies, sockets, instance } = &*listening;
    stream.set_nodelay(true).ok();
    SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES).ok();
    #[cfg(target_os = "linux")]
    give_up_silent(&stream, instance.config.server.timeout);
    let peer = match peer(&mut stream, address, &listening).await {
        Ok(peer) => peer,
        Err(error) => return debug!(%address, %error, "a proxy does not say for whom it asks"),
    };
    let client = match peer {
        Peer::Client(address) => Some(address),
        Peer::Proxy | Peer::ProxyItself => None,
    };
    let Some(place) = sockets.enter(client, instance.node.connections()) else {
        instance.metrics.rate_limited(Scope::Address);
        return debug!(%address, "an address has as many sockets at work as are still free");
    };
    let socket = HttpSocket::new(instance.clone(), place, peer, proxies.clone());
    if let Err(error) = socket.serve(stream, http, router.clone()).await {
        debug!(%error, "an HTTP connection ended");
    }
}

/// Who is at the other end, which some proxies say at the start of the connection.
async fn peer(stream: &mut TcpStream, address: IpAddr, listening: &Listening) -> io::Result<Peer> {
    if !listening.proxies.begins_with_header(address) {
        return Ok(listening.proxies.peer(address));
    }
    let patience = listening.instance.config.server.header_timeout;
    // On the heap, for most connections never need the room.
    let client = Box::pin(tokio::time::timeout(patience, proxy_header::read(stream))).await??;
    Ok(client.map_or(Peer::ProxyItself, Peer::Client))
}

/// Lets the kernel end a connection whose peer acknowledges nothing, or leaves no room, for so long. Only the kernel sees
/// every such peer: hyper waits for ever for whoever does not read an answer, and a write of a few bytes to a peer that
/// is gone succeeds.
#[cfg(target_os = "linux")]
fn give_up_silent(stream: &TcpStream, timeout: Duration) {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds) {
        debug!(%error, "a peer that does not read can hold its socket");
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
        rustix::io::Errno::NOMEM,
    ];
    exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
