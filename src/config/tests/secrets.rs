//! Secrets come from where they are kept, and go nowhere.

use super::{SECRET, file};

#[test]
fn a_secret_may_stand_in_a_file_beside_the_configuration() {
    let text = "[auth]\nhmac_secret_file = 'secret'";
    let config = file(text).beside("secret", format!("{SECRET}\n").as_bytes()).config();
    assert_eq!(config.auth.hmac_secret.expect("is set").expose(), SECRET.as_bytes());

    let report = file(text).report();
    assert!(
        report.starts_with("t.toml:2:20: hmac_secret_file: cannot read secret: No such file"),
        "{report}"
    );
    let report = file(text).beside("secret", b"short\n").report();
    assert!(report.starts_with("t.toml:2:20: hmac_secret: expected at least 32 bytes, saw 5"), "{report}");
    let report = file(text).beside("secret", &[0xff; 40]).report();
    assert!(report.contains("secret is not UTF-8 text"), "{report}");
    let report = file(text).beside("secret", &[b'a'; 70_000]).report();
    assert!(report.contains("secret has more than 65536 bytes"), "{report}");
}

#[test]
fn a_secret_given_twice_is_refused_in_one_layer_and_overridden_by_a_higher_one() {
    let text = format!("[auth]\nhmac_secret_file = 'secret'\nhmac_secret = '{SECRET}'");
    let report = file(&text).beside("secret", SECRET.as_bytes()).report();
    assert!(report.contains("both `hmac_secret` and `hmac_secret_file` are set: keep one"), "{report}");
    assert!(!report.contains("canary"), "{report}");

    let other = "b".repeat(32);
    let setup = file("[auth]\nhmac_secret_file = 'secret'").beside("secret", SECRET.as_bytes());
    let config = setup.env("TIDINGS__AUTH__HMAC_SECRET", &other).config();
    assert_eq!(config.auth.hmac_secret.expect("is set").expose(), other.as_bytes());
}

#[test]
fn a_secret_is_neither_in_debug_nor_in_what_is_shown_nor_in_reports() {
    let loaded = file(&format!("[auth]\nhmac_secret = '{SECRET}'")).loaded();
    assert_eq!(loaded.config.auth.hmac_secret.as_ref().expect("is set").expose(), SECRET.as_bytes());
    for text in [format!("{loaded:?}"), loaded.show(false), loaded.show(true)] {
        assert!(text.contains("***") && !text.contains("canary"), "{text}");
    }
    for text in [
        "[auth]\nhmac_secret = 'canary'",
        "[auth]\nhmac_secret = ['canary']",
        "[auth]\nhmac_secert = 'canary'",
        "[auth]\nhmac_secret = 'canary",
        "auth = 'canary'",
        "auth = { hmac_secret = 'canary', x = 1 }",
        "hmac_secret = 'canary'",
        "[[api_key]]\nname = 'a'\nhash = 'canary'",
        "[[api_key]]\nname = 'a'\nkey = 'canary'",
    ] {
        let report = file(text).report();
        assert!(!report.contains("canary"), "{report}");
    }
    let report = file("").env("TIDINGS__AUTH__HMAC_SECRET", "canary").report();
    assert!(!report.contains("canary"), "{report}");
}
