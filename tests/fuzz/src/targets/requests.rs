//! Whole requests, through every layer between the HTTP parser and the broker: each is answered as the specification says.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;
use tidings::config::{Config, Sources};
use tidings::server::Server;
use tidings_protocol::Code;
use tokio::runtime::{Builder, Runtime};

/// Small enough to be met, so that an input finds about what any other would.
const LIMITS: [(&str, &str); 8] = [
    ("CHANNELS_MAX", "20"),
    ("CONNECTIONS_MAX", "50"),
    ("HISTORY_TOTAL_BYTES", "100000"),
    ("IDEMPOTENCY_BYTES", "10KiB"),
    ("LOGS_MAX", "2"),
    ("MESSAGE_BYTES_MAX", "1000"),
    ("REQUEST_ITEMS_MAX", "8"),
    ("TAGS_PER_EVENT_MAX", "4"),
];

/// A stream answers at once, or not at all.
const PATIENCE: Duration = Duration::from_millis(200);

struct Host {
    runtime: Runtime,
    server: Server,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let variable = |(name, value): (&str, &str)| (format!("TIDINGS__{name}"), value.to_owned());
    let mut env: Vec<(String, String)> =
        LIMITS.iter().map(|(name, value)| variable((&format!("LIMITS__{name}"), value))).collect();
    env.push(variable(("SERVER__LISTEN", "127.0.0.1:0")));
    let config = Config::load(&Sources { env, dev: true, ..Sources::default() });
    let config = config.unwrap_or_else(|problems| panic!("{problems}")).config;
    let server = runtime.block_on(Server::start(config, true)).expect("it starts");
    Host { runtime, server }
});

/// `METHOD /path`, a header a line, an empty line, the body. Not HEAD, whose answers lack the body that says what was wrong.
pub(crate) fn requests(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let service = TowerToHyperService::new(HOST.server.router());
    HOST.runtime.block_on(async {
        let response = service.call(request).await.expect("a router does not fail");
        check(response).await;
    });
}

fn request(data: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = data.windows(2).position(|window| window == b"\n\n").unwrap_or(data.len());
    let head = std::str::from_utf8(&data[..end]).ok()?;
    let body = data.get(end + 2..).unwrap_or_default();
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ').filter(|(method, _)| *method != "HEAD")?;
    let mut builder = Request::builder().method(method).uri(target).header("host", "127.0.0.1");
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(Bytes::copy_from_slice(body))).ok()
}

async fn check<B>(response: Response<B>)
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Debug,
{
    let (head, mut body) = response.into_parts();
    let status = head.status.as_u16();
    let kind = head.headers.get(CONTENT_TYPE).map(|kind| kind.to_str().expect("we wrote it").to_owned());
    if kind.as_deref() == Some("text/event-stream") {
        // It goes on for ever: its beginning is enough.
        tokio::time::timeout(PATIENCE, body.frame()).await.ok();
        return;
    }
    let body = body.collect().await.expect("it is whole").to_bytes();
    if status < 400 || kind.is_none() {
        return;
    }
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status}");
    let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem is JSON");
    let slug = problem["code"].as_str().expect("a problem has a code");
    let code = Code::ALL.iter().find(|code| code.slug() == slug).expect("the code is in the registry");
    assert_eq!((code.status(), problem["status"].as_u64()), (status, Some(u64::from(status))), "{problem}");
    assert_ne!(*code, Code::Internal, "{problem}");
}
