//! What this instance's publications keep in Redis, by namespace, and who may add to it.
//!
//! Redis has bounds of its own for all that it holds, and none for a namespace or a caller. An instance knows what it
//! published, and how long and how much of a channel is kept: that is counted, and what other instances publish is not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidings_protocol::{Code, Problem, PublishCommand};

use crate::config::{Config, Namespace};
use crate::hub::Time;
use crate::limits::{Account, Caller, Refused, Shares};

/// Bytes of a channel that holds anything: the first node of a Redis stream takes 4 KiB, its numbering 265 bytes, keys the rest.
const CHANNEL_BYTES: usize = 4_650;

/// Bytes of a publication beside its data, as measured with small ones.
const PUBLICATION_BYTES: usize = 90;

/// How often channels are looked through for what is too old, at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The namespaces of which the bytes are bounded.
#[derive(Default)]
pub(super) struct Footprints(HashMap<Arc<str>, Mutex<Footprint>>);

/// A publication that was counted, in case it is not stored.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    namespace: Arc<str>,
    number: u64,
}

#[derive(Debug)]
struct Footprint {
    shares: Shares,
    history_size: usize,
    history_bytes: usize,
    history_age: Duration,
    channels: HashMap<Arc<str>, Kept>,
    next_number: u64,
    next_sweep: Time,
}

/// What is kept of a channel.
#[derive(Debug)]
struct Kept {
    /// Whom the channel itself is counted to: who published there first.
    maker: Account,
    publications: VecDeque<Publication>,
    bytes: usize,
}

#[derive(Debug)]
struct Publication {
    number: u64,
    until: Time,
    publisher: Account,
    bytes: usize,
}

impl Footprints {
    /// Those that the configuration bounds, where there is a Redis.
    pub(super) fn new(config: &Config) -> Footprints {
        let is_bounded =
            |ns: &&Arc<Namespace>| config.redis.url.is_some() && ns.stored_bytes_max > 0 && !ns.is_volatile();
        let bounded = config.namespaces.iter().filter(is_bounded);
        Footprints(bounded.map(|ns| (ns.name.clone(), Mutex::new(Footprint::new(ns)))).collect())
    }

    /// Counts a publication before it is stored.
    pub(super) fn count(
        &self,
        caller: &Caller,
        command: &PublishCommand,
        namespace: &Namespace,
        now: Time,
    ) -> Result<Option<Counted>, Problem> {
        let Some(footprint) = self.0.get(&namespace.name) else { return Ok(None) };
        let mut footprint = footprint.lock().expect("nothing panics while it counts bytes");
        let counted =
            footprint.count(caller, command.channel.as_str(), command.payload.as_bytes().len(), now);
        let number = counted.map_err(|refused| {
            let limit = format!("namespace.{}.stored_bytes_max", namespace.name);
            Problem::new(Code::LimitReached, refused.message(&limit, "bytes in Redis"))
        })?;
        Ok(Some(Counted { namespace: namespace.name.clone(), number }))
    }

    /// What was counted is not stored.
    pub(super) fn give_back(&self, counted: Option<&Counted>, channel: &str) {
        let Some(counted) = counted else { return };
        if let Some(footprint) = self.0.get(&counted.namespace) {
            let mut footprint = footprint.lock().expect("nothing panics while it counts bytes");
            footprint.take_back(channel, counted.number);
        }
    }

    /// Bytes that are kept in all bounded namespaces, and all that may be.
    pub(super) fn usage(&self, now: Time) -> (usize, usize) {
        let each = self.0.values().map(|footprint| {
            let mut footprint = footprint.lock().expect("nothing panics while it counts bytes");
            footprint.sweep(now);
            (footprint.shares.used(), footprint.shares.total())
        });
        each.fold((0, 0), |(used, total), (more, most)| (used + more, total + most))
    }
}

impl Footprint {
    fn new(namespace: &Namespace) -> Footprint {
        Footprint {
            shares: Shares::new(namespace.stored_bytes_max),
            history_size: namespace.history_size,
            history_bytes: namespace.history_bytes,
            history_age: namespace.history_age,
            channels: HashMap::new(),
            next_number: 0,
            next_sweep: Time::ZERO,
        }
    }

    /// Counts a publication with so much data; returns its number.
    fn count(&mut self, caller: &Caller, channel: &str, data: usize, now: Time) -> Result<u64, Refused> {
        self.sweep(now);
        let bytes = data + PUBLICATION_BYTES;
        let is_new = !self.channels.contains_key(channel);
        let publisher = self.shares.take(caller, bytes + if is_new { CHANNEL_BYTES } else { 0 })?;
        if is_new {
            // The channel's part goes over to an account of its own, which lives as long as the channel.
            self.shares.shrink(publisher, CHANNEL_BYTES);
            let maker = self.shares.open(caller);
            self.shares.grow_anyway(maker, CHANNEL_BYTES);
            self.channels.insert(channel.into(), Kept { maker, publications: VecDeque::new(), bytes: 0 });
        }
        let number = self.next_number;
        self.next_number += 1;
        let until = now.after(self.history_age);
        let kept = self.channels.get_mut(channel).expect("it was made if it was not there");
        kept.bytes += bytes;
        kept.publications.push_back(Publication { number, until, publisher, bytes });
        while kept.publications.len() > self.history_size
            || (kept.bytes > self.history_bytes && kept.publications.len() > 1)
        {
            kept.drop_at(0, &mut self.shares);
        }
        Ok(number)
    }

    fn take_back(&mut self, channel: &str, number: u64) {
        let Some(kept) = self.channels.get_mut(channel) else { return };
        if let Some(index) = kept.publications.iter().rposition(|it| it.number == number) {
            kept.drop_at(index, &mut self.shares);
        }
        self.forget_if_empty(channel);
    }

    fn forget_if_empty(&mut self, channel: &str) {
        if self.channels.get(channel).is_some_and(|kept| kept.publications.is_empty())
            && let Some(kept) = self.channels.remove(channel)
        {
            self.shares.close(kept.maker, CHANNEL_BYTES);
        }
    }

    /// Gives back what is too old, once in a while.
    fn sweep(&mut self, now: Time) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now.after(SWEEP_INTERVAL);
        let Footprint { channels, shares, .. } = self;
        channels.retain(|_, kept| {
            while kept.publications.front().is_some_and(|publication| publication.until <= now) {
                kept.drop_at(0, shares);
            }
            if kept.publications.is_empty() {
                shares.close(kept.maker, CHANNEL_BYTES);
            }
            !kept.publications.is_empty()
        });
    }
}

impl Kept {
    fn drop_at(&mut self, index: usize, shares: &mut Shares) {
        if let Some(publication) = self.publications.remove(index) {
            self.bytes -= publication.bytes;
            shares.close(publication.publisher, publication.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Caller {
        Caller { key: Some(name.into()), ..Caller::default() }
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    fn footprint(bytes: usize) -> Footprint {
        let config = Config::default();
        let mut namespace = Namespace::clone(config.namespaces.of(""));
        namespace.stored_bytes_max = bytes;
        namespace.history_size = 3;
        Footprint::new(&namespace)
    }

    #[test]
    fn a_caller_has_its_share_of_the_bytes_for_as_long_as_they_are_kept() {
        let one = CHANNEL_BYTES + PUBLICATION_BYTES;
        let mut footprint = footprint(8 * one);
        for n in 0..4 {
            footprint.count(&key("eve"), &format!("e{n}"), 0, at(0)).unwrap();
        }
        assert!(footprint.count(&key("eve"), "e4", 0, at(0)).is_err(), "it has half");
        footprint.count(&key("ada"), "a", 0, at(0)).expect("there is room for others");
        assert!(footprint.count(&key("eve"), "e4", 0, at(299)).is_err());
        footprint.count(&key("eve"), "e4", 0, at(300)).expect("what was there is too old");
        assert_eq!(footprint.shares.used(), one);
    }

    #[test]
    fn no_more_is_counted_of_a_channel_than_is_kept_and_what_is_not_stored_is_given_back() {
        let mut footprint = footprint(1 << 20);
        let numbers: Vec<u64> =
            (0..5).map(|n| footprint.count(&key("eve"), "e", 10, at(n)).unwrap()).collect();
        let three = CHANNEL_BYTES + 3 * (PUBLICATION_BYTES + 10);
        assert_eq!(footprint.shares.used(), three);
        footprint.take_back("e", numbers[4]);
        footprint.take_back("e", numbers[0]);
        assert_eq!(footprint.shares.used(), three - PUBLICATION_BYTES - 10, "the first was trimmed before");
        footprint.take_back("e", numbers[2]);
        footprint.take_back("e", numbers[3]);
        assert_eq!(
            (footprint.shares.used(), footprint.shares.holders(), footprint.channels.len()),
            (0, 0, 0)
        );
    }
}
