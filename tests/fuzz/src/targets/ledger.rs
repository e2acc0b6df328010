//! The books of a caching client: whatever a server says, nothing is fresh without a lease, or after a word that it was touched.

use std::collections::BTreeSet;

use tidings_protocol::{
    AtFrame, ContinuedFrame, Effect, Epoch, Freshness, InvalidatedFrame, LeaseClock, Ledger, LogName, Offset,
    Position, Reading, ResetFrame, ResetReason, ResetScope, Tag, WatchedFrame,
};

use crate::choices::Choices;

const TAGS: [&str; 6] = ["a", "a:1", "a:*", "b", "b:1:x", "*"];

/// Longer histories tell nothing that shorter ones do not.
const STEPS_MAX: usize = 200;

/// The most tags of one command (R61).
const TAGS_MAX: usize = 1_000;

pub(crate) fn ledger(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut ledger: Ledger<u8> = Ledger::new();
    let mut clock = LeaseClock::default();
    let (mut monotonic, mut wall) = (0_u64, 0_u64);
    let mut asked = Vec::new();
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            return;
        }
        monotonic = monotonic.saturating_add(choices.number());
        wall = wall.wrapping_add(choices.number());
        let now = clock.read(monotonic, wall);
        step(&mut choices, &mut ledger, &mut asked, now);
        for effect in ledger.effects() {
            match effect {
                Effect::Watch(watch) => {
                    let tags: Vec<&Tag> = watch.groups.iter().flat_map(|group| &group.tags).collect();
                    let once: BTreeSet<&&Tag> = tags.iter().collect();
                    assert!(tags.len() <= TAGS_MAX && once.len() == tags.len(), "a command names a tag once");
                    asked.push(watch.id);
                }
                Effect::Stale(key) => assert_ne!(ledger.check(&key, now), Freshness::Fresh),
                Effect::Forget(key) => assert_eq!(ledger.check(&key, now), Freshness::Unknown),
                Effect::Unwatch(tags) | Effect::UnwatchEscalated(tags) => assert!(!tags.is_empty()),
                Effect::Proven(_) => {}
            }
        }
        for key in 0..4 {
            let is_fresh = ledger.check(&key, now) == Freshness::Fresh;
            assert!(!is_fresh || now < ledger.lease_until(), "nothing is fresh without a lease");
        }
    }
}

fn step(choices: &mut Choices<'_>, ledger: &mut Ledger<u8>, asked: &mut Vec<u64>, now: u64) {
    let ns = LogName::default;
    match choices.below(12) {
        0 => ledger.connected(choices.number()),
        1 => ledger.disconnected(),
        2 => ledger.pinged(choices.number()),
        3 => store(choices, ledger, now),
        4 => {
            let (at, touched) = (position(choices), tags(choices));
            ledger.mutated(&at, touched.clone());
            let is_exact = |tag: &&Tag| !tag.is_subtree();
            if let Some(tag) = touched.iter().find(is_exact) {
                let basis = at.epoch.at(at.offset.previous());
                let is_touched = ledger.is_touched(&BTreeSet::from([tag.clone()]), &basis, None);
                assert!(is_touched || at.offset.0 == 0, "{tag} was touched after {basis}");
            }
        }
        5 => ledger.forget(&choices.byte()),
        6 => {
            let id = if choices.flag() { asked.pop().unwrap_or_default() } else { choices.number() };
            let (at, stale) = (position(choices), tags(choices));
            let (denied, escalated) = (tags(choices), tags(choices));
            let frame =
                WatchedFrame { ns: ns(), at, stale, denied, no_room: Vec::new(), escalated, spread_ms: 0 };
            ledger.watched(id, &frame);
        }
        7 => ledger.refused(asked.pop().unwrap_or_default()),
        8 => {
            let at = position(choices);
            let touched = tags(choices).into_iter().map(|tag| (tag, Offset(choices.number()))).collect();
            let c = choices.flag().then(|| choices.number());
            ledger.invalidated(&InvalidatedFrame { ns: ns(), at, tags: touched, spread_ms: 0, c });
        }
        9 => {
            let c = choices.flag().then(|| choices.number());
            ledger.at(&AtFrame { ns: ns(), position: position(choices), c });
        }
        10 => {
            let scope = if choices.flag() { ResetScope::All } else { ResetScope::Tags(tags(choices)) };
            let reason = *choices.of(&[ResetReason::Epoch, ResetReason::Auth, ResetReason::Limit]);
            ledger.reset(&ResetFrame { ns: ns(), scope, at: position(choices), reason, spread_ms: 0 });
        }
        _ => {
            let (from, position) = (position(choices), position(choices));
            ledger.continued(&ContinuedFrame { channel: None, ns: Some(ns()), from, position });
        }
    }
}

fn store(choices: &mut Choices<'_>, ledger: &mut Ledger<u8>, now: u64) {
    let begun = ledger.begin(now);
    let told = choices.flag().then(|| position(choices));
    let except = choices.flag().then(|| position(choices));
    let tags = choices.flag().then(|| tags(choices).into_iter().collect());
    ledger.stored(choices.byte() % 4, Reading { tags, begun, told, except });
}

/// As frames have them: below 2^53.
fn position(choices: &mut Choices<'_>) -> Position {
    let epoch = Epoch::parse(["a", "b", "c"][choices.below(3)]).expect("an epoch");
    epoch.at(Offset(choices.number() % (tidings_protocol::INTEGER_MAX + 1)))
}

fn tags(choices: &mut Choices<'_>) -> Vec<Tag> {
    let chosen = choices.byte();
    let tags = TAGS.iter().enumerate().filter(|(index, _)| chosen >> index & 1 == 1);
    tags.map(|(_, tag)| Tag::parse(tag).expect("a tag")).collect()
}
