//! Which credentials hold no more, as far as is known here.
//!
//! A token is known by its own name, or by its user and when it was issued. A revocation is kept for as long as a token can
//! live that it refuses, and none is forgotten before: where there is no room, a further one is refused instead.

use std::sync::Arc;

use indexmap::IndexMap;
use indexmap::map::Entry;
use tidings_protocol::{Revocation, Revoked};

use super::Credential;

/// Revocations, each with the second since 1970 at which it was made.
#[derive(Clone, Debug)]
pub struct Revocations {
    at: IndexMap<Revoked, u64>,
    most: usize,
    /// Seconds for which one is kept.
    life: u64,
}

/// There is no room for another revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationsFull;

impl Revocations {
    /// None yet, and room for `most`, each kept for `life` seconds.
    pub fn new(most: usize, life: u64) -> Self {
        Revocations { at: IndexMap::new(), most, life }
    }

    /// Notes one at `now`, in seconds since 1970. Whether it refuses something that was not refused before.
    pub fn note(&mut self, revocation: Revocation, now: u64) -> Result<bool, RevocationsFull> {
        if self.at.len() >= self.most && !self.at.contains_key(&revocation.revoked) {
            let life = self.life;
            self.at.retain(|_, at| at.saturating_add(life) > now);
            if self.at.len() >= self.most {
                return Err(RevocationsFull);
            }
        }
        Ok(match self.at.entry(revocation.revoked) {
            Entry::Occupied(mut known) if *known.get() < revocation.at => {
                known.insert(revocation.at);
                true
            }
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(revocation.at);
                true
            }
        })
    }

    /// Whether what was presented for this user holds no more. A token that does not say when it was issued counts as older
    /// than any revocation of its user; API keys are not revoked but taken out of the configuration.
    pub fn cover(&self, user: &Arc<str>, credential: &Credential) -> bool {
        let Credential::Token { id, issued } = credential else { return false };
        if self.at.is_empty() {
            return false;
        }
        let by_name = id.as_ref().is_some_and(|id| self.at.contains_key(&Revoked::Token(id.clone())));
        let of_user = || self.at.get(&Revoked::User(user.clone()));
        by_name || of_user().is_some_and(|at| issued.is_none_or(|issued| issued <= *at))
    }

    /// Those whose time is not over at `now`, in seconds since 1970.
    pub fn standing(&self, now: u64) -> impl Iterator<Item = Revocation> {
        let standing = self.at.iter().filter(move |(_, at)| at.saturating_add(self.life) > now);
        standing.map(|(revoked, at)| Revocation { revoked: revoked.clone(), at: *at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, at: u64) -> Revocation {
        Revocation { revoked: Revoked::User(name.into()), at }
    }

    fn token(id: Option<&str>, issued: Option<u64>) -> Credential {
        Credential::Token { id: id.map(Arc::from), issued }
    }

    #[test]
    fn a_users_tokens_are_refused_but_for_those_that_were_issued_later() {
        let mut revocations = Revocations::new(10, 1_000);
        assert!(!revocations.cover(&"ada".into(), &token(None, None)));
        assert_eq!(revocations.note(user("ada", 100), 100), Ok(true));
        for (who, issued, refused) in [
            ("ada", Some(99), true),
            ("ada", Some(100), true),
            ("ada", Some(101), false),
            ("ada", None, true),
            ("bob", Some(1), false),
            ("", None, false),
        ] {
            assert_eq!(revocations.cover(&who.into(), &token(None, issued)), refused, "{who} {issued:?}");
        }
        for other in [Credential::None, Credential::Anonymous, Credential::ApiKey("ada".into())] {
            assert!(!revocations.cover(&"ada".into(), &other), "{other:?}");
        }
        assert_eq!(revocations.note(user("ada", 90), 100), Ok(false), "an older one changes nothing");
        assert_eq!(revocations.note(user("ada", 120), 120), Ok(true));
        assert!(revocations.cover(&"ada".into(), &token(None, Some(101))));
    }

    #[test]
    fn a_token_is_refused_by_its_name_whosever_it_is() {
        let mut revocations = Revocations::new(10, 1_000);
        revocations.note(Revocation { revoked: Revoked::Token("ada".into()), at: 1 }, 1).unwrap();
        assert!(revocations.cover(&"bob".into(), &token(Some("ada"), Some(500))));
        assert!(!revocations.cover(&"ada".into(), &token(Some("bob"), Some(0))), "a name is no user");
        assert!(!revocations.cover(&"ada".into(), &token(None, Some(0))));
    }

    #[test]
    fn none_is_forgotten_before_its_time_and_there_are_no_more_than_may_be() {
        let mut revocations = Revocations::new(2, 1_000);
        assert_eq!(revocations.note(user("a", 0), 0), Ok(true));
        assert_eq!(revocations.note(user("b", 10), 10), Ok(true));
        assert_eq!(revocations.note(user("c", 999), 999), Err(RevocationsFull));
        assert_eq!(revocations.note(user("a", 500), 999), Ok(true), "it has its place");
        assert_eq!(revocations.note(user("c", 1_010), 1_010), Ok(true), "b's time is over");
        assert_eq!((revocations.standing(1_010).count(), revocations.standing(1_500).count()), (2, 1));
        assert!(revocations.cover(&"a".into(), &token(None, Some(500))));
    }
}
