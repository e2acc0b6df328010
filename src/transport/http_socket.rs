//! One HTTP socket: its requests one after the other, and how long it may stay without one.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AnyBody;
use axum::http::header::{CONTENT_TYPE, EXPECT, HeaderValue};
use axum::http::{HeaderName, Request, Response};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tracing::debug;

use super::client_address::{Peer, Proxies};
use super::request_body::{RequestBody, STOPPING_PATIENCE};
use crate::hub::Time;
use crate::instance::{Hangup, Instance};
use crate::limits::Place;

/// Where a request comes from, as far as limits count by it; without an address where a trusted proxy names no client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) Option<IpAddr>);

/// One HTTP socket.
pub(super) struct HttpSocket {
    instance: Arc<Instance>,
    place: Place,
    /// Ends it at once: where its place is another's, or its peer does not read.
    hangup: Hangup,
    peer: Peer,
    proxies: Arc<Proxies>,
    is_at_work: AtomicBool,
    /// Whether it stays open between requests: it comes from a trusted proxy, or the API accepted one of its requests.
    is_known: AtomicBool,
    /// When it was last without a request, in nanoseconds of the instance's clock.
    rests_since: AtomicU64,
    rests: Notify,
}

impl HttpSocket {
    pub(super) fn new(
        instance: Arc<Instance>,
        place: Place,
        peer: Peer,
        proxies: Arc<Proxies>,
    ) -> Arc<HttpSocket> {
        let socket = HttpSocket {
            hangup: Hangup::from(place.evicted()),
            place,
            peer,
            proxies,
            is_at_work: AtomicBool::new(false),
            is_known: AtomicBool::new(!matches!(peer, Peer::Client(_))),
            rests_since: AtomicU64::new(nanoseconds(instance.clock.now())),
            rests: Notify::new(),
            instance,
        };
        Arc::new(socket)
    }

    /// Serves until the peer or the server ends it.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        http: &http1::Builder,
        router: Router,
    ) -> hyper::Result<()> {
        let router = TowerToHyperService::new(router);
        let service = service_fn(|request| self.clone().answer(router.clone(), request));
        // On the heap: a task's future holds what is moved inside it twice.
        let mut connection = Box::pin(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let served = async {
            tokio::select! {
                served = connection.as_mut() => served,
                () = self.instance.stopping.cancelled() => {
                    // A request that is under way is answered; then the connection ends. Half a head is no request.
                    connection.as_mut().graceful_shutdown();
                    let rests = Box::pin(self.rests_for(|| STOPPING_PATIENCE));
                    tokio::select! {
                        served = connection => served,
                        () = rests => Ok(()),
                    }
                }
                () = self.rests_for(|| self.patience()) => Ok(()),
            }
        };
        tokio::select! {
            served = served => served,
            () = self.hangup.hung_up() => {
                debug!("hung up on a peer that does not read, or whose place is another's");
                Ok(())
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        router: TowerToHyperService<Router>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Infallible> {
        let work = Work::begin(self.clone());
        let address = self.proxies.client_of(self.peer, request.headers());
        let waits_to_be_asked = request.headers().contains_key(EXPECT);
        let stopping = self.instance.stopping.clone();
        let mut request =
            request.map(|incoming| AnyBody::new(RequestBody::new(incoming, waits_to_be_asked, stopping)));
        request.extensions_mut().insert(ClientAddress(address));
        request.extensions_mut().insert(self.hangup.clone());
        let is_api = request.uri().path().starts_with("/v1/");
        let mut response = router.call(request).await?;
        if is_api && response.status().is_success() {
            self.is_known.store(true, Ordering::Relaxed);
        }
        if is_event_stream(&response) {
            // It is a connection now, and counted as one.
            self.place.leave();
        } else {
            response.headers_mut().insert(HeaderName::from_static("keep-alive"), self.keep_alive());
        }
        Ok(response.map(|body| Answer { body, _work: work }))
    }

    /// Returns when the socket has been without a request for so long, as `patience` says when it is asked.
    async fn rests_for(&self, patience: impl Fn() -> Duration) {
        loop {
            if self.is_at_work.load(Ordering::Acquire) {
                self.rests.notified().await;
                continue;
            }
            let rests_until = self.rests_since.load(Ordering::Acquire) + patience().as_nanos() as u64;
            let now = nanoseconds(self.instance.clock.now());
            if rests_until <= now {
                return;
            }
            tokio::time::sleep(Duration::from_nanos(rests_until - now)).await;
        }
    }

    fn patience(&self) -> Duration {
        let server = &self.instance.config.server;
        if self.is_known.load(Ordering::Relaxed) { server.idle_timeout } else { server.header_timeout }
    }

    /// Tells the client how long it may keep the socket, in whole seconds.
    fn keep_alive(&self) -> HeaderValue {
        HeaderValue::try_from(format!("timeout={}", self.patience().as_secs())).expect("a word and a number")
    }
}

fn is_event_stream(response: &Response<AnyBody>) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

fn nanoseconds(time: Time) -> u64 {
    time.0.as_nanos() as u64
}

/// One request, from its head to the last byte of its answer.
struct Work {
    socket: Arc<HttpSocket>,
}

impl Work {
    fn begin(socket: Arc<HttpSocket>) -> Work {
        socket.is_at_work.store(true, Ordering::Release);
        socket.place.work();
        Work { socket }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let socket = &self.socket;
        socket.rests_since.store(nanoseconds(socket.instance.clock.now()), Ordering::Release);
        socket.is_at_work.store(false, Ordering::Release);
        socket.rests.notify_one();
        socket.place.rest();
    }
}

/// The body of an answer; its end is the end of the request.
struct Answer {
    body: AnyBody,
    _work: Work,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
