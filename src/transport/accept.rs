//! The accept loop: sockets become HTTP connections, within bounds, until the server stops.
//!
//! axum's own `serve` waits for ever for a request's head and forgets upgraded sockets; this loop does neither.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::contained::contained;
use crate::instance::{Hangup, Instance};
use crate::observe::descriptors_max;

/// How long to wait when the process has no descriptors left: existing connections go on meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What the kernel may hold of what a peer has not read. Left alone it grows to 4 MiB for each stalled socket; what does
/// not fit waits in the mailbox, where it is counted.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// One descriptor of so many is kept from connections: for files, for Redis, for whatever those who are here need.
const DESCRIPTORS_KEPT: u64 = 10;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Accepts until the instance stops.
pub async fn accept(listener: TcpListener, router: Router, instance: Arc<Instance>) {
    let http = http(&instance);
    let descriptors = Descriptors::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = instance.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = Peer(peer.ip());
                let was_last = descriptors.are_scarce_at(&stream);
                let serve = serve(stream, peer, http.clone(), router.clone(), instance.clone());
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
        let all = descriptors_max().unwrap_or(u64::MAX);
        Descriptors { most: all - all / DESCRIPTORS_KEPT }
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

fn http(instance: &Instance) -> http1::Builder {
    let (server, limits) = (&instance.config.server, &instance.config.limits);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(server.header_timeout);
    http.max_buf_size(limits.header_bytes_max);
    http.max_headers(limits.headers_max);
    http
}

async fn serve(stream: TcpStream, peer: Peer, http: http1::Builder, router: Router, instance: Arc<Instance>) {
    stream.set_nodelay(true).ok();
    SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES).ok();
    #[cfg(target_os = "linux")]
    give_up_silent(&stream, instance.config.server.timeout);
    let service = TowerToHyperService::new(router);
    let hangup = Hangup::default();
    let of_this = hangup.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(of_this.clone());
        service.call(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            served = connection.as_mut() => served,
            () = instance.stopping.cancelled() => {
                // A request that is under way is answered; then the connection ends.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let served = tokio::select! {
        served = served => served,
        () = hangup.hung_up() => return debug!("hung up on a peer that does not read"),
    };
    if let Err(error) = served {
        debug!(%error, "an HTTP connection ended");
    }
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
