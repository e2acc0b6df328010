//! What is taken for a token, and everything that is not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::{Value, json};

use super::*;
use crate::config::{Config, Sources};
use crate::hub::Time;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: Now = Now { time: Time::ZERO, unix: 1_000_000 };

const RSA: &[u8] = include_bytes!("../../config/tests/keys/rsa2048.pem");
const RSA_PUBLIC: &str = include_str!("../../config/tests/keys/rsa2048.pub.pem");
const P256: &[u8] = include_bytes!("../../config/tests/keys/p256.pem");
const P256_PUBLIC: &str = include_str!("../../config/tests/keys/p256.pub.pem");
const P384: &[u8] = include_bytes!("../../config/tests/keys/p384.pem");
const P384_PUBLIC: &str = include_str!("../../config/tests/keys/p384.pub.pem");
const ED25519: &[u8] = include_bytes!("../../config/tests/keys/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("../../config/tests/keys/ed25519.pub.pem");

fn tokens(toml: &str) -> Tokens {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let file = folder.path().join("t.toml");
    std::fs::write(&file, toml).expect("is written");
    let loaded = Config::load(&Sources { file: Some(file), ..Sources::default() });
    Tokens::new(&loaded.unwrap_or_else(|problems| panic!("{problems}")).config)
}

fn hmac() -> Tokens {
    tokens(&format!("[auth]\nhmac_secret = '{SECRET}'"))
}

/// A `[[auth.key]]`.
fn key(algorithm: &str, kid: &str, key: &str) -> String {
    let kid = if kid.is_empty() { String::new() } else { format!("kid = '{kid}'\n") };
    format!("[[auth.key]]\nalgorithm = '{algorithm}'\n{kid}key = '''\n{}'''\n", key.trim_end())
}

fn claims() -> Value {
    json!({ "sub": "ada", "exp": 1_000_060, "tidings": { "subscribe": ["room:*"], "watch": ["ticket:*"] } })
}

/// The claims with some of them replaced; `null` takes one away.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("changes are an object") {
        match value {
            Value::Null => claims.as_object_mut().expect("claims are an object").remove(name),
            value => {
                claims.as_object_mut().expect("claims are an object").insert(name.clone(), value.clone())
            }
        };
    }
    claims
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with any header, signed as `algorithm` has it.
fn signed(header: &Value, claims: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).expect("can be signed");
    format!("{message}.{signature}")
}

fn hs256(header: &Value, claims: &Value) -> String {
    signed(header, claims, Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()))
}

fn plain(claims: &Value) -> String {
    hs256(&json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

fn verdict(tokens: &Tokens, token: &str) -> Result<Grant, Code> {
    let granted = tokens.authenticate(token, |_| Vec::new(), NOW);
    granted.map_err(|problem| {
        let is_the_one = problem.code != Code::Unauthorized || problem.message == refused().message;
        assert!(is_the_one, "one answer for every cause: {problem}");
        problem.code
    })
}

fn demand_refused(tokens: &Tokens, token: &str, why: &str) {
    assert_eq!(verdict(tokens, token).err(), Some(Code::Unauthorized), "{why}");
}

#[test]
fn a_good_token_grants_what_it_says_until_it_expires() {
    let grant = verdict(&hmac(), &plain(&claims())).unwrap();
    let room = Channel::parse("room:7").unwrap();
    assert_eq!(&*grant.user, "ada");
    assert!(grant.may_subscribe(&room) && grant.may_read_history(&room) && !grant.may_publish(&room));
    assert!(grant.may_see_presence(&room), "as it may subscribe");
    let ticket = Tag::parse("ticket:42").unwrap();
    assert!(grant.may_watch(&ticket) && !grant.may_mutate(&ticket));
    assert_eq!(grant.expires, Some(Expiry { at: Time(Duration::from_secs(60)), exp: 1_000_060 }));
    assert_eq!((grant.tenant, grant.credential), (None, Credential::Token { id: None, issued: None }));
    let named = with(json!({ "jti": "t-1", "iat": 999_000, "tenant": "acme" }));
    let grant = verdict(&hmac(), &plain(&named)).unwrap();
    assert_eq!(grant.tenant.as_deref(), Some("acme"));
    assert_eq!(grant.credential, Credential::Token { id: Some("t-1".into()), issued: Some(999_000) });
    assert_eq!(verdict(&hmac(), &plain(&with(json!({ "exp": 1_000_000 })))).err(), Some(Code::TokenExpired));
}

#[test]
fn every_algorithm_is_taken_from_a_key_of_it_and_from_no_other() {
    let hmac = EncodingKey::from_secret(SECRET.as_bytes());
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    let (p256, p384) = (EncodingKey::from_ec_pem(P256).unwrap(), EncodingKey::from_ec_pem(P384).unwrap());
    let ed = EncodingKey::from_ed_pem(ED25519).unwrap();
    let known = [
        ("HS256", SECRET, &hmac),
        ("HS384", SECRET, &hmac),
        ("HS512", SECRET, &hmac),
        ("RS256", RSA_PUBLIC, &rsa),
        ("RS384", RSA_PUBLIC, &rsa),
        ("RS512", RSA_PUBLIC, &rsa),
        ("PS256", RSA_PUBLIC, &rsa),
        ("PS384", RSA_PUBLIC, &rsa),
        ("PS512", RSA_PUBLIC, &rsa),
        ("ES256", P256_PUBLIC, &p256),
        ("ES384", P384_PUBLIC, &p384),
        ("EdDSA", ED25519_PUBLIC, &ed),
    ];
    let sign = |(name, _, key): &(&str, &str, &EncodingKey)| {
        let algorithm = crate::config::TokenAlgorithm::named(name).unwrap().0;
        signed(&json!({ "alg": name }), &claims(), algorithm, key)
    };
    let signed: Vec<String> = known.iter().map(sign).collect();
    for (index, (name, public, _)) in known.iter().enumerate() {
        let tokens = tokens(&key(name, "", public));
        for (other, token) in signed.iter().enumerate() {
            let expected = index == other;
            assert_eq!(verdict(&tokens, token).is_ok(), expected, "{} with a key for {name}", known[other].0);
        }
    }
}

#[test]
fn a_token_without_an_algorithm_or_with_none_is_refused() {
    let tokens = hmac();
    for header in [
        json!({}),
        json!({ "alg": "none" }),
        json!({ "alg": "None" }),
        json!({ "alg": "" }),
        json!({ "alg": null }),
    ] {
        demand_refused(
            &tokens,
            &format!("{}.{}.", encoded(&header), encoded(&claims())),
            &header.to_string(),
        );
        demand_refused(&tokens, &hs256(&header, &claims()), &header.to_string());
    }
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","alg":"none"}"#);
    demand_refused(&tokens, &format!("{twice}.{}.", encoded(&claims())), "two algorithms");
}

#[test]
fn a_public_key_is_no_secret() {
    let tokens = tokens(&key("RS256", "", RSA_PUBLIC));
    for secret in [RSA_PUBLIC, RSA_PUBLIC.trim_end()] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        for (name, algorithm) in [("HS256", Algorithm::HS256), ("RS256", Algorithm::HS256)] {
            demand_refused(&tokens, &signed(&json!({ "alg": name }), &claims(), algorithm, &key), name);
        }
    }
}

#[test]
fn an_extension_that_must_be_understood_is_refused() {
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("x")] {
        let header = json!({ "alg": "HS256", "crit": crit, "b64": false });
        demand_refused(&hmac(), &hs256(&header, &claims()), &header.to_string());
    }
}

#[test]
fn a_key_that_a_token_brings_or_points_to_counts_for_nothing() {
    let own = EncodingKey::from_rsa_pem(RSA).unwrap();
    let bring = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("attacker"), "alg": "HS256" });
    let tokens = tokens(&key("ES256", "", P256_PUBLIC));
    for (name, value) in [
        ("jwk", bring),
        ("jku", json!("http://127.0.0.1:1/jwks")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = |algorithm: &str| json!({ "alg": algorithm, "kid": "a", name: value });
        let attacker = EncodingKey::from_secret(b"attacker");
        demand_refused(&tokens, &signed(&header("HS256"), &claims(), Algorithm::HS256, &attacker), name);
        demand_refused(&tokens, &signed(&header("RS256"), &claims(), Algorithm::RS256, &own), name);
        let good = EncodingKey::from_ec_pem(P256).unwrap();
        let token = signed(&header("ES256"), &claims(), Algorithm::ES256, &good);
        assert!(verdict(&tokens, &token).is_ok(), "{name} is not read");
    }
}

#[test]
fn the_name_of_a_key_chooses_among_live_keys_and_leads_nowhere_else() {
    let other = "another secret of at least 32 bytes!";
    let tokens = tokens(&(key("HS256", "old", SECRET) + &key("HS256", "new", other)));
    let token = |kid: Option<&str>, secret: &str| {
        let header = kid.map_or(json!({ "alg": "HS256" }), |kid| json!({ "alg": "HS256", "kid": kid }));
        signed(&header, &claims(), Algorithm::HS256, &EncodingKey::from_secret(secret.as_bytes()))
    };
    for (kid, secret, taken) in [
        (Some("old"), SECRET, true),
        (Some("new"), other, true),
        (None, SECRET, true),
        (None, other, true),
        (Some("old"), other, false),
        (Some("gone"), SECRET, false),
        (Some("../../dev/null"), SECRET, false),
        (Some("/etc/hostname"), SECRET, false),
        (Some("' OR 1=1 --"), SECRET, false),
        (Some(""), SECRET, false),
    ] {
        assert_eq!(verdict(&tokens, &token(kid, secret)).is_ok(), taken, "{kid:?}");
    }
    let nameless = hmac();
    assert!(verdict(&nameless, &token(Some("any"), SECRET)).is_ok(), "a key without a name is tried for all");
    demand_refused(&nameless, &token(Some("../x"), SECRET), "what could be no name of a key is no token");
    demand_refused(&nameless, &hs256(&json!({ "alg": "HS256", "kid": 7 }), &claims()), "a number");
}

#[test]
fn times_are_whole_numbers_of_seconds_within_reason() {
    let tokens = hmac();
    let year = 366 * 86_400;
    for exp in [
        json!("1000060"),
        json!(1_000_060.5),
        json!(1e9),
        json!(-1),
        json!(true),
        json!([1_000_060]),
        json!(1_000_000 + year + 1),
        json!(u64::MAX),
        json!(1e300),
    ] {
        demand_refused(&tokens, &plain(&with(json!({ "exp": exp }))), &format!("exp {exp}"));
    }
    let huge = format!(r#"{{"sub":"ada","exp":{}}}"#, "9".repeat(30));
    let message = format!("{}.{}", encoded(&json!({ "alg": "HS256" })), URL_SAFE_NO_PAD.encode(huge));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    demand_refused(&tokens, &format!("{message}.{signature}"), "beyond 64 bits");
    demand_refused(&tokens, &plain(&with(json!({ "exp": null }))), "without an end");
    assert!(verdict(&tokens, &plain(&with(json!({ "exp": 1_000_000 + year })))).is_ok());
    for (claim, early, good) in [("nbf", 1_000_001, 1_000_000), ("iat", 1_000_061, 1_000_060)] {
        for bad in [json!(early), json!("1"), json!(1.5), json!(-1), json!(u64::MAX)] {
            demand_refused(&tokens, &plain(&with(json!({ claim: bad }))), &format!("{claim} {bad}"));
        }
        assert!(verdict(&tokens, &plain(&with(json!({ claim: good })))).is_ok(), "{claim}");
    }
}

#[test]
fn whom_it_is_from_and_for_is_demanded_where_it_is_configured() {
    let strict =
        format!("[auth]\nhmac_secret = '{SECRET}'\nissuer = 'https://id.example'\naudience = 'tidings'");
    let strict = tokens(&strict);
    let good = json!({ "iss": "https://id.example", "aud": "tidings" });
    assert!(verdict(&strict, &plain(&with(good))).is_ok());
    let several = json!({ "iss": "https://id.example", "aud": ["other", "tidings"] });
    assert!(verdict(&strict, &plain(&with(several))).is_ok());
    for bad in [
        json!({}),
        json!({ "iss": "https://id.example" }),
        json!({ "aud": "tidings" }),
        json!({ "iss": "https://id.example/", "aud": "tidings" }),
        json!({ "iss": "https://id.example", "aud": "tidings2" }),
        json!({ "iss": "https://id.example", "aud": ["TIDINGS"] }),
        json!({ "iss": "https://id.example", "aud": [] }),
        json!({ "iss": ["https://id.example"], "aud": "tidings" }),
        json!({ "iss": "https://id.example", "aud": { "tidings": 1 } }),
    ] {
        demand_refused(&strict, &plain(&with(bad.clone())), &bad.to_string());
    }
    assert!(verdict(&hmac(), &plain(&with(json!({ "iss": "x", "aud": "y" })))).is_ok(), "nobody asks");
}

#[test]
fn what_calls_itself_something_else_than_a_token_is_none() {
    for typ in ["JWT", "jwt", "at+jwt"] {
        assert!(verdict(&hmac(), &hs256(&json!({ "alg": "HS256", "typ": typ }), &claims())).is_ok(), "{typ}");
    }
    for typ in [json!("JWE"), json!("secevent+jwt"), json!(""), json!(7)] {
        demand_refused(&hmac(), &hs256(&json!({ "alg": "HS256", "typ": typ }), &claims()), &typ.to_string());
    }
}

#[test]
fn what_is_no_token_at_all_is_refused() {
    let good = plain(&claims());
    let cut = &good[..good.len() - 2];
    for token in
        ["", ".", "..", "...", "a.b.c", "x", &good[1..], cut, &format!("{good}."), &format!(".{good}")]
    {
        demand_refused(&hmac(), token, token);
    }
    demand_refused(&hmac(), &plain(&json!([1])), "claims that are no object");
    for rights in [
        json!({ "subscribe": ["a*b"] }),
        json!({ "subscribe": "room:*" }),
        json!({ "watch": ["tick*"] }),
        json!({ "channels": ["room:*"] }),
        json!({ "publish": ["$log:default"] }),
    ] {
        demand_refused(&hmac(), &plain(&with(json!({ "tidings": rights }))), &rights.to_string());
    }
}

#[test]
fn a_token_for_one_channel_is_no_credential_and_a_credential_is_none_for_a_channel() {
    let tokens = hmac();
    let admit = |claims: &Value| {
        let admitted = tokens.admit(&plain(claims), |_| Vec::new(), NOW);
        admitted.map_err(|problem| problem.code)
    };
    let one = with(json!({ "jti": "c-1", "tidings": { "channel": "room:7" } }));
    let grant = admit(&one).unwrap();
    assert_eq!((grant.channel.as_str(), &*grant.user, grant.expires.exp), ("room:7", "ada", 1_000_060));
    assert_eq!(grant.credential, Credential::Token { id: Some("c-1".into()), issued: None });
    demand_refused(&tokens, &plain(&one), "it is for one channel");
    let both = with(json!({ "tidings": { "channel": "room:7", "subscribe": ["*"] } }));
    demand_refused(&tokens, &plain(&both), "it is for one channel, whatever else it says");
    assert_eq!(admit(&claims()).err(), Some(Code::Unauthorized), "it is a connection's");
    for channel in ["room:*", "", "$log:default"] {
        let bad = with(json!({ "tidings": { "channel": channel } }));
        assert_eq!(admit(&bad).err(), Some(Code::Unauthorized), "{channel}");
    }
    let expired = with(json!({ "exp": 1_000_000, "tidings": { "channel": "room:7" } }));
    assert_eq!(admit(&expired).err(), Some(Code::TokenExpired));
}

#[test]
fn a_key_that_was_fetched_counts_under_its_name() {
    let tokens = tokens("[auth.jwks]\nurl = 'https://id.example/jwks'");
    let key = VerificationKey::new(
        Algorithm::ES256,
        Some("k".into()),
        DecodingKey::from_ec_pem(P256_PUBLIC.as_bytes()).unwrap(),
        P256_PUBLIC.as_bytes(),
    );
    let private = EncodingKey::from_ec_pem(P256).unwrap();
    let sign = |header: Value| signed(&header, &claims(), Algorithm::ES256, &private);
    let ask = |token: &str, known: bool| {
        let keys = |kid: &str| if known && kid == "k" { vec![key.clone()] } else { Vec::new() };
        tokens.authenticate(token, keys, NOW).is_ok()
    };
    assert!(ask(&sign(json!({ "alg": "ES256", "kid": "k" })), true));
    assert!(!ask(&sign(json!({ "alg": "ES256", "kid": "k" })), false));
    assert!(!ask(&sign(json!({ "alg": "ES256" })), true), "nothing says which key it would be");
}
