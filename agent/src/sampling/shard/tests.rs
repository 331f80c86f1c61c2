use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    config::{
        Located, Location,
        processors::{Policy, PolicyRule, StatusCode},
    },
    otlp::encode,
};

const BYTES: u64 = 64 << 10;

fn policies() -> Arc<Policies> {
    let policy = |name: &str, rule| Policy {
        name: Located {
            value: name.to_owned(),
            at: Location { file: "test".into(), line: 1, column: 1, path: "".into() },
        },
        rule,
    };
    let errors = PolicyRule::StatusCode { status_codes: vec![StatusCode::Error] };
    let slow = PolicyRule::Latency { threshold: Duration::from_secs(1), upper_threshold: None };
    Arc::new(Policies::new(&[policy("errors", errors), policy("slow", slow)]).unwrap())
}

fn shard(change: impl FnOnce(&mut Limits)) -> Shard {
    let mut limits = Limits {
        wait: 10_000,
        wait_after_root: None,
        traces: 100,
        bytes: BYTES,
        trace_bytes: BYTES / 4,
        sampled_cache: 1000,
        not_sampled_cache: 1000,
    };
    change(&mut limits);
    let policies = policies();
    let metrics = Arc::new(Metrics::new(None, policies.names()));
    Shard::new(policies, limits, metrics)
}

/// One span of a trace, of about `size` bytes.
fn part(id: u128, error: bool, root: bool, size: usize) -> Incoming {
    let mut data = Vec::new();
    encode::field_with(&mut data, 1, |out| {
        encode::field_with(out, 2, |out| encode::field(out, 2, &vec![0; size]));
    });
    let statuses = if error { 4 } else { 1 };
    let summary = Summary { spans: 1, statuses, root, start: 5, end: 9, matched: 0 };
    Incoming { id: id.to_be_bytes(), tenant: None, summary, data: Bytes::from(data) }
}

/// Spans that are kept so far.
fn kept(shard: &mut Shard) -> u32 {
    shard.outbox.close();
    std::iter::from_fn(|| shard.outbox.next()).map(|batch| batch.spans).sum()
}

#[test]
fn a_flood_of_random_ids_stays_within_the_budget_and_decides_every_trace() {
    let mut shard = shard(|limits| limits.traces = u64::MAX);
    let (mut dropped, mut sampled) = (0, 0);
    let flood = 20_000u32;
    for n in 0..flood {
        let id = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let spans = part(id, n % 7 == 0, false, 40 + n as usize % 900);
        dropped += shard.arrive(vec![spans], 0);
        let (traces, bytes) = shard.load();
        assert!(bytes <= BYTES, "{bytes} bytes after {n} traces");
        assert_eq!(bytes, shard.traces.values().map(Trace::cost).sum::<u64>());
        assert!(shard.order.len() as u64 <= 2 * traces + 1024, "{} places", shard.order.len());
        sampled += kept(&mut shard);
    }
    dropped += shard.finish(0);
    sampled += kept(&mut shard);
    assert_eq!(sampled, flood.div_ceil(7), "every error is kept, evicted or not");
    assert_eq!(dropped + u64::from(sampled), u64::from(flood));
    assert_eq!(shard.load(), (0, 0));
}

#[test]
fn places_of_traces_decided_early_do_not_pile_up() {
    let mut shard = shard(|limits| {
        limits.trace_bytes = 10;
        limits.wait_after_root = Some(1000);
    });
    for n in 0..50_000 {
        shard.arrive(vec![part(n, false, true, 100)], 0);
    }
    assert!(shard.order.len() <= 1024 && shard.rooted.len() <= 1024);
    assert_eq!(shard.load(), (0, 0), "each was larger than a trace may be, and decided at once");
}

#[test]
fn decisions_come_when_they_are_due() {
    let mut shard = shard(|limits| limits.wait_after_root = Some(2_000));
    shard.arrive(vec![part(1, true, false, 10)], 0);
    shard.arrive(vec![part(2, true, false, 10)], 1_000);
    shard.arrive(vec![part(2, false, true, 10)], 3_000);
    shard.arrive(vec![part(3, false, true, 10)], 3_000);
    assert_eq!((shard.tick(4_999), kept(&mut shard)), (0, 0));
    assert_eq!((shard.tick(5_000), kept(&mut shard)), (1, 2), "two seconds after their roots: 2 and 3");
    assert_eq!((shard.tick(9_999), kept(&mut shard)), (0, 0));
    assert_eq!((shard.tick(10_000), kept(&mut shard)), (0, 1), "ten seconds after its first span: 1");
    assert_eq!(shard.load(), (0, 0));
    assert_eq!((shard.tick(11_000), kept(&mut shard)), (0, 0), "2 is not decided twice");
}

#[test]
fn late_spans_follow_evictions_and_too_large_traces_too() {
    let mut shard = shard(|limits| {
        limits.traces = 1;
        limits.trace_bytes = 500;
    });
    shard.arrive(vec![part(1, true, false, 10)], 0);
    assert_eq!(shard.arrive(vec![part(2, false, false, 10)], 0), 0, "1 is evicted, and kept");
    assert_eq!(kept(&mut shard), 1);
    assert_eq!(shard.arrive(vec![part(3, true, false, 600)], 0), 0, "3 is too large, and kept");
    assert_eq!(kept(&mut shard), 1);
    assert_eq!(shard.arrive(vec![part(4, true, false, 10)], 0), 1, "2 is evicted, and not kept");
    let late = vec![part(1, false, false, 10), part(2, true, false, 10), part(3, false, false, 10)];
    assert_eq!(shard.arrive(late, 0), 1, "2 is dropped, whatever its late span says");
    assert_eq!(kept(&mut shard), 2);
    assert_eq!(shard.load().0, 1, "4 still waits");
}

/// One trace id in two tenants is two traces: each is decided on its own spans and goes out as its tenant's.
#[test]
fn tenants_do_not_meet() {
    let tenant = |name: &'static str| {
        let header = http::HeaderName::from_static("x-scope-orgid");
        Some(Arc::new(Tenant { header, name: http::HeaderValue::from_static(name) }))
    };
    let mut shard = shard(|_| {});
    let with = |tenant, error| Incoming { tenant, ..part(1, error, true, 10) };
    shard.arrive(vec![with(tenant("blue"), true), with(tenant("red"), false), with(None, true)], 0);
    assert_eq!(shard.load().0, 3);
    shard.tick(10_000);
    // Late spans follow their own tenant's decision.
    shard.arrive(vec![with(tenant("red"), true), with(tenant("blue"), false)], 11_000);
    shard.outbox.close();
    let mut kept: Vec<(Option<String>, u32)> = std::iter::from_fn(|| shard.outbox.next())
        .map(|batch| (batch.context.tenant.map(|tenant| tenant.as_str().to_owned()), batch.spans))
        .collect();
    kept.sort();
    assert_eq!(kept, [(None, 1), (Some("blue".to_owned()), 2)]);
}
