//! What becomes of a publish.

use tidings::broker::{BrokerError, BrokerEvent};
use tidings_protocol::{Ack, Offset};

use super::subject::Subject;

pub(super) async fn positions_are_given_one_by_one(subject: &mut impl Subject) {
    let first = subject.position("one_by_one", "a").await;
    assert_eq!(first.offset, Offset(1));
    for offset in 2..=5 {
        let next = subject.position("one_by_one", "a").await;
        assert_eq!((next.epoch, next.offset), (first.epoch.clone(), Offset(offset)));
    }
    assert_eq!(
        subject.position("one_by_one:other", "a").await.offset,
        Offset(1),
        "channels count on their own"
    );
}

pub(super) async fn a_key_makes_a_retry_the_same_publication(subject: &mut impl Subject) {
    let mut publish = async |channel: &str, text: &str, key: &str| {
        let published = subject.publish(channel, text, Some(key), Ack::Stored).await;
        published.map(|published| published.position.expect("it has positions").offset.0)
    };
    let long = "k".repeat(255);
    for (offset, key) in [(1, "k"), (2, "K"), (3, "} {\n"), (4, &long)] {
        assert_eq!(publish("keys", "a", key).await, Ok(offset), "{key:?}");
        assert_eq!(publish("keys", "a", key).await, Ok(offset), "{key:?} again");
        assert_eq!(publish("keys", "b", key).await, Err(BrokerError::IdempotencyMismatch), "{key:?}");
    }
    assert_eq!(publish("keys", "a", "k").await, Ok(1), "whatever came since");
    assert_eq!(publish("keys:other", "b", "k").await, Ok(1), "keys belong to a channel");
}

pub(super) async fn levels_of_acknowledgement(subject: &mut impl Subject) {
    for (offset, ack) in [(1, Ack::None), (2, Ack::Stored)] {
        let published = subject.publish("levels", "a", None, ack).await.expect("it is stored");
        assert_eq!(
            (published.position.map(|at| at.offset), published.ack),
            (Some(Offset(offset)), Ack::Stored)
        );
    }
}

/// Of a broker without replicas.
pub(super) async fn replicated_is_refused(subject: &mut impl Subject) {
    let refused = subject.publish("levels:refused", "a", Some("k"), Ack::Replicated).await;
    assert_eq!(refused.map(|_| ()), Err(BrokerError::AckNotPossible));
    let published = subject.publish("levels:refused", "b", Some("k"), Ack::Stored).await;
    let position = published.expect("nothing was stored under the key").position;
    assert_eq!(position.map(|at| at.offset), Some(Offset(1)), "nothing was stored at all");
}

pub(super) async fn a_volatile_channel_has_no_positions_and_knows_its_keys(subject: &mut impl Subject) {
    let channel = "volatile:a";
    subject.listen(channel).await;
    for (text, key, expected) in [
        ("1", None, Ok(())),
        ("2", Some("k"), Ok(())),
        ("2", Some("k"), Ok(())),
        ("3", Some("k"), Err(BrokerError::IdempotencyMismatch)),
        ("4", None, Ok(())),
    ] {
        let published = subject.publish(channel, text, key, Ack::Stored).await;
        let published = published.map(|published| assert!(published.position.is_none(), "{published:?}"));
        assert_eq!(published, expected, "{text} {key:?}");
    }
    for expected in ["1", "2", "4"] {
        loop {
            let BrokerEvent::Publication { channel: heard, epoch, publication } = subject.heard().await
            else {
                panic!("nothing is lost")
            };
            if heard.as_str() == channel {
                assert_eq!((epoch, publication.offset), (None, None));
                assert_eq!(publication.payload.as_bytes(), expected.as_bytes());
                break;
            }
        }
    }
    assert!(subject.history(channel, None, super::reading::ALL).await.is_none());
    assert!(!subject.channels().await.contains_key(channel));
    subject.unlisten(channel).await;
}
