//! A finding to metrics, log, file and table.

use super::{
    Finding, Kind, Place, PlaintextMode,
    file::Writer,
    line,
    table::{Noted, Table},
};
use crate::telemetry::metrics::{Counters, counter};
use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};
use tracing::{info, warn};

static FINDINGS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_plaintext_findings",
        "Connections that carry telemetry without TLS: whose (namespace and workload; both empty for processes of \
         the host, `_other` beyond 1,000 workloads), and why.",
        &["namespace", "workload", "finding", "protocol", "signal", "proof", "where"],
    )
});
static REVISED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_plaintext_findings_revised",
        "Findings that gave better evidence for a connection that had been counted already, by their proof.",
        &["proof"],
    )
});

/// Workloads that get a label of their own. A node runs some hundreds of pods; what is replaced keeps its name,
/// except bare pods.
const WORKLOADS: usize = 1_000;

/// The label of those beyond.
const OTHER: &str = "_other";

/// Where findings go.
pub(super) struct Reporter {
    pub(super) table: Arc<Table>,
    pub(super) file: Option<Writer>,
    pub(super) labels: Labels,
}

impl Reporter {
    /// Takes a finding in everywhere.
    pub(super) fn report(&mut self, finding: &Finding) {
        let noted = self.table.note(finding);
        self.count(finding, noted);
        log(finding, noted);
        if let Some(file) = &self.file {
            file.write(line::line(finding, noted));
        }
    }

    fn count(&mut self, finding: &Finding, noted: Noted) {
        if !noted.new_connection {
            REVISED.with_label_values(&[finding.proof_word()]).inc();
            return;
        }
        let (namespace, workload) = match finding.origin.pod.as_deref() {
            Some(pod) => self.labels.of(&pod.namespace, pod.workload()),
            None => ("", ""),
        };
        FINDINGS
            .with_label_values(&[
                namespace,
                workload,
                finding.kind.as_str(),
                finding.protocol.as_str(),
                finding.signal.as_str(),
                finding.proof_word(),
                finding.place.as_str(),
            ])
            .inc();
    }
}

/// The workloads that have a label of their own.
#[derive(Default)]
pub(super) struct Labels(HashSet<(String, String)>);

impl Labels {
    /// The pair itself, or twice [`OTHER`] when there are too many.
    fn of<'a>(&mut self, namespace: &'a str, workload: &'a str) -> (&'a str, &'a str) {
        let pair = (namespace.to_owned(), workload.to_owned());
        if self.0.contains(&pair) {
            return (namespace, workload);
        }
        if self.0.len() >= WORKLOADS {
            return (OTHER, OTHER);
        }
        self.0.insert(pair);
        (namespace, workload)
    }
}

/// What nobody has to act upon is told quietly: a mode of `observe`, and what never leaves the pod.
fn log(finding: &Finding, noted: Noted) {
    let origin = &finding.origin;
    let pod = origin.pod.as_deref();
    let process = origin.process.as_ref();
    let failure = match &finding.kind {
        Kind::Plaintext => None,
        Kind::Fallback(failure) => Some(failure),
    };
    let failed = failure.map(|failure| match failure.kind.detail() {
        Some(detail) => format!("{}: {detail}", failure.kind.as_str()),
        None => failure.kind.as_str().to_owned(),
    });
    let behind = finding.behind.as_ref().map(super::Behind::to_string);
    macro_rules! log {
        ($level:ident) => {
            $level!(
                target: "spanwarden::origin::findings",
                finding = finding.kind.as_str(),
                protocol = finding.protocol.as_str(),
                signal = finding.signal.as_str(),
                proof = finding.proof_word(),
                r#where = finding.place.as_str(),
                destination = %finding.destination,
                destination_is = behind,
                remote = %finding.remote,
                local = %finding.local,
                mode = finding.mode.as_str(),
                blocked = finding.blocked,
                not_enforced = finding.not_enforced,
                revised = finding.revised,
                tls_failure = failed,
                connection = finding.socket_cookie,
                count = noted.count,
                k8s.namespace.name = pod.map_or("", |pod| pod.namespace.as_str()),
                k8s.pod.name = pod.map_or("", |pod| pod.name.as_str()),
                k8s.pod.uid = origin.pod_uid.as_deref().unwrap_or_default(),
                container.id = origin.container_id.as_deref().unwrap_or_default(),
                process.pid = process.map_or(0, |process| process.pid),
                process.comm = process.map_or("", |process| process.comm.as_str()),
                "{}", message(finding)
            )
        };
    }
    if finding.mode == PlaintextMode::Observe || finding.place == Place::Pod {
        log!(info);
    } else {
        log!(warn);
    }
}

fn message(finding: &Finding) -> &'static str {
    match (&finding.kind, finding.blocked) {
        (Kind::Plaintext, false) => "telemetry leaves in plaintext",
        (Kind::Fallback(_), false) => "telemetry leaves in plaintext after TLS has failed",
        (Kind::Plaintext, true) => "plaintext telemetry is blocked",
        (Kind::Fallback(_), true) => "plaintext telemetry after TLS has failed is blocked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_beyond_the_bound_share_a_label() {
        let mut labels = Labels::default();
        for n in 0..WORKLOADS {
            let name = format!("w{n}");
            assert_eq!(labels.of("shop", &name), ("shop", name.as_str()));
        }
        assert_eq!(labels.of("shop", "late"), (OTHER, OTHER));
        assert_eq!(labels.of("shop", "w7"), ("shop", "w7"), "who has one keeps it");
        assert_eq!(labels.of("bank", "w7"), (OTHER, OTHER));
    }
}
