//! What is printed is configuration again.

use super::file;
use crate::config::Config;
use crate::config::kind::{Kind, Size};
use crate::config::section::{SECTIONS, Shape};

#[test]
fn what_is_shown_can_be_loaded_again() {
    let text = "[server]\nlisten = '[::1]:0'\ntimeout = '90s'\n[namespace.'a.b']\nhistory_bytes = 1500\n\
                [[api_key]]\nname = 'a'\nhash = 'sha256:00000000000000000000000000000000000000000000000000000000000000ff'\n\
                tenant = \"a'\\\"b\"\npublish = ['a', 'b:*']";
    let loaded = file(text).loaded();
    assert_eq!(file(&loaded.show(true)).config(), loaded.config);
    assert!(loaded.show(false).contains("history_bytes = 1_500\n"), "{}", loaded.show(false));
}

#[test]
fn the_commented_file_holds_every_key_and_loads_as_the_defaults() {
    let commented = Config::commented_file();
    assert_eq!(file(&commented).config(), Config::default());
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        assert!(commented.contains(&format!("\n# {} = ", key.name)), "{}", key.name);
    }
}

#[test]
fn the_commented_file_loads_when_every_key_is_taken_out_of_its_comment() {
    let is_toml = |text: &str| {
        let name = text.split(" = ").next().unwrap_or_default();
        let known = SECTIONS.iter().any(|section| section.key(name).is_some());
        text.contains(" = ") && known && !name.ends_with("_file") || text.starts_with('[')
    };
    let commented = Config::commented_file();
    let lines = commented.lines().map(|line| {
        let text = line.trim_start_matches("# ");
        if is_toml(text) { text } else { line }
    });
    let config = file(&lines.collect::<Vec<_>>().join("\n")).config();
    assert_eq!((config.server, config.namespaces, config.limits, config.log, config.logs), {
        let mut defaults = Config::default();
        defaults.server.advertise = Some(<Option<String>>::EXAMPLE.trim_matches('"').to_owned());
        (defaults.server, defaults.namespaces, defaults.limits, defaults.log, defaults.logs)
    });
    let lists = (config.api_keys.len(), config.rules.len());
    assert_eq!((lists, config.auth.hmac_secret.is_some()), ((1, 1), true));
}

#[test]
fn every_key_has_a_doc_and_defaults_are_in_their_ranges() {
    for section in &SECTIONS {
        for key in section.keys {
            assert!(key.doc.iter().all(|line| !line.trim().is_empty()), "{}", key.name);
            let Some(default) = key.default.filter(|_| section.shape != Shape::List) else { continue };
            let header = if matches!(section.shape, Shape::Named(_)) { ".default" } else { "" };
            file(&format!("[{}{header}]\n{} = {default}", section.name, key.name)).config();
        }
    }
}

#[test]
fn sizes_are_shown_in_the_largest_whole_unit() {
    for (bytes, shown) in [(0, "0"), (1_000_000, "1_000_000"), (1 << 20, "\"1MiB\""), (1536, "1_536")] {
        assert_eq!(Size::show(&bytes).as_deref(), Some(shown));
    }
}
