//! Real traffic through faults, judged by the checker of histories; and the judge, on a real history that is spoilt.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::history::checker::{Kind, check};
use crate::history::{ChannelId, ClientId, Event, Record};
use crate::support::{FaultProxy, Fleet, Link, Outcome, TestServer, Traffic, TrafficPlan, Way, eventually};

/// Traffic to one server through two proxies, whose connections are cut now and then.
async fn cut_now_and_then(cuts: usize) -> Outcome {
    let server = TestServer::dev("").await;
    let proxies = [FaultProxy::start(server.address).await, FaultProxy::start(server.address).await];
    // Most of the time somebody waits for an answer, so that cuts fall between a request and its answer.
    proxies.iter().for_each(|proxy| proxy.delay(Way::Down, Duration::from_millis(20)));
    let addresses = proxies.iter().map(|proxy| proxy.address).collect();
    let traffic =
        Traffic::start(TrafficPlan { addresses, pause: Duration::from_millis(1), ..TrafficPlan::default() })
            .await;
    for cut in 0..cuts {
        let before = traffic.acked();
        eventually("some traffic", async || (traffic.acked() > before + 30).then_some(())).await;
        traffic.note("cut");
        assert!(proxies[cut % 2].cut_all() > 0, "something is there to be cut");
    }
    traffic.finish().await
}

#[tokio::test]
async fn cuts_lose_nothing() {
    let outcome = cut_now_and_then(6).await;
    println!("{outcome}");
    outcome.demand_promises_kept();
    assert!(outcome.acked > 180 && outcome.acked == outcome.published, "{outcome}");
    assert!(outcome.reconnects >= 18 && outcome.attempts > outcome.published, "{outcome}");
    assert!(outcome.delivered - outcome.duplicates == 9 * outcome.acked, "everybody saw all: {outcome}");
    assert!(outcome.gaps.is_empty() && outcome.continued == 0, "{outcome}");
}

#[tokio::test]
async fn an_instance_that_is_killed_loses_what_it_held_and_says_so() {
    let mut fleet = Fleet::start(1, &Link::None, "", "").await;
    let plan = TrafficPlan { addresses: fleet.addresses(), ..TrafficPlan::default() };
    let readers = plan.sockets + plan.streams;
    let traffic = Traffic::start(plan).await;
    for _ in 0..2 {
        let before = traffic.acked();
        eventually("some traffic", async || (traffic.acked() > before + 60).then_some(())).await;
        traffic.note("kill -9");
        fleet.instances[0].kill9().await;
        fleet.instances[0].start_again().await;
    }
    let before = traffic.acked();
    eventually("some traffic", async || (traffic.acked() > before + 60).then_some(())).await;
    let outcome = traffic.finish().await;
    println!("{outcome}");
    outcome.demand_promises_kept();
    assert!(outcome.gaps["epoch"] >= readers as u64, "{outcome}");
    assert_eq!(outcome.published, outcome.acked, "everything is published in the end: {outcome}");
    assert_eq!(fleet.instances[0].terminate().await.code(), Some(0));
}

#[tokio::test]
async fn what_a_reader_did_not_see_right_is_seen_by_the_judge() {
    let outcome = cut_now_and_then(2).await;
    outcome.demand_promises_kept();
    let kinds = |spoil: &dyn Fn(&mut Vec<Record>)| {
        let mut history = outcome.history.clone();
        spoil(&mut history);
        check(&history).iter().map(|violation| violation.kind).collect::<BTreeSet<Kind>>()
    };
    let by_the_first = |record: &&Record| {
        matches!(record.event, Event::Delivered { client: ClientId(0), channel: ChannelId(0), .. })
    };
    let deliveries: Vec<&Record> = outcome.history.iter().filter(by_the_first).collect();
    let (some, next) = (deliveries[deliveries.len() / 2], deliveries[deliveries.len() / 2 + 1]);
    let Event::Delivered { publish, channel, .. } = some.event else { unreachable!("it is a delivery") };

    let skipped = kinds(&|history| history.retain(|record| record != some));
    assert_eq!(skipped, [Kind::Jump, Kind::Missed].into());
    let refused = Record { time: some.time, event: Event::Failed { publish, channel } };
    assert_eq!(kinds(&|history| history.push(refused.clone())), [Kind::FailedButDelivered].into());
    let exchanged = kinds(&|history| {
        let spoilt = history.iter_mut().find(|record| *record == next).expect("it is there");
        let Event::Delivered { publish: other, .. } = &mut spoilt.event else { unreachable!("as above") };
        *other = publish;
    });
    assert!(exchanged.is_superset(&[Kind::TwoPayloads, Kind::TwoOffsets].into()), "{exchanged:?}");
}
