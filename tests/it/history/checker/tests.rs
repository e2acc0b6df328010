//! The checker is checked: on a good history it is silent, and each way to spoil one is called by its name.

mod continued;

use super::*;
use crate::simulation::history_of;

const SEED: u64 = 4;

fn good() -> Vec<Record> {
    history_of(SEED)
}

/// The places of deliveries with a position that are followed by another one to the same client, channel and epoch.
fn continued(history: &[Record]) -> Vec<(usize, usize)> {
    let delivery = |record: &Record| match &record.event {
        Event::Delivered { client, channel, position: Some(position), .. } => {
            Some((*client, *channel, position.clone()))
        }
        _ => None,
    };
    let deliveries = history.iter().enumerate().filter_map(|(at, record)| Some((at, delivery(record)?)));
    let mut last = BTreeMap::new();
    let mut continued = Vec::new();
    for (at, (client, channel, position)) in deliveries {
        if let Some((before, there)) = last.insert((client, channel), (at, position.clone()))
            && position == there.epoch.at(there.offset.next())
        {
            continued.push((before, at));
        }
    }
    continued
}

/// Where a good history is spoilt: in the middle of it.
fn somewhere(history: &[Record]) -> (usize, usize) {
    let continued = continued(history);
    continued[continued.len() / 2]
}

fn check_spoilt(spoil: impl FnOnce(&mut Vec<Record>), expected: &[Kind]) {
    let mut history = good();
    spoil(&mut history);
    let kinds: BTreeSet<Kind> = check(&history).iter().map(|violation| violation.kind).collect();
    for kind in expected {
        assert!(kinds.contains(kind), "{kind:?} must be among {kinds:?}");
    }
}

#[test]
fn a_good_history_is_left_alone() {
    let history = good();
    assert!(continued(&history).len() > 1_000, "there is much that could be spoilt");
    assert!(check(&history).is_empty());
}

#[test]
fn what_is_skipped_swapped_or_repeated_is_seen() {
    let skip = |history: &mut Vec<Record>| drop(history.remove(somewhere(history).0));
    check_spoilt(skip, &[Kind::Jump, Kind::Missed]);
    let swap = |history: &mut Vec<Record>| {
        let (first, second) = somewhere(history);
        history.swap(first, second);
    };
    check_spoilt(swap, &[Kind::Jump, Kind::StepBack]);
    let repeat = |history: &mut Vec<Record>| {
        let (first, _) = somewhere(history);
        history.insert(first, history[first].clone());
    };
    check_spoilt(repeat, &[Kind::StepBack]);
}

#[test]
fn a_forgotten_epoch_a_hidden_gap_and_another_payload_are_seen() {
    let rename = |history: &mut Vec<Record>| {
        let (_, second) = somewhere(history);
        if let Event::Delivered { position: Some(position), .. } = &mut history[second].event {
            position.epoch = tidings_protocol::Epoch::parse("elsewhere").unwrap();
        }
    };
    check_spoilt(rename, &[Kind::Jump]);
    let hide = |history: &mut Vec<Record>| history.retain(|r| !matches!(r.event, Event::Gap { .. }));
    check_spoilt(hide, &[Kind::Jump, Kind::Missed]);
    let exchange = |history: &mut Vec<Record>| {
        let (first, second) = somewhere(history);
        let Event::Delivered { publish: other, .. } = history[first].event else { unreachable!() };
        if let Event::Delivered { publish, .. } = &mut history[second].event {
            *publish = other;
        }
    };
    check_spoilt(exchange, &[Kind::TwoPayloads, Kind::TwoOffsets]);
}

#[test]
fn a_refused_publish_that_came_and_a_client_that_stayed_behind_are_seen() {
    let refuse = |history: &mut Vec<Record>| {
        let at = somewhere(history).0;
        let Event::Delivered { publish, channel, .. } = history[at].event else { unreachable!() };
        history.insert(at, Record { time: history[at].time, event: Event::Failed { publish, channel } });
    };
    check_spoilt(refuse, &[Kind::FailedButDelivered]);
    let stop = |history: &mut Vec<Record>| {
        let ended = |r: &&mut Record| matches!(r.event, Event::Ended { position: Some(_), .. });
        if let Some(Record { event: Event::Ended { position, .. }, .. }) = history.iter_mut().find(ended) {
            *position = None;
        }
    };
    check_spoilt(stop, &[Kind::Behind]);
}

#[test]
fn an_author_whose_publications_change_places_is_seen() {
    let (client, channel) = (ClientId(0), ChannelId(0));
    let at = |offset: u64| Some(format!("e0.{offset}").parse::<Position>().unwrap());
    let deliver = |number, offset| Event::Delivered {
        client,
        channel,
        position: at(offset),
        publish: PublishId { author: 1, number },
    };
    for (numbers, expected) in [([1, 2], vec![]), ([2, 1], vec![Kind::OrderInverted])] {
        let began = Event::Began { client, channel, position: at(0) };
        let events = [began, deliver(numbers[0], 1), deliver(numbers[1], 2)];
        let history = events.map(|event| Record { time: Time::ZERO, event });
        let kinds: Vec<Kind> = check(&history).iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, expected, "published as {numbers:?}");
    }
}

#[test]
fn a_volatile_channel_may_lose_only_what_a_gap_covers() {
    let (client, channel, publish) = (ClientId(0), ChannelId(4), PublishId { author: 1, number: 1 });
    let gap = Event::Gap { client, channel, reason: GapReason::Overflow, position: None };
    let began = Event::Began { client, channel, position: None };
    let stored = Event::Stored { publish, channel, position: None };
    let doomed = Event::Doomed { publish, channel };
    for (events, expected) in [
        (vec![&began, &stored, &gap], vec![]),
        (vec![&began, &gap, &stored], vec![Kind::Missed]),
        (vec![&began, &stored, &doomed], vec![]),
        (vec![&stored, &began], vec![]),
    ] {
        let timed = events.into_iter().zip(1..);
        let seconds = |s| Time(std::time::Duration::from_secs(s));
        let history: Vec<Record> =
            timed.map(|(event, s)| Record { time: seconds(s), event: event.clone() }).collect();
        let kinds: Vec<Kind> = check(&history).iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, expected, "{history:?}");
    }
}
