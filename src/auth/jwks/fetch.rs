//! Fetches a set of keys: one request on a connection of its own, everything bounded in time and size.
//!
//! It follows no redirects and knows no proxies: the answer comes from the configured address, or there is none.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::JwksUrl;

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The machine's own roots of trust, read when the first key is fetched.
static TLS: LazyLock<Result<TlsConnector, String>> = LazyLock::new(connector);

/// The body of the answer, at most so many bytes of it; or why there is none.
pub(super) async fn fetch(url: &JwksUrl, bytes_max: usize) -> Result<Bytes, String> {
    timeout(TIMEOUT, exchange(url, bytes_max))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
}

async fn exchange(url: &JwksUrl, bytes_max: usize) -> Result<Bytes, String> {
    let uri = url.uri();
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if url.is_encrypted() { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.map_err(|error| format!("no connection: {error}"))?;
    if !url.is_encrypted() {
        return ask(url, TokioIo::new(stream), bytes_max).await;
    }
    let connector = TLS.as_ref().map_err(Clone::clone)?;
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| "the host is no name of a server".to_owned())?;
    let stream = connector.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
    ask(url, TokioIo::new(stream), bytes_max).await
}

async fn ask(
    url: &JwksUrl,
    stream: impl Read + Write + Unpin + Send + 'static,
    bytes_max: usize,
) -> Result<Bytes, String> {
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    // Ends with the exchange.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let uri = url.uri();
    let request = Request::builder()
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(USER_AGENT, concat!("tidings/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()));
    }
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| format!("the answer cannot be read: {error}"))
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err("this machine has no certificates that it trusts".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
