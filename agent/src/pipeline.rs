//! The whole: components wired, threads, readiness, shutdown. Nothing imports this but the command line.
#![forbid(unsafe_code)]

mod admission;
pub mod batch;
mod fanout;
mod graph;
pub mod memory_limiter;
mod origins;
mod reload;
mod run;
mod scrub_stage;
mod segments;

pub use run::{Source, check, run};
pub use segments::plan_of;
