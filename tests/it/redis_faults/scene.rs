//! A Redis, three instances on it, traffic through them, and what is counted of a fault.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Fleet, Instance, Link, Outcome, RedisServer, Request, Traffic, TrafficPlan, eventually, faults_asked,
};

/// Instances of a scene.
const INSTANCES: usize = 3;

/// Acknowledged publishes that count as traffic going on.
const SOME: u64 = 60;

/// How often each fault is injected.
pub(super) fn rounds() -> usize {
    faults_asked().unwrap_or(1)
}

pub(super) struct Scene {
    fault: &'static str,
    injected: usize,
    proofs: Vec<String>,
    pub(super) redis: RedisServer,
    pub(super) fleet: Fleet,
    pub(super) traffic: Traffic,
}

impl Scene {
    /// A Redis with its defaults, and instances that reach it directly.
    pub(super) async fn start(fault: &'static str) -> Scene {
        let redis = RedisServer::start("").await;
        let link = Link::Direct(redis.url());
        Scene::of(fault, redis, &link, "").await
    }

    /// The same with a proxy between each instance and Redis.
    pub(super) async fn proxied(fault: &'static str) -> Scene {
        let redis = RedisServer::start("").await;
        let link = Link::Proxied(redis.address());
        Scene::of(fault, redis, &link, "").await
    }

    /// Instances configured by `toml`, on a Redis that the test made.
    pub(super) async fn of(fault: &'static str, redis: RedisServer, link: &Link, toml: &str) -> Scene {
        let fleet = Fleet::start(INSTANCES, link, toml, "").await;
        let traffic =
            Traffic::start(TrafficPlan { addresses: fleet.addresses(), ..TrafficPlan::default() }).await;
        let scene = Scene { fault, injected: 0, proofs: Vec::new(), redis, fleet, traffic };
        scene.flow().await;
        scene
    }

    pub(super) fn instance(&self, index: usize) -> &Instance {
        &self.fleet.instances[index]
    }

    /// Waits until some more is published.
    pub(super) async fn flow(&self) {
        let before = self.traffic.acked();
        eventually("some traffic", async || (self.traffic.acked() >= before + SOME).then_some(())).await;
    }

    /// Traffic for some time, which is the fault's own length.
    pub(super) async fn flow_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.flow().await;
    }

    /// Notes in the history what is done now.
    pub(super) fn inject(&mut self) {
        self.injected += 1;
        self.traffic.note(self.fault);
    }

    /// Notes how it is known that the fault happened.
    pub(super) fn prove(&mut self, proof: impl Display) {
        self.proofs.push(proof.to_string());
    }

    /// What the numbering of a channel is called.
    pub(super) async fn epoch(&self, channel: &str) -> Value {
        let path = format!("/v1/channels/{channel}/history?limit=1");
        let answer = Request::new(self.instance(0).address, "GET", &path).send().await;
        answer.json()["position"]["epoch"].clone()
    }

    /// The sum of a counter over all instances that run.
    pub(super) async fn metric(&self, name: &str, label: &str) -> f64 {
        let mut sum = 0.0;
        for instance in &self.fleet.instances {
            sum += instance.metric(name, label).await;
        }
        sum
    }

    /// How often announcements were interrupted, for this cause, on all instances together.
    pub(super) async fn interruptions(&self, cause: &str) -> f64 {
        self.metric("tidings_broker_interruptions_total", cause).await
    }

    /// Ends the traffic, prints what there was, and demands that every promise was kept.
    pub(super) async fn end(self) -> Outcome {
        let panics = self.metric("tidings_panics_total", "").await;
        let outcome = self.traffic.finish().await;
        let proofs: BTreeSet<&String> = self.proofs.iter().collect();
        println!("{}: {} injected, proved by {proofs:?}", self.fault, self.injected);
        println!("{outcome}; {} violations", outcome.violations.len());
        assert_eq!(self.proofs.len(), self.injected, "every fault happened");
        for instance in &self.fleet.instances {
            let said = instance.process().stderr();
            assert!(!said.contains("panicked"), "{said}");
        }
        assert_eq!(panics, 0.0, "no defect was caught");
        outcome.demand_promises_kept();
        assert!(outcome.acked > 0 && outcome.delivered > 0, "{outcome}");
        outcome
    }
}
