//! Structured logs to standard error. No log line anywhere in this program carries span content.
#![forbid(unsafe_code)]

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging at `level` (`service.telemetry.logs.level`; `RUST_LOG` overrides it), as JSON lines or text.
///
/// Does nothing when a subscriber is already there (several pipelines in one test process).
pub fn init(level: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already_there = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
}
