//! Patterns of names: `*` stands for any run of characters, everything else for itself.

#![forbid(unsafe_code)]

use super::{Method, Principal};

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

/// Whether a pattern of the configuration means this principal. Names are made by whoever proves them, so a form that
/// one kind of proof owns counts from no other: a token whose `sub` is written like a SPIFFE ID is none.
pub(super) fn means(pattern: &str, principal: &Principal) -> bool {
    let owned = match principal.method {
        Method::Certificate => !principal.name.starts_with("system:"),
        Method::Oidc => {
            !is_spiffe(&principal.name)
                && (principal.service_account.is_some() || !principal.name.starts_with("system:"))
        }
        Method::BearerToken => !is_spiffe(&principal.name) && !principal.name.starts_with("system:"),
    };
    owned && matches(pattern, &principal.name)
}

fn is_spiffe(name: &str) -> bool {
    name.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("spiffe://"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ServiceAccount;

    #[test]
    fn a_name_counts_from_the_proof_that_owns_its_form() {
        let account = ServiceAccount { namespace: "a".to_owned(), name: "b".to_owned(), uid: None };
        for (method, name, bound, expected) in [
            (Method::Certificate, "spiffe://x/agent", false, true),
            (Method::Oidc, "spiffe://x/agent", false, false),
            (Method::Oidc, "SPIFFE://x/agent", false, false),
            (Method::BearerToken, "spiffe://x/agent", false, false),
            (Method::Oidc, "system:serviceaccount:a:agent", true, true),
            (Method::Oidc, "system:serviceaccount:a:agent", false, false),
            (Method::Certificate, "system:serviceaccount:a:agent", true, false),
            (Method::BearerToken, "system:serviceaccount:a:agent", false, false),
            (Method::BearerToken, "gateway-agent", false, true),
            (Method::Oidc, "an agent", false, true),
        ] {
            let service_account = bound.then(|| account.clone());
            let principal = Principal { service_account, ..Principal::named(method, name) };
            assert_eq!(means("*agent", &principal), expected, "{method:?} {name}");
        }
    }
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
