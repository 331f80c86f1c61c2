//! The processors that change attributes: `redaction`, `transform`, `attributes`, `resource`.

pub(super) mod actions;
pub(super) mod redaction;
pub(super) mod transform;
