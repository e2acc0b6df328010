//! Credentials: any word is refused, or grants no more than its claims say.

use std::sync::LazyLock;
use std::time::Duration;

use tidings::auth::{Authenticator, Claims, Now, sign};
use tidings::config::{Config, Sources};
use tidings::hub::Time;
use tidings_protocol::Code;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const NOW: Now = Now { time: Time(Duration::from_secs(100)), unix: 1_700_000_000 };

static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let env = vec![("TIDINGS__AUTH__HMAC_SECRET".to_owned(), SECRET.to_owned())];
    let config = Config::load(&Sources { env, ..Sources::default() }).expect("it is legal").config;
    Authenticator::new(&config, false).expect("there are no patterns")
});

pub(crate) fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(problem) = AUTHENTICATOR.authenticate(text, NOW) {
        assert!(matches!(problem.code, Code::Unauthorized | Code::TokenExpired), "{problem:?}");
    }
    // Claims of any kind under a signature that holds.
    let Ok(claims) = serde_json::from_str::<Claims>(text) else { return };
    let Ok(token) = sign(&claims, SECRET.as_bytes()) else { return };
    match AUTHENTICATOR.authenticate(&token, NOW) {
        Ok(grant) => {
            assert!(claims.exp > NOW.unix && claims.nbf.is_none_or(|nbf| nbf <= NOW.unix));
            assert_eq!(*grant.user, *claims.sub);
            assert!(!grant.admin, "no token is an operator's");
            assert!(grant.expires.is_some_and(|expiry| expiry.exp == claims.exp && expiry.at > NOW.time));
        }
        Err(problem) => assert!(matches!(problem.code, Code::Unauthorized | Code::TokenExpired)),
    }
}
