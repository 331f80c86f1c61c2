//! What the program tells about itself: metrics, health, logs. It imports no stage; every stage imports it.

pub mod metrics;

/// Why something was refused, dropped or changed: the value of the metric label `cause`.
pub type Cause = &'static str;
