//! What is said about mistakes.

use proptest::prelude::*;

use super::file;
use crate::config::Config;

fn check_file(text: &str, expected: &str) {
    assert_eq!(file(text).report(), expected, "\n{text}");
}

fn check_env(name: &str, value: &str, expected: &str) {
    assert_eq!(file("").env(name, value).report(), format!("environment variable {name}: {expected}"));
}

#[test]
fn a_mistake_in_a_file_is_shown_with_its_place_and_what_to_do() {
    check_file(
        "[server]\nlisen = 1",
        "t.toml:2:1: unknown key `lisen` in [server]\n  |\n2 | lisen = 1\n  | ^^^^^ did you mean `listen`?",
    );
    check_file(
        "listen = 1",
        "t.toml:1:1: unknown key `listen` outside of all sections\n  |\n1 | listen = 1\n  | ^^^^^^ `listen` belongs to [server]",
    );
    check_file("[qwxyz]", "t.toml:1:2: unknown section `qwxyz`\n  |\n1 | [qwxyz]\n  |  ^^^^^");
    check_file(
        "[limit]\nchannels_max = 1",
        "t.toml:1:2: unknown section `limit`\n  |\n1 | [limit]\n  |  ^^^^^ did you mean `limits`?",
    );
    check_file(
        "[server]\nping_interval = 25",
        "t.toml:2:17: ping_interval: expected a duration such as \"25s\", saw 25\n  |\n2 | ping_interval = 25\n  |                 ^^ write the unit: \"25s\" or \"25ms\"",
    );
    check_file(
        "[namespace.chat]\nbatch_window = \"25ms\"",
        "t.toml:2:16: batch_window: expected a multiple of 10 ms\n  |\n2 | batch_window = \"25ms\"\n  |                ^^^^^^ \"30ms\" is one",
    );
    check_file(
        "[namespace.chat]\nbatch_mode = \"latest\"",
        "t.toml:2:14: batch_mode: expected \"all\" or \"immediate\", saw \"latest\"\n  |\n2 | batch_mode = \"latest\"\n  |              ^^^^^^^^",
    );
    check_file(
        "[server]\nlisten = ",
        "t.toml:2:10: string values must be quoted, expected literal string\n  |\n2 | listen = \n  |          ^",
    );
}

#[test]
fn a_value_of_a_wrong_type_or_size_is_refused_under_its_first_byte() {
    for (text, message) in [
        ("[server]\nlisten = 'localhost'", "2:10: listen: expected an IP address and port"),
        ("[server]\nlisten = 8080", "2:10: listen: expected an IP address and port"),
        ("[server]\ndrain_spread = '2h'", "2:16: drain_spread: expected \"0s\" to \"1h\", saw \"2h\""),
        ("[server]\ntimeout = '20s'", "2:11: server.timeout must be more than server.ping_interval"),
        ("[server]\nping_interval = '2m'", "2:17: server.timeout must be more than server.ping_interval"),
        ("[server]\nallowed_origins = 'https://a'", "2:19: allowed_origins: expected a list"),
        ("[server]\nallowed_origins = ['https://a', '*']", "2:33: allowed_origins: \"*\" is not an origin"),
        ("[namespace.a]\nbatch_window = '20s'", "2:16: batch_window: expected \"10ms\" to \"10s\""),
        ("[namespace.a]\nbatch_window = '0s'", "2:16: batch_window: expected \"10ms\" to \"10s\""),
        ("[namespace.a]\nhistory_size = -1", "2:16: history_size: expected a whole number"),
        (
            "[namespace.a]\nhistory_size = 1.5",
            "2:16: history_size: expected a whole number such as 1_000, saw a float",
        ),
        ("[namespace.a]\nhistory_bytes = '1 pebble'", "2:17: history_bytes: expected a size"),
        ("[namespace.a]\nleading = 'yes'", "2:11: leading: expected true or false, saw \"yes\""),
        ("[namespace.'a:b']", "1:12: \"a:b\" is no namespace name"),
        ("[namespace]\na = 1", "2:1: expected sections [namespace.NAME] with keys"),
        ("[limits]\nmailbox_bytes = 0", "2:17: mailbox_bytes: expected 1 to \"64MiB\", saw 0"),
        (
            "[limits]\nrequest_bytes_max = 10",
            "2:21: limits.request_bytes_max must be at least limits.message_bytes_max",
        ),
        ("[log]\nformat = 'jsn'", "2:10: format: expected \"auto\", \"text\" or \"json\", saw \"jsn\""),
        ("[log]\nfilter = 'a=b=c'", "2:10: filter: \"a=b=c\" is no log filter"),
        ("server = 1", "1:10: expected a section [server] with keys"),
        ("[api_key]", "1:1: expected sections [[api_key]] with keys"),
        ("[[api_key]]\nhash = 'x'", "1:1: `name` is missing in [[api_key]]"),
    ] {
        let report = file(text).report();
        assert!(report.starts_with(&format!("t.toml:{message}")), "{text}\n{report}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let setup = file("[server]\nlisten = 1\nallowed_origins = ['a', 'b']\n[log]\nx = 1\n[auth]\ny = 1");
    let setup = setup.env("TIDINGS__LOG__FORMAT", "tex").listen_flag("nowhere");
    let problems = Config::load(&setup.sources).expect_err("everything is wrong").to_string();
    assert!(problems.ends_with("\n\n6 problems in the configuration"), "{problems}");
    let places: Vec<usize> =
        ["t.toml:3:20", "t.toml:3:25", "t.toml:5:1", "t.toml:7:1", "TIDINGS__LOG", "--listen"]
            .iter()
            .map(|place| problems.find(place).unwrap_or_else(|| panic!("{place} is not in {problems}")))
            .collect();
    assert!(places.is_sorted(), "{problems}");
}

#[test]
fn a_mistake_outside_of_files_names_the_variable_or_the_flag() {
    check_env(
        "TIDINGS__SERVER__LISEN",
        "1",
        "unknown key `lisen` in [server]: did you mean `TIDINGS__SERVER__LISTEN`?",
    );
    check_env(
        "TIDINGS__NAMESPACE__CHAT__HISTORY_SIZ",
        "1",
        "unknown key `history_siz` in [namespace.chat]: did you mean `TIDINGS__NAMESPACE__CHAT__HISTORY_SIZE`?",
    );
    check_env("TIDINGS__SERVER", "1", "expected a section [server] with keys");
    check_env(
        "TIDINGS__LIMITS__CHANNELS_MAX",
        "many",
        "channels_max: expected a whole number such as 1_000, saw \"many\"",
    );
    check_env("TIDINGS__LOG__FILTER", "inf\u{fffd}o", "the value is not UTF-8 text");
    let report = file("").listen_flag("nowhere").report();
    assert!(report.starts_with("flag --listen: listen: expected an IP address and port"), "{report}");
}

#[test]
fn a_mistake_in_an_inherited_value_is_reported_once() {
    let setup = file("[namespace.default]\nleading = 1\n[namespace.a]\n[namespace.b]");
    assert_eq!(Config::load(&setup.sources).expect_err("leading is no flag").len(), 1);
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let mut setup = file("");
    setup.sources.file = Some(setup.folder.path().join("other.toml"));
    let report = setup.report();
    assert!(report.starts_with("cannot read other.toml: No such file"), "{report}");
}

/// Pieces of files, whole and broken.
const PIECES: [&str; 22] = [
    "[server]",
    "[[api_key]]",
    "[namespace.",
    "listen",
    "hmac_secret",
    "hash",
    "history_size",
    "=",
    " ",
    "\n",
    "\r\n",
    "\t",
    "'",
    "\"\"\"",
    "{",
    "}",
    "[",
    "]",
    "1_0",
    "'ß'",
    "\u{1f980}",
    "\0",
];

proptest! {
    #[test]
    fn any_text_is_loaded_or_reported(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)) {
        let setup = file(&pieces.concat());
        if let Err(problems) = Config::load(&setup.sources) {
            prop_assert!(problems.to_string().ends_with("in the configuration"));
        }
    }
}

#[test]
fn a_numbering_must_outlive_what_it_numbers() {
    let redis = "[redis]\nurl = 'redis://h'\n";
    for (text, refused) in [
        (format!("{redis}forget_after = '2s'\n[namespace.default]\nhistory_age = '1s'\n"), false),
        (format!("{redis}forget_after = '2s'\n[namespace.default]\nhistory_age = '1001ms'\n"), true),
        (format!("{redis}forget_after = '2s'\n"), true),
        (format!("{redis}[namespace.default]\nhistory_age = '7days'\n"), true),
        (format!("{redis}forget_after = '14days'\n[namespace.default]\nhistory_age = '7days'\n"), false),
        (format!("{redis}[namespace.a]\nhistory_age = '7days'\n"), true),
        (format!("{redis}[namespace.a]\nhistory_age = '7days'\nhistory_size = 0\n"), false),
        ("[namespace.default]\nhistory_age = '7days'\n".to_owned(), false),
    ] {
        let setup = file(&text);
        match Config::load(&setup.sources) {
            Ok(_) => assert!(!refused, "{text}"),
            Err(problems) => {
                let said = problems.to_string();
                assert!(
                    refused && said.contains("redis.forget_after must be at least twice namespace."),
                    "{text}: {said}"
                );
            }
        }
    }
}

#[test]
fn a_certificate_comes_with_its_key() {
    const PEM: &str = "'-----BEGIN CERTIFICATE-----'";
    for (lines, refused) in [
        (format!("url = 'rediss://h'\nca = {PEM}\nclient_cert = {PEM}\nclient_key = {PEM}\n"), ""),
        (
            format!("url = 'rediss://h'\nclient_cert = {PEM}\n"),
            "redis.client_cert must be set together with redis.client_key",
        ),
        ("url = 'rediss://h'\nca = 'canary'\n".to_owned(), "expected a text that holds `-----BEGIN"),
    ] {
        let setup = file(&format!("[redis]\n{lines}"));
        match Config::load(&setup.sources) {
            Ok(_) => assert_eq!(refused, "", "{lines}"),
            Err(problems) => {
                let said = problems.to_string();
                assert!(
                    !refused.is_empty() && said.contains(refused) && !said.contains("canary"),
                    "{lines}: {said}"
                );
            }
        }
    }
}
