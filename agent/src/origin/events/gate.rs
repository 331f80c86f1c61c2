//! Which Events are written: one a pod and reason an hour, and few a node.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::telemetry::events::{Event, Reason};

/// How long a pod is spared the same Event. The API server keeps Events for an hour.
const QUIET: Duration = Duration::from_hours(1);
/// Events that a node writes at once, and how soon the next: 25 and 5 a minute. client-go lets each object have
/// a burst of 25; here it is for all of them.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(12);
/// What is remembered at most: more than the bucket lets through within [`QUIET`].
const MOST: usize = 1_000;

#[derive(Debug)]
pub(super) struct Gate {
    written: HashMap<(String, Reason), Instant>,
    tokens: f64,
    filled: Instant,
}

impl Gate {
    pub(super) fn new(now: Instant) -> Self {
        Self { written: HashMap::new(), tokens: BURST, filled: now }
    }

    /// Whether it is to be written; if not, the metric's word for why.
    pub(super) fn admit(&mut self, event: &Event, now: Instant) -> Result<(), &'static str> {
        let key = (event.pod_uid.clone(), event.reason);
        let young = |at: &Instant| now.saturating_duration_since(*at) < QUIET;
        if self.written.get(&key).is_some_and(young) {
            return Err("repeated");
        }
        let since = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + since.as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        self.filled = now;
        if self.tokens < 1.0 {
            return Err("throttled");
        }
        if self.written.len() >= MOST {
            self.written.retain(|_, at| young(at));
            if self.written.len() >= MOST {
                return Err("throttled");
            }
        }
        self.tokens -= 1.0;
        self.written.insert(key, now);
        Ok(())
    }

    /// It was not written after all; its token is spent.
    pub(super) fn forget(&mut self, event: &Event) {
        self.written.remove(&(event.pod_uid.clone(), event.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(uid: &str, reason: Reason) -> Event {
        Event {
            reason,
            pod_uid: uid.into(),
            pod_name: "p".into(),
            namespace: "n".into(),
            note: String::new(),
        }
    }

    #[test]
    fn one_a_pod_and_reason_an_hour() {
        let start = Instant::now();
        let mut gate = Gate::new(start);
        let forged = event("a", Reason::ForgedIdentity);
        assert_eq!(gate.admit(&forged, start), Ok(()));
        assert_eq!(
            gate.admit(&forged, start + QUIET.saturating_sub(Duration::from_secs(1))),
            Err("repeated")
        );
        assert_eq!(gate.admit(&event("a", Reason::TokenReplay), start), Ok(()));
        assert_eq!(gate.admit(&event("b", Reason::ForgedIdentity), start), Ok(()));
        assert_eq!(gate.admit(&forged, start + QUIET), Ok(()));
        gate.forget(&forged);
        assert_eq!(gate.admit(&forged, start + QUIET), Ok(()), "what failed may be tried again");
    }

    #[test]
    fn a_flood_of_pods_is_a_bucket_of_events() {
        let start = Instant::now();
        let mut gate = Gate::new(start);
        let mut written = 0;
        // Ten minutes, a hundred new pods a second.
        for number in 0..60_000_u32 {
            let now = start + Duration::from_millis(10) * number;
            let admitted = gate.admit(&event(&format!("u{number}"), Reason::PlaintextTelemetry), now);
            written += u32::from(admitted.is_ok());
        }
        assert_eq!(written, 25 + 49, "the burst, then one in 12 s");
        assert!(gate.written.len() <= MOST);
    }
}
