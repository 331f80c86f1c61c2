//! Nothing makes the reader panic, and every error has its place.

use proptest::prelude::*;

use super::{parse, text};

const FIXTURES: [&str; 8] = [
    "000-step1-scrubbing.yaml",
    "000-step2-oidc.yaml",
    "000-step6-tail-sampling.yaml",
    "001-receiver-tls.yaml",
    "002-basics.yaml",
    "002-policies.yaml",
    "003-agent.yaml",
    "003-production-policy.yaml",
];

/// An error's place is in the file.
fn check_places(text: &str) {
    if let Err(errors) = parse(text) {
        assert!(!errors.0.is_empty());
        let lines = u32::try_from(text.lines().count()).unwrap() + 2;
        for error in &errors.0 {
            assert!(error.at.line <= lines, "{error} of {lines} lines");
            assert!(!error.message.is_empty());
        }
        assert!(errors.to_string().lines().count() > errors.0.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        check_places(&text);
    }

    #[test]
    fn yaml_like_text(text in "([ \\n\\t:,&*!|>'\"\\[\\]{}#%@`?~<.$0a-]|- |: |\\n  |\\$\\{|<<: |&a |\\*a |---\\n|\u{feff}|\u{85}|é){0,200}") {
        check_places(&text);
    }

    /// A fixture with some pieces cut out, doubled, or replaced.
    #[test]
    fn mutated_fixtures(
        fixture in 0..FIXTURES.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[ \\n:\\[\\]{}&*!'\"$0-9a-z-]{0,12}", any::<bool>()), 1..6),
    ) {
        let mut chars: Vec<char> = text(FIXTURES[fixture]).chars().collect();
        for (index, cut, insert, double) in edits {
            let start = index.index(chars.len().max(1)).min(chars.len());
            let end = (start + cut).min(chars.len());
            let piece: Vec<char> = if double { chars[start..end].to_vec() } else { insert.chars().collect() };
            chars.splice(if double { start..start } else { start..end }, piece);
        }
        check_places(&chars.into_iter().collect::<String>());
    }
}
