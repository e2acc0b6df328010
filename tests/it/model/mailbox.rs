//! A mailbox's promises: its bound holds, a hole is told before what follows it, and what waits is called for.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidings::hub::{Batch, BrokerState, Mail, Mailbox, Time, Urgency, Wake};

use super::{channel, config, epoch, ms, offsets, publication};

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const BYTES_MAX: usize = 1_000;
const WINDOW_MS: u64 = 100;

#[derive(Clone, Debug)]
enum Step {
    Offer { channel: usize, bytes: usize, urgency: u8 },
    Forget { channel: usize },
    Broker { since_ms: Option<u64> },
    Pass { ms: u64 },
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![4 => 0..300_usize, 1 => 0..3_000_usize];
    prop_oneof![
        8 => (0..3_usize, bytes, 0..3_u8)
            .prop_map(|(channel, bytes, urgency)| Step::Offer { channel, bytes, urgency }),
        1 => (0..3_usize).prop_map(|channel| Step::Forget { channel }),
        1 => prop::option::of(0..3_u64).prop_map(|since_ms| Step::Broker { since_ms }),
        3 => (0..150_u64).prop_map(|ms| Step::Pass { ms }),
        3 => Just(Step::Take),
    ]
}

/// What was put in since the mailbox was last emptied, by channel, and the calls that are due.
#[derive(Default)]
struct Model {
    offered: BTreeMap<&'static str, Vec<u64>>,
    forgotten: BTreeMap<&'static str, bool>,
    next: BTreeMap<&'static str, u64>,
    broker: Option<BrokerState>,
    calls: Vec<Time>,
}

impl Model {
    fn offer(&mut self, name: &'static str, bytes: usize) -> Arc<Batch> {
        let next = self.next.entry(name).or_insert(1);
        let publications = vec![Arc::new(publication(Some(*next), bytes))];
        self.offered.entry(name).or_default().push(*next);
        *next += 1;
        Arc::new(Batch::new(channel(name), Some(epoch(0)), publications))
    }

    /// Whether the mail is what was put in, or tells whose is missing.
    fn check(&mut self, mail: &Mail) -> Result<(), TestCaseError> {
        prop_assert_eq!(mail.broker, self.broker.take(), "the last state, once");
        let bytes: usize = mail.batches.iter().map(|batch| batch.bytes).sum();
        prop_assert!(bytes <= BYTES_MAX || mail.batches.len() == 1, "{} bytes waited", bytes);
        for name in CHANNELS {
            let mine = mail.batches.iter().filter(|batch| batch.channel.as_str() == name);
            let got: Vec<u64> = mine.flat_map(|batch| offsets(&batch.publications)).collect();
            let offered = self.offered.remove(name).unwrap_or_default();
            prop_assert!(offered.starts_with(&got), "{}: {:?} of {:?} follows a hole", name, got, offered);
            let forgotten = self.forgotten.remove(name).is_some();
            let missing = got.len() < offered.len() || forgotten;
            prop_assert_eq!(
                mail.forgotten.contains_key(name),
                missing,
                "{}: {:?} of {:?}",
                name,
                got,
                offered
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_mailbox_holds_its_bound_and_tells_every_hole_before_what_follows_it(
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let mut mailbox = Mailbox::new(BYTES_MAX);
        let mut model = Model::default();
        let mut now = ms(0);
        for step in steps {
            let wake = match step {
                Step::Offer { channel, bytes, urgency } => {
                    let until = now.window_end(std::time::Duration::from_millis(WINDOW_MS));
                    let urgency = [Urgency::Now, Urgency::Tick, Urgency::Leading { until }][usize::from(urgency)];
                    mailbox.offer(&model.offer(CHANNELS[channel], bytes), urgency, now)
                }
                Step::Forget { channel: index } => {
                    model.forgotten.insert(CHANNELS[index], true);
                    mailbox.forget(&channel(CHANNELS[index]))
                }
                Step::Broker { since_ms } => {
                    let down = |since_ms| BrokerState::Down { since_ms };
                    let state = since_ms.map_or(BrokerState::Up, down);
                    model.broker = Some(state);
                    mailbox.set_broker_state(state)
                }
                Step::Pass { ms } => {
                    now = now.after(std::time::Duration::from_millis(ms));
                    let calls = model.calls.len();
                    model.calls.retain(|call| *call > now);
                    if model.calls.len() < calls { mailbox.call() } else { Wake::No }
                }
                Step::Take => {
                    let mut mail = Mail::default();
                    if mailbox.take(&mut mail) {
                        model.check(&mail)?;
                    }
                    Wake::No
                }
            };
            if let Wake::At(at) = wake {
                prop_assert!(at > now, "{:?} is over", at);
                model.calls.push(at);
            }
            let called_for = mailbox.is_called() || !model.calls.is_empty();
            prop_assert!(mailbox.is_empty() || called_for, "what waits is called for by nobody");
        }
        mailbox.call();
        let mut mail = Mail::default();
        prop_assert!(mailbox.take(&mut mail), "it was called");
        model.check(&mail)?;
        prop_assert!(mailbox.is_empty());
    }
}
