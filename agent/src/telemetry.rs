//! What the program tells about itself: metrics, health, logs. It imports no stage; every stage imports it.

pub mod events;
pub mod health;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod process;
pub mod server;

/// Why something was refused, dropped or changed: the value of the metric label `cause`.
pub type Cause = &'static str;
