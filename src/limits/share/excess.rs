//! Who holds more than its part of something that is too full: max-min fairness, first between tenants, then within each.

use std::collections::HashMap;

use super::{Account, Shares};

/// How much each holder may keep, where somebody must give something up. Whoever is not named keeps all.
#[derive(Clone, Debug, Default)]
pub struct Excess {
    most: HashMap<usize, usize>,
}

impl Shares {
    /// Who must give something up, and down to what, so that no more than `target` is held by all. The largest holders
    /// come down to one level; whoever holds less than that keeps it.
    pub fn excess(&self, target: usize) -> Excess {
        let outer: Vec<usize> =
            self.held.iter().filter(|(_, held)| held.tenant.is_none()).map(|(entry, _)| entry).collect();
        let amounts = |entries: &[usize]| entries.iter().map(|entry| self.held[*entry].amount).collect();
        let level = level(amounts(&outer), target);
        let mut most = HashMap::new();
        for entry in outer.into_iter().filter(|entry| self.held[*entry].amount > level) {
            let inner = self.held.iter().filter(|(_, held)| held.tenant == Some(entry));
            let inner: Vec<usize> = inner.map(|(entry, _)| entry).collect();
            let mut held: Vec<usize> = amounts(&inner);
            // What the tenant's anonymous users hold counts as one more user's; a holder without a tenant is such a one.
            let anonymous = self.held[entry].amount.saturating_sub(held.iter().sum());
            held.push(anonymous);
            let within = self::level(held, level);
            most.extend(inner.into_iter().map(|entry| (entry, within)));
            if anonymous > within {
                most.insert(entry, level);
            }
        }
        Excess { most }
    }

    /// Whether the account is one of those that must give something up still.
    pub fn exceeds(&self, account: Account, excess: &Excess) -> bool {
        let who = account.entries().next();
        who.and_then(|who| Some(self.held[who].amount > *excess.most.get(&who)?)).unwrap_or(false)
    }
}

/// The highest level with which no more than `target` is left, if everybody above it comes down to it.
fn level(mut amounts: Vec<usize>, target: usize) -> usize {
    amounts.sort_unstable();
    let mut left = target;
    for (index, amount) in amounts.iter().enumerate() {
        let level = left / (amounts.len() - index);
        if *amount > level {
            return level;
        }
        left -= amount;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Caller;

    #[test]
    fn the_largest_come_down_to_one_level_and_the_others_keep_what_they_have() {
        for (amounts, target, expected) in [
            (vec![10, 20, 30], 60, usize::MAX),
            (vec![10, 20, 30], 50, 20),
            (vec![10, 20, 30], 40, 15),
            (vec![90, 5, 5], 50, 40),
            (vec![1, 1], 0, 0),
            (vec![], 0, usize::MAX),
        ] {
            assert_eq!(level(amounts.clone(), target), expected, "{amounts:?} within {target}");
        }
    }

    #[test]
    fn a_tenant_gives_up_what_its_largest_user_holds() {
        let mut shares = Shares::new(100);
        let caller = |user: &str, tenant: &str| Caller {
            user: (!user.is_empty()).then(|| user.into()),
            tenant: Some(tenant.into()),
            ..Caller::default()
        };
        let mut hold = |user, tenant, amount| {
            let account = shares.open(&caller(user, tenant));
            shares.grow_anyway(account, amount);
            account
        };
        let (eve, bob, other) = (hold("eve", "acme", 60), hold("bob", "acme", 10), hold("ada", "other", 30));
        let nameless = hold("", "acme", 5);
        let excess = shares.excess(90);
        let exceeding =
            |shares: &Shares| [eve, bob, nameless, other].map(|account| shares.exceeds(account, &excess));
        assert_eq!(exceeding(&shares), [true, false, false, false]);
        shares.shrink(eve, 15);
        assert_eq!((exceeding(&shares), shares.used()), ([false; 4], 90));
    }
}
