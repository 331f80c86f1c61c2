//! The sampling policies of the reference documents on made traces.

use std::time::Duration;

use spanwarden::{otlp::Consumer, sampling::TailSampling};

use super::{
    model::{SHARES, fnv},
    pass, run,
    spans::{KeyValue, Sink, Span, Status, batch_of, span, text},
    tail_sampling,
};

/// A trace of one span, and the policy that keeps it.
type Case = (&'static str, Vec<KeyValue>, Span, Option<&'static str>);

/// Ids inside and outside of a share.
fn ids(share: usize, inside: bool) -> impl Iterator<Item = u128> {
    (1..).map(|n: u128| n << 40 | n).filter(move |id| (fnv(*id) <= SHARES[share].1) == inside)
}

fn check(config: &str, wait: u64, cases: &[Case]) {
    run(async {
        let sink = Sink::new();
        let sampler = TailSampling::new(&tail_sampling(config), sink.clone(), 2).unwrap();
        for (_, resource, span, _) in cases {
            sampler.consume(batch_of(resource.clone(), vec![span.clone()])).await.unwrap();
        }
        pass(Duration::from_secs(wait - 2)).await;
        assert_eq!(sink.spans().len(), 0, "nothing is decided within decision_wait");
        pass(Duration::from_secs(4)).await;
        let kept = sink.spans();
        for (what, _, span, policy) in cases {
            let found: Vec<_> =
                kept.iter().filter(|kept| kept.span == *span).map(|kept| kept.policy()).collect();
            assert_eq!(found, policy.iter().map(|policy| Some(*policy)).collect::<Vec<_>>(), "{what}");
        }
        assert_eq!(kept.len(), cases.iter().filter(|(_, _, _, policy)| policy.is_some()).count());
    });
}

fn with(span: Span, attributes: Vec<KeyValue>) -> Span {
    Span { attributes, ..span }
}

fn failed(span: Span, code: i32) -> Span {
    Span { status: Some(Status { code, ..Status::default() }), ..span }
}

#[test]
fn security_relevant_traces_of_document_000() {
    let mut outside = ids(0, false);
    let mut plain = |duration| span(outside.next().unwrap(), 1, 0, duration);
    let cases: Vec<Case> = vec![
        ("an error", vec![], failed(plain(5), 2), Some("retain-errors")),
        ("an ok", vec![], failed(plain(5), 1), None),
        ("2 s", vec![], plain(2000), Some("retain-slow")),
        ("just below 2 s", vec![], plain(1999), None),
        ("a login", vec![], with(plain(5), vec![text("http.target", "/v2/login?x=1")]), Some("retain-auth")),
        ("a slow login", vec![], with(plain(5000), vec![text("http.target", "/login")]), Some("retain-slow")),
        ("no login", vec![], with(plain(5), vec![text("http.target", "/shop")]), None),
        (
            "the second of two",
            vec![],
            with(plain(5), vec![text("http.target", "/"), text("http.target", "/api/keys/7")]),
            Some("retain-auth"),
        ),
        (
            "flagged",
            vec![],
            with(plain(5), vec![text("security.event", "odd geography")]),
            Some("retain-security-flagged"),
        ),
        ("flagged with nothing", vec![], with(plain(5), vec![text("security.event", "")]), None),
        ("healthy", vec![], plain(5), None),
        (
            "healthy, in the share",
            vec![],
            span(ids(0, true).next().unwrap(), 1, 0, 5),
            Some("sample-baseline"),
        ),
    ];
    check(include_str!("../../fixtures/configs/000-step6-tail-sampling.yaml"), 15, &cases);
}

#[test]
fn the_gateway_of_document_003() {
    let mut outside = ids(1, false);
    let mut plain = |duration| span(outside.next().unwrap(), 1, 0, duration);
    let payment = vec![text("service.name", "payment-service")];
    let cases: Vec<Case> = vec![
        ("an error", payment.clone(), failed(plain(5), 2), Some("error-traces")),
        ("2 s", vec![], plain(2000), Some("slow-traces")),
        ("payment", payment, plain(5), Some("payment-always")),
        ("another service", vec![text("service.name", "payment-service-2")], plain(5), None),
        ("in the share", vec![], span(ids(1, true).next().unwrap(), 1, 0, 5), Some("probabilistic-base")),
    ];
    check(include_str!("../../fixtures/configs/003-gateway.yaml"), 30, &cases);
}

#[test]
fn the_production_policy_of_document_003() {
    let mut outside = ids(1, false);
    let mut plain = |duration| span(outside.next().unwrap(), 1, 0, duration);
    let mut inside = ids(1, true);
    let mut lucky = || span(inside.next().unwrap(), 1, 0, 5);
    let cases: Vec<Case> = vec![
        ("an error", vec![], failed(plain(5), 2), Some("errors")),
        ("3 s", vec![], plain(3000), Some("slow-requests")),
        (
            "marked",
            vec![],
            with(plain(5), vec![text("sampling.priority", "high")]),
            Some("user-marked-important"),
        ),
        ("marked low", vec![], with(plain(5), vec![text("sampling.priority", "low")]), None),
        ("the rest", vec![], plain(5), None),
        ("the rest, in the share", vec![], lucky(), Some("base-rate")),
        (
            "in the share, another route",
            vec![],
            with(lucky(), vec![text("http.route", "/orders")]),
            Some("base-rate"),
        ),
        // Whatever its name says: a policy of this type keeps what matches, here and in the Collector.
        (
            "a health check",
            vec![],
            with(plain(5), vec![text("http.route", "/healthz")]),
            Some("drop-health-checks"),
        ),
    ];
    check(include_str!("../../fixtures/configs/003-production-policy.yaml"), 30, &cases);
}
