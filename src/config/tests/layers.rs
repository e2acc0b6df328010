//! Who wins, who inherits, and what each way of running asks for.

use std::time::Duration;

use super::{SECRET, Setup, file};
use crate::config::{AllowedOrigin, BatchMode, Config, Loaded};

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let origin = |setup: &Setup| {
        let Loaded { config, origins } = setup.loaded();
        let origin = origins.of("server.listen").to_string();
        (config.server.listen.port(), origin.rsplit('/').next().map(str::to_owned).unwrap_or_default())
    };
    let setup = file("");
    assert_eq!(origin(&setup), (8080, "default".to_owned()));
    let setup = file("[server]\nlisten = '127.0.0.1:1'");
    assert_eq!(origin(&setup), (1, "t.toml:2".to_owned()));
    let setup = setup.env("TIDINGS__SERVER__LISTEN", "127.0.0.1:2");
    assert_eq!(origin(&setup), (2, "env TIDINGS__SERVER__LISTEN".to_owned()));
    let setup = setup.listen_flag("127.0.0.1:0");
    assert_eq!(origin(&setup), (0, "flag --listen".to_owned()));
}

#[test]
fn the_environment_speaks_toml_or_plain_text() {
    let config = file("[namespace.Chat]\nleading = false")
        .env("TIDINGS__SERVER__ALLOWED_ORIGINS", "https://a.example, http://b:1")
        .env("TIDINGS__SERVER__TIMEOUT", "2m")
        .env("TIDINGS__SERVER__PING_INTERVAL", "\"1m\"")
        .env("TIDINGS__NAMESPACE__CHAT__HISTORY_SIZE", "0")
        .env("TIDINGS__NAMESPACE__FEED__BATCH_MODE", "immediate")
        .env("TIDINGS__AUTH__HMAC_SECRET", "12345678901234567890123456789012")
        .env("TIDINGS__LIMITS", "{ channels_max = 7 }")
        .env("TIDINGS_OTHER", "is not ours")
        .config();
    let origins: Vec<&str> = config.server.allowed_origins.iter().map(AllowedOrigin::as_str).collect();
    assert_eq!(origins, ["https://a.example", "http://b:1"]);
    assert_eq!(config.server.timeout, Duration::from_secs(120));
    assert_eq!(config.server.ping_interval, Duration::from_secs(60));
    let chat = config.namespaces.of("Chat:7");
    assert!(chat.is_volatile() && !chat.leading, "{chat:?}");
    assert_eq!(config.namespaces.of("feed:7").batch_mode, BatchMode::Immediate);
    assert_eq!(config.auth.hmac_secret.expect("is set").expose(), b"12345678901234567890123456789012");
    assert_eq!(config.limits.channels_max, 7);
}

#[test]
fn a_namespace_inherits_from_default_and_a_channel_finds_its_own() {
    let config = file("[namespace.default]\nhistory_size = 5\n[namespace.chat]\nhistory_age = '1m'").config();
    for (channel, name, age) in [
        ("chat:7", "chat", 60),
        ("chat", "default", 300),
        ("chats:7", "default", 300),
        ("a:chat:7", "default", 300),
    ] {
        let namespace = config.namespaces.of(channel);
        assert_eq!(&*namespace.name, name, "{channel}");
        assert_eq!((namespace.history_size, namespace.history_age.as_secs()), (5, age), "{channel}");
    }
    let names: Vec<_> = config.namespaces.iter().map(|namespace| namespace.name.to_string()).collect();
    assert_eq!(names, ["default", "chat"]);
}

#[test]
fn api_keys_are_read_in_order_and_must_differ() {
    let hash = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let key = |name: &str, digit: &str| format!("[[api_key]]\nname = '{name}'\nhash = '{}'\n", hash(digit));
    let text = key("b", "1") + "publish = ['room:*']\nmutate = ['*']\nadmin = true\n" + &key("a", "2");
    let keys = file(&text).config().api_keys;
    assert_eq!((keys[0].name.as_str(), keys[0].hash, keys[0].admin), ("b", [0x11; 32], true));
    assert_eq!(
        (keys[0].publish.as_slice(), keys[1].publish.as_slice()),
        (&["room:*".to_owned()][..], &[][..])
    );
    assert_eq!((keys[1].name.as_str(), &keys[1].tenant, keys[1].admin), ("a", &None, false));

    let report = file(&(key("a", "1") + &key("a", "2"))).report();
    assert!(report.starts_with("t.toml:5:8: name: another API key is called \"a\""), "{report}");
    let report = file(&(key("a", "1") + &key("b", "1"))).report();
    assert!(report.starts_with("t.toml:6:8: hash: the API key \"a\" is this very key"), "{report}");
}

#[test]
fn dev_mode_does_not_wait_before_it_drains() {
    let mut setup = file("");
    assert_eq!(setup.config().server.drain_delay, Duration::from_secs(5));
    setup.sources.dev = true;
    assert_eq!(setup.config().server.drain_delay, Duration::ZERO);
}

#[test]
fn serve_needs_a_credential_and_dev_a_loopback_address() {
    let report = Config::default().problems_for_serve().to_string();
    assert!(report.starts_with("no credential is configured"), "{report}");
    let config = file(&format!("[auth]\nhmac_secret = '{SECRET}'")).config();
    assert!(config.problems_for_serve().is_empty());

    assert!(Config::default().problems_for_dev().is_empty());
    let report = file("[server]\nlisten = '0.0.0.0:80'").config().problems_for_dev().to_string();
    assert!(report.starts_with("server.listen is 0.0.0.0:80, but dev mode is open"), "{report}");
}
