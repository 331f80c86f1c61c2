use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

use super::*;

fn unix(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["shop.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "shop");
    params.distinguished_name.push(DnType::OrganizationName, "Örg \"x\"\n");
    params.subject_alt_names.push(SanType::URI("spiffe://td/ns/shop/sa/cart".try_into().unwrap()));
    params.not_before = date_time_ymd(1999, 12, 31);
    params.not_after = date_time_ymd(2072, 2, 29);
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn a_certificate_says_its_names_and_times() {
    let facts = Facts::of(&certificate(|_| {})).unwrap();
    assert_eq!(facts.common_name.as_deref(), Some("shop"));
    assert!(facts.subject.contains("CN=shop") && facts.subject.is_ascii(), "{}", facts.subject);
    assert!(facts.subject.contains(r#"O=\u{d6}rg \"x\"\n"#), "{}", facts.subject);
    assert_eq!(facts.issuer, facts.subject);
    assert_eq!(facts.uris, ["spiffe://td/ns/shop/sa/cart"]);
    assert_eq!(facts.dns_names, ["shop.example"]);
    // UTCTime before 2050, GeneralizedTime after it: `date -d … +%s`.
    assert_eq!((facts.not_before, facts.not_after), (unix(946_598_400), unix(3_223_929_600)));
    assert!(!facts.signs);
    assert!(facts.describe().contains("spiffe://td/ns/shop/sa/cart, shop.example"));
}

#[test]
fn who_may_sign_is_seen_both_ways() {
    let ca = certificate(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(Facts::of(&ca).unwrap().signs);
    let usage = certificate(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert!(Facts::of(&usage).unwrap().signs);
    let plain = certificate(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert!(!Facts::of(&plain).unwrap().signs);
}

#[test]
fn names_without_end_are_refused() {
    let many = certificate(|params| {
        let names = (0..65).map(|n| SanType::DnsName(format!("n{n}.example").try_into().unwrap()));
        params.subject_alt_names = names.collect();
    });
    assert_eq!(Facts::of(&many), None);
}

#[test]
fn a_revocation_list_says_when_the_next_one_comes() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2030, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&Issuer::new(params, key)).unwrap();
    assert_eq!(next_update(list.der()), Ok(Some(unix(1_893_456_000))));
    assert_eq!(next_update(b"\x30\x03\x02\x01\x01"), Err(NoList));
}

#[test]
fn spans_are_said_in_two_units() {
    for (seconds, text) in
        [(0, "0 s"), (119, "119 s"), (125, "2 min 5 s"), (7_260, "2 h 1 min"), (180_000, "2 d 2 h")]
    {
        assert_eq!(span(Duration::from_secs(seconds)), text);
    }
}

#[test]
fn what_is_shown_is_short_and_plain() {
    assert_eq!(shown("a\n\u{202e}b"), "a\\n\\u{202e}b");
    assert_eq!(shown(&"x".repeat(100)), format!("{}…", "x".repeat(64)));
}

proptest! {
    /// Bytes that are no certificate, or one with damage, are read without a panic.
    #[test]
    fn damage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..600, flip in 1u8..) {
        let _ = (Facts::of(&bytes), next_update(&bytes));
        let mut damaged = certificate(|_| {});
        let at = at % damaged.len();
        damaged[at] ^= flip;
        let _ = (Facts::of(&damaged), next_update(&damaged));
        let _ = Facts::of(&damaged[..at]);
    }
}
