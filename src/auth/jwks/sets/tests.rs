use super::*;
use crate::config::{Config, Sources};
use serde_json::json;

const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"X","y":"Y"}"#;

fn at(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn sets(urls: &str) -> KeySets {
    let env = vec![("TIDINGS__AUTH__JWKS__URL".to_owned(), urls.to_owned())];
    let loaded =
        Config::load(&Sources { env, ..Sources::default() }).unwrap_or_else(|problems| panic!("{problems}"));
    KeySets::new(&loaded.config.jwks)
}

/// An Ed25519 key (RFC 8037, appendix A) under this name.
fn ed(kid: &str) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn answer(sets: &mut KeySets, url: &JwksUrl, keys: &[Value], now: Time) -> Result<usize, String> {
    sets.handle_answer(url, Ok(&set(keys)), now)
}

#[test]
fn keys_are_known_by_address_and_name() {
    let mut sets = sets("https://a.example/k,https://b.example/k");
    let urls = sets.begin(at(0));
    assert_eq!((urls.len(), sets.begin(at(0)).len()), (2, 0), "each is asked once at a time");
    assert_eq!(answer(&mut sets, &urls[0], &[ed("x"), ed("y")], at(1)), Ok(2));
    assert_eq!(answer(&mut sets, &urls[1], &[ed("x")], at(1)), Ok(1));
    let count = |sets: &KeySets, kid| sets.keys(kid).map(|keys| keys.len());
    assert_eq!((count(&sets, "x"), count(&sets, "y"), count(&sets, "z")), (Some(2), Some(1), None));
    assert_eq!(answer(&mut sets, &urls[0], &[ed("y")], at(2)), Ok(1));
    assert_eq!(count(&sets, "x"), Some(1), "what one address takes back, the other still says");
}

#[test]
fn they_are_fetched_again_when_it_is_time_and_a_missing_one_makes_it_sooner_but_not_often() {
    let mut sets = sets("https://a.example/k");
    let urls = sets.begin(at(0));
    answer(&mut sets, &urls[0], &[ed("x")], at(0)).unwrap();
    assert_eq!(sets.next_due(), Some(at(300)));
    assert!(!sets.want(at(9)), "it was asked just now");
    assert_eq!(sets.begin(at(9)).len(), 0);
    assert!(sets.want(at(10)));
    assert_eq!(sets.begin(at(10)).len(), 1);
    assert!(sets.want(at(10)), "an answer is on its way");
    answer(&mut sets, &urls[0], &[ed("x")], at(11)).unwrap();
    let asked = (12..120).filter(|second| sets.want(at(*second)) && !sets.begin(at(*second)).is_empty());
    let asked: Vec<u64> = asked.collect();
    assert_eq!(asked.len(), 1, "then an answer is waited for: {asked:?}");
    let misses = |sets: &mut KeySets, second| {
        let begun = sets.want(at(second)) && !sets.begin(at(second)).is_empty();
        answer(sets, &urls[0], &[ed("x")], at(second)).unwrap();
        begun
    };
    answer(&mut sets, &urls[0], &[ed("x")], at(200)).unwrap();
    let asked = (200..300).filter(|second| misses(&mut sets, *second)).count();
    assert_eq!(asked, 10, "once in 10 s, however many keys are missing");
}

#[test]
fn an_address_that_fails_leaves_the_keys_and_is_told() {
    let mut sets = sets("https://a.example/k,https://b.example/k");
    let urls = sets.begin(at(0));
    for url in &urls {
        answer(&mut sets, url, &[ed("x")], at(0)).unwrap();
    }
    for (bad, second) in
        [(Err("no connection".to_owned()), 300), (Ok(&b"<html>"[..]), 310), (Ok(br#"{"keys":[]}"#), 320)]
    {
        sets.begin(at(second));
        assert!(sets.handle_answer(&urls[0], bad, at(second)).is_err());
        assert_eq!(sets.keys("x").map(|keys| keys.len()), Some(2), "the keys stay");
        let health = sets.health(at(second + 5)).unwrap();
        assert_eq!((health.sources, health.failing, health.keys), (2, 1, 2));
        assert_eq!(health.failing_for, Duration::from_secs(second + 5 - 300));
    }
    sets.begin(at(330));
    answer(&mut sets, &urls[0], &[ed("x")], at(330)).unwrap();
    assert_eq!(sets.health(at(331)).unwrap().failing, 0);
}

#[test]
fn only_public_keys_for_signatures_count() {
    let p256 = P256.replace("\"X\"", "\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"");
    let p256 = p256.replace("\"Y\"", "\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"");
    let p256 = with(serde_json::from_str(&p256).unwrap(), "kid", json!("a"));
    let good = [
        ed("a"),
        with(ed("a"), "use", json!("sig")),
        with(ed("a"), "alg", json!("EdDSA")),
        with(ed("a"), "key_ops", json!(["verify"])),
        p256.clone(),
    ];
    for key in good {
        assert!(key_of(&key).is_some(), "{key}");
    }
    for key in [
        json!({ "kty": "oct", "kid": "a", "k": "c2VjcmV0" }),
        json!({ "kty": "oct", "kid": "a", "alg": "HS256", "k": "c2VjcmV0" }),
        with(ed("a"), "alg", json!("HS256")),
        with(ed("a"), "alg", json!("ES256")),
        with(ed("a"), "alg", json!("none")),
        with(ed("a"), "use", json!("enc")),
        with(ed("a"), "key_ops", json!(["sign"])),
        with(ed("a"), "kid", json!("../x")),
        with(ed("a"), "x", json!("AAAA")),
        with(p256, "alg", json!("ES384")),
        json!({ "kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
        json!("key"),
    ] {
        assert!(key_of(&key).is_none(), "{key}");
    }
}

#[test]
fn no_set_is_kept_beyond_its_bound() {
    let mut sets = sets("https://a.example/k");
    let url = sets.begin(at(0)).remove(0);
    let keys: Vec<Value> = (0..200).map(|number| ed(&number.to_string())).collect();
    assert_eq!(answer(&mut sets, &url, &keys, at(0)), Ok(KEYS_MAX));
}

#[test]
fn another_configuration_keeps_what_was_fetched_from_the_same_address() {
    let mut before = sets("https://a.example/k,https://b.example/k");
    for url in before.begin(at(0)) {
        answer(&mut before, &url, &[ed("x")], at(0)).unwrap();
    }
    let mut after = sets("https://a.example/k,https://c.example/k");
    after.take_over(&before);
    assert_eq!(after.keys("x").map(|keys| keys.len()), Some(1));
}

#[test]
fn nothing_is_asked_where_no_address_is_configured() {
    let mut sets = sets("");
    assert!(!sets.want(at(0)) && sets.begin(at(0)).is_empty() && sets.next_due().is_none());
    assert!(sets.keys("x").is_some_and(|keys| keys.is_empty()) && sets.health(at(0)).is_none());
}
