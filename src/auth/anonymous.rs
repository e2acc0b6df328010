//! What somebody may do who brings no credential: what namespaces allow.

use std::sync::Arc;

use crate::config::{Namespaces, Right};
use crate::hub::{Credential, Grant, Pattern};

/// `None` where no namespace allows anything.
pub(super) fn grant(namespaces: &Namespaces) -> Option<Grant> {
    let mut all = namespaces.iter();
    let default = all.next()?;
    let named: Vec<_> = all.collect();
    let names: Arc<[Arc<str>]> = named.iter().map(|namespace| namespace.name.clone()).collect();
    let patterns = |right| {
        let prefix = |name: &str| Pattern::Prefix(format!("{name}:").into());
        let named = named.iter().filter(|namespace| namespace.anonymous.contains(&right));
        let outside = default.anonymous.contains(&right).then(|| Pattern::Outside(names.clone()));
        named.map(|namespace| prefix(&namespace.name)).chain(outside).collect::<Vec<_>>()
    };
    let grant = Grant {
        credential: Credential::Anonymous,
        subscribe: patterns(Right::Subscribe),
        publish: patterns(Right::Publish),
        history: patterns(Right::History),
        presence: patterns(Right::Presence),
        ..Grant::default()
    };
    let rights = [&grant.subscribe, &grant.publish, &grant.history, &grant.presence];
    rights.iter().any(|patterns| !patterns.is_empty()).then_some(grant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use tidings_protocol::Channel;

    fn anonymous(toml: &str) -> Option<Grant> {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("t.toml");
        std::fs::write(&file, toml).expect("is written");
        let loaded = Config::load(&Sources { file: Some(file), ..Sources::default() }).expect("is legal");
        grant(&loaded.config.namespaces)
    }

    #[test]
    fn nobody_is_let_in_where_no_namespace_says_so() {
        assert!(anonymous("[namespace.chat]\nhistory_size = 1").is_none());
    }

    #[test]
    fn a_namespace_lets_do_what_it_says_and_on_its_channels_alone() {
        let grant = anonymous(
            "[namespace.news]\nanonymous = ['subscribe', 'history']\n[namespace.chat]\nhistory_size = 1",
        );
        let grant = grant.expect("somebody is let in");
        for (name, subscribe, history) in [
            ("news:1", true, true),
            ("news", false, false),
            ("newsx:1", false, false),
            ("chat:1", false, false),
        ] {
            let channel = Channel::parse(name).unwrap();
            assert_eq!(grant.may_subscribe(&channel), subscribe, "{name}");
            assert_eq!(grant.may_read_history(&channel), history, "{name}");
            assert!(!grant.may_publish(&channel) && !grant.may_see_presence(&channel), "{name}");
        }
        assert_eq!((grant.credential, grant.admin), (Credential::Anonymous, false));
    }

    #[test]
    fn what_the_default_namespace_allows_ends_where_another_one_says_no() {
        let toml = "[namespace.default]\nanonymous = ['subscribe']\n[namespace.private]\nanonymous = []\n[namespace.open]\nhistory_size = 1";
        let grant = anonymous(toml).expect("somebody is let in");
        for (name, allowed) in
            [("tickets", true), ("other:1", true), ("open:1", true), ("private:1", false), ("private", true)]
        {
            assert_eq!(grant.may_subscribe(&Channel::parse(name).unwrap()), allowed, "{name}");
        }
    }
}
