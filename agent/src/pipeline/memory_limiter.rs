//! `memory_limiter`: refuses batches while the process uses too much memory.
//!
//! Resident memory is read every `check_interval`, and sooner when what was admitted since the last reading could
//! have used up what was left. Above the soft limit (limit minus spike) everything is refused as overload, so
//! that senders come again; the hard limit only changes the cause. There is no garbage collector to run.

#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::{
    config::{Component, ConfigError, processors::MemoryLimiter as Config},
    otlp::{Accepted, Batch, Consumer, Consuming, Refusal, RefusalKind},
    telemetry::{
        memory,
        metrics::{Counters, counter},
    },
};

static ACCEPTED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_memory_limiter_accepted_spans",
        "Spans let through by the memory limiter.",
        &["processor"],
    )
});
static REFUSED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_memory_limiter_refused_spans",
        "Spans refused by the memory limiter; the sender was told to come again.",
        &["processor"],
    )
});

/// The spike limit where none is configured, in percent of the limit.
const DEFAULT_SPIKE_PERCENT: u64 = 20;
const MIB: u64 = 1 << 20;

/// Reads the resident memory of the process, in bytes.
type Read = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The processor.
pub struct MemoryLimiter {
    next: Arc<dyn Consumer>,
    soft: u64,
    hard: u64,
    check_interval: Duration,
    read: Read,
    start: Instant,
    /// When memory is read again, in ms since `start`.
    due: AtomicU64,
    /// As last read.
    resident: AtomicU64,
    /// Bytes of the batches let through since then.
    admitted: AtomicU64,
    accepted: IntCounter,
    refused: IntCounter,
}

impl MemoryLimiter {
    /// Builds the processor.
    pub fn new(component: &Component<Config>, next: Arc<dyn Consumer>) -> Result<Self, ConfigError> {
        Self::reading(component, next, memory::limit(), Box::new(memory::resident))
    }

    fn reading(
        component: &Component<Config>,
        next: Arc<dyn Consumer>,
        available: Option<u64>,
        read: Read,
    ) -> Result<Self, ConfigError> {
        let (soft, hard) = limits(&component.config, available)
            .map_err(|message| ConfigError { at: component.at.clone(), message })?;
        let name = component.id.to_string();
        Ok(Self {
            next,
            soft,
            hard,
            check_interval: component.config.check_interval,
            read,
            start: Instant::now(),
            due: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            accepted: ACCEPTED.with_label_values(&[&name]),
            refused: REFUSED.with_label_values(&[&name]),
        })
    }

    /// The hard limit in bytes, for a receiver that admits by bytes before it parses.
    pub fn limit_bytes(&self) -> u64 {
        self.hard
    }

    /// The soft limit in bytes: above it batches are refused.
    pub fn soft_limit_bytes(&self) -> u64 {
        self.soft
    }

    fn check(&self, batch: &Batch) -> Result<(), Refusal> {
        let now = self.start.elapsed().as_millis() as u64;
        let admitted = self.admitted.fetch_add(batch.data.len() as u64, Ordering::Relaxed);
        let mut resident = self.resident.load(Ordering::Relaxed);
        let spent = resident < self.soft && resident.saturating_add(admitted) >= self.soft;
        if now >= self.due.load(Ordering::Relaxed) || spent {
            // Several may read at once; all of them write the truth of this moment.
            self.due.store(now + self.check_interval.as_millis() as u64, Ordering::Relaxed);
            if let Some(bytes) = (self.read)() {
                resident = bytes;
            } else {
                tracing::warn!("resident memory can't be read; the memory limiter goes by the last reading");
            }
            self.resident.store(resident, Ordering::Relaxed);
            self.admitted.store(batch.data.len() as u64, Ordering::Relaxed);
        }
        if resident < self.soft {
            return Ok(());
        }
        Err(Refusal {
            kind: RefusalKind::Overloaded { retry_after: self.check_interval.max(Duration::from_secs(1)) },
            cause: if resident < self.hard { "memory_soft_limit" } else { "memory_hard_limit" },
            message: "memory is at its limit here; retry later, or raise memory_limiter's limit".into(),
        })
    }

    async fn take(&self, batch: Batch) -> Result<Accepted, Refusal> {
        let spans = u64::from(batch.spans);
        match self.check(&batch) {
            Ok(()) => {
                self.accepted.inc_by(spans);
                self.next.consume(batch).await
            }
            Err(refusal) => {
                self.refused.inc_by(spans);
                Err(refusal)
            }
        }
    }
}

impl Consumer for MemoryLimiter {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(self.take(batch))
    }
}

/// The soft and the hard limit in bytes. MiB go before percentages, as in the Collector.
fn limits(config: &Config, available: Option<u64>) -> Result<(u64, u64), String> {
    let percent = |percentage: u32| {
        available.map(|bytes| bytes / 100 * u64::from(percentage)).ok_or_else(|| {
            "the memory of the cgroup and of the machine can't be read; set limit_mib and spike_limit_mib"
                .to_owned()
        })
    };
    let hard = match (config.limit_mib.filter(|mib| *mib > 0), config.limit_percentage) {
        (Some(mib), _) => mib.saturating_mul(MIB),
        (None, Some(percentage)) => percent(percentage)?,
        (None, None) => return Err("set limit_mib or limit_percentage".into()),
    };
    let spike = match (config.spike_limit_mib.filter(|mib| *mib > 0), config.spike_limit_percentage) {
        (Some(mib), _) => mib.saturating_mul(MIB),
        (None, Some(percentage)) if percentage > 0 => percent(percentage)?,
        _ => hard / 100 * DEFAULT_SPIKE_PERCENT,
    };
    if spike >= hard {
        return Err(format!(
            "the spike limit ({} MiB) must be below the limit ({} MiB)",
            spike / MIB,
            hard / MIB
        ));
    }
    Ok((hard - spike, hard))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        config::{ComponentId, Location},
        otlp::Context,
    };

    fn config(mib: [Option<u64>; 2], percentages: [Option<u32>; 2]) -> Config {
        Config {
            check_interval: Duration::from_hours(1),
            limit_mib: mib[0],
            spike_limit_mib: mib[1],
            limit_percentage: percentages[0],
            spike_limit_percentage: percentages[1],
        }
    }

    #[test]
    fn limits_are_the_collectors() {
        let none = [None; 2];
        let unset = [None; 2];
        let available = Some(1000 * MIB);
        let cases = [
            (config([Some(1500), Some(400)], none), Some((1100, 1500))),
            (config([Some(100), None], none), Some((80, 100))),
            (config(unset, [Some(80), Some(20)]), Some((600, 800))),
            (config(unset, [Some(50), None]), Some((400, 500))),
            (config([Some(700), None], [Some(50), Some(10)]), Some((600, 700))),
            (config([Some(400), Some(400)], none), None),
            (config(unset, none), None),
        ];
        for (config, expected) in cases {
            // Percentages are taken of whole hundredths: less than a KiB off.
            let found = limits(&config, available)
                .ok()
                .map(|(soft, hard)| ((soft + 1024) / MIB, (hard + 1024) / MIB));
            assert_eq!(found, expected, "{config:?}");
        }
        assert!(limits(&config(unset, [Some(50), None]), None).is_err(), "percent of nothing known");
    }

    struct Nowhere;

    impl Consumer for Nowhere {
        fn consume(&self, _: Batch) -> Consuming<'_> {
            Box::pin(std::future::ready(Ok(Accepted::default())))
        }
    }

    #[test]
    fn memory_is_read_again_when_what_was_left_may_be_used_up() {
        let used = Arc::new(AtomicU64::new(10 * MIB));
        let component = Component {
            id: ComponentId { kind: "memory_limiter".into(), name: None },
            at: Location { file: "test".into(), line: 1, column: 1, path: "".into() },
            config: config([Some(100), Some(50)], [None, None]),
        };
        let read = Arc::clone(&used);
        let read: Read = Box::new(move || Some(read.load(Ordering::Relaxed)));
        let limiter = MemoryLimiter::reading(&component, Arc::new(Nowhere), None, read).unwrap();
        let batch = Batch { data: Bytes::from(vec![0; 10 << 20]), spans: 1, context: Context::default() };
        assert!(limiter.check(&batch).is_ok());
        used.store(60 * MIB, Ordering::Relaxed);
        let let_through = (0..100).take_while(|_| limiter.check(&batch).is_ok()).count();
        assert_eq!(let_through, 3, "40 MiB were left, the first batch took 10, and the interval is an hour");
        let refusal = limiter.check(&batch).unwrap_err();
        assert_eq!(refusal.cause, "memory_soft_limit");
        assert!(matches!(refusal.kind, RefusalKind::Overloaded { .. }));
    }
}
