//! `identity`

use crate::config::{
    auth::{Binding, ClaimMode, EvidenceLevel, IdentityExtension},
    fields::Fields,
};

pub(super) fn read(fields: Fields<'_>) -> IdentityExtension {
    fields.error("`identity` is known but not built yet");
    IdentityExtension {
        default: Binding { evidence: EvidenceLevel::None, mode: ClaimMode::Reject, pod_bound: false },
        receivers: Vec::new(),
        trust_domains: Vec::new(),
        rules: Vec::new(),
        tenants: None,
        agents: Vec::new(),
        proxies: Vec::new(),
    }
}
