//! A finding as a line of JSON. The keys are an interface: `deploy/docs/findings.md` describes them, and they are
//! only ever added to. Every key is always there; what is not known is null.

use super::{Behind, Finding, Kind, table::Noted};
use serde::Serialize;
use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "the line's keys")]
struct Line<'a> {
    time: String,
    finding: &'static str,
    pid: Option<u32>,
    comm: Option<&'a str>,
    cgroup: Option<&'a str>,
    pod_uid: Option<&'a str>,
    local: SocketAddr,
    remote: SocketAddr,
    protocol: &'static str,
    signal: &'static str,
    proof: &'static str,
    r#where: &'static str,
    seen: Option<&'static str>,
    destination: SocketAddr,
    destination_is: Option<At<'a>>,
    namespace: Option<&'a str>,
    pod: Option<&'a str>,
    workload: Option<&'a str>,
    container: Option<&'a str>,
    container_id: Option<&'a str>,
    uid: Option<u32>,
    mode: &'static str,
    blocked: bool,
    not_enforced: bool,
    revised: bool,
    tunnel: bool,
    tls_failure: Option<Failure>,
    since: String,
    count: u64,
    connection: u64,
}

/// What is behind the destination.
#[derive(Serialize)]
struct At<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Failure {
    time: String,
    kind: &'static str,
    detail: Option<String>,
    alert: Option<u8>,
    local: SocketAddr,
    destination: SocketAddr,
    pid: Option<u32>,
    seconds_before: f64,
    weak: bool,
    connection: u64,
}

/// The line, line break included.
pub(super) fn line(finding: &Finding, noted: Noted) -> Vec<u8> {
    let origin = &finding.origin;
    let pod = origin.pod.as_deref();
    // Of a connection that is older than the programs no process is known, only its cgroup.
    let process = origin.process.as_ref();
    let opener = process.filter(|process| process.pid != 0);
    let container = origin
        .container_id
        .as_deref()
        .and_then(|id| pod?.container(id).map(|container| container.name.as_str()));
    let line = Line {
        time: rfc3339(finding.time),
        finding: finding.kind.as_str(),
        pid: opener.map(|process| process.pid),
        comm: opener.map(|process| process.comm.as_str()),
        cgroup: process.and_then(|process| process.cgroup_path.as_deref()),
        pod_uid: origin.pod_uid.as_deref(),
        local: finding.local,
        remote: finding.remote,
        protocol: finding.protocol.as_str(),
        signal: finding.signal.as_str(),
        proof: finding.proof_word(),
        r#where: finding.place.as_str(),
        seen: finding.pre_existing.then(|| finding.proof.as_str()),
        destination: finding.destination,
        destination_is: finding.behind.as_ref().map(at),
        namespace: pod.map(|pod| pod.namespace.as_str()),
        pod: pod.map(|pod| pod.name.as_str()),
        workload: pod.map(crate::origin::Pod::workload),
        container,
        container_id: origin.container_id.as_deref(),
        uid: opener.map(|process| process.uid),
        mode: finding.mode.as_str(),
        blocked: finding.blocked,
        not_enforced: finding.not_enforced,
        revised: finding.revised,
        tunnel: finding.tunnel,
        tls_failure: failure(&finding.kind),
        since: rfc3339(noted.since),
        count: noted.count,
        connection: finding.socket_cookie,
    };
    // Neither maps nor user-written serializers are in there, so nothing can fail; an empty line would be skipped.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn at(behind: &Behind) -> At<'_> {
    match behind {
        Behind::Pod(pod) => At { kind: "Pod", namespace: &pod.namespace, name: &pod.name },
        Behind::Service(service) => {
            At { kind: "Service", namespace: &service.namespace, name: &service.name }
        }
    }
}

fn failure(kind: &Kind) -> Option<Failure> {
    let Kind::Fallback(failure) = kind else { return None };
    Some(Failure {
        time: rfc3339(failure.time),
        kind: failure.kind.as_str(),
        detail: failure.kind.detail(),
        alert: failure.kind.alert(),
        local: failure.local,
        destination: failure.destination,
        pid: Some(failure.pid).filter(|pid| *pid != 0),
        seconds_before: (failure.before.as_secs_f64() * 1e6).round() / 1e6,
        weak: failure.weak,
        connection: failure.socket_cookie,
    })
}

/// RFC 3339 in UTC, with nanoseconds. The date by Howard Hinnant's `civil_from_days`.
pub(in crate::origin) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = ((since.as_secs() / 86_400), since.as_secs() % 86_400);
    // Days since 1 March of year 0; an era is 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{nanos:09}Z", second % 60)
}

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
