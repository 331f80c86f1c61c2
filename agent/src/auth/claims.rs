//! What a sender's spans may say of themselves: `identity.rules`, ready for use.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{Tenant, names};
use crate::config::auth::{ClaimMode, ClaimRule};

/// The rules, in the order that [`Identity::rule`](super::Identity::rule) counts.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    rules: Vec<ClaimRule>,
    quarantine: Option<Arc<Tenant>>,
}

impl Claims {
    /// `quarantine`: the tenant of what is kept apart, where there are tenants.
    pub(super) fn new(rules: &[ClaimRule], quarantine: Option<Arc<Tenant>>) -> Self {
        Self { rules: rules.to_vec(), quarantine }
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The attributes that a rule speaks of, each with its place in it.
    pub fn of(&self, rule: usize) -> impl Iterator<Item = &str> {
        self.rules.get(rule).into_iter().flat_map(|rule| rule.claims.iter().map(|(name, _)| name.as_str()))
    }

    /// Whether the rule's attribute at `place` may have this value.
    pub fn allows(&self, rule: usize, place: usize, value: &str) -> bool {
        let Some((_, allowed)) = self.rules.get(rule).and_then(|rule| rule.claims.get(place)) else {
            return false;
        };
        allowed.iter().any(|pattern| names::matches(pattern, value))
    }

    /// What is done about a claim that the rule does not allow.
    pub fn mode(&self, rule: usize) -> ClaimMode {
        self.rules.get(rule).map_or(ClaimMode::Reject, |rule| rule.mode)
    }

    /// The tenant of what is quarantined.
    pub fn quarantine(&self) -> Option<Arc<Tenant>> {
        self.quarantine.clone()
    }
}
