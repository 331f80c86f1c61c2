//! Policies, compiled: what to look for in each span, and what a trace's summary then decides.

use std::time::Duration;

use super::{
    hash::{Probabilistic, TraceId},
    matcher::Matcher,
    summary::Summary,
};
use crate::config::{
    ConfigError,
    processors::{Policy, PolicyRule, StatusCode},
};

/// How many `string_attribute` policies one processor can hold: a summary has one bit for each.
pub const MAX_STRING_ATTRIBUTES: usize = 128;

/// The policies of one processor.
#[derive(Debug)]
pub struct Policies {
    names: Vec<String>,
    rules: Vec<Rule>,
    lookups: Vec<Lookup>,
    /// Bit `n` is set when a lookup's key has `n` bytes (63: or more).
    key_lengths: u64,
}

/// A decision, and the policy (its index in the configuration) that brought it about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Kept, because of the first policy in the configured order that voted for it.
    Sampled(u16),
    /// No policy voted for it.
    NotSampled,
}

/// The `string_attribute` policies that look at one key.
#[derive(Debug)]
struct Lookup {
    key: Box<[u8]>,
    matchers: Vec<(Matcher, u8)>,
}

#[derive(Debug)]
enum Rule {
    Always,
    Status(u8),
    Latency {
        threshold: u128,
        upper: Option<u128>,
    },
    /// The bit in the summary, and whether the policy is inverted.
    StringAttribute {
        bit: u8,
        invert: bool,
    },
    Probabilistic(Probabilistic),
    And(Vec<Rule>),
}

impl Policies {
    /// Compiles the configured policies.
    pub fn new(policies: &[Policy]) -> Result<Self, ConfigError> {
        let mut compiled = Self { names: Vec::new(), rules: Vec::new(), lookups: Vec::new(), key_lengths: 0 };
        let mut bits = 0;
        for policy in policies {
            let rule = compiled.rule(policy, &mut bits)?;
            compiled.rules.push(rule);
            compiled.names.push(policy.name.value.clone());
        }
        compiled.key_lengths =
            compiled.lookups.iter().fold(0, |mask, lookup| mask | length_bit(lookup.key.len()));
        Ok(compiled)
    }

    fn rule(&mut self, policy: &Policy, bits: &mut usize) -> Result<Rule, ConfigError> {
        Ok(match &policy.rule {
            PolicyRule::AlwaysSample => Rule::Always,
            PolicyRule::StatusCode { status_codes } => {
                Rule::Status(status_codes.iter().fold(0, |mask, code| mask | status_bit(*code)))
            }
            PolicyRule::Latency { threshold, upper_threshold } => Rule::Latency {
                threshold: threshold.as_millis(),
                upper: upper_threshold.map(|upper| upper.as_millis()).filter(|upper| *upper > 0),
            },
            PolicyRule::StringAttribute { key, values, regex, invert_match } => {
                if *bits == MAX_STRING_ATTRIBUTES {
                    return Err(ConfigError {
                        at: policy.name.at.clone(),
                        message: format!(
                            "more than {MAX_STRING_ATTRIBUTES} string_attribute policies; put the values \
                             of policies with the same key into one"
                        ),
                    });
                }
                let bit = *bits as u8;
                *bits += 1;
                let matcher =
                    if *regex { Matcher::patterns(values, &policy.name.at)? } else { Matcher::exact(values) };
                self.look_up(key.as_bytes(), matcher, bit);
                Rule::StringAttribute { bit, invert: *invert_match }
            }
            PolicyRule::Probabilistic { hash_salt, sampling_percentage } => {
                Rule::Probabilistic(Probabilistic::new(hash_salt, *sampling_percentage))
            }
            PolicyRule::And(policies) => {
                Rule::And(policies.iter().map(|policy| self.rule(policy, bits)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn look_up(&mut self, key: &[u8], matcher: Matcher, bit: u8) {
        match self.lookups.iter_mut().find(|lookup| *lookup.key == *key) {
            Some(lookup) => lookup.matchers.push((matcher, bit)),
            None => self.lookups.push(Lookup { key: key.into(), matchers: vec![(matcher, bit)] }),
        }
    }

    /// The names, in the configured order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether any policy looks at attributes at all.
    pub fn reads_attributes(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// The bits of the policies that one string attribute matches.
    pub fn attribute(&self, key: &[u8], value: &[u8]) -> u128 {
        if self.key_lengths & length_bit(key.len()) == 0 {
            return 0;
        }
        let Some(lookup) = self.lookups.iter().find(|lookup| *lookup.key == *key) else { return 0 };
        let matching = lookup.matchers.iter().filter(|(matcher, _)| matcher.matches(value));
        matching.fold(0, |bits, (_, bit)| bits | 1 << bit)
    }

    /// The vote of one policy.
    pub fn votes(&self, policy: usize, id: &TraceId, summary: &Summary) -> bool {
        self.rules[policy].holds(id, summary)
    }

    /// The decision on a trace of which this much is known.
    pub fn decide(&self, id: &TraceId, summary: &Summary) -> Decision {
        match self.rules.iter().position(|rule| rule.holds(id, summary)) {
            Some(policy) => Decision::Sampled(policy as u16),
            None => Decision::NotSampled,
        }
    }
}

impl Rule {
    fn holds(&self, id: &TraceId, summary: &Summary) -> bool {
        match self {
            Self::Always => true,
            Self::Status(mask) => summary.statuses & mask != 0,
            Self::Latency { threshold, upper } => {
                // Whole milliseconds, as the Collector compares them.
                let duration = Duration::from_nanos(summary.duration()).as_millis();
                match upper {
                    Some(upper) => *threshold < duration && duration <= *upper,
                    None => duration >= *threshold,
                }
            }
            Self::StringAttribute { bit, invert } => (summary.matched >> bit & 1 == 1) != *invert,
            Self::Probabilistic(share) => share.samples(id),
            Self::And(rules) => rules.iter().all(|rule| rule.holds(id, summary)),
        }
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// The bit of a status in [`Summary::statuses`].
fn status_bit(code: StatusCode) -> u8 {
    match code {
        StatusCode::Unset => 1,
        StatusCode::Ok => 1 << 1,
        StatusCode::Error => 1 << 2,
    }
}
