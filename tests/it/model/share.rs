//! A pot of a resource against a plain list of what was taken.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidings::limits::{Caller, Pot, Refused, Scope, Taken};

use super::config;

#[derive(Clone, Debug)]
enum Step {
    Take { caller: usize, amount: usize },
    Grow { which: usize, amount: usize },
    Shrink { which: usize, amount: usize },
    Drop { which: usize },
    SetTotal { total: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![4 => 0..4_usize, 1 => 0..60_usize];
    prop_oneof![
        8 => (0..CALLERS, amount()).prop_map(|(caller, amount)| Step::Take { caller, amount }),
        3 => (0..20_usize, amount()).prop_map(|(which, amount)| Step::Grow { which, amount }),
        2 => (0..20_usize, amount()).prop_map(|(which, amount)| Step::Shrink { which, amount }),
        3 => (0..20_usize).prop_map(|which| Step::Drop { which }),
        1 => (0..150_usize).prop_map(|total| Step::SetTotal { total }),
    ]
}

const CALLERS: usize = 7;

/// Two users of one tenant, their namesake elsewhere, two keys of which one has a tenant, an address, and whoever is not known.
fn caller(number: usize) -> Caller {
    let user = |user: &str, tenant: &str| Caller {
        user: Some(user.into()),
        tenant: Some(tenant.into()),
        address: Some([127, 0, 0, 1].into()),
        ..Caller::default()
    };
    let key = |tenant: Option<&str>| Caller {
        key: Some("backend".into()),
        tenant: tenant.map(Into::into),
        ..Caller::default()
    };
    match number {
        0 => user("ada", "acme"),
        1 => user("bob", "acme"),
        2 => user("ada", "other"),
        3 => key(Some("acme")),
        4 => key(None),
        5 => Caller::at(Some([127, 0, 0, 1].into())),
        _ => Caller::default(),
    }
}

/// What a caller is counted as, written down by hand.
fn levels(number: usize) -> &'static [(Scope, &'static str)] {
    match number {
        0 => &[(Scope::User, "acme/ada"), (Scope::Tenant, "acme")],
        1 => &[(Scope::User, "acme/bob"), (Scope::Tenant, "acme")],
        2 => &[(Scope::User, "other/ada"), (Scope::Tenant, "other")],
        3 => &[(Scope::Key, "backend"), (Scope::Tenant, "acme")],
        4 => &[(Scope::Key, "backend")],
        5 => &[(Scope::Address, "127.0.0.1")],
        _ => &[(Scope::Instance, "unknown")],
    }
}

struct Model {
    total: usize,
    taken: Vec<(usize, Taken)>,
}

impl Model {
    fn used(&self) -> usize {
        self.taken.iter().map(|(_, taken)| taken.amount()).sum()
    }

    fn held(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut held = BTreeMap::new();
        for (caller, taken) in &self.taken {
            for (scope, name) in levels(*caller) {
                *held.entry((scope.as_str(), *name)).or_default() += taken.amount();
            }
        }
        held
    }

    /// Whether the caller may have so much more: no more than is free then, at none of its levels.
    fn may(&self, caller: usize, amount: usize) -> bool {
        if amount == 0 {
            return true;
        }
        let held = self.held();
        let held = |scope: &Scope, name| held.get(&(scope.as_str(), name)).copied().unwrap_or(0);
        match self.total.checked_sub(self.used() + amount) {
            Some(free) => levels(caller).iter().all(|(scope, name)| held(scope, name) + amount <= free + 1),
            None => false,
        }
    }

    fn check(&self, pot: &Pot) -> Result<(), TestCaseError> {
        prop_assert_eq!(pot.used(), self.used());
        prop_assert_eq!(pot.free(), self.total.saturating_sub(self.used()));
        prop_assert_eq!(pot.holders(), self.held().len(), "whoever holds nothing leaves no entry");
        Ok(())
    }
}

fn is_allowed<T>(outcome: &Result<T, Refused>, expected: bool, amount: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(outcome.is_ok(), expected);
    if let Err(refused) = outcome {
        prop_assert_eq!(refused.asked, amount);
        prop_assert!(
            refused.held + refused.asked > refused.free.saturating_sub(refused.asked) + 1
                || refused.asked > refused.free
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_pot_gives_a_caller_no_more_than_is_free_and_gets_all_of_it_back(
        total in 0..150_usize,
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let pot = Pot::new(total);
        let mut model = Model { total, taken: Vec::new() };
        for step in steps {
            match step {
                Step::Take { caller: number, amount } => {
                    let expected = model.may(number, amount);
                    let taken = pot.take(&caller(number), amount);
                    is_allowed(&taken, expected, amount)?;
                    model.taken.extend(taken.ok().map(|taken| (number, taken)));
                }
                Step::Grow { which, amount } if which < model.taken.len() => {
                    let expected = model.may(model.taken[which].0, amount);
                    is_allowed(&model.taken[which].1.grow(amount), expected, amount)?;
                }
                Step::Shrink { which, amount } if which < model.taken.len() => model.taken[which].1.shrink(amount),
                Step::Drop { which } if which < model.taken.len() => drop(model.taken.swap_remove(which)),
                Step::SetTotal { total } => {
                    pot.set_total(total);
                    model.total = total;
                }
                _ => {}
            }
            model.check(&pot)?;
        }
        model.taken.clear();
        prop_assert_eq!((pot.used(), pot.holders()), (0, 0));
    }

    #[test]
    fn there_is_room_for_a_newcomer_however_few_callers_take_all_that_they_get(
        greedy in 1..6_u32,
        total in 128..400_usize,
        turns in prop::collection::vec(0..6_u32, 0..800),
    ) {
        let pot = Pot::new(total);
        let stranger = |number: u32| Caller::at(Some(std::net::Ipv4Addr::from(number).into()));
        let mut taken = Vec::new();
        let last = (0..greedy).flat_map(|number| std::iter::repeat_n(number, total));
        for number in turns.into_iter().map(|turn| turn % greedy).chain(last) {
            taken.extend(pot.take(&stranger(number), 1));
        }
        prop_assert!(pot.free() + 1 >= total >> greedy, "{} of {} are free", pot.free(), total);
        prop_assert!(pot.take(&stranger(greedy), 1).is_ok());
    }
}
