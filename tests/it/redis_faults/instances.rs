//! Instances die, and others take over.

use std::time::Duration;

use super::{Scene, rounds};
use crate::support::eventually;

#[tokio::test]
async fn an_instance_that_is_killed_while_it_publishes_costs_nothing() {
    let mut scene = Scene::start("kill -9 of an instance").await;
    for round in 0..rounds() * 2 {
        let (victim, other) = (round % 3, (round + 1) % 3);
        let silences = scene.instance(other).metric("tidings_broker_interruptions_total", "silence").await;
        // Each says once a second that it is there; who never did is not missed.
        scene.flow_for(Duration::from_millis(1_100)).await;
        scene.inject();
        scene.fleet.instances[victim].kill9().await;
        scene.flow().await;
        eventually("the silence to be noticed", async || {
            let now = scene.instance(other).metric("tidings_broker_interruptions_total", "silence").await;
            (now > silences).then_some(())
        })
        .await;
        scene.prove("it was dead, and another instance noticed its silence");
        scene.fleet.instances[victim].start_again().await;
        scene.flow().await;
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.unknown == 0 && outcome.continued == 0, "{outcome}");
    assert!(outcome.reconnects >= 3 * 2 * rounds() as u64, "its readers moved: {outcome}");
    assert_eq!((outcome.acked, outcome.refused), (outcome.published, 0), "{outcome}");
    assert_eq!(outcome.delivered - outcome.duplicates, 9 * outcome.acked, "everybody saw all: {outcome}");
}
