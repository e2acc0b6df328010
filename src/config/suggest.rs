//! "Did you mean": the known name that a mistyped one is nearest to.

/// The candidate within a third of the name's length in edits (one at least), or `None`. Case does not count.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let edits_max = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_another_word_finds_none() {
        let candidates = ["listen", "drain_delay", "drain_spread"];
        for (name, expected) in [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("drain_dealy", Some("drain_delay")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, candidates.into_iter()), expected, "{name}");
        }
    }
}
