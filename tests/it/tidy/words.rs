//! Identifiers in code.

/// The identifiers of a line.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether the phrase (identifiers joined by `::` or `.`) stands in the line as whole words.
pub(super) fn says(line: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(index, _)| {
        let before = line[..index].chars().next_back();
        let after = line[index + phrase.len()..].chars().next();
        let goes_on = before.is_some_and(is_word) && phrase.starts_with(is_word);
        !goes_on && !after.is_some_and(is_word)
    })
}

#[test]
fn a_word_is_found_whole() {
    for (line, phrase, found) in [
        ("let lock = Mutex::new(1);", "Mutex", true),
        ("let lock = OnceLock::new();", "Lock", false),
        ("x.await?", ".await", true),
        ("x.awaited()", ".await", false),
        ("Instant::now()", "Instant::now", true),
        ("use rand::Rng;", "rand", true),
        ("let operand = 1;", "rand", false),
    ] {
        assert_eq!(says(line, phrase), found, "{phrase} in {line}");
    }
    assert_eq!(words("fn a_b(c: D)").collect::<Vec<_>>(), ["fn", "a_b", "c", "D"]);
}
