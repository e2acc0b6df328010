//! Counters and histograms in Prometheus' text format. Every label's values are known beforehand: no channel, no user.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tidings_protocol::{CloseCode, Code, GapReason, Transport};

use crate::hub::Batch;
use crate::limits::Scope;

/// How a subscriber is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum TransportKind {
    /// A WebSocket.
    WebSocket,
    /// A stream of server-sent events.
    Sse,
}

impl From<TransportKind> for Transport {
    fn from(kind: TransportKind) -> Transport {
        match kind {
            TransportKind::WebSocket => Transport::WebSocket,
            TransportKind::Sse => Transport::Sse,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Slug {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Level {
    scope: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bound {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Via {
    transport: TransportKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

/// What one transport counts; resolved once, so that a delivery costs additions and no look-up.
#[derive(Clone, Debug, Default)]
struct PerTransport {
    connections: Gauge,
    delivered: Counter,
    bytes: Counter,
}

/// All numbers of one process.
pub struct Metrics {
    registry: Registry,
    websocket: PerTransport,
    sse: PerTransport,
    closed: Family<Slug, Counter>,
    refused: Family<Slug, Counter>,
    rate_limited: Family<Level, Counter>,
    shed: Counter,
    resumes: Family<Outcome, Counter>,
    slow: Family<Outcome, Counter>,
    gaps: Family<Outcome, Counter>,
    published: Counter,
    mutations: Counter,
    mutation_tags: Counter,
    broker_events: Counter,
    broker_losses: Counter,
    broker_interruptions: Family<Cause, Counter>,
    batch_sizes: Histogram,
    batches: Counter,
    panics: Counter,
    requests: Family<Request, Histogram>,
    broker_up: Gauge<u64, AtomicU64>,
    memory_used: Gauge<u64, AtomicU64>,
    memory_budget: Gauge<u64, AtomicU64>,
    limit_used: Family<Bound, Gauge<u64, AtomicU64>>,
    limit_total: Family<Bound, Gauge<u64, AtomicU64>>,
    cluster_instances: Gauge<u64, AtomicU64>,
    cluster_silent: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// All numbers at zero.
    pub fn new() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("tidings"),
            websocket: PerTransport::default(),
            sse: PerTransport::default(),
            closed: Family::default(),
            refused: Family::default(),
            rate_limited: Family::default(),
            shed: Counter::default(),
            resumes: Family::default(),
            slow: Family::default(),
            gaps: Family::default(),
            published: Counter::default(),
            mutations: Counter::default(),
            mutation_tags: Counter::default(),
            broker_events: Counter::default(),
            broker_losses: Counter::default(),
            broker_interruptions: Family::default(),
            batch_sizes: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            batches: Counter::default(),
            panics: Counter::default(),
            requests: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 4.0, 9))),
            broker_up: Gauge::default(),
            memory_used: Gauge::default(),
            memory_budget: Gauge::default(),
            limit_used: Family::default(),
            limit_total: Family::default(),
            cluster_instances: Gauge::default(),
            cluster_silent: Gauge::default(),
        };
        metrics.register_transports();
        metrics.register_all();
        metrics.register_limits();
        metrics
    }

    fn register_transports(&mut self) {
        let connections = Family::<Via, Gauge>::default();
        let delivered = Family::<Via, Counter>::default();
        let bytes = Family::<Via, Counter>::default();
        for (kind, slot) in
            [(TransportKind::WebSocket, &mut self.websocket), (TransportKind::Sse, &mut self.sse)]
        {
            let via = Via { transport: kind };
            *slot = PerTransport {
                connections: connections.get_or_create_owned(&via),
                delivered: delivered.get_or_create_owned(&via),
                bytes: bytes.get_or_create_owned(&via),
            };
        }
        self.registry.register("connections", "Connections that are open", connections);
        self.registry.register("messages_delivered", "Publications written to connections", delivered);
        self.registry.register_with_unit("sent", "Bytes written to connections", Unit::Bytes, bytes);
    }

    fn register_all(&mut self) {
        let Metrics { registry, .. } = self;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", version);
        registry.register(
            "connections_closed",
            "Connections ended by the server, by reason",
            self.closed.clone(),
        );
        registry.register("errors", "Requests and commands refused, by code", self.refused.clone());
        registry.register("resume", "Resumed subscriptions, by result", self.resumes.clone());
        registry.register(
            "slow_consumers",
            "Connections that fell behind, by what was done",
            self.slow.clone(),
        );
        registry.register("gaps", "Gaps declared to clients, by reason", self.gaps.clone());
        registry.register(
            "messages_published",
            "Publications accepted by this instance",
            self.published.clone(),
        );
        registry.register("mutations", "Mutations accepted by this instance", self.mutations.clone());
        registry.register(
            "mutation_tags",
            "Tags touched by mutations accepted by this instance",
            self.mutation_tags.clone(),
        );
        registry.register("broker_events", "Announcements taken from the broker", self.broker_events.clone());
        registry.register("broker_losses", "Announcements known to be lost", self.broker_losses.clone());
        registry.register(
            "broker_interruptions",
            "What may have cost announcements, so that history was read, by cause",
            self.broker_interruptions.clone(),
        );
        registry.register("batches", "Batches sealed", self.batches.clone());
        registry.register("batch_size_messages", "Publications in a batch", self.batch_sizes.clone());
        registry.register("panics", "Defects caught at the boundary of a connection", self.panics.clone());
        registry.register(
            "broker_up",
            "1 while the broker can be reached and what it announces is delivered",
            self.broker_up.clone(),
        );
        registry.register(
            "cluster_instances",
            "Instances that were heard of lately, this one among them",
            self.cluster_instances.clone(),
        );
        registry.register(
            "cluster_silent",
            "Instances that were not heard of lately and did not say that they leave",
            self.cluster_silent.clone(),
        );
        let help = "Time from a request's head to its answer's head";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, self.requests.clone());
    }

    fn register_limits(&mut self) {
        let Metrics { registry, .. } = self;
        registry.register(
            "rate_limited",
            "Connections, requests and commands refused because of a rate or a number, by level",
            self.rate_limited.clone(),
        );
        registry.register("shed", "Slow readers given up for want of memory", self.shed.clone());
        registry.register("memory_used_bytes", "What this process has in memory", self.memory_used.clone());
        registry.register("memory_budget_bytes", "What it may use", self.memory_budget.clone());
        registry.register("limit_used", "What is held of what a limit bounds", self.limit_used.clone());
        registry.register("limit_total", "What may be held of it", self.limit_total.clone());
    }

    fn of(&self, kind: TransportKind) -> &PerTransport {
        match kind {
            TransportKind::WebSocket => &self.websocket,
            TransportKind::Sse => &self.sse,
        }
    }

    /// A connection opened.
    pub fn opened(&self, kind: TransportKind) {
        self.of(kind).connections.inc();
    }

    /// A connection ended; `code` where the server ended it.
    pub fn closed(&self, kind: TransportKind, code: Option<CloseCode>) {
        self.of(kind).connections.dec();
        let code = code.map_or("gone", CloseCode::slug);
        self.closed.get_or_create(&Slug { code }).inc();
    }

    /// Connections open now, of one kind.
    pub fn open(&self, kind: TransportKind) -> i64 {
        self.of(kind).connections.get()
    }

    /// Publications went out.
    pub fn delivered(&self, kind: TransportKind, publications: usize) {
        self.of(kind).delivered.inc_by(publications as u64);
    }

    /// Bytes went out.
    pub fn sent(&self, kind: TransportKind, bytes: usize) {
        self.of(kind).bytes.inc_by(bytes as u64);
    }

    /// A request or a command was refused.
    pub fn refused(&self, code: Code) {
        self.refused.get_or_create(&Slug { code: code.slug() }).inc();
    }

    /// A rate, or a number of connections, of this level was reached.
    pub fn rate_limited(&self, scope: Scope) {
        self.rate_limited.get_or_create(&Level { scope: scope.as_str() }).inc();
    }

    /// A slow reader was given up for want of memory.
    pub fn shed(&self) {
        self.shed.inc();
    }

    /// A subscription with a position was answered.
    pub fn resumed(&self, recovered: bool) {
        let result = if recovered { "recovered" } else { "gap" };
        self.resumes.get_or_create(&Outcome { result }).inc();
    }

    /// A mailbox forgot something that will be read from history.
    pub fn fell_behind(&self) {
        self.slow.get_or_create(&Outcome { result: "back_filled" }).inc();
    }

    /// A gap was declared to a client.
    pub fn gap(&self, reason: GapReason) {
        self.gaps.get_or_create(&Outcome { result: reason.as_str() }).inc();
    }

    /// A publication was accepted.
    pub fn published(&self) {
        self.published.inc();
    }

    /// A mutation of so many tags was accepted.
    pub fn mutated(&self, tags: usize) {
        self.mutations.inc();
        self.mutation_tags.inc_by(tags as u64);
    }

    /// Announcements were taken in.
    pub fn broker_events(&self, count: usize) {
        self.broker_events.inc_by(count as u64);
    }

    /// Announcements are known to be lost.
    pub fn lost(&self) {
        self.broker_losses.inc();
    }

    /// Announcements may have been lost, and are looked for.
    pub fn interrupted(&self, cause: &'static str) {
        self.broker_interruptions.get_or_create(&Cause { cause }).inc();
    }

    /// A batch was sealed.
    pub fn sealed(&self, batch: &Batch) {
        self.batches.inc();
        self.batch_sizes.observe(batch.publications.len() as f64);
    }

    /// A defect was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// An HTTP request was answered. `route` is the route's pattern, never the path that came.
    pub fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let request = Request { method, route: route.to_owned(), status };
        self.requests.get_or_create(&request).observe(took.as_secs_f64());
    }

    /// Memory is used, of so much.
    pub fn memory(&self, used: usize, budget: usize) {
        self.memory_used.set(used as u64);
        self.memory_budget.set(budget as u64);
    }

    /// So much of what a limit bounds is held, of so much.
    pub fn limit(&self, limit: &'static str, used: usize, total: usize) {
        self.limit_used.get_or_create(&Bound { limit }).set(used as u64);
        self.limit_total.get_or_create(&Bound { limit }).set(total as u64);
    }

    /// Instances are in the cluster.
    pub fn clustered(&self, heard: usize, silent: usize) {
        self.cluster_instances.set(heard as u64);
        self.cluster_silent.set(silent as u64);
    }

    /// All numbers as text; whether the broker is up is known when it is asked.
    pub fn encode(&self, broker_up: bool) -> String {
        self.broker_up.set(u64::from(broker_up));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a string can be written");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.opened(TransportKind::Sse);
        metrics.delivered(TransportKind::WebSocket, 3);
        metrics.refused(Code::BadFrame);
        metrics.interrupted("lag");
        metrics.answered("POST", "/v1/publish/{channel}", 200, Duration::from_millis(1));
        metrics.clustered(3, 1);
        metrics.rate_limited(Scope::Tenant);
        metrics.memory(7, 9);
        metrics.limit("bodies_bytes", 3, 5);
        let text = metrics.encode(true);
        for line in [
            "tidings_connections{transport=\"Sse\"} 1",
            "tidings_messages_delivered_total{transport=\"WebSocket\"} 3",
            "tidings_errors_total{code=\"bad_frame\"} 1",
            "tidings_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/publish/{channel}\",status=\"200\"} 1",
            "tidings_broker_interruptions_total{cause=\"lag\"} 1",
            "tidings_broker_up 1",
            "tidings_cluster_instances 3",
            "tidings_cluster_silent 1",
            "tidings_rate_limited_total{scope=\"tenant\"} 1",
            "tidings_memory_used_bytes 7",
            "tidings_memory_budget_bytes 9",
            "tidings_limit_used{limit=\"bodies_bytes\"} 3",
            "tidings_limit_total{limit=\"bodies_bytes\"} 5",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(metrics.encode(false).contains("tidings_broker_up 0"));
    }
}
