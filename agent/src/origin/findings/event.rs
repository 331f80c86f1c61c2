//! A finding as an Event on the pod that sends.

use super::{Finding, Kind, Place, PlaintextMode, Signal};
use crate::{
    origin::Evidence,
    telemetry::events::{Event, Reason},
};

impl Finding {
    /// The Event on the sender's pod, where somebody is to act: mode `warn` or `block`, a pod that is known by name, and
    /// bytes that left it.
    pub fn event(&self) -> Option<Event> {
        let pod = self.origin.pod.as_ref()?;
        if self.mode < PlaintextMode::Warn
            || self.place == Place::Pod
            || self.origin.evidence != Evidence::Kernel
        {
            return None;
        }
        let what = match self.signal {
            Signal::Unknown => "telemetry",
            signal => signal.as_str(),
        };
        let how = match (&self.kind, self.blocked) {
            (Kind::Plaintext, false) => "leave this pod in plaintext",
            (Kind::Fallback(_), false) => "leave this pod in plaintext after TLS has failed",
            (Kind::Plaintext, true) => "were to leave this pod in plaintext and are blocked",
            (Kind::Fallback(_), true) => {
                "were to leave this pod in plaintext after TLS had failed and are blocked"
            }
        };
        Some(Event {
            reason: Reason::PlaintextTelemetry,
            pod_uid: pod.uid.clone(),
            pod_name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            note: format!(
                "OpenTelemetry {what} {how}: {} to {} ({}). Whoever is in between can read and change them. Send them by \
                 TLS: `https://` in OTEL_EXPORTER_OTLP_ENDPOINT, or `insecure: false` in the exporter.",
                self.protocol.as_str(),
                self.destination,
                self.place.as_str(),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::examples::finding, *};

    #[test]
    fn only_what_somebody_is_to_act_upon_is_an_event() {
        let mut finding = finding();
        assert_eq!(finding.event(), None, "observe");
        finding.mode = PlaintextMode::Warn;
        let event = finding.event().unwrap();
        assert_eq!((event.pod_name.as_str(), event.namespace.as_str()), ("web-6d4cf56db6-x2x7q", "shop"));
        assert!(
            event.note.contains("traces leave this pod in plaintext: http/1.1 to 10.244.2.9:4318 (cluster)")
        );
        finding.blocked = true;
        assert!(finding.event().unwrap().note.contains("are blocked"));
        finding.place = Place::Pod;
        assert_eq!(finding.event(), None, "never left the pod");
    }
}
