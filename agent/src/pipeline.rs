//! The whole: components wired, threads, readiness, shutdown. Nothing imports this but the command line.
#![forbid(unsafe_code)]

mod admission;
pub mod batch;
mod fanout;
mod graph;
pub mod memory_limiter;
mod origins;
mod run;
mod scrub_stage;

pub use run::{check, run};
