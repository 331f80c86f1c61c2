//! The traces of one shard: buffered, decided, remembered. No clock, task or lock in here: time is an argument.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    Limits,
    cache::Cache,
    hash::TraceKey,
    incoming::Incoming,
    metrics::Metrics,
    outbox::Outbox,
    policy::{Decision, Policies},
    stamp,
    summary::Summary,
};
use crate::auth::Tenant;

/// What a buffered trace costs beside its spans: its entry in the map (at the map's load) and in two queues.
pub(super) const TRACE_OVERHEAD: u64 = 256;

/// Why a trace is decided now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    /// `decision_wait` is over, or `decision_wait_after_root_received`.
    Due,
    TooManyTraces,
    TooManyBytes,
    TooLarge,
    Shutdown,
}

impl Trigger {
    fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::TooManyTraces => "traces",
            Self::TooManyBytes => "bytes",
            Self::TooLarge => "trace_too_large",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A buffered trace.
#[derive(Debug)]
struct Trace {
    /// Tells it from an earlier trace of the same id in the queues.
    sequence: u64,
    /// When its first span came, in ms.
    arrived: u64,
    summary: Summary,
    /// Its spans as one request: parts are joined by joining their bytes.
    data: Vec<u8>,
}

impl Trace {
    fn cost(&self) -> u64 {
        self.data.capacity() as u64 + TRACE_OVERHEAD
    }

    fn append(&mut self, part: &Incoming) {
        self.summary.merge(&part.summary);
        let wanted = self.data.len() + part.data.len();
        if wanted > self.data.capacity() {
            // A quarter more than needed once a trace has several parts: exact growth would copy a trace of
            // many small parts over and over, and doubling would hold twice what was paid for.
            let spare = if self.data.is_empty() { 0 } else { wanted / 4 };
            self.data.reserve_exact(part.data.len() + spare);
        }
        self.data.extend_from_slice(&part.data);
    }
}

/// A place in a queue; stale when the trace has been decided in the meantime.
#[derive(Clone, Copy, Debug)]
struct Due {
    id: TraceKey,
    sequence: u64,
    /// In ms.
    at: u64,
}

/// What is remembered of a decision.
#[derive(Clone, Copy, Debug)]
struct Past {
    policy: u16,
    /// In seconds.
    at: u32,
}

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    policies: Arc<Policies>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// For each policy, the attributes that say so: decided now, and followed later.
    reasons: Vec<[Vec<u8>; 2]>,
    traces: HashMap<TraceKey, Trace, RandomState>,
    /// Every trace, oldest first: the order of decisions and of evictions.
    order: VecDeque<Due>,
    /// Traces whose root has come, in that order.
    rooted: VecDeque<Due>,
    sampled: Cache<Past>,
    not_sampled: Cache<Past>,
    sequence: u64,
    held: u64,
    /// Tenants by number. A number is never given to another, so there are as many as there ever were tenants.
    tenants: Vec<Option<Arc<Tenant>>>,
    /// What is kept and not yet handed on.
    pub(super) outbox: Outbox,
}

impl Shard {
    pub(super) fn new(policies: Arc<Policies>, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let reasons = policies.names().iter();
        Self {
            limits,
            metrics,
            reasons: reasons.map(|name| [stamp::reason(name, false), stamp::reason(name, true)]).collect(),
            traces: HashMap::default(),
            order: VecDeque::new(),
            rooted: VecDeque::new(),
            sampled: Cache::new(limits.sampled_cache),
            not_sampled: Cache::new(limits.not_sampled_cache),
            sequence: 0,
            held: 0,
            tenants: Vec::new(),
            outbox: Outbox::default(),
            policies,
        }
    }

    /// Takes spans in. Returns how many of them, and of traces decided on the way, are dropped by decision.
    pub(super) fn arrive(&mut self, parts: Vec<Incoming>, now: u64) -> u64 {
        let mut dropped = 0;
        for part in parts {
            let key = TraceKey { tenant: self.number(part.tenant.as_ref()), id: part.id };
            dropped += self.part(&key, &part, now);
            while self.traces.len() as u64 > self.limits.traces {
                dropped += self.evict(Trigger::TooManyTraces, now);
            }
            while self.held > self.limits.bytes && !self.traces.is_empty() {
                dropped += self.evict(Trigger::TooManyBytes, now);
            }
        }
        self.compact();
        dropped
    }

    /// The tenant's number. A handful of tenants as a rule, so that looking through them is the quickest.
    fn number(&mut self, tenant: Option<&Arc<Tenant>>) -> u32 {
        let known = self.tenants.iter().position(|known| known.as_ref() == tenant);
        known.unwrap_or_else(|| {
            self.tenants.push(tenant.cloned());
            self.tenants.len() - 1
        }) as u32
    }

    fn part(&mut self, key: &TraceKey, part: &Incoming, now: u64) -> u64 {
        let rooted = if let Some(trace) = self.traces.get_mut(key) {
            let had_root = trace.summary.root;
            self.held -= trace.cost();
            trace.append(part);
            self.held += trace.cost();
            (!had_root && trace.summary.root).then_some(trace.sequence)
        } else if let Some(dropped) = self.late(key, part, now) {
            return dropped;
        } else {
            self.begin(key, part, now)
        };
        if let (Some(sequence), Some(wait)) = (rooted, self.limits.wait_after_root) {
            self.rooted.push_back(Due { id: *key, sequence, at: now + wait });
        }
        if self.traces.get(key).is_some_and(|trace| trace.data.len() as u64 > self.limits.trace_bytes) {
            return self.decide(key, Trigger::TooLarge, now);
        }
        0
    }

    /// A new trace; its sequence number when its root is there.
    fn begin(&mut self, key: &TraceKey, part: &Incoming, now: u64) -> Option<u64> {
        self.sequence += 1;
        let sequence = self.sequence;
        let mut trace = Trace { sequence, arrived: now, summary: Summary::default(), data: Vec::new() };
        trace.append(part);
        self.held += trace.cost();
        self.order.push_back(Due { id: *key, sequence, at: now + self.limits.wait });
        let rooted = trace.summary.root.then_some(sequence);
        self.traces.insert(*key, trace);
        self.metrics.new_traces.inc();
        rooted
    }

    /// Spans of a trace that has been decided follow the decision; returns how many were dropped by it.
    fn late(&mut self, key: &TraceKey, part: &Incoming, now: u64) -> Option<u64> {
        let (before, sampled) = match self.sampled.get(key) {
            Some(before) => (before, true),
            None => (self.not_sampled.get(key)?, false),
        };
        let spans = u64::from(part.summary.spans);
        self.metrics.from_cache[usize::from(sampled)].inc_by(spans);
        self.metrics.late_age.observe(now as f64 / 1000.0 - f64::from(before.at));
        if !sampled {
            return Some(spans);
        }
        let reason = &self.reasons[usize::from(before.policy)][1];
        let claims = self.outbox.push(key.tenant, part.tenant.as_ref(), &part.data, reason);
        self.metrics.overwritten.inc_by(claims);
        Some(0)
    }

    /// Decides the oldest trace on what is there.
    fn evict(&mut self, trigger: Trigger, now: u64) -> u64 {
        while let Some(due) = self.order.pop_front() {
            if self.is_live(&due) {
                return self.decide(&due.id, trigger, now);
            }
        }
        0
    }

    /// Decides what is due. Returns how many spans are dropped by decision.
    pub(super) fn tick(&mut self, now: u64) -> u64 {
        let mut dropped = 0;
        while let Some(due) = self.rooted.pop_front_if(|due| due.at <= now) {
            if self.is_live(&due) {
                dropped += self.decide(&due.id, Trigger::Due, now);
            }
        }
        while let Some(due) = self.order.pop_front_if(|due| due.at <= now) {
            if self.is_live(&due) {
                dropped += self.decide(&due.id, Trigger::Due, now);
            }
        }
        self.compact();
        dropped
    }

    /// Decides everything. Returns how many spans are dropped by decision.
    pub(super) fn finish(&mut self, now: u64) -> u64 {
        let mut dropped = 0;
        while !self.traces.is_empty() {
            dropped += self.evict(Trigger::Shutdown, now);
        }
        dropped
    }

    fn is_live(&self, due: &Due) -> bool {
        self.traces.get(&due.id).is_some_and(|trace| trace.sequence == due.sequence)
    }

    /// Decides a trace, lets go of it, and remembers the decision.
    fn decide(&mut self, id: &TraceKey, trigger: Trigger, now: u64) -> u64 {
        let Some(trace) = self.traces.remove(id) else { return 0 };
        self.held -= trace.cost();
        let decision = self.policies.decide(&id.id, &trace.summary);
        let spans = trace.summary.spans;
        let at = (now / 1000) as u32;
        let dropped = match decision {
            Decision::Sampled(policy) => {
                let tenant = self.tenants[id.tenant as usize].as_ref();
                let reason = &self.reasons[usize::from(policy)][0];
                let claims = self.outbox.push(id.tenant, tenant, &trace.data, reason);
                self.metrics.overwritten.inc_by(claims);
                self.sampled.insert(*id, Past { policy, at });
                0
            }
            Decision::NotSampled => {
                self.not_sampled.insert(*id, Past { policy: 0, at });
                u64::from(spans)
            }
        };
        self.record(id, &trace, decision, trigger, now);
        dropped
    }

    fn record(&self, id: &TraceKey, trace: &Trace, decision: Decision, trigger: Trigger, now: u64) {
        for (policy, votes) in self.metrics.votes.iter().enumerate() {
            votes[usize::from(self.policies.votes(policy, &id.id, &trace.summary))].inc();
        }
        let sampled = matches!(decision, Decision::Sampled(_));
        self.metrics.decided[usize::from(sampled)].inc();
        self.metrics.removal_age.observe((now - trace.arrived) as f64 / 1000.0);
        if trigger != Trigger::Due {
            self.metrics.early(trigger.as_str());
        }
        tracing::debug!(
            target: "spanwarden::sampling::decision",
            trace_id = %format_args!("{:032x}", u128::from_be_bytes(id.id)),
            decision = if sampled { "sampled" } else { "not_sampled" },
            policy = match decision {
                Decision::Sampled(policy) => &*self.policies.names()[usize::from(policy)],
                Decision::NotSampled => "",
            },
            spans = trace.summary.spans,
            trigger = trigger.as_str(),
        );
    }

    /// Forgets stale places once they outnumber the traces, so that a flood of early decisions costs nothing
    /// that lasts.
    fn compact(&mut self) {
        let most = 2 * self.traces.len() + 1024;
        let traces = &self.traces;
        let live = |due: &Due| traces.get(&due.id).is_some_and(|trace| trace.sequence == due.sequence);
        for queue in [&mut self.order, &mut self.rooted] {
            if queue.len() > most {
                queue.retain(live);
                queue.shrink_to(most);
            }
        }
    }

    /// Traces and bytes held now.
    pub(super) fn load(&self) -> (u64, u64) {
        (self.traces.len() as u64, self.held)
    }
}

#[cfg(test)]
mod tests;
