//! Tokens of clients: JSON Web Tokens signed with HS256, which a backend makes and the server only checks.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tidings_protocol::{Channel, Code, Problem, Tag};

use super::{Now, refused};
use crate::hub::{Credential, Expiry, Grant, Pattern};

/// Checks tokens against one secret. The algorithm is fixed: what a token says of itself chooses nothing.
pub struct JwtVerifier {
    key: DecodingKey,
    validation: Validation,
}

/// What a token says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The user; empty for an anonymous one.
    #[serde(default)]
    pub sub: String,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// When it begins, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was issued, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Whom limits count it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it grants.
    #[serde(default)]
    pub tidings: Rights,
}

/// What a token grants: patterns of channels, and tags.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rights {
    /// Channels to subscribe to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// Channels to publish to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Channels whose history may be read; those of `subscribe` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<String>>,
    /// Channels of which it may be known who is in them; those of `subscribe` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Vec<String>>,
    /// Tags and subtrees to watch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<String>,
    /// Tags and subtrees to mutate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutate: Vec<String>,
    /// Channels subscribed to without asking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
}

impl JwtVerifier {
    /// A verifier for one secret.
    pub fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The times are checked here, against the time that is passed in and without leeway: a permission ends when it says.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        JwtVerifier { key: DecodingKey::from_secret(secret), validation }
    }

    /// What the token grants now.
    pub fn authenticate(&self, token: &str, now: Now) -> Result<Grant, Problem> {
        let token =
            jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map_err(|_| refused())?;
        let claims = token.claims;
        if claims.nbf.is_some_and(|nbf| nbf > now.unix) {
            return Err(refused());
        }
        let Some(left) = claims.exp.checked_sub(now.unix).filter(|left| *left > 0) else {
            return Err(Code::TokenExpired.into());
        };
        let at = now.time.after(std::time::Duration::from_secs(left));
        grant(claims, at).ok_or_else(refused)
    }
}

/// `None` where a pattern, a tag or a name is outside the grammar: a token whose words mean nothing grants nothing.
fn grant(claims: Claims, at: crate::hub::Time) -> Option<Grant> {
    let patterns =
        |texts: &[String]| texts.iter().map(|text| Pattern::parse(text).ok()).collect::<Option<Vec<_>>>();
    let tags = |texts: &[String]| texts.iter().map(|text| Tag::parse(text).ok()).collect::<Option<Vec<_>>>();
    let rights = claims.tidings;
    let subscribe = patterns(&rights.subscribe)?;
    let or_subscribe = |texts: &Option<Vec<String>>| match texts {
        Some(texts) => patterns(texts),
        None => Some(subscribe.clone()),
    };
    Some(Grant {
        user: claims.sub.into(),
        tenant: claims.tenant.map(Arc::from),
        credential: Credential::Token { id: claims.jti.map(Arc::from), issued: claims.iat },
        publish: patterns(&rights.publish)?,
        history: or_subscribe(&rights.history)?,
        presence: or_subscribe(&rights.presence)?,
        subscribe,
        watch: tags(&rights.watch)?,
        mutate: tags(&rights.mutate)?,
        channels: rights.channels.iter().map(|name| Channel::parse(name).ok()).collect::<Option<_>>()?,
        admin: false,
        expires: Some(Expiry { at, exp: claims.exp }),
    })
}

/// Makes a token, as `tidings token` and backends do.
pub fn sign(claims: &Claims, secret: &[u8]) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Time;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: Now = Now { time: Time::ZERO, unix: 1_000 };

    fn claims() -> Claims {
        let rights = Rights {
            subscribe: vec!["room:*".to_owned()],
            watch: vec!["ticket:*".to_owned()],
            ..Rights::default()
        };
        Claims { sub: "ada".to_owned(), exp: 1_060, tidings: rights, ..Claims::default() }
    }

    fn check(claims: &Claims, secret: &[u8]) -> Result<Grant, Code> {
        let token = sign(claims, secret).unwrap();
        JwtVerifier::new(SECRET).authenticate(&token, NOW).map_err(|problem| problem.code)
    }

    #[test]
    fn a_good_token_grants_what_it_says_until_it_expires() {
        let grant = check(&claims(), SECRET).unwrap();
        let room = Channel::parse("room:7").unwrap();
        assert_eq!(&*grant.user, "ada");
        assert!(grant.may_subscribe(&room) && grant.may_read_history(&room) && !grant.may_publish(&room));
        assert!(grant.may_see_presence(&room), "as it may subscribe");
        let ticket = Tag::parse("ticket:42").unwrap();
        assert!(grant.may_watch(&ticket) && !grant.may_mutate(&ticket));
        let named = Claims {
            iat: Some(900),
            jti: Some("t-1".to_owned()),
            tenant: Some("acme".to_owned()),
            ..claims()
        };
        let named = check(&named, SECRET).unwrap();
        assert_eq!(named.tenant.as_deref(), Some("acme"));
        assert_eq!(named.credential, Credential::Token { id: Some("t-1".into()), issued: Some(900) });
        let at = Time(std::time::Duration::from_secs(60));
        assert_eq!(grant.expires, Some(Expiry { at, exp: 1_060 }));
    }

    #[test]
    fn every_bad_token_gets_the_same_answer_but_an_expired_one() {
        let other_secret = b"another-secret-of-at-least-32-bytes";
        assert_eq!(check(&claims(), other_secret), Err(Code::Unauthorized));
        assert_eq!(check(&Claims { nbf: Some(1_001), ..claims() }, SECRET), Err(Code::Unauthorized));
        assert_eq!(check(&Claims { exp: 1_000, ..claims() }, SECRET), Err(Code::TokenExpired));
        let bad_pattern = Rights { subscribe: vec!["a*b".to_owned()], ..Rights::default() };
        assert_eq!(check(&Claims { tidings: bad_pattern, ..claims() }, SECRET), Err(Code::Unauthorized));
        let bad_tag = Rights { watch: vec!["tick*".to_owned()], ..Rights::default() };
        assert_eq!(check(&Claims { tidings: bad_tag, ..claims() }, SECRET), Err(Code::Unauthorized));
    }

    #[test]
    fn a_token_chooses_neither_its_algorithm_nor_the_type_of_its_times() {
        let verifier = JwtVerifier::new(SECRET);
        let verify = |token: &str| verifier.authenticate(token, NOW).map_err(|problem| problem.code);
        let hs512 = jsonwebtoken::encode(
            &Header::new(Algorithm::HS512),
            &claims(),
            &EncodingKey::from_secret(SECRET),
        );
        assert_eq!(verify(&hs512.unwrap()), Err(Code::Unauthorized));
        // {"alg":"none"} . {"exp":9999999999} . nothing
        assert_eq!(verify("eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9."), Err(Code::Unauthorized));
        for exp in [
            serde_json::json!("1060"),
            serde_json::json!(1060.5),
            serde_json::json!(-1),
            serde_json::json!(null),
        ] {
            let claims = serde_json::json!({ "sub": "ada", "exp": exp });
            let token = jsonwebtoken::encode(
                &Header::new(Algorithm::HS256),
                &claims,
                &EncodingKey::from_secret(SECRET),
            );
            assert_eq!(verify(&token.unwrap()), Err(Code::Unauthorized), "exp {exp}");
        }
        for token in ["", ".", "..", "a.b.c", "x"] {
            assert_eq!(verify(token), Err(Code::Unauthorized), "{token}");
        }
    }
}
