//! When a peer that is refused goes on as if it were not.

/// Counts refusals against what was granted.
#[derive(Debug, Default)]
pub struct Flood {
    refused: u32,
}

/// More refusals than grants by so many: whoever is that far beyond a limit does not read the answers.
const REFUSED_MAX: u32 = 256;

impl Flood {
    /// One was granted.
    pub fn grant(&mut self) {
        self.refused = self.refused.saturating_sub(1);
    }

    /// One was refused; whether the peer floods on.
    pub fn refuse(&mut self) -> bool {
        self.refused += 1;
        self.refused > REFUSED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_a_little_too_much_is_told_and_whoever_floods_is_ended() {
        let ended = |refused_of_each_grant: u32| {
            let mut flood = Flood::default();
            (0..10_000).any(|_| {
                flood.grant();
                (0..refused_of_each_grant).any(|_| flood.refuse())
            })
        };
        assert!(!ended(0) && !ended(1), "as many are refused as are granted");
        assert!(ended(2));
    }
}
