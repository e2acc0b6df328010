//! Who wins, who inherits, and what each way of running asks for.

use std::time::Duration;

use tidings_protocol::{LogName, Operation};

use super::{SECRET, Setup, file};
use crate::config::{AllowedOrigin, BatchMode, Config, Each, Loaded, LogFormat};

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let origin = |setup: &Setup| {
        let Loaded { config, origins, .. } = setup.loaded();
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

#[test]
fn the_log_that_people_read_and_the_logs_of_mutations_share_a_name() {
    let text = "[log]\nfilter = 'warn'\n[log.default]\nevents = 5\n[log.Orders]\ntable_slots = 1024";
    let setup = file(text).env("TIDINGS__LOG__ORDERS__EVENTS_AGE", "2m").env("TIDINGS__LOG__FORMAT", "json");
    let config = setup.config();
    assert_eq!((config.log.filter.as_str(), config.log.format), ("warn", LogFormat::Json));
    let of = |name| config.logs.of(&LogName::parse(name).expect("is a name")).clone();
    let (orders, other) = (of("Orders"), of("other"));
    assert_eq!((orders.table_slots, orders.events, orders.events_age.as_secs()), (1_024, 5, 120));
    assert_eq!((other.table_slots, other.events, other.events_age.as_secs()), (1 << 20, 5, 3_600));
    let names: Vec<_> = config.logs.iter().map(|log| log.name.to_string()).collect();
    assert_eq!(names, ["default", "Orders"]);

    for (text, report) in [
        ("[log]\ntable_slots = 1024", "`table_slots` belongs to [log.NAME]"),
        ("[log.'a.b']\nevents = 5", "\"a.b\" is no log name"),
        ("[log.a]\ntable_slots = 1000", "expected a power of two such as 1_048_576, saw 1000"),
        ("[log.a]\ntable_slots = 512", "expected 1_024 to 16_777_216"),
        ("[log.a]\nfilter = 'warn'", "`filter` belongs to [log]"),
        ("[log.filter]\nevents = 5", "filter: expected a level"),
    ] {
        let found = file(text).report();
        assert!(found.contains(report), "{text}: {found}");
    }
}

#[test]
fn rules_are_read_in_order_and_their_mistakes_have_places() {
    let rules = file(
        "[[rule]]\nentity = 'ticket'\ntags = ['tickets']\n[[rule]]\nentity = 'user'\non = ['update']\n\
         changed = ['name']\neach = 'before,after'\ntags = ['user:{key}', 'users:{row.name}']\n",
    )
    .config()
    .rules;
    assert_eq!((rules[0].entity.as_str(), rules[0].on.len(), rules[0].each), ("ticket", 3, None));
    assert_eq!((rules[1].on.as_slice(), rules[1].each), (&[Operation::Update][..], Some(Each::Both)));
    assert_eq!(
        (rules[1].changed.as_slice(), rules[1].tags[1].as_str()),
        (&["name".to_owned()][..], "users:{row.name}")
    );

    let rule = |lines: &str| format!("[[rule]]\nentity = 'a'\n{lines}");
    for (text, report) in [
        ("[[rule]]\ntags = ['a']".to_owned(), "t.toml:1:1: `entity` is missing in [[rule]]"),
        (rule(""), "t.toml:1:1: `tags` is missing in [[rule]]"),
        (
            "[[rule]]\nentity = 'a b'\ntags = ['a']".to_owned(),
            "t.toml:2:10: entity: expected the name of an entity",
        ),
        (
            "[[rule]]\nentity = '*'\ntags = ['a']".to_owned(),
            "t.toml:2:10: entity: expected the name of an entity",
        ),
        (rule("tags = []"), "t.toml:3:8: tags: expected a list of at least one string"),
        (rule("tags = ['a:{id}']"), "t.toml:3:9: tags: \"a:{id}\": unknown placeholder {id}"),
        (rule("tags = ['a', 'a b']"), "t.toml:3:14: tags: \"a b\": it can be no tag"),
        (
            rule("tags = ['a']\non = ['upsert']"),
            "t.toml:4:7: on: expected \"create\", \"update\" or \"delete\"",
        ),
        (rule("tags = ['a']\non = ['updat']"), "did you mean \"update\"?"),
        (rule("tags = ['a']\nech = 'before'"), "did you mean `each`?"),
        (rule("tags = ['a']\neach = 'both'"), "each: expected \"before\", \"after\" or \"before,after\""),
    ] {
        let found = file(&text).report();
        assert!(found.contains(report), "{text}: {found}");
    }
}
