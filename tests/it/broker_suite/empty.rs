//! Channels on which nothing was published yet, and those that lost what was: both hold nothing, and are not the same.

use tidings::broker::BrokerError;
use tidings::freshness::Snapshot;
use tidings::hub::Page;
use tidings_protocol::{Ack, GapReason, Offset, Position};

use super::logs::{mutation, touch};
use super::model::ModelSubject;
use super::reading::{ALL, texts};
use super::scene::{RedisScene, Scene};
use super::subject::{BrokerSubject, Subject};
use crate::support::{RedisServer, eventually};

/// Where a channel stands.
async fn stands(subject: &mut impl Subject, channel: &str) -> Position {
    subject.history(channel, None, ALL).await.expect("it has positions").head()
}

async fn since(subject: &mut impl Subject, channel: &str, since: &Position) -> Page {
    subject.history(channel, Some(since), ALL).await.expect("it has positions")
}

pub(super) async fn what_is_published_first_is_in_the_numbering_that_was_read_before(
    subject: &mut impl Subject,
) {
    let zero = stands(subject, "fresh").await;
    assert_eq!((zero.offset, stands(subject, "fresh").await), (Offset(0), zero.clone()), "it stays");
    assert_eq!(since(subject, "fresh", &zero).await.gap, None);
    assert_eq!(subject.position("fresh", "1").await, zero.epoch.at(Offset(1)));
    let page = since(subject, "fresh", &zero).await;
    assert_eq!((page.gap, texts(&page)), (None, vec!["1".to_owned()]));
}

pub(super) async fn who_was_there_before_everything_was_lost_is_told_of_it(subject: &mut impl Subject) {
    let zero = stands(subject, "vanishes").await;
    let one = subject.position("vanishes", "1").await;
    subject.forget_everything().await;
    for position in [&zero, &one] {
        assert_eq!(since(subject, "vanishes", position).await.gap, Some(GapReason::Epoch), "{position}");
    }
    assert_eq!(subject.position("vanishes", "other").await.offset, Offset(1));
    for position in [&zero, &one] {
        assert_eq!(since(subject, "vanishes", position).await.gap, Some(GapReason::Epoch), "{position}");
    }
}

/// A server and a broker on it.
async fn redis(toml: &str) -> (RedisServer, BrokerSubject) {
    let server = RedisServer::start("").await;
    let subject = BrokerSubject::redis(&server, toml).await;
    (server, subject)
}

async fn keys(server: &RedisServer) -> Vec<String> {
    let reply = server.command(&["KEYS", "*"]).await;
    let mut keys: Vec<String> = reply.list().iter().map(|key| key.text().to_owned()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn reading_leaves_nothing_in_redis() {
    let (server, mut subject) = redis("").await;
    let before = keys(&server).await;
    let [one, other] = [stands(&mut subject, "one").await, stands(&mut subject, "other").await];
    assert_ne!(one.epoch, other.epoch, "each channel has its own");
    let foreign: Position = "another.4".parse().expect("it is a position");
    for number in 0..50 {
        let name = format!("read:{number}");
        let zero = stands(&mut subject, &name).await;
        since(&mut subject, &name, &zero).await;
        since(&mut subject, &name, &foreign).await;
        subject.resume(&name, Some(&zero), ALL).await;
        subject.standing(&format!("log_{number}")).await;
        subject.confirm(&format!("log_{number}")).await.expect("it stands");
    }
    assert_eq!(keys(&server).await, before);
    // Whatever an instance needs to know of all channels together is there from the start.
    assert_eq!(before.len(), 2, "{before:?}");
}

#[tokio::test]
async fn what_vanished_alone_is_not_taken_for_what_never_was() {
    let (server, mut subject) = redis("").await;
    const META: &str = "tidings:{a}:m";
    const STREAM: &str = "tidings:{a}:s";
    const ALL_CHANNELS: &str = "tidings:{$all}:b";
    let mut known = vec![stands(&mut subject, "a").await];
    for lost in [
        &["DEL", META][..],
        &["DEL", META, STREAM],
        &["DEL", META, STREAM, ALL_CHANNELS],
        &["DEL", ALL_CHANNELS, META],
        &["HDEL", META, "offset"],
        &["HSET", META, "bytes", "garbage"],
        &["DEL", META, STREAM],
    ] {
        for text in ["1", "2"] {
            known.push(subject.position("a", text).await);
        }
        server.command(lost).await;
        let told = stands(&mut subject, "a").await;
        assert_eq!(told.offset, Offset(0), "{lost:?}");
        // Before anything is published, and after as much as before.
        for publishes in [0, 3] {
            for _ in 0..publishes {
                assert_eq!(subject.position("a", "other").await.epoch, told.epoch, "{lost:?}");
            }
            for position in &known {
                let gap = since(&mut subject, "a", position).await.gap;
                assert_eq!(gap, Some(GapReason::Epoch), "{position} after {lost:?}");
            }
        }
        assert_eq!(since(&mut subject, "a", &told).await.gap, None, "{lost:?}");
        known.push(told);
    }
}

#[tokio::test]
async fn who_waits_at_an_empty_channel_goes_on_after_a_failover() {
    async fn row(mut scene: impl Scene) {
        let zero = stands(scene.subject(), "waits").await;
        scene.cut_replica().await;
        let lost = scene.subject().position("waits", "lost").await;
        assert_eq!(lost, zero.epoch.at(Offset(1)));
        scene.take_over().await;
        let subject = scene.subject();
        let after = eventually("a publish", async || {
            subject.publish("waits", "kept", Some("k"), Ack::Stored).await.ok()?.position
        })
        .await;
        assert_ne!(after.epoch, zero.epoch, "one position, two publications");
        let page = since(subject, "waits", &zero).await;
        assert_eq!((page.gap, texts(&page)), (None, vec!["kept".to_owned()]));
        assert_eq!(since(subject, "waits", &lost).await.gap, Some(GapReason::Epoch));
    }
    row(RedisScene::with_replica().await).await;
    row(ModelSubject::new("")).await;
}

/// What a server is set to, so that it refuses writes, and back.
const REFUSALS: [[&str; 3]; 2] = [["min-replicas-to-write", "1", "0"], ["maxmemory", "1", "0"]];

#[tokio::test]
async fn after_a_failover_reads_are_answered_where_writes_are_refused() {
    for [setting, refusing, taking] in REFUSALS {
        let (mut server, mut subject) = redis("").await;
        for text in ["1", "2"] {
            subject.position("a", text).await;
        }
        let before = stands(&mut subject, "a").await;
        let touched = touch(&mut subject, "a", &["tag"]).await;
        let empty = stands(&mut subject, "empty").await;
        server.restart(crate::support::Data::Kept).await;
        server.command(&["CONFIG", "SET", setting, refusing]).await;
        let refused = eventually("a refusal", async || {
            subject
                .publish("a", "3", Some("k"), Ack::Stored)
                .await
                .err()
                .filter(|error| *error == BrokerError::Unavailable)
        })
        .await;
        assert_eq!(refused, BrokerError::Unavailable, "{setting}");

        let page = eventually("a page", async || subject.try_history("a", &before).await).await;
        assert_eq!((page.gap, page.head), (None, Offset(2)), "{setting}");
        let told = page.head();
        assert_ne!(told.epoch, before.epoch, "{setting}");
        assert_eq!(since(&mut subject, "a", &told).await.gap, None, "all instances tell the same");
        assert_eq!(subject.confirm("a").await.map(|at| at.offset), Ok(touched.offset), "{setting}");
        let Snapshot { position, lineage, .. } = subject.standing("a").await;
        assert_eq!(lineage.reach(&touched.epoch), Some(touched.offset), "{setting}");
        assert_eq!(since(&mut subject, "empty", &empty).await.gap, None, "{setting}");
        let empty_told = stands(&mut subject, "empty").await;

        server.command(&["CONFIG", "SET", setting, taking]).await;
        assert_eq!(subject.position("a", "3").await, told.epoch.at(Offset(3)), "{setting}");
        assert_eq!(subject.position("empty", "1").await, empty_told.epoch.at(Offset(1)), "{setting}");
        let written = subject.mutate(mutation("a", &["b"], None, Ack::Stored)).await.expect("it is written");
        assert_eq!(written.position, Some(position.epoch.at(position.offset.next())), "{setting}");
        assert_eq!(since(&mut subject, "a", &before).await.gap, None, "the first numbering is remembered");
    }
}

#[tokio::test]
async fn a_channel_that_is_only_read_keeps_its_numbering() {
    let toml = "[namespace.default]\nhistory_age = \"100ms\"\n[redis]\nforget_after = \"2s\"\n";
    let (server, mut subject) = redis(toml).await;
    let at = subject.position("a", "1").await;
    let life = async || server.command(&["PTTL", "tidings:{a}:m"]).await.integer();
    assert!((1..=2_000).contains(&life().await));
    server.command(&["PEXPIRE", "tidings:{a}:m", "900"]).await;
    assert_eq!(since(&mut subject, "a", &at).await.gap, None);
    assert!(life().await > 1_000, "it lives longer for who reads");
}

#[tokio::test]
async fn names_of_channels_that_are_gone_do_not_pile_up() {
    let (server, mut subject) = redis("").await;
    for number in 0..300 {
        let name = format!("gone:{number}");
        subject.position(&name, "1").await;
        if number % 100 < 99 {
            server.command(&["DEL", &format!("tidings:{{{name}}}:m")]).await;
        }
    }
    let listed = server.command(&["SCARD", "tidings:{$all}:i"]).await.integer();
    assert!(listed < 150, "{listed} of 300, of which 3 are there");
    let channels = subject.channels().await;
    assert_eq!(channels.into_keys().collect::<Vec<_>>(), ["gone:199", "gone:299", "gone:99"]);
}
