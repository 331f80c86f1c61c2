//! Precision and recall of the built-in detectors, on a smaller run of `cargo xtask bench pii`.

use spanwarden::{
    config::detectors,
    otlp::{Batch, Context},
    scrub::PlanScratch,
};
use spanwarden_tests::pii::{self, Bounds};

fn names() -> Vec<&'static str> {
    detectors::all().map(|(name, _)| name).collect()
}

#[test]
fn detectors_find_what_is_planted_and_leave_everyday_spans_alone() {
    let names: Vec<_> = names().into_iter().filter(|name| *name != "ip").collect();
    let report = pii::measure(&pii::plan(""), &names, 50, 3_000, 7);
    let missed = Bounds::default().missed(&report);
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Addresses are off by default, and everyday spans are full of them; where they are asked for they are found.
#[test]
fn addresses_are_found_where_that_is_asked() {
    let report = pii::measure(&pii::plan("    sets: [network]"), &["ip"], 100, 0, 7);
    let missed = Bounds::default().missed(&report);
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// The measurement can fail: a detector that is off finds nothing, and one that takes anything is told.
#[test]
fn the_measurement_tells_bad_detectors() {
    let report =
        pii::measure(&pii::plan("    detectors: {email: {enabled: false}}"), &["email", "card"], 30, 0, 7);
    assert_eq!((report.scores["email"].right, report.scores["card"].missed), (0, 0));
    assert_eq!(Bounds::default().missed(&report).len(), 1);
    let report = pii::measure(&pii::plan("    sets: [network]"), &[], 0, 200, 7);
    assert!(report.false_positives > 0 && report.per_million() > 20.0);
}

/// A number that passes for a card is none where the key and the form say that it is the id of a span, and a card under
/// every other key.
#[test]
fn ids_of_spans_are_no_cards_and_ids_of_payments_may_be() {
    let (plan, mut scratch) = (pii::plan(""), PlanScratch::default());
    let mut masked = |key: &str, value: &str| {
        let data = pii::request(&[vec![(key.to_owned(), value.to_owned())]]);
        let batch = Batch { data: data.clone(), spans: 1, context: Context::default() };
        plan.apply(batch, &mut scratch).expect("well-formed").data != data
    };
    let card = "4111111111111111";
    for key in ["span_id", "http.request.header.x-b3-spanid", "log.parent_span_id", "parent-id", "dd.traceId"]
    {
        assert!(!masked(key, card), "{key}");
        assert!(
            masked(key, "4111 1111 1111 1111") && masked(key, &format!("{card}, alice@example.com")),
            "{key}"
        );
    }
    for key in ["payment.id", "id", "correlation.id", "customer.parent", "span_id.note", ""] {
        assert!(masked(key, card), "{key}");
    }
}

/// The same seed is the same corpus.
#[test]
fn corpora_follow_from_their_seed() {
    let measured = |seed| pii::measure(&pii::plan("    sets: [network]"), &[], 0, 100, seed).false_positives;
    assert_eq!(measured(1), measured(1));
    assert_ne!((measured(1), measured(2)), (0, 0));
}
