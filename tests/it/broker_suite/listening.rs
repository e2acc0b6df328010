//! What is announced.

use tidings::broker::BrokerEvent;
use tidings_protocol::Position;

use super::reading::{ALL, texts};
use super::subject::Subject;
use crate::support::eventually;

/// Where the next publication of a channel stands, and its text; those of other channels go by.
pub(super) async fn heard(subject: &mut impl Subject, channel: &str) -> (Position, String) {
    loop {
        match subject.heard().await {
            BrokerEvent::Publication { channel: of, epoch, publication } if of.as_str() == channel => {
                let text = String::from_utf8(publication.payload.as_bytes().to_vec()).expect("it is text");
                let place = epoch.zip(publication.offset).expect("it has a position");
                return (place.0.at(place.1), text);
            }
            BrokerEvent::Publication { .. } => {}
            other => panic!("nothing is lost: {other:?}"),
        }
    }
}

pub(super) async fn what_is_published_is_announced_in_order(subject: &mut impl Subject) {
    subject.listen("heard").await;
    let mut published = Vec::new();
    for number in 0..50 {
        published.push((subject.position("heard", &number.to_string()).await, number.to_string()));
        subject.position("heard:not", "x").await;
    }
    for expected in published {
        assert_eq!(heard(subject, "heard").await, expected);
    }
    subject.unlisten("heard").await;
}

/// Of what was said of a channel the last counts: nothing is counted.
pub(super) async fn interest_is_what_was_said_last(subject: &mut impl Subject) {
    for text in ["1", "2"] {
        subject.unlisten("wanted").await;
        subject.unlisten("wanted").await;
        subject.listen("wanted").await;
        let position = subject.position("wanted", text).await;
        assert_eq!(heard(subject, "wanted").await, (position, text.to_owned()));
        subject.listen("wanted").await;
    }
    subject.unlisten("wanted").await;
}

pub(super) async fn who_listens_resumes_to_the_head(subject: &mut impl Subject) {
    let before = subject.position("resumed", "1").await;
    subject.listen("resumed").await;
    let mut last = before.clone();
    for text in ["2", "3"] {
        last = subject.position("resumed", text).await;
        heard(subject, "resumed").await;
    }
    for (since, expected) in [(&before, vec!["2", "3"]), (&last, vec![])] {
        let page = subject.resume("resumed", Some(since), ALL).await.expect("it has positions");
        assert_eq!((texts(&page), page.gap), (expected.iter().map(ToString::to_string).collect(), None));
        assert_eq!((page.end(), page.head()), (last.clone(), last.clone()));
    }
    let page = subject.resume("resumed", None, ALL).await.expect("it has positions");
    assert_eq!(page.end(), last);
    subject.unlisten("resumed").await;
}

/// Once all is taken back and nothing lingers, no channel is announced here.
pub(super) async fn nobody_listens_in_the_end(subject: &mut impl Subject) {
    nothing_is_announced(subject).await;
    for _ in 0..3 {
        subject.listen("last").await;
    }
    assert_eq!(subject.announced().await, ["last"]);
    subject.unlisten("last").await;
    nothing_is_announced(subject).await;
}

async fn nothing_is_announced(subject: &mut impl Subject) {
    let what = "no channel to be listened to";
    eventually(what, async || subject.announced().await.is_empty().then_some(())).await;
}
