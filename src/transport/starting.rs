//! What the port answers until the instance is built, which takes as long as Redis takes to be reached.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidings_protocol::{Code, Problem};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::debug;

use crate::api::ApiError;

/// Sockets at once; further ones wait in the kernel's queue.
const SOCKETS_MAX: usize = 64;

/// How long one socket may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A pause after the machine refused a socket.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers every request, until it is dropped: the process lives, and does not serve yet.
pub async fn answer_while_starting(listener: &TcpListener) -> Infallible {
    let mut sockets = JoinSet::new();
    loop {
        while sockets.len() >= SOCKETS_MAX {
            sockets.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(sockets.spawn(tokio::time::timeout(PATIENCE, serve(stream)))),
            Err(error) => {
                debug!(%error, "no socket while starting");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while sockets.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream) {
    let answer =
        |request: Request<Incoming>| async move { Ok::<_, Infallible>(answer(request.uri().path())) };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await {
        debug!(%error, "an HTTP connection ended while starting");
    }
}

fn answer(path: &str) -> Response<axum::body::Body> {
    match path {
        "/livez" => "ok\n".into_response(),
        _ => {
            let problem = Problem::new(Code::Overloaded, "the server is starting: try again in a moment");
            ApiError(problem).into_response()
        }
    }
}
