//! libFuzzer on one target, which `TIDINGS_FUZZ_TARGET` names. Arguments are libFuzzer's own.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tidings_fuzz::{TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("TIDINGS_FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        panic!("TIDINGS_FUZZ_TARGET is {name:?}: it is one of {}", names.join(", "))
    })
}

fuzz_target!(|data: &[u8]| (TARGET.get_or_init(chosen).run)(data));
