//! Credentials for servers that demand them.

use std::time::{SystemTime, UNIX_EPOCH};

use tidings::auth::{Claims, Rights, hash_of, sign};

/// Signs the tokens of all tests.
pub(crate) const SECRET: &str = "a-canary-secret-that-no-output-may-show";

/// May do everything that a key can.
pub(crate) const API_KEY: &str = "td_a-canary-key-that-no-output-may-show";

/// A configuration that knows both.
pub(crate) fn auth_config() -> String {
    let hash: String = hash_of(API_KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[auth]\nhmac_secret = \"{SECRET}\"\n[[api_key]]\nname = \"backend\"\nhash = \"sha256:{hash}\"\npublish = [\"*\"]\nmutate = [\"*\"]\nadmin = true\n"
    )
}

/// A token in the making: of ada, for an hour.
#[derive(Clone)]
pub(crate) struct Token(Claims);

impl Token {
    pub(crate) fn of(user: &str) -> Token {
        Token(Claims { sub: user.to_owned(), exp: unix_now() + 3_600, ..Claims::default() })
    }

    pub(crate) fn subscribe(mut self, pattern: &str) -> Token {
        self.rights().subscribe.push(pattern.to_owned());
        self
    }

    pub(crate) fn publish(mut self, pattern: &str) -> Token {
        self.rights().publish.push(pattern.to_owned());
        self
    }

    pub(crate) fn watch(mut self, tag: &str) -> Token {
        self.rights().watch.push(tag.to_owned());
        self
    }

    pub(crate) fn mutate(mut self, tag: &str) -> Token {
        self.rights().mutate.push(tag.to_owned());
        self
    }

    /// Of this tenant.
    pub(crate) fn tenant(mut self, name: &str) -> Token {
        self.0.tenant = Some(name.to_owned());
        self
    }

    /// May read no history but that of these patterns.
    pub(crate) fn history(mut self, patterns: &[&str]) -> Token {
        self.rights().history = Some(patterns.iter().map(|pattern| (*pattern).to_owned()).collect());
        self
    }

    /// May see the presence of no channels but those of these patterns.
    pub(crate) fn presence(mut self, patterns: &[&str]) -> Token {
        self.rights().presence = Some(patterns.iter().map(|pattern| (*pattern).to_owned()).collect());
        self
    }

    pub(crate) fn channel(mut self, name: &str) -> Token {
        self.rights().channels.push(name.to_owned());
        self
    }

    /// Is called so.
    pub(crate) fn id(mut self, id: &str) -> Token {
        self.0.jti = Some(id.to_owned());
        self
    }

    /// Was issued so many seconds ago, or is to be later.
    pub(crate) fn issued(mut self, seconds_ago: i64) -> Token {
        self.0.iat = Some(unix_now().saturating_add_signed(-seconds_ago));
        self
    }

    /// Is for this one channel.
    pub(crate) fn only_for(mut self, channel: &str) -> Token {
        self.rights().channel = Some(channel.to_owned());
        self
    }

    /// What it says.
    pub(crate) fn claims(&self) -> &Claims {
        &self.0
    }

    /// Ends so many seconds from now, or before.
    pub(crate) fn expires_in(mut self, seconds: i64) -> Token {
        self.0.exp = unix_now().saturating_add_signed(seconds);
        self
    }

    pub(crate) fn sign(&self) -> String {
        self.sign_with(SECRET)
    }

    pub(crate) fn sign_with(&self, secret: &str) -> String {
        sign(&self.0, secret.as_bytes()).expect("a token can be signed")
    }

    fn rights(&mut self) -> &mut Rights {
        &mut self.0.tidings
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}
