//! A link to Redis that carries less than what is published.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Answer, Fleet, Link, RedisServer, Request, Way, eventually};

/// Bytes a second that the link carries.
const RATE: u64 = 4_000_000;

/// Publishers that always have a large publication, which together are 1.8 s of the link.
const PUBLISHERS: usize = 36;
const LARGE: usize = 200_000;

const LENGTH: Duration = Duration::from_secs(6);

async fn publish(fleet: &Fleet, channel: &str, body: &str) -> Answer {
    let path = format!("/v1/publish/{channel}");
    let request =
        Request::new(fleet.instances[0].address, "POST", &path).header("content-type", "text/plain");
    request.body(body).send().await
}

#[tokio::test]
async fn a_link_that_is_too_slow_for_what_is_published_slows_down_and_nothing_becomes_unknown() {
    let redis = RedisServer::start("").await;
    let fleet = std::sync::Arc::new(Fleet::start(1, &Link::Proxied(redis.address()), "", "").await);
    let proxy = fleet.instances[0].proxy.as_ref().expect("it is behind one");
    eventually("a first publish", async || (publish(&fleet, "small", "1").await.status == 200).then_some(()))
        .await;
    proxy.throttle(Way::Up, RATE);
    let (begun, before) = (Instant::now(), proxy.bytes(Way::Up));
    let (end, ended) = watch::channel(false);
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let (fleet, ended) = (fleet.clone(), ended.clone());
        publishers.spawn(async move {
            let (body, channel) = ("x".repeat(LARGE), format!("large:{number}"));
            let mut counts = BTreeMap::new();
            while !*ended.borrow() {
                let answer = publish(&fleet, &channel, &body).await;
                let what = if answer.status == 200 { "stored".to_owned() } else { answer.code() };
                *counts.entry(what).or_insert(0_u64) += 1;
                if answer.status != 200 {
                    // The pace of a patient client.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            counts
        });
    }
    while begun.elapsed() < LENGTH {
        let answer = publish(&fleet, "small", "1").await;
        assert_eq!(answer.status, 200, "what is small has room: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    end.send_replace(true);
    let mut counts = BTreeMap::new();
    for (what, count) in publishers.join_all().await.into_iter().flatten() {
        *counts.entry(what).or_insert(0) += count;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let carried = proxy.bytes(Way::Up) - before;
    assert!(carried as f64 <= (seconds + 1.0) * RATE as f64, "{carried} bytes in {seconds} s: it was slow");
    let stored = counts["stored"] as f64 * LARGE as f64 / seconds;
    assert!(stored > RATE as f64 * 0.6, "{stored} bytes a second were stored: {counts:?}");
    assert!(counts.keys().all(|what| ["stored", "overloaded"].contains(&&**what)), "{counts:?}");
    assert!(counts.contains_key("overloaded"), "more was asked for than the link carries: {counts:?}");
    let said = fleet.instances[0].process().stderr();
    assert!(!said.contains("degraded") && !said.contains("given up"), "{said}");
}
