//! How much of a bounded resource one caller may hold: as much as is still free.
//!
//! The rule is the dynamic threshold of A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches" (1998). One greedy caller gets half of the resource. Two that take turns get a third
//! each; of two that come one after the other, the second gets half of what the first left. So something is left for
//! another one, as long as the callers that take all they get are few: `n` of them leave at least `total / 2^n`.
//!
//! A caller is counted at each level at which it is known ([`holders_of`]), and must keep to the rule at all of them.
//!
//! [`Shares`] is the bookkeeping, without a lock; [`Pot`] shares it between tasks. Neither knows what is counted.

mod excess;

pub use excess::Excess;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};

use slab::Slab;
use tidings_protocol::{Code, Problem};

use super::{Caller, Name, Scope};

/// Who holds something: a name at a level.
type Holder = (Scope, Name);

/// The most levels at which one caller is counted.
const LEVELS: usize = 2;

/// The levels at which a caller is counted: its API key or its user, and its tenant. A caller without any of them is
/// counted by its address, and all whose address is not known are one caller.
fn holders_of(caller: &Caller) -> impl Iterator<Item = Holder> {
    let named = |scope| caller.name(scope).map(|name| (scope, name));
    let who = named(Scope::Key).or_else(|| named(Scope::User));
    let mut holders = [who, named(Scope::Tenant)];
    if holders.iter().all(Option::is_none) {
        holders[0] = named(Scope::Address).or(Some((Scope::Instance, Name::Whole)));
    }
    holders.into_iter().flatten()
}

/// The entries of one caller in a [`Shares`], for as long as it holds something there. Whoever was given one by
/// [`Shares::open`] or [`Shares::take`] gives it back once, by [`Shares::close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account([Option<NonZeroU32>; LEVELS]);

impl Account {
    fn entries(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().flatten().map(|key| key.get() as usize - 1)
    }
}

/// What one holder has.
#[derive(Clone, Debug)]
struct Held {
    holder: Holder,
    amount: usize,
    /// The accounts that were opened and not closed.
    accounts: usize,
    /// The tenant's entry, where the holder is a user or a key of one.
    tenant: Option<usize>,
}

/// Who holds how much of a resource. Everything costs the same, however many hold something.
#[derive(Clone, Debug)]
pub struct Shares {
    total: usize,
    used: usize,
    held: Slab<Held>,
    by_holder: HashMap<Holder, usize>,
}

/// Why a caller gets no more of a resource; nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The level at which it holds its share; [`Scope::Instance`] where less is free than was asked for.
    pub scope: Scope,
    /// What it holds at that level; at the level of the instance, what is held by all.
    pub held: usize,
    /// What was asked for.
    pub asked: usize,
    /// What is free.
    pub free: usize,
    /// All there is.
    pub total: usize,
}

impl Shares {
    /// All of `total` is free.
    pub fn new(total: usize) -> Shares {
        Shares { total, used: 0, held: Slab::new(), by_holder: HashMap::new() }
    }

    /// There is as much as this from now on. What is held stays held, even where it is more.
    pub fn set_total(&mut self, total: usize) {
        self.total = total;
    }

    /// All there is.
    pub fn total(&self) -> usize {
        self.total
    }

    /// What is held by all callers.
    pub fn used(&self) -> usize {
        self.used
    }

    /// What nobody holds.
    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.used)
    }

    /// The number of holders, at all levels.
    pub fn holders(&self) -> usize {
        self.held.len()
    }

    /// The most that the account holds at any of its levels.
    pub fn held(&self, account: Account) -> usize {
        account.entries().map(|entry| self.held[entry].amount).max().unwrap_or(0)
    }

    /// Whether the two accounts have a holder in common.
    pub fn is_counted_with(&self, account: Account, other: Account) -> bool {
        account.entries().any(|entry| other.entries().any(|other| other == entry))
    }

    /// Whether the account holds more than is free, at any of its levels.
    pub fn is_over(&self, account: Account) -> bool {
        self.held(account) > self.free()
    }

    /// An account for a caller, which holds nothing more by it.
    pub fn open(&mut self, caller: &Caller) -> Account {
        let mut account = Account([None; LEVELS]);
        for (level, holder) in account.0.iter_mut().zip(holders_of(caller)) {
            let Shares { held, by_holder, .. } = self;
            let entry = *by_holder.entry(holder).or_insert_with_key(|holder| {
                held.insert(Held { holder: holder.clone(), amount: 0, accounts: 0, tenant: None })
            });
            held[entry].accounts += 1;
            *level = u32::try_from(entry + 1).ok().and_then(NonZeroU32::new);
        }
        if let [Some(who), Some(_)] = account.0 {
            self.held[who.get() as usize - 1].tenant = account.entries().last();
        }
        account
    }

    /// An account for a caller, with so much more of the resource, if the caller keeps to the rule with it.
    pub fn take(&mut self, caller: &Caller, amount: usize) -> Result<Account, Refused> {
        let account = self.open(caller);
        match self.grow(account, amount) {
            Ok(()) => Ok(account),
            Err(refused) => {
                self.close(account, 0);
                Err(refused)
            }
        }
    }

    /// So much more for the account, if its caller keeps to the rule with it.
    pub fn grow(&mut self, account: Account, amount: usize) -> Result<(), Refused> {
        if amount == 0 {
            return Ok(());
        }
        let refused =
            |scope, held| Refused { scope, held, asked: amount, free: self.free(), total: self.total };
        let Some(free) = self.free().checked_sub(amount) else {
            return Err(refused(Scope::Instance, self.used));
        };
        for entry in account.entries() {
            let held = &self.held[entry];
            // The one more is for what has few places: half of an odd number is rounded up, and the only place of one
            // can be taken.
            if held.amount + amount > free + 1 {
                return Err(refused(held.holder.0, held.amount));
            }
        }
        self.grow_anyway(account, amount);
        Ok(())
    }

    /// So much more for the account, whatever the rule says: for what others make room for.
    pub fn grow_anyway(&mut self, account: Account, amount: usize) {
        self.used += amount;
        account.entries().for_each(|entry| self.held[entry].amount += amount);
    }

    /// The account gives back so much of what was taken for it.
    pub fn shrink(&mut self, account: Account, amount: usize) {
        self.used -= amount;
        account.entries().for_each(|entry| self.held[entry].amount -= amount);
    }

    /// Ends an account that holds so much still. A holder without accounts leaves no entry.
    pub fn close(&mut self, account: Account, amount: usize) {
        self.shrink(account, amount);
        for entry in account.entries() {
            self.held[entry].accounts -= 1;
            if self.held[entry].accounts == 0 {
                let held = self.held.remove(entry);
                self.by_holder.remove(&held.holder);
            }
        }
    }
}

impl Refused {
    /// The refusal as an answer. `limit` is the key in `[limits]`, `what` names the resource: "channels", "bytes of …".
    pub fn problem(&self, code: Code, limit: &str, what: &str) -> Problem {
        Problem::new(code, self.message(&format!("limits.{limit}"), what))
    }

    /// What was seen, and what to do. `limit` is the whole key of the limit.
    pub fn message(&self, limit: &str, what: &str) -> String {
        let Refused { held, asked, free, total, .. } = self;
        match self.scope {
            Scope::Instance if *held >= *total || asked > free => {
                format!("{limit} is {total} {what}, and {free} are free: try again later, or raise the limit")
            }
            scope => format!(
                "{limit} is {total} {what}: this {} holds {held}, {free} are free, and one caller holds no more \
                 than is free: use less, or try again later",
                match scope {
                    Scope::Instance => "kind of caller",
                    scope => scope.as_str(),
                }
            ),
        }
    }
}

/// A bounded resource that several tasks take from.
#[derive(Clone, Debug)]
pub struct Pot(Arc<Mutex<Shares>>);

/// What a caller holds of a [`Pot`]; it is given back when this is dropped.
#[derive(Debug)]
pub struct Taken {
    pot: Pot,
    account: Account,
    amount: usize,
}

impl Pot {
    /// All of `total` is free.
    pub fn new(total: usize) -> Pot {
        Pot(Arc::new(Mutex::new(Shares::new(total))))
    }

    /// So much of it for the caller, if it keeps to the rule with it. Nothing (0) is always given, and can grow.
    pub fn take(&self, caller: &Caller, amount: usize) -> Result<Taken, Refused> {
        let account = self.shares().take(caller, amount)?;
        Ok(Taken { pot: self.clone(), account, amount })
    }

    /// There is as much as this from now on. What is held stays held, even where it is more.
    pub fn set_total(&self, total: usize) {
        self.shares().set_total(total);
    }

    /// All there is.
    pub fn total(&self) -> usize {
        self.shares().total()
    }

    /// What is held by all callers.
    pub fn used(&self) -> usize {
        self.shares().used()
    }

    /// What nobody holds.
    pub fn free(&self) -> usize {
        self.shares().free()
    }

    /// The number of holders, at all levels.
    pub fn holders(&self) -> usize {
        self.shares().holders()
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().expect("nothing panics while it counts shares")
    }
}

impl Taken {
    /// What is held.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// So much more, if the caller keeps to the rule with it; else what it had.
    pub fn grow(&mut self, amount: usize) -> Result<(), Refused> {
        self.pot.shares().grow(self.account, amount)?;
        self.amount += amount;
        Ok(())
    }

    /// Gives some of it back; at most what is held.
    pub fn shrink(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        self.pot.shares().shrink(self.account, amount);
        self.amount -= amount;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pot.shares().close(self.account, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: &str, tenant: Option<&str>) -> Caller {
        Caller { user: Some(user.into()), tenant: tenant.map(Into::into), ..Caller::default() }
    }

    fn key(name: &str) -> Caller {
        Caller { key: Some(name.into()), ..Caller::default() }
    }

    fn at(address: &str) -> Caller {
        Caller::at(Some(address.parse().unwrap()))
    }

    /// Takes one by one until it is refused.
    fn greedy(pot: &Pot, caller: &Caller) -> (Vec<Taken>, Refused) {
        let mut taken = Vec::new();
        loop {
            match pot.take(caller, 1) {
                Ok(one) => taken.push(one),
                Err(refused) => return (taken, refused),
            }
        }
    }

    #[test]
    fn one_greedy_caller_holds_half_and_two_a_third_each() {
        let pot = Pot::new(99);
        let (ada, refused) = greedy(&pot, &user("ada", None));
        assert_eq!((ada.len(), refused.scope, refused.held, refused.free), (50, Scope::User, 50, 49));
        let (eve, _) = greedy(&pot, &user("eve", None));
        assert_eq!(eve.len(), 25, "what the first one left is shared by the same rule");
        assert!(pot.take(&user("bob", None), 1).is_ok(), "there is room for a newcomer");
        drop((ada, eve));
        assert_eq!((pot.used(), pot.holders()), (0, 0), "nothing is left of whoever is gone");
    }

    #[test]
    fn users_of_one_tenant_share_what_it_may_hold_and_addresses_count_for_strangers_alone() {
        let pot = Pot::new(100);
        let (_ada, _) = greedy(&pot, &user("ada", Some("acme")));
        let (bob, refused) = greedy(&pot, &user("bob", Some("acme")));
        assert_eq!((bob.len(), refused.scope), (0, Scope::Tenant));
        assert!(pot.take(&user("bob", Some("other")), 10).is_ok());
        assert!(pot.take(&Caller { address: Some([10, 0, 0, 1].into()), ..key("backend") }, 25).is_ok());
        for (one, other, together) in [
            (at("10.0.0.1"), at("10.0.0.2"), false),
            (at("2001:db8::1"), at("2001:db8::2"), true),
            (Caller::default(), Caller::default(), true),
            (key("a"), Caller { address: Some([10, 0, 0, 1].into()), ..key("a") }, true),
            (key("a"), key("b"), false),
        ] {
            let pot = Pot::new(100);
            let (_one, _) = greedy(&pot, &one);
            assert_eq!(pot.take(&other, 1).is_err(), together, "{one:?} and {other:?}");
        }
    }

    #[test]
    fn what_has_one_place_can_be_taken_and_what_is_refused_takes_nothing() {
        for (total, first) in [(1, 1), (2, 1), (3, 2)] {
            let pot = Pot::new(total);
            let (taken, _) = greedy(&pot, &key("a"));
            assert_eq!(taken.len(), first, "of {total}");
        }
        assert!(Pot::new(0).take(&key("a"), 1).is_err());
        let pot = Pot::new(100);
        let mut body = pot.take(&key("a"), 0).unwrap();
        body.grow(40).unwrap();
        assert_eq!(body.grow(61).unwrap_err().scope, Scope::Instance, "less is free than that");
        assert_eq!(body.grow(20).unwrap_err().scope, Scope::Key);
        assert_eq!((body.amount(), pot.used(), pot.free()), (40, 40, 60));
        body.shrink(30);
        assert_eq!((body.amount(), pot.used()), (10, 10));
        pot.set_total(5);
        assert_eq!((pot.free(), body.grow(1).unwrap_err().scope), (0, Scope::Instance));
    }

    #[test]
    fn a_refusal_says_the_limit_the_level_and_what_is_free() {
        let pot = Pot::new(10);
        let (_taken, refused) = greedy(&pot, &user("ada", Some("acme")));
        let problem = refused.problem(Code::LimitReached, "channels_max", "channels");
        assert_eq!(problem.code, Code::LimitReached);
        let detail = problem.to_string();
        assert!(
            detail.contains("limits.channels_max is 10 channels: this user holds 5, 5 are free"),
            "{detail}"
        );
        let (_taken, refused) = greedy(&Pot::new(0), &key("a"));
        let detail = refused.problem(Code::Overloaded, "bodies_bytes", "bytes").to_string();
        assert!(detail.contains("limits.bodies_bytes is 0 bytes, and 0 are free"), "{detail}");
    }
}
