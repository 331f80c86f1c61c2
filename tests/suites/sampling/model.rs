//! The naive sampler: it has the whole trace before it, and asks every policy about every span.

use super::spans::{KeyValue, Span, Value};

/// A policy of the model.
#[derive(Clone, Debug)]
pub(crate) enum Policy {
    Always,
    Status(Vec<i32>),
    Latency(u64, u64),
    Text {
        key: &'static str,
        values: Vec<&'static str>,
        regex: bool,
        invert: bool,
    },
    /// An index into [`SHARES`].
    Share(usize),
    And(Vec<Policy>),
}

/// Percentages with their thresholds, as Go's `big.Float` computes them.
pub(crate) const SHARES: [(f64, u64); 3] =
    [(0.5, 92_233_720_368_547_759), (5.0, 922_337_203_685_477_631), (50.0, 9_223_372_036_854_775_807)];

/// A trace: each span with its resource.
pub(crate) type Trace = Vec<(Vec<KeyValue>, Span)>;

impl Policy {
    pub(crate) fn samples(&self, id: u128, trace: &Trace) -> bool {
        match self {
            Self::Always => true,
            Self::Status(codes) => trace
                .iter()
                .any(|(_, span)| codes.contains(&span.status.as_ref().map_or(0, |status| status.code))),
            Self::Latency(threshold, upper) => {
                let start = trace.iter().map(|(_, span)| span.start_time_unix_nano).min().unwrap();
                let end = trace.iter().map(|(_, span)| span.end_time_unix_nano).max().unwrap();
                let duration = (end - start) / 1_000_000;
                if *upper == 0 { duration >= *threshold } else { *threshold < duration && duration <= *upper }
            }
            Self::Text { key, values, regex, invert } => {
                let matches = |pair: &KeyValue, empty: bool| match &pair.value.as_ref().unwrap().value {
                    Some(Value::StringValue(text)) if pair.key == *key && (empty || !text.is_empty()) => {
                        values.iter().any(|value| if *regex { found(value, text) } else { value == text })
                    }
                    _ => false,
                };
                let any = trace.iter().any(|(resource, span)| {
                    resource.iter().any(|pair| matches(pair, true))
                        || span.attributes.iter().any(|pair| matches(pair, false))
                });
                any != *invert
            }
            Self::Share(index) => fnv(id) <= SHARES[*index].1,
            Self::And(policies) => policies.iter().all(|policy| policy.samples(id, trace)),
        }
    }

    /// The policy as the Collector's YAML, on one line.
    pub(crate) fn yaml(&self, name: &str) -> String {
        let rule = match self {
            Self::Always => "always_sample".to_owned(),
            Self::Status(codes) => {
                let names: Vec<&str> = codes
                    .iter()
                    .map(|code| ["UNSET", "OK", "ERROR"][usize::try_from(*code).unwrap()])
                    .collect();
                format!("status_code, status_code: {{status_codes: [{}]}}", names.join(", "))
            }
            Self::Latency(threshold, upper) => {
                format!("latency, latency: {{threshold_ms: {threshold}, upper_threshold_ms: {upper}}}")
            }
            Self::Text { key, values, regex, invert } => format!(
                "string_attribute, string_attribute: {{key: {key}, values: {values:?}, \
                 enabled_regex_matching: {regex}, invert_match: {invert}}}"
            ),
            Self::Share(index) => {
                format!("probabilistic, probabilistic: {{sampling_percentage: {}}}", SHARES[*index].0)
            }
            Self::And(policies) => {
                let of =
                    policies.iter().enumerate().map(|(index, policy)| policy.yaml(&format!("sub-{index}")));
                format!("and, and: {{and_sub_policy: [{}]}}", of.collect::<Vec<_>>().join(", "))
            }
        };
        format!("{{name: {name}, type: {rule}}}")
    }
}

/// The few patterns that the properties use.
fn found(pattern: &str, text: &str) -> bool {
    match pattern {
        ".*" => true,
        "^/" => text.starts_with('/'),
        "z$" => text.ends_with('z'),
        literal => text.contains(literal),
    }
}

/// FNV-1a-64 of the default salt and the id.
pub(crate) fn fnv(id: u128) -> u64 {
    let mut hash: u128 = 14_695_981_039_346_656_037;
    for byte in b"default-hash-seed".iter().copied().chain(id.to_be_bytes()) {
        hash = ((hash ^ u128::from(byte)) * 1_099_511_628_211) % (1 << 64);
    }
    hash as u64
}

/// The first policy that samples the trace.
pub(crate) fn decide(policies: &[Policy], id: u128, trace: &Trace) -> Option<usize> {
    policies.iter().position(|policy| policy.samples(id, trace))
}
