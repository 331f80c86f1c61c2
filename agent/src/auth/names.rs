//! Patterns of names: `*` stands for any run of characters, everything else for itself.

#![forbid(unsafe_code)]

/// Whether `text` is what `pattern` describes. Linear in both for the usual one or two `*`; at worst their product.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_run() {
        for (pattern, text, expected) in [
            ("cart", "cart", true),
            ("cart", "carts", false),
            ("cart", "", false),
            ("", "", true),
            ("*", "", true),
            ("cart-*", "cart-", true),
            ("cart-*", "cart-v2", true),
            ("cart-*", "my-cart-v2", false),
            ("*-worker", "a-worker", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("spiffe://x/ns/*/sa/agent", "spiffe://x/ns/shop/sa/agent", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_regular_expression(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let expression = format!("^{}$", pattern.replace('*', ".*"));
            prop_assert_eq!(matches(&pattern, &text), regex::Regex::new(&expression).unwrap().is_match(&text));
        }
    }
}
