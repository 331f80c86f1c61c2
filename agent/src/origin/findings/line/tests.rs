use super::*;
use crate::origin::{
    Container, Origin, Pod, Service,
    findings::{Place, PlaintextMode, Proof, TlsFailure, TlsFailureKind, examples::finding},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

fn noted() -> Noted {
    Noted { since: UNIX_EPOCH + Duration::from_mins(29_921_300), count: 3, new_connection: true }
}

fn read(finding: &Finding) -> Value {
    let bytes = line(finding, noted());
    assert_eq!(bytes.last(), Some(&b'\n'));
    serde_json::from_slice(&bytes).unwrap()
}

/// The keys are an interface: this is what they are, all of them, for a finding of everything ordinary.
#[test]
fn a_line_has_these_keys() {
    assert_eq!(
        read(&finding()),
        json!({
            "time": "2026-11-21T16:34:56.123456789Z",
            "finding": "plaintext",
            "pid": 4711,
            "comm": "python3",
            "cgroup": "/kubepods.slice/x",
            "pod_uid": "8dbc05c8-e6f9-4c36-8d3d-2d35b6e5a0ac",
            "local": "10.244.1.7:41000",
            "remote": "10.244.2.9:4318",
            "protocol": "http/1.1",
            "signal": "traces",
            "proof": "path",
            "where": "cluster",
            "seen": null,
            "destination": "10.244.2.9:4318",
            "destination_is": null,
            "namespace": "shop",
            "pod": "web-6d4cf56db6-x2x7q",
            "workload": "web",
            "container": null,
            "container_id": "0123456789abcdef".repeat(4),
            "uid": 1000,
            "mode": "observe",
            "blocked": false,
            "not_enforced": false,
            "revised": false,
            "tunnel": false,
            "tls_failure": null,
            "since": "2026-11-21T16:20:00.000000000Z",
            "count": 3,
            "connection": 77,
        })
    );
    let text = String::from_utf8(line(&finding(), noted())).unwrap();
    assert!(text.starts_with(r#"{"time":"2026-"#), "a reader sees the time first: {text}");
}

/// One line of each shape that there is.
pub(super) fn lines_of_all_kinds() -> Vec<Value> {
    let mut unknown = finding();
    unknown.origin = Arc::new(Origin::unknown(unknown.local));
    let mut old = Finding { pre_existing: true, proof: Proof::Grpc, place: Place::Pod, ..finding() };
    old.signal = crate::origin::findings::Signal::Unknown;
    let service = Service { name: "otel".into(), namespace: "observe".into(), ips: Vec::new() };
    let behind = Some(Behind::Service(Arc::new(service)));
    let mut lines: Vec<Value> =
        [finding(), unknown, old, Finding { behind, ..finding() }].iter().map(read).collect();
    for kind in [
        TlsFailureKind::AlertReceived(48),
        TlsFailureKind::AlertSent(255),
        TlsFailureKind::PlaintextAnswer,
        TlsFailureKind::Closed,
        TlsFailureKind::Reset,
        TlsFailureKind::Refused,
        TlsFailureKind::NoAnswer,
    ] {
        let kind = Kind::Fallback(TlsFailure { kind, ..failure() });
        lines.push(read(&Finding { kind, revised: true, ..finding() }));
    }
    lines
}

fn failure() -> TlsFailure {
    TlsFailure {
        time: UNIX_EPOCH + Duration::from_millis(1_795_278_895_100),
        before: Duration::from_nanos(1_023_456_789),
        kind: TlsFailureKind::AlertSent(48),
        local: "[fd00::7]:41001".parse().unwrap(),
        destination: "[fd00::9]:4317".parse().unwrap(),
        pid: 4710,
        socket_cookie: 76,
        weak: true,
    }
}

#[test]
fn a_fallback_says_what_failed() {
    let failure = failure();
    let finding = Finding {
        kind: Kind::Fallback(failure.clone()),
        place: Place::Outside,
        mode: PlaintextMode::Block,
        blocked: true,
        ..finding()
    };
    let line = read(&finding);
    assert_eq!(
        (&line["finding"], &line["blocked"], &line["mode"]),
        (&json!("fallback"), &json!(true), &json!("block"))
    );
    assert_eq!(
        line["tls_failure"],
        json!({
            "time": "2026-11-21T16:34:55.100000000Z",
            "kind": "alert-sent",
            "detail": "unknown_ca",
            "alert": 48,
            "local": "[fd00::7]:41001",
            "destination": "[fd00::9]:4317",
            "pid": 4710,
            "seconds_before": 1.023_457,
            "weak": true,
            "connection": 76,
        })
    );
    let kind = TlsFailureKind::Refused;
    let line = read(&Finding { kind: Kind::Fallback(TlsFailure { kind, pid: 0, ..failure }), ..finding });
    let told = &line["tls_failure"];
    assert_eq!(
        (&told["kind"], &told["detail"], &told["pid"]),
        (&json!("refused"), &Value::Null, &Value::Null)
    );
}

#[test]
fn a_connection_older_than_the_programs_has_no_process() {
    let mut old = finding();
    old.pre_existing = true;
    old.proof = Proof::Port;
    let mut origin = (*old.origin).clone();
    origin.process.as_mut().unwrap().pid = 0;
    old.origin = Arc::new(origin);
    let line = read(&old);
    assert_eq!((&line["proof"], &line["seen"]), (&json!("pre-existing"), &json!("port")));
    for key in ["pid", "comm", "uid"] {
        assert_eq!(line[key], Value::Null, "{key}");
    }
    assert_eq!(line["cgroup"], "/kubepods.slice/x");
}

#[test]
fn what_is_behind_the_destination_and_in_the_pod_is_named() {
    let service = Service { name: "otel".into(), namespace: "observe".into(), ips: Vec::new() };
    let mut to_service = finding();
    to_service.behind = Some(Behind::Service(Arc::new(service)));
    let mut origin = (*to_service.origin).clone();
    let mut pod = Pod::clone(origin.pod.as_ref().unwrap());
    let container = |id: String, name: &str| Container { id, name: name.into(), ..Container::default() };
    pod.containers =
        vec![container("other".into(), "sidecar"), container("0123456789abcdef".repeat(4), "main")];
    origin.pod = Some(Arc::new(pod.clone()));
    to_service.origin = Arc::new(origin);
    let line = read(&to_service);
    assert_eq!(line["destination_is"], json!({"kind": "Service", "namespace": "observe", "name": "otel"}));
    assert_eq!(line["container"], "main");
    to_service.behind = Some(Behind::Pod(Arc::new(pod)));
    assert_eq!(read(&to_service)["destination_is"]["kind"], "Pod");
}

#[test]
fn who_is_unknown_is_null() {
    let mut unknown = finding();
    unknown.origin = Arc::new(Origin::unknown(unknown.local));
    let line = read(&unknown);
    for key in ["pid", "comm", "cgroup", "pod_uid", "namespace", "pod", "workload", "container_id", "uid"] {
        assert_eq!(line[key], Value::Null, "{key}");
    }
    assert_eq!(line.as_object().unwrap().len(), 30, "every key is there");
}

proptest! {
    /// Whatever a process and its cgroup call themselves: one line, valid JSON, nothing that controls a terminal.
    #[test]
    fn hostile_names_stay_in_their_place(comm in any::<[u8; 16]>(), cgroup in prop::collection::vec(any::<u8>(), 0..300)) {
        use crate::origin::bpf::abi;
        let mut hostile = finding();
        let mut origin = (*hostile.origin).clone();
        let process = origin.process.as_mut().unwrap();
        process.comm = abi::comm(&comm);
        process.cgroup_path = Some(abi::printable(&cgroup));
        hostile.origin = Arc::new(origin);
        let bytes = line(&hostile, noted());
        let text = std::str::from_utf8(&bytes).unwrap();
        let body = text.strip_suffix('\n').unwrap();
        prop_assert!(!body.chars().any(char::is_control));
        let value: Value = serde_json::from_str(body).unwrap();
        prop_assert_eq!(value.as_object().unwrap().len(), 30);
        prop_assert_eq!(&value["pid"], &json!(4711));
    }

    /// Against the other direction: days to a date, and the date back to days.
    #[test]
    fn times_are_dates(seconds in 0_u64..253_402_300_799, nanos in 0_u32..1_000_000_000) {
        let text = rfc3339(UNIX_EPOCH + Duration::new(seconds, nanos));
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        let leap = |y: u64| u64::from(y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400)));
        let months = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        prop_assert!((1..=12).contains(&month) && (1..=months[month as usize - 1]).contains(&day));
        let years: u64 = (1970..year).map(|y| 365 + leap(y)).sum();
        let days = years + months[..month as usize - 1].iter().sum::<u64>() + day - 1;
        let back = days * 86_400 + number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
        prop_assert_eq!((back, number(20..29)), (seconds, u64::from(nanos)));
        prop_assert_eq!((text.len(), &text[10..11], &text[29..]), (30, "T", "Z"));
    }
}
