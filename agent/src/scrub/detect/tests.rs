//! What is masked in a text and what is not, by hand; precision and recall on corpora are in the suite `pii`.

use proptest::prelude::*;

use super::*;
use crate::{
    config::{self, processors::Processor},
    scrub::builder::Builder,
};

struct Subject {
    detect: Detect,
    gate: Gate,
}

impl Subject {
    fn new(lines: &str) -> Self {
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors:\n  scrub:\n    mask: '<{{name}}>'\n{lines}\n\
             exporters: {{debug: {{}}}}\nservice: {{pipelines: {{traces: {{receivers: [otlp], processors: [scrub], exporters: [debug]}}}}}}\n"
        );
        let config = config::parse(&text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}"));
        let mut builder = Builder::default();
        let Processor::Scrub(scrub) = &config.processors[0].config else { panic!() };
        builder.processors.push("scrub".to_owned());
        let detect = Detect::new(scrub, &config.processors[0].at, &mut builder, 0);
        Self { detect, gate: builder.gate }
    }

    fn masked(&self, text: &str) -> String {
        String::from_utf8(self.bytes(text.as_bytes())).expect("text stays text")
    }

    fn bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut work = Work::default();
        work.budget.begin(text.len());
        if self.masks(text, &mut work) { work.out } else { text.to_vec() }
    }

    fn masks(&self, text: &[u8], work: &mut Work) -> bool {
        let calls = self.detect.callers.of(&self.gate, text);
        self.detect.masked(&self.gate, &mut Verdicts::default(), text, calls, work)
    }
}

#[test]
fn every_name_has_a_detector_behind_the_gate() {
    let mut gate = Gate::default();
    for (name, _) in detectors::all() {
        let detector = table::detector(name, crate::config::processors::IpRanges::All).expect(name);
        let gated =
            detector.gates.iter().all(|pattern| gate.add_windows(&pattern::windows(pattern)).is_some());
        assert!(gated || name == "ip", "{name} would look at every text");
    }
    assert!(Subject::new("").detect.is_gated());
    assert!(table::detector("nothing", crate::config::processors::IpRanges::All).is_none());
}

#[test]
fn a_text_that_costs_too_much_is_dropped_as_a_whole() {
    let subject = Subject::new("");
    let text = "alice@example.com, 4111 1111 1111 1111, DE89 3704 0044 0532 0130 00, ".repeat(80_000);
    // The budget of an empty request.
    let mut work = Work::default();
    assert!(subject.masks(text.as_bytes(), &mut work));
    assert_eq!((&work.out[..], work.budget.take_dropped()), (DROPPED, 1));
    assert!(subject.masked(&text).starts_with("<email>, <card>, <iban>, <email>"));
}

#[test]
fn what_is_masked_and_what_stays() {
    let subject = Subject::new("");
    let mut wrong = Vec::new();
    for (text, expected) in [
        // Addresses.
        ("mail alice@example.com now", "mail <email> now"),
        ("<bob.smith+x@mail.example.co.uk>, c", "<<email>>, c"),
        ("alice@example.com.", "<email>."),
        ("Alice@Example.COM,bob@example.org", "<email>,<email>"),
        ("müller@büro.example", "<email>"),
        ("请联系alice@example.com谢谢", "请联系<email>谢谢"),
        ("git@github.com:org/repo.git", "git@github.com:org/repo.git"),
        ("react@18.2.0 icon@2x.png a@b @x.com x@", "react@18.2.0 icon@2x.png a@b @x.com x@"),
        ("image@sha256:0123456789abcdef", "image@sha256:0123456789abcdef"),
        ("/users/alice@example.com/orders", "/users/<email>/orders"),
        // What URLs carry.
        ("postgres://app:s3cret@db.example:5432/x", "postgres://<url_credentials>@db.example:5432/x"),
        ("https://u:p@ss@host.example/", "https://<url_credentials>@host.example/"),
        ("ssh://git@github.com/o/r", "ssh://git@github.com/o/r"),
        ("https://host.example/@name", "https://host.example/@name"),
        ("?X-Amz-Signature=0123456789abcdef01&n=1", "?X-Amz-Signature=<url_signature>&n=1"),
        // Cards: checked, grouped or not.
        ("4111 1111 1111 1111", "<card>"),
        ("pay 4111-1111-1111-1111.", "pay <card>."),
        ("card=4111111111111111;", "card=<card>;"),
        ("card_5500005555555559_x", "card_<card>_x"),
        ("3782 822463 10005", "<card>"),
        ("4111.1111.1111.1111", "<card>"),
        // The same digits as the id of a span.
        (
            "00-0af7651916cd43dd8448eb211c80319c-4111111111111111-01",
            "00-0af7651916cd43dd8448eb211c80319c-4111111111111111-01",
        ),
        (
            "b3: 0af7651916cd43dd8448eb211c80319c-4111111111111111-d",
            "b3: 0af7651916cd43dd8448eb211c80319c-4111111111111111-d",
        ),
        ("0af7651916cd43dd8448eb211c80319c-4111111111111111", "0af7651916cd43dd8448eb211c80319c-<card>"),
        ("order-4111111111111111-01", "order-<card>-01"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "<card>"),
        ("4111111111111112", "4111111111111112"),
        ("CTF-38843-569287757 36770546-0009-4570", "CTF-38843-569287757 36770546-0009-4570"),
        ("41111111111111110", "41111111111111110"),
        ("0.4111111111111111", "0.4111111111111111"),
        ("4111.111111111111", "4111.111111111111"),
        ("x4111111111111111 4111111111111111y", "x4111111111111111 4111111111111111y"),
        (
            "1700000000000 1700000000000000 1700000000000000000",
            "1700000000000 1700000000000000 1700000000000000000",
        ),
        // Accounts.
        ("to DE89 3704 0044 0532 0130 00 please", "to <iban> please"),
        ("DE89370400440532013000", "<iban>"),
        ("NO9386011117947,GB29NWBK60161331926819", "<iban>,<iban>"),
        ("DE88370400440532013000", "DE88370400440532013000"),
        // Social security numbers.
        ("ssn 123-45-6789.", "ssn <ssn>."),
        ("123 45 6789", "<ssn>"),
        (
            "000-45-6789 666-45-6789 900-45-6789 123-00-6789 123-45-0000",
            "000-45-6789 666-45-6789 900-45-6789 123-00-6789 123-45-0000",
        ),
        (
            "1123-45-6789 123-45-67890 123-45 6789 9-123-45-6789",
            "1123-45-6789 123-45-67890 123-45 6789 9-123-45-6789",
        ),
        // Telephones.
        ("call +49 151 12345678 or (212) 555-0123!", "call <phone> or <phone>!"),
        ("+14155552671;1-415-555-2671;415.555.2671", "<phone>;<phone>;<phone>"),
        ("tel:0301234567", "tel:<phone>"),
        ("2026-11-21T10:15:30+0200 v1.0.0+20130313144700", "2026-11-21T10:15:30+0200 v1.0.0+20130313144700"),
        ("112-555-0123 2125550123 +1234567890", "112-555-0123 2125550123 +1234567890"),
        // Assignments.
        ("password=hunter2&x=1", "password=<secret_assignment>&x=1"),
        ("{\"password\":\"a b\\\"c\",\"n\":1}", "{\"password\":\"<secret_assignment>\",\"n\":1}"),
        ("{\\\"client_secret\\\": \\\"x1\\\", 1}", "{\\\"client_secret\\\": \\\"<secret_assignment>\\\", 1}"),
        ("Cookie: a=b; c=d\nHost: x", "Cookie: <secret_assignment>\nHost: x"),
        ("WHERE token = 'abc' AND x = 'y'", "WHERE token = '<secret_assignment>' AND x = 'y'"),
        ("api-key => 'q'", "api-key => '<secret_assignment>'"),
        (
            "token: invalid; secret = $1; password=${PW}; pwd=****",
            "token: invalid; secret = $1; password=${PW}; pwd=****",
        ),
        ("next_page_token=abc123 tokens=5", "next_page_token=abc123 tokens=5"),
        (
            "key token:profile:1446554280 a:token:1446554280",
            "key token:profile:1446554280 a:token:1446554280",
        ),
        ("X-Api-Key:abc123def", "X-Api-Key:<secret_assignment>"),
        // Credentials of HTTP.
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: <secret_assignment>"),
        ("sent Basic dXNlcjpwYXNz ok", "sent Basic <authorization> ok"),
        ("curl -H 'bearer abc123def'", "curl -H 'bearer <authorization>'"),
        ("basic auth, bearer authentication", "basic auth, bearer authentication"),
    ] {
        for (text, what) in [(text, "first"), (expected, "a second time")] {
            let masked = subject.masked(text);
            if masked != expected {
                wrong.push(format!("{what}: {text:?}\n  gives {masked:?}\n  not   {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn encodings_are_seen_through() {
    let subject = Subject::new("");
    for (text, expected) in [
        ("q=alice%40example.com&n=1", "q=<email>&n=1"),
        ("q=alice%2540example%252Ecom&n=1", "q=<email>&n=1"),
        ("card=4111+1111+1111+1111", "card=<card>"),
        ("c=4111%201111%201111%201111&x", "c=<card>&x"),
        ("%34%31%31%31%31%31%31%31%31%31%31%31%31%31%31%31", "<card>"),
        ("{\"a\":\"x\\n4111111111111111\\n\"}", "{\"a\":\"x\\n<card>\\n\"}"),
        ("{\"m\":\"alice\\u0040example.com\"}", "{\"m\":\"<email>\"}"),
        ("\\\\\"alice\\\\u0040example.com\\\\\"", "\\\\\"<email>\\\\\""),
        ("al\u{200b}ice@exam\u{feff}ple.com", "<email>"),
        ("４１１１１１１１１１１１１１１１ x", "<card> x"),
        ("ａｌｉｃｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", "<email>"),
        ("123\u{2011}45\u{2011}6789", "<ssn>"),
        ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "<card>"),
        ("+49%20151%2012345678", "<phone>"),
        ("%2B4915112345678", "<phone>"),
        // What has nothing behind its encoding stays as it is.
        ("a%20b%2Fc%C3%A9 \\n \u{200b}x “y” 100%", "a%20b%2Fc%C3%A9 \\n \u{200b}x “y” 100%"),
    ] {
        assert_eq!(subject.masked(text), expected, "{text}");
    }
}

#[test]
fn base64_is_looked_into_where_that_is_asked() {
    let inside = "bWFpbCBhbGljZUBleGFtcGxlLmNvbSBub3c=";
    let plain = Subject::new("");
    let asked = Subject::new("    decode: [base64]");
    for (text, expected) in [
        (format!("payload={inside};"), "payload=<email>;".to_owned()),
        (format!("/api/{inside}"), "/api/<email>".to_owned()),
        (format!("/a/{}", "aGVsbG8gd29ybGQgaGVsbG8="), "/a/aGVsbG8gd29ybGQgaGVsbG8=".to_owned()),
    ] {
        assert_eq!(plain.masked(&text), text);
        assert_eq!(asked.masked(&text), expected);
    }
}

#[test]
fn detectors_go_on_and_off_by_name() {
    let text = "alice@example.com 4111111111111111 8.8.8.8 10.0.0.1 2001:4860::1 127.0.0.1";
    for (lines, expected) in [
        ("", "<email> <card> 8.8.8.8 10.0.0.1 2001:4860::1 127.0.0.1"),
        (
            "    detectors: {email: {enabled: false}}",
            "alice@example.com <card> 8.8.8.8 10.0.0.1 2001:4860::1 127.0.0.1",
        ),
        ("    sets: [network]", "alice@example.com 4111111111111111 <ip> <ip> <ip> 127.0.0.1"),
        ("    detectors: {ip: {ranges: public}}", "<email> <card> <ip> 10.0.0.1 <ip> 127.0.0.1"),
        (
            "    sets: []\n    detectors: {ip: {ranges: private}}",
            "alice@example.com 4111111111111111 8.8.8.8 <ip> 2001:4860::1 127.0.0.1",
        ),
    ] {
        assert_eq!(Subject::new(lines).masked(text), expected, "{lines}");
    }
}

#[test]
fn keys_that_name_a_secret() {
    for key in [
        "password",
        "db.user.password",
        "http.request.header.authorization",
        "http.request.header.set-cookie",
        "X-Api-Key",
        "x_api_key",
        "accessToken",
        "app.CLIENT_SECRET",
        "csrf-token",
        "aws.secretAccessKey",
        "user.ssn",
        "token1",
        "headers/cookie",
    ] {
        assert!(words::is_secret(key.as_bytes()), "{key}");
    }
    for key in [
        "gen_ai.usage.input_tokens",
        "k8s.secret.name",
        "next_page_token",
        "http.route",
        "keyboard",
        "monkey",
        "session.id",
        "password.age",
        "messaging.kafka.message.key",
        "",
        ".",
        "db.collection.name",
    ] {
        assert!(!words::is_secret(key.as_bytes()), "{key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// The gate only saves time.
    #[test]
    fn the_gate_never_hides_a_finding(parts in prop::collection::vec(prop::sample::select(vec![
        "alice@example.com", "4111 1111 1111 1111", "DE89370400440532013000", "123-45-6789", "+4915112345678",
        "(212) 555-0123", "password=", "token: ", "\"secret\":\"", "Bearer abcdef123456", "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.abc",
        "%40", "\\u0040", "\\n", "\u{200b}", "＠", " ", "x", "=", "&", "-", "1", "://u:p@", "tel:", "AKIA", "ABCDEFGHIJKLMNOP",
        "$2a$10$", "Q~", "key-", "0123456789abcdef0123456789abcdef", "-us1", ":AA", "\"", "é", "4111.1111.1111.1111", "'", "[",
    ]), 0..12)) {
        let text = parts.concat();
        thread_local! {
            static SUBJECT: Subject = Subject::new("");
        }
        SUBJECT.with(|subject| {
            let (mut with, mut without) = (Finds::default(), Finds::default());
            let (text, mut budget) = (text.as_bytes(), Budget::default());
            let calls = subject.detect.callers.of(&subject.gate, text);
            assert!(subject.detect.look(&subject.gate, text, calls, false, &mut with, &mut budget));
            for (number, on) in subject.detect.detectors.iter().enumerate() {
                without.by(number);
                on.detector.find(text, &mut without);
            }
            if let Some(view) = View::of(text) {
                let from = without.len();
                for (number, on) in subject.detect.detectors.iter().enumerate() {
                    without.by(number);
                    on.detector.find(&view.text, &mut without);
                }
                without.moved(from, |range| view.original(range));
            }
            prop_assert_eq!(with.resolve(), without.resolve());
            Ok(())
        })?;
    }

    /// Any bytes are taken, and what is text stays text.
    #[test]
    fn masking_keeps_text_well_formed(text in "\\PC{0,60}[@:=+%4é. -]{0,20}\\PC{0,40}", raw in prop::collection::vec(any::<u8>(), 0..200)) {
        thread_local! {
            static SUBJECT: Subject = Subject::new("    decode: [base64]\n    sets: [secrets, personal, network]");
        }
        SUBJECT.with(|subject| {
            subject.masked(&text);
            subject.bytes(&raw);
        });
    }
}
