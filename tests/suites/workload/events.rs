use std::{thread, time::Duration};

use spanwarden::{
    origin::events::Writer,
    telemetry::{
        events::{Event, Reason, Sink as _},
        metrics,
    },
};
use spanwarden_tests::kubernetes::api::{ApiServer, Fault, wait_until};

use super::common::client;

fn event(pod: &str, reason: Reason) -> Event {
    Event {
        reason,
        pod_uid: format!("uid-{pod}"),
        pod_name: pod.to_owned(),
        namespace: "shop".to_owned(),
        note: "what happened, and what to do".to_owned(),
    }
}

/// The counter of one reason, which no other test here uses, and result.
fn counted(reason: Reason, result: &str) -> u64 {
    let start = format!("spanwarden_events{{reason=\"{}\",result=\"{result}\"}} ", reason.as_str());
    let text = metrics::render();
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
}

#[test]
fn an_event_is_written_once_and_passes_the_server_s_checks() {
    let server = ApiServer::start().unwrap();
    let writer = Writer::start(&client(&server)).unwrap();
    for _ in 0..100 {
        writer.report(event("web-0", Reason::PlaintextTelemetry));
    }
    writer.report(event("web-1", Reason::PlaintextTelemetry));
    wait_until("two Events", || (server.events().len() == 2).then_some(())).unwrap();
    let events = server.events();
    let first = &events[0];
    assert_eq!(first["reason"], "PlaintextTelemetry");
    assert_eq!(first["type"], "Warning");
    assert_eq!(first["regarding"]["kind"], "Pod");
    assert_eq!(
        (&first["regarding"]["name"], &first["regarding"]["uid"]),
        (&"web-0".into(), &"uid-web-0".into())
    );
    assert!(first["metadata"]["name"].as_str().unwrap().starts_with("web-0."));
    wait_until("the repetitions", || (counted(Reason::PlaintextTelemetry, "repeated") == 99).then_some(()))
        .unwrap();
    // Two Events, two requests.
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_server_that_says_no_is_counted_and_asked_again_for_the_next() {
    let server = ApiServer::start().unwrap();
    server.fail(Fault::NoEvents);
    let writer = Writer::start(&client(&server)).unwrap();
    writer.report(event("web-0", Reason::TokenReplay));
    wait_until("the refusal", || (counted(Reason::TokenReplay, "forbidden") == 1).then_some(())).unwrap();
    assert!(server.events().is_empty());
    server.fail(Fault::None);
    // It was not written, so it is no repetition.
    wait_until("the Event", || {
        writer.report(event("web-0", Reason::TokenReplay));
        thread::sleep(Duration::from_millis(50));
        (server.events().len() == 1).then_some(())
    })
    .unwrap();
}

#[test]
fn a_server_that_is_silent_holds_up_nobody_and_a_flood_is_throttled() {
    let server = ApiServer::start().unwrap();
    server.fail(Fault::Silent);
    let writer = Writer::start(&client(&server)).unwrap();
    let before = std::time::Instant::now();
    for number in 0..10_000 {
        writer.report(event(&format!("web-{number}"), Reason::ForgedIdentity));
    }
    assert!(before.elapsed() < Duration::from_secs(5), "a report waited");
    assert!(counted(Reason::ForgedIdentity, "throttled") > 9_900);
}

#[test]
fn names_that_are_none_are_not_sent() {
    let server = ApiServer::start().unwrap();
    let writer = Writer::start(&client(&server)).unwrap();
    for name in ["../secrets", "web?x", "WEB", "", "web.", &"w".repeat(300)] {
        writer.report(event(name, Reason::CertificateExpired));
    }
    assert_eq!(counted(Reason::CertificateExpired, "bad_name"), 6);
    writer.report(event("web-0", Reason::CertificateExpired));
    wait_until("the one that is good", || (server.events().len() == 1).then_some(())).unwrap();
    assert_eq!(server.asked().len(), 1);
}
