use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

fn facts(uris: &[&str], dns: &[&str], common_name: Option<&str>) -> Facts {
    Facts {
        subject: String::new(),
        common_name: common_name.map(str::to_owned),
        issuer: "CN=ca".to_owned(),
        uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
        dns_names: dns.iter().map(|&name| name.to_owned()).collect(),
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        signs: false,
    }
}

#[test]
fn a_spiffe_id_names_a_workload() {
    let id = "spiffe://cluster.local/ns/shop/sa/checkout";
    let found = principal(&facts(&[id], &["checkout.shop"], Some("x")), &[]).unwrap();
    assert_eq!((found.name.as_str(), found.method), (id, Method::Certificate));
    assert_eq!(found.trust_domain.as_deref(), Some("cluster.local"));
    let account = found.service_account.unwrap();
    assert_eq!((account.namespace.as_str(), account.name.as_str()), ("shop", "checkout"));
    assert_eq!(found.not_after, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    assert_eq!(found.issuer.as_deref(), Some("CN=ca"));
    for other in [
        "spiffe://td/ns/shop/sa/a/b",
        "spiffe://td/x/ns/shop/sa/a",
        "spiffe://td/ns/shop/SA/a",
        "spiffe://td/a",
    ] {
        let found = principal(&facts(&[other], &[], None), &[]).unwrap();
        assert_eq!((found.name.as_str(), found.service_account), (other, None));
    }
}

#[test]
fn what_is_no_spiffe_id_is_refused_and_nothing_else_is_taken_instead() {
    let long = format!("spiffe://td/{}", "a".repeat(2037));
    let longest = format!("spiffe://td/{}", "a".repeat(2036));
    assert!(principal(&facts(&[&longest], &[], None), &[]).is_ok());
    let long_domain = format!("spiffe://{}/a", "d".repeat(256));
    for uri in [
        "spiffe://",
        "spiffe:///ns/a/sa/b",
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td/a/",
        "spiffe://td//a",
        "spiffe://td/./a",
        "spiffe://td/a/..",
        "spiffe://td/a?x=1",
        "spiffe://td/a#x",
        "spiffe://td?x/a",
        "spiffe://td:443/a",
        "spiffe://user@td/a",
        "spiffe://TD/a",
        "SPIFFE://td/a",
        "spiffe:td/a",
        "spiffe:/td/a",
        "spiffe://td/a%2fb",
        "spiffe://td/a b",
        "spiffe://td/ä",
        "spiffe://td/a\0b",
        "spiffe://td\u{fffd}/a",
        &long,
        &long_domain,
    ] {
        let refused = principal(&facts(&[uri], &["good.example"], Some("good")), &[]).unwrap_err();
        assert_eq!(refused.cause, "certificate_spiffe_id", "{uri}: {refused}");
        assert!(refused.message.len() < 300 && refused.message.is_ascii() || uri.len() > 64, "{refused}");
    }
}

#[test]
fn one_uri_only_and_of_a_trusted_domain() {
    let two = ["spiffe://td/a", "spiffe://td/b"];
    assert_eq!(principal(&facts(&two, &[], None), &[]).unwrap_err().cause, "certificate_several_uris");
    let mixed = ["spiffe://td/a", "https://x.example"];
    assert_eq!(principal(&facts(&mixed, &[], None), &[]).unwrap_err().cause, "certificate_several_uris");
    let domains = ["td".to_owned(), "other".to_owned()];
    assert!(principal(&facts(&["spiffe://td/a"], &[], None), &domains).is_ok());
    for stranger in ["spiffe://t/a", "spiffe://td.evil/a", "spiffe://sub.td/a"] {
        let refused = principal(&facts(&[stranger], &[], None), &domains).unwrap_err();
        assert_eq!(refused.cause, "certificate_trust_domain", "{stranger}");
    }
    let mut signer = facts(&["spiffe://td/a"], &[], None);
    signer.signs = true;
    assert_eq!(principal(&signer, &[]).unwrap_err().cause, "certificate_signs");
}

#[test]
fn without_one_the_dns_name_or_the_common_name_counts() {
    for (uris, dns, common_name, name) in [
        (&[][..], &["Shop.Example", "other.example"][..], Some("cn"), Some("shop.example")),
        (&["https://x.example/"], &["shop.example"], None, Some("shop.example")),
        (&[], &["*.example"], Some("cn"), Some("cn")),
        (&[], &["*.example"], None, None),
        (&[], &[], Some("Shop Service"), Some("Shop Service")),
        (&[], &[], Some("spiffe://td/ns/a/sa/b"), None),
        (&[], &[], Some("system:serviceaccount:a:b"), None),
        (&[], &[], Some("a\nb"), None),
        (&[], &[], Some(""), None),
        (&[], &[], None, None),
    ] {
        let found = principal(&facts(uris, dns, common_name), &[]).map(|principal| principal.name);
        assert_eq!(found.as_deref().ok(), name, "{uris:?} {dns:?} {common_name:?}");
        if let Err(refused) = found {
            assert_eq!(refused.cause, "certificate_unnamed");
        }
    }
}

proptest! {
    /// Whatever is accepted as an ID is written in the allowed characters, and is found again in its parts.
    #[test]
    fn an_accepted_id_is_its_parts(uri in "(?i:spiffe)://[a-zA-Z0-9._@:%-]{0,12}(/[a-zA-Z0-9._?#%-]{0,4}){0,5}") {
        if let Ok((domain, path)) = parse(&uri) {
            prop_assert_eq!(format!("spiffe://{domain}/{path}"), uri.as_str());
            prop_assert!(domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b)));
            prop_assert!(path.split('/').all(|s| !s.is_empty() && s != "." && s != ".." && !s.contains(['?', '#', '%'])));
        }
    }
}
