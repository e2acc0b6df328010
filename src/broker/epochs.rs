//! The epochs of the memory broker's channels: each channel has its own, known before anything is published there. Pure.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use tidings_protocol::{Channel, Epoch};

/// The characters of an epoch, of 5 bits each: 65 bits, so that no two are alike in the life of all instances.
const EPOCH_CHARACTERS: usize = 13;

const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";

/// Which epoch a channel without a stream has, so that whoever reads it hears the epoch that its first publication begins.
///
/// An epoch is derived from the seed, the channel and a serial number. A channel whose numbering was forgotten has a later
/// serial than any before, so its epochs are never used for two numberings.
#[derive(Debug)]
pub(super) struct Epochs {
    seed: Box<str>,
    /// The last serial that was given.
    last: u64,
    /// The serial of channels that are not among the forgotten.
    base: u64,
    /// The serials of channels whose numbering was forgotten, by a hash of their names: two that share an entry begin a new
    /// epoch once more than they must.
    forgotten: HashMap<u64, u64>,
    forgotten_max: usize,
}

impl Epochs {
    /// Epochs unlike those of any other seed. At most `forgotten_max` forgotten channels are remembered.
    pub(super) fn new(seed: &str, forgotten_max: usize) -> Epochs {
        Epochs { seed: seed.into(), last: 0, base: 0, forgotten: HashMap::new(), forgotten_max }
    }

    /// The epoch of the channel's next numbering.
    pub(super) fn of(&self, channel: &Channel) -> Epoch {
        let serial = self.forgotten.get(&place(channel)).copied().unwrap_or(self.base);
        let mut hash = Sha256::new();
        for part in [self.seed.as_bytes(), &serial.to_be_bytes(), channel.as_str().as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let characters = hash.iter().take(EPOCH_CHARACTERS);
        let text: String = characters.map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
        Epoch::parse(&text).expect("13 letters and digits are an epoch")
    }

    /// The channel's numbering is forgotten: another one begins when something is published there again. Where too many
    /// are forgotten to be remembered one by one, all channels but the `attached` ones, which have no stream yet, get another epoch.
    pub(super) fn forget<'a>(&mut self, channel: &Channel, attached: impl Iterator<Item = &'a Channel>) {
        self.last += 1;
        if self.forgotten.len() >= self.forgotten_max {
            let kept = attached.map(|channel| {
                let place = place(channel);
                (place, self.forgotten.get(&place).copied().unwrap_or(self.base))
            });
            self.forgotten = kept.collect();
            self.base = self.last;
        }
        self.forgotten.insert(place(channel), self.last);
    }
}

/// Where a channel's serial is kept. Who chooses a name cannot choose whose place it meets.
fn place(channel: &Channel) -> u64 {
    let hash = Sha256::digest(channel.as_str().as_bytes());
    u64::from_be_bytes(hash[..8].try_into().expect("a hash has more than 8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn each_channel_of_each_seed_has_an_epoch_of_its_own_that_stays() {
        let (epochs, others) = (Epochs::new("seed", 10), Epochs::new("other", 10));
        let epoch = epochs.of(&channel("a"));
        assert_eq!(epoch, epochs.of(&channel("a")));
        assert_ne!(epoch, epochs.of(&channel("b")));
        assert_ne!(epoch, others.of(&channel("a")));
    }

    #[test]
    fn a_forgotten_channel_begins_a_new_epoch_and_no_other_one_does() {
        let mut epochs = Epochs::new("seed", 10);
        let [a, b] = [channel("a"), channel("b")].map(|channel| epochs.of(&channel));
        epochs.forget(&channel("a"), std::iter::empty());
        let again = epochs.of(&channel("a"));
        assert_ne!(a, again);
        assert_eq!(b, epochs.of(&channel("b")));
        epochs.forget(&channel("a"), std::iter::empty());
        assert!(![a, again].contains(&epochs.of(&channel("a"))));
    }

    #[test]
    fn when_too_many_are_forgotten_all_begin_new_epochs_but_those_that_somebody_is_attached_to() {
        let mut epochs = Epochs::new("seed", 10);
        let attached = channel("attached");
        let names: Vec<Channel> = (0..20).map(|n| channel(&format!("c{n}"))).collect();
        let before: Vec<Epoch> = names.iter().map(|name| epochs.of(name)).collect();
        let (of_attached, of_idle) = (epochs.of(&attached), epochs.of(&channel("idle")));
        for name in &names {
            epochs.forget(name, std::iter::once(&attached));
        }
        assert!(epochs.forgotten.len() <= 11, "what is remembered is bounded");
        assert_eq!(epochs.of(&attached), of_attached);
        assert_ne!(epochs.of(&channel("idle")), of_idle);
        for (name, before) in names.iter().zip(before) {
            assert_ne!(epochs.of(name), before, "{name}");
        }
    }
}
