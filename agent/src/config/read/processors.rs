//! `processors:`, those that are read in a few lines; the longer ones have their own files.

use std::time::Duration;

use super::{k8s_attributes, scrubbing, tail_sampling};
use crate::config::{
    fields::Fields,
    processors::{BatchProcessor, MemoryLimiter, Processor},
};

pub(super) fn read(kind: &'static str, fields: Fields<'_>) -> Processor {
    match kind {
        "memory_limiter" => Processor::MemoryLimiter(memory_limiter(fields)),
        "batch" => Processor::Batch(batch(fields)),
        "redaction" => Processor::Redaction(Box::new(scrubbing::redaction::read(fields))),
        "scrub" => Processor::Scrub(scrubbing::scrub::read(fields)),
        "transform" => Processor::Transform(scrubbing::transform::read(fields)),
        "attributes" => Processor::Attributes(scrubbing::actions::attributes(fields)),
        "resource" => Processor::Resource(scrubbing::actions::resource(fields)),
        "filter" => Processor::Filter(scrubbing::filter::read(fields)),
        "span" => Processor::Span(scrubbing::spans::rules(fields)),
        "k8sattributes" => Processor::K8sAttributes(k8s_attributes::read(fields)),
        _ => Processor::TailSampling(tail_sampling::read(fields)),
    }
}

fn memory_limiter(mut fields: Fields<'_>) -> MemoryLimiter {
    let not_zero = |value: &u64| *value > 0;
    let limiter = MemoryLimiter {
        check_interval: fields.duration("check_interval").unwrap_or_default(),
        limit_mib: fields.unsigned("limit_mib").filter(not_zero),
        spike_limit_mib: fields.unsigned("spike_limit_mib").filter(not_zero),
        limit_percentage: percentage(&mut fields, "limit_percentage"),
        spike_limit_percentage: percentage(&mut fields, "spike_limit_percentage"),
    };
    if limiter.check_interval.is_zero() {
        fields.error_at("check_interval", "`check_interval` must be longer than 0; `1s` is usual");
    }
    match (limiter.limit_mib, limiter.limit_percentage) {
        (None, None) => fields.error("`limit_mib` or `limit_percentage` is required and must be more than 0"),
        (Some(_), Some(_)) => fields.warn_at("limit_percentage", "has no effect beside `limit_mib`"),
        _ => {}
    }
    if let (Some(limit), Some(spike)) = (limiter.limit_mib, limiter.spike_limit_mib)
        && spike >= limit
    {
        fields.error_at("spike_limit_mib", format!("must be less than `limit_mib` ({limit})"));
    }
    if let (Some(limit), Some(spike)) = (limiter.limit_percentage, limiter.spike_limit_percentage)
        && spike >= limit
    {
        fields.error_at("spike_limit_percentage", format!("must be less than `limit_percentage` ({limit})"));
    }
    fields.ignored(
        &[
            "min_gc_interval_when_soft_limited",
            "min_gc_interval_when_hard_limited",
            "max_gc_interval_when_soft_limited",
            "max_gc_interval_when_hard_limited",
        ],
        "there is no garbage collector here",
    );
    limiter
}

fn percentage(fields: &mut Fields<'_>, key: &'static str) -> Option<u32> {
    let percent = fields.unsigned(key).filter(|percent: &u32| *percent > 0)?;
    if percent > 100 {
        fields.error_at(key, "must be at most 100");
    }
    Some(percent)
}

fn batch(mut fields: Fields<'_>) -> BatchProcessor {
    let batch = BatchProcessor {
        timeout: fields.duration("timeout").unwrap_or(Duration::from_millis(200)),
        send_batch_size: fields.unsigned("send_batch_size").unwrap_or(8192),
        send_batch_max_size: fields.unsigned("send_batch_max_size").unwrap_or(0),
    };
    if batch.send_batch_max_size > 0 && batch.send_batch_max_size < batch.send_batch_size {
        let message = format!("must be 0 or at least `send_batch_size` ({})", batch.send_batch_size);
        fields.error_at("send_batch_max_size", message);
    }
    fields.not_built(&["metadata_keys"]);
    fields.ignored(&["metadata_cardinality_limit"], "`metadata_keys` is not built yet");
    batch
}
