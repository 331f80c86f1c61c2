//! The processors that change attributes: `scrub`, `redaction`, `transform`, `attributes`, `resource`.

pub(super) mod actions;
pub(super) mod filter;
pub(super) mod redaction;
pub(super) mod scrub;
pub(super) mod spans;
pub(super) mod transform;
