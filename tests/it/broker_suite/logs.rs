//! Mutation logs: events with positions, and the version table that they are folded into.

use tidings::broker::{BrokerError, BrokerEvent};
use tidings::freshness::{Snapshot, VersionTable};
use tidings_protocol::{Ack, LogName, MutateCommand, Position, Tag, decode_tags};

use super::subject::Subject;

pub(super) fn log(name: &str) -> LogName {
    LogName::parse(name).expect("it is a log's name")
}

pub(super) fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| Tag::parse(name).expect("it is a tag")).collect()
}

/// A mutation of these tags, which says its tags.
pub(super) fn mutation(log_name: &str, names: &[&str], key: Option<&str>, ack: Ack) -> MutateCommand {
    MutateCommand {
        log: log(log_name),
        tags: tags(names),
        idempotency_key: key.map(Into::into),
        said: names.join(" ").into(),
        ack,
    }
}

/// The position of a mutation that must succeed.
pub(super) async fn touch(subject: &mut impl Subject, log: &str, names: &[&str]) -> Position {
    let written = subject.mutate(mutation(log, names, None, Ack::Stored)).await.expect("it is written");
    written.position.expect("a log has positions")
}

/// The table of a log whose mutations were these, from offset 1 on.
pub(super) fn folded(slots: usize, mutations: &[&[&str]]) -> VersionTable {
    let mut table = VersionTable::new(slots);
    for (offset, names) in (1..).zip(mutations) {
        tags(names).iter().for_each(|tag| table.touch(tag, tidings_protocol::Offset(offset)));
    }
    table
}

pub(super) async fn a_log_begins_empty(subject: &mut impl Subject) {
    let Snapshot { position, table, .. } = subject.standing("begins").await;
    assert_eq!(position.offset.0, 0);
    assert!(table == VersionTable::new(table.slots()), "nothing was touched");
    assert_eq!(subject.confirm("begins").await, Ok(position.clone()));
    let first = touch(subject, "begins", &["a"]).await;
    assert_eq!(first, position.epoch.at(position.offset.next()));
}

pub(super) async fn a_mutation_touches_the_slots_of_its_tags_alone(subject: &mut impl Subject) {
    let mutations: [&[&str]; 4] = [&["a:b"], &["c", "d:*"], &["a:b", "x:y:z"], &["*"]];
    for (offset, names) in (1..).zip(mutations) {
        assert_eq!(touch(subject, "slots", names).await.offset.0, offset);
        let Snapshot { position, table, .. } = subject.standing("slots").await;
        assert_eq!(position.offset.0, offset);
        let expected = folded(table.slots(), &mutations[..offset as usize]);
        assert!(table == expected, "after {names:?}");
    }
    touch(subject, "slots_2", &["a:b"]).await;
    let Snapshot { table, .. } = subject.standing("slots_2").await;
    assert!(table == folded(table.slots(), &[&["a:b"]]), "a log has a table of its own");
}

pub(super) async fn a_mutation_of_many_tags_is_one_event(subject: &mut impl Subject) {
    let names: Vec<String> = (0..2_000).map(|number| format!("many:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(touch(subject, "many", &names).await.offset.0, 1);
    let Snapshot { position, table, .. } = subject.standing("many").await;
    assert_eq!(position.offset.0, 1);
    assert!(table == folded(table.slots(), &[&names]));
}

pub(super) async fn a_key_makes_a_retry_the_same_mutation(subject: &mut impl Subject) {
    let first = subject.mutate(mutation("retry", &["a"], Some("k"), Ack::Stored)).await;
    touch(subject, "retry", &["b"]).await;
    let again = subject.mutate(mutation("retry", &["a"], Some("k"), Ack::Stored)).await;
    let [first, again] = [first, again].map(|written| written.map(|written| written.position));
    assert_eq!(first, again);
    let other = subject.mutate(mutation("retry", &["c"], Some("k"), Ack::Stored)).await;
    assert_eq!(other.map(|_| ()), Err(BrokerError::IdempotencyMismatch));
    let Snapshot { position, table, .. } = subject.standing("retry").await;
    assert_eq!(position.offset.0, 2);
    assert!(table == folded(table.slots(), &[&["a"], &["b"]]), "neither touched anything");
    // What was said decides, not what is touched.
    let said = |text: &str| MutateCommand {
        said: text.into(),
        ..mutation("retry", &["d"], Some("said"), Ack::Stored)
    };
    assert!(subject.mutate(said("1")).await.is_ok());
    assert_eq!(subject.mutate(said("2")).await.map(|_| ()), Err(BrokerError::IdempotencyMismatch));
}

pub(super) async fn what_is_acknowledged_is_confirmed(subject: &mut impl Subject) {
    for number in 1..=20 {
        let written = touch(subject, "confirmed", &["a"]).await;
        assert_eq!(written.offset.0, number);
        assert_eq!(subject.confirm("confirmed").await, Ok(written));
    }
}

/// Of a broker without replicas.
pub(super) async fn replicated_mutations_are_refused(subject: &mut impl Subject) {
    let refused = subject.mutate(mutation("refused", &["a"], Some("k"), Ack::Replicated)).await;
    assert_eq!(refused.map(|_| ()), Err(BrokerError::AckNotPossible));
    assert_eq!(subject.confirm("refused").await.map(|head| head.offset.0), Ok(0));
}

pub(super) async fn mutations_are_announced_in_order(subject: &mut impl Subject) {
    let channel = log("announced").channel();
    subject.listen_to(&channel).await;
    let mut written = Vec::new();
    for number in 0..50 {
        let name = format!("t:{number}");
        let position = touch(subject, "announced", &[&name, "all:*"]).await;
        written.push((position, tags(&[&name, "all:*"])));
        touch(subject, "unheard", &["a"]).await;
    }
    for (position, tags) in written {
        let (epoch, publication) = loop {
            match subject.heard().await {
                BrokerEvent::Publication { channel: of, epoch, publication } if of == channel => {
                    break (epoch, publication);
                }
                BrokerEvent::Publication { .. } => {}
                other => panic!("nothing is lost: {other:?}"),
            }
        };
        assert_eq!(epoch.zip(publication.offset).map(|(epoch, at)| epoch.at(at)), Some(position));
        assert_eq!(decode_tags(&publication.payload), Some(tags));
    }
    subject.unlisten_to(&channel).await;
}

pub(super) async fn the_history_of_a_log_folds_into_its_table(subject: &mut impl Subject) {
    let begin = subject.confirm("history").await.expect("it stands");
    for names in [&["a:b"][..], &["a:*", "c"], &["d"]] {
        touch(subject, "history", names).await;
    }
    let page = subject.read(&log("history").channel(), Some(&begin)).await;
    let Snapshot { position, table, .. } = subject.standing("history").await;
    let mut expected = VersionTable::new(table.slots());
    for publication in &page.publications {
        let offset = publication.offset.expect("it has a position");
        let tags = decode_tags(&publication.payload).expect("it is a mutation");
        tags.iter().for_each(|tag| expected.touch(tag, offset));
    }
    assert_eq!((page.publications.len(), page.end(), page.gap), (3, position, None));
    assert!(table == expected);
    assert!(subject.channels().await.keys().all(|name| !name.contains("log")), "no client can name it");
}

pub(super) async fn a_log_that_is_forgotten_has_another_numbering_and_an_empty_table(
    subject: &mut impl Subject,
) {
    let before = touch(subject, "forgotten", &["a"]).await;
    subject.forget_everything().await;
    let Snapshot { position, lineage, table } = subject.standing("forgotten").await;
    assert_ne!(position.epoch, before.epoch);
    assert_eq!((position.offset.0, lineage.reach(&before.epoch)), (0, None));
    assert!(table == VersionTable::new(table.slots()), "it begins empty");
    let after = touch(subject, "forgotten", &["b"]).await;
    assert_eq!(after, position.epoch.at(position.offset.next()));
}
