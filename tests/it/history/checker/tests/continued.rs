//! Epochs that continue others: what may change with the name, and what may not.

use super::*;

const CHANNEL: ChannelId = ChannelId(0);

fn position(text: &str) -> Position {
    text.parse().unwrap()
}

/// Publish `number` of the only author.
fn publish(number: u32) -> PublishId {
    PublishId { author: 1, number }
}

fn began(client: usize, at: &str) -> Event {
    Event::Began { client: ClientId(client), channel: CHANNEL, position: Some(position(at)) }
}

fn continued(client: usize, from: &str, to: &str) -> Event {
    let (from, position) = (position(from), position(to));
    Event::Continued { client: ClientId(client), channel: CHANNEL, from, position }
}

fn delivered(client: usize, at: &str, number: u32) -> Event {
    let (client, publish) = (ClientId(client), publish(number));
    Event::Delivered { client, channel: CHANNEL, position: Some(position(at)), publish }
}

fn gap(client: usize, to: &str) -> Event {
    let (client, reason) = (ClientId(client), GapReason::Epoch);
    Event::Gap { client, channel: CHANNEL, reason, position: Some(position(to)) }
}

fn acked(at: &str, number: u32, ack: Ack) -> Event {
    Event::Acked { publish: publish(number), channel: CHANNEL, position: Some(position(at)), ack }
}

fn ended(client: usize, at: &str, head: &str) -> Event {
    let (at, head) = (Some(position(at)), Some(position(head)));
    Event::Ended { client: ClientId(client), channel: CHANNEL, position: at, head }
}

#[track_caller]
fn check_told(events: &[Event], expected: &[Kind]) {
    let record = |event: &Event| Record { time: Time::ZERO, event: event.clone() };
    let history: Vec<Record> = events.iter().map(record).collect();
    let violations = check(&history);
    let kinds: BTreeSet<Kind> = violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, expected.iter().copied().collect(), "{violations:?}");
}

#[test]
fn a_place_may_be_called_otherwise_but_only_with_a_word_and_only_the_same_place() {
    let start = [began(0, "e.0"), delivered(0, "e.1", 1)];
    for (rest, expected) in [
        (vec![continued(0, "e.1", "f.1"), delivered(0, "f.2", 2), ended(0, "f.2", "f.2")], vec![]),
        (vec![continued(0, "e.1", "f.1"), continued(0, "f.1", "g.1"), delivered(0, "g.2", 2)], vec![]),
        (vec![delivered(0, "f.2", 2)], vec![Kind::Jump]),
        (vec![continued(0, "e.1", "f.2"), delivered(0, "f.3", 2)], vec![Kind::Jump]),
        (vec![continued(0, "e.2", "f.2"), delivered(0, "f.3", 2)], vec![Kind::Jump]),
        (vec![continued(0, "e.1", "f.1"), delivered(0, "f.3", 2)], vec![Kind::Jump]),
        (vec![continued(0, "e.1", "f.1"), delivered(0, "f.1", 1)], vec![Kind::StepBack]),
        (vec![continued(0, "e.1", "f.1"), ended(0, "e.1", "f.1")], vec![]),
        (vec![continued(0, "e.1", "f.1"), ended(0, "e.1", "f.2")], vec![Kind::Behind]),
        (vec![ended(0, "e.1", "f.1")], vec![Kind::Behind]),
        (vec![continued(0, "e.1", "f.1"), gap(0, "f.1")], vec![]),
    ] {
        check_told(&[&start[..], &rest].concat(), &expected);
    }
}

#[test]
fn what_two_epochs_share_is_the_same_in_both() {
    // The first client was told that both epochs have the same 2, the second one hears of 2 in the later one.
    let first =
        |at| [began(0, "e.0"), delivered(0, "e.1", 1), delivered(0, "e.2", 2), continued(0, at, "f.2")];
    let second = [began(1, "e.0"), delivered(1, "e.1", 1), continued(1, "e.1", "f.1")];
    for (rest, expected) in [
        (vec![delivered(1, "f.2", 2), delivered(1, "f.3", 3)], vec![]),
        (vec![delivered(1, "f.2", 9)], vec![Kind::TwoPayloads]),
        (vec![delivered(1, "f.2", 2), delivered(1, "f.3", 1)], vec![Kind::TwoOffsets, Kind::OrderInverted]),
        (vec![acked("e.2", 2, Ack::Stored), delivered(1, "f.3", 3)], vec![Kind::Jump, Kind::Missed]),
    ] {
        check_told(&[&first("e.2")[..], &second, &rest].concat(), &expected);
    }
}

#[test]
fn behind_the_fork_a_tail_may_be_lost_and_published_again() {
    // The epochs share 1. What was at 2 is lost: its reader is told, its author may publish it again.
    let lost = [
        began(0, "e.0"),
        delivered(0, "e.1", 1),
        delivered(0, "e.2", 2),
        gap(0, "f.1"),
        began(1, "e.1"),
        continued(1, "e.1", "f.1"),
        delivered(1, "f.2", 3),
    ];
    for (ack, expected) in [(Ack::Stored, vec![]), (Ack::Replicated, vec![Kind::ReplicaForgot])] {
        check_told(&[&lost[..], &[acked("e.2", 2, ack)]].concat(), &expected);
    }
    check_told(&[&lost[..], &[delivered(0, "f.2", 3), acked("f.4", 2, Ack::Stored)]].concat(), &[]);
    let hidden: Vec<Event> =
        lost.iter().filter(|event| !matches!(event, Event::Gap { .. })).cloned().collect();
    check_told(&[&hidden[..], &[delivered(0, "f.3", 4)]].concat(), &[Kind::Jump]);
}

#[test]
fn an_epoch_that_continues_a_place_is_no_reason_for_a_gap() {
    let forked = |from: &str, to: &str| Event::Forked {
        channel: CHANNEL,
        from: position(from),
        position: position(to),
    };
    for (fork, expected) in [
        (forked("e.4", "f.4"), vec![Kind::Needless]),
        (forked("e.5", "f.5"), vec![Kind::Needless]),
        (forked("e.3", "f.3"), vec![]),
        (forked("x.5", "f.5"), vec![]),
    ] {
        check_told(&[began(0, "e.4"), fork, gap(0, "f.6")], &expected);
    }
}

#[test]
fn what_was_acknowledged_is_not_beyond_the_end() {
    let start = [began(0, "e.0"), delivered(0, "e.1", 1), acked("e.2", 2, Ack::Stored)];
    check_told(&[&start[..], &[ended(0, "e.1", "e.1")]].concat(), &[Kind::Forgotten]);
    check_told(&[&start[..], &[delivered(0, "e.2", 2), ended(0, "e.2", "e.2")]].concat(), &[]);
    check_told(&[&start[..], &[gap(0, "f.0"), ended(0, "f.0", "f.0")]].concat(), &[]);
}
