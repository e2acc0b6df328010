//! The kept corpus through every target, as any other test: what the fuzzer found once stays found.

use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use tidings_fuzz::TARGETS;

/// Few enough to be looked at, and to be no burden on the repository.
const BYTES_MAX: u64 = 96 << 10;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(folder: &str) -> Vec<PathBuf> {
    let folder = corpus().join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

#[test]
fn every_target_takes_its_kept_inputs() {
    for target in TARGETS {
        let inputs = inputs(target.name);
        assert!(inputs.len() >= 2, "{} has {} inputs", target.name, inputs.len());
        for input in inputs {
            let bytes = fs::read(&input).expect("it can be read");
            // What broke is told with the input that broke it.
            let taken = catch_unwind(|| (target.run)(&bytes));
            assert!(taken.is_ok(), "{} does not take {}", target.name, input.display());
        }
    }
}

#[test]
fn the_corpus_is_small_and_belongs_to_targets() {
    let folders = inputs("");
    assert_eq!(folders.len(), TARGETS.len(), "a folder for each target: {folders:?}");
    let bytes = |target: &str| -> u64 {
        inputs(target).iter().map(|input| input.metadata().expect("it is there").len()).sum()
    };
    let total: u64 = TARGETS.iter().map(|target| bytes(target.name)).sum();
    assert!(total <= BYTES_MAX, "{total} bytes: keep what finds something that nothing else finds");
}
