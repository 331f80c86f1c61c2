//! The nearest known name of a mistyped one.

/// What an unknown name is told: the nearest known one, or all of them where few are known.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let shown = super::scalars::excerpt(name);
    if let Some(near) = nearest(name, known) {
        return format!("unknown {what} `{shown}`; did you mean `{near}`?");
    }
    if known.is_empty() {
        return format!("unknown {what} `{shown}`");
    }
    if known.len() <= 8 {
        let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return format!("unknown {what} `{shown}`; known here: {list}");
    }
    format!("unknown {what} `{shown}`")
}

/// The known name with the smallest edit distance, where that is small enough to be a slip.
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // Hyphens, capitals and missing underscores are the usual slips: they do not count.
    let bare = |text: &str| {
        text.chars()
            .filter(|c| !matches!(c, '_' | '-' | '.'))
            .flat_map(char::to_lowercase)
            .collect::<Vec<char>>()
    };
    let wanted = bare(name);
    if wanted.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|candidate| (distance(&wanted, &bare(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein (optimal string alignment): a swap of neighbours is one edit.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, cb) in b.iter().enumerate() {
            let substitute = last[j] + usize::from(ca != cb);
            row[j + 1] = substitute.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_leaves_the_rest() {
        let known = ["send_batch_size", "send_batch_max_size", "timeout", "endpoint"];
        for (name, near) in [
            ("send_batchsize", Some("send_batch_size")),
            ("sendBatchSize", Some("send_batch_size")),
            ("timout", Some("timeout")),
            ("tiemout", Some("timeout")),
            ("end-point", Some("endpoint")),
            ("banana", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
    }

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!((d("", "abc"), d("abc", ""), d("ab", "ba"), d("kitten", "sitting")), (3, 3, 1, 3));
    }
}
