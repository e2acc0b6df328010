//! What a channel holds, and what it says it does not hold.

use std::collections::BTreeSet;

use tidings::hub::{Page, PageLimit};
use tidings_protocol::{GapReason, Offset, Position};

use super::subject::Subject;
use crate::support::eventually;

pub(super) const ALL: PageLimit = PageLimit { publications: 1_000, bytes: 1 << 20 };

/// The texts of a page, which must follow its beginning one by one.
pub(super) fn texts(page: &Page) -> Vec<String> {
    let mut next = page.from.offset;
    let texts = page.publications.iter().map(|publication| {
        next = next.next();
        assert_eq!(publication.offset, Some(next));
        String::from_utf8(publication.payload.as_bytes().to_vec()).expect("texts are published")
    });
    texts.collect()
}

/// The texts of all that is kept.
async fn kept(subject: &mut impl Subject, channel: &str) -> Vec<String> {
    texts(&subject.history(channel, None, ALL).await.expect("it has positions"))
}

pub(super) async fn what_is_kept_is_bounded(subject: &mut impl Subject) {
    for text in ["1", "2", "3", "4", "5"] {
        subject.position("few:a", text).await;
    }
    assert_eq!(kept(subject, "few:a").await, ["3", "4", "5"]);

    let large = |name: &str| name.repeat(600);
    for name in ["a", "b", "c"] {
        subject.position("small:a", &large(name)).await;
    }
    assert_eq!(kept(subject, "small:a").await, [large("b"), large("c")]);
    let larger = "d".repeat(3_000);
    subject.position("small:a", &larger).await;
    assert_eq!(kept(subject, "small:a").await, [larger], "the last one is kept, however large");

    let first = subject.position("brief:a", "old").await;
    eventually("age", async || kept(subject, "brief:a").await.is_empty().then_some(())).await;
    let second = subject.position("brief:a", "new").await;
    assert_eq!((second.epoch, second.offset), (first.epoch, Offset(2)), "the numbering lives on");
    assert_eq!(kept(subject, "brief:a").await, ["new"]);
    // Of a channel that is published to all the time, too, what is too old goes.
    eventually("age", async || {
        subject.position("brief:a", "newer").await;
        (kept(subject, "brief:a").await[0] == "newer").then_some(())
    })
    .await;
}

pub(super) async fn a_page_begins_after_a_position_and_ends_at_its_limits(subject: &mut impl Subject) {
    let mut positions = vec![];
    for text in ["1", "2", "3", "4", "5"] {
        positions.push(subject.position("pages", text).await);
    }
    let zero = positions[0].epoch.at(Offset(0));
    let page = |publications, bytes| PageLimit { publications, bytes };
    let rows: [(Option<&Position>, PageLimit, &[&str], bool); 9] = [
        (None, ALL, &["1", "2", "3", "4", "5"], false),
        (None, page(2, 1 << 20), &["4", "5"], false),
        (None, page(0, 1 << 20), &[], false),
        (Some(&zero), ALL, &["1", "2", "3", "4", "5"], false),
        (Some(&positions[1]), ALL, &["3", "4", "5"], false),
        (Some(&positions[4]), ALL, &[], false),
        (Some(&zero), page(2, 1 << 20), &["1", "2"], true),
        (Some(&positions[1]), page(1_000, 1), &["3"], true),
        (Some(&positions[3]), page(0, 1 << 20), &[], true),
    ];
    for (since, limit, expected, more) in rows {
        let page = subject.history("pages", since, limit).await.expect("it has positions");
        let seen = (texts(&page), page.more(), page.head, page.gap);
        assert_eq!(
            seen,
            (expected.iter().map(ToString::to_string).collect(), more, Offset(5), None),
            "{since:?}"
        );
        assert_eq!(page.from.epoch, zero.epoch);
    }
}

pub(super) async fn what_cannot_be_continued_is_a_gap_with_its_reason(subject: &mut impl Subject) {
    let mut last = subject.position("few:gaps", "1").await;
    for text in ["2", "3", "4", "5"] {
        last = subject.position("few:gaps", text).await;
    }
    let at = |offset: u64| last.epoch.at(Offset(offset));
    let foreign: Position = "another.4".parse().expect("it is a position");
    let rows: [(&Position, Option<GapReason>, &[&str]); 6] = [
        (&at(2), None, &["3", "4", "5"]),
        (&at(1), Some(GapReason::Trimmed), &["3", "4", "5"]),
        (&at(0), Some(GapReason::Trimmed), &["3", "4", "5"]),
        (&at(6), Some(GapReason::Lost), &[]),
        (&foreign, Some(GapReason::Epoch), &["3", "4", "5"]),
        (&at(5), None, &[]),
    ];
    for (since, gap, expected) in rows {
        let page = subject.history("few:gaps", Some(since), ALL).await.expect("it has positions");
        assert_eq!(
            (page.gap, texts(&page)),
            (gap, expected.iter().map(ToString::to_string).collect()),
            "{since}"
        );
        assert_eq!(page.head(), last, "{since}");
    }
}

pub(super) async fn channels_are_listed_with_their_heads(subject: &mut impl Subject) {
    subject.position("listed:a", "1").await;
    let heads = [subject.position("listed:a", "2").await, subject.position("listed:b", "1").await];
    let mut listed = subject.channels().await;
    listed.retain(|name, _| name.starts_with("listed:"));
    let expected = ["listed:a", "listed:b"].map(str::to_owned).into_iter().zip(heads);
    assert_eq!(listed, expected.collect());
}

pub(super) async fn numberings_are_never_used_again(subject: &mut impl Subject) {
    let mut before: Option<Position> = None;
    let mut epochs = BTreeSet::new();
    for times in 1..=4 {
        let position = subject.position("forgotten", "1").await;
        assert_eq!(position.offset, Offset(1));
        epochs.insert(position.epoch.to_string());
        assert_eq!(epochs.len(), times, "{epochs:?}");
        if let Some(before) = before.replace(position) {
            let page = subject.history("forgotten", Some(&before), ALL).await.expect("it has positions");
            assert_eq!((page.gap, texts(&page)), (Some(GapReason::Epoch), vec!["1".to_owned()]));
        }
        subject.forget_everything().await;
    }
}
