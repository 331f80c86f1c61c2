//! The process's own metrics, under the Collector's names.
#![forbid(unsafe_code)]

use std::{sync::LazyLock, time::Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    memory,
    metrics::{Gauges, gauge},
};

static UPTIME: LazyLock<Gauges> =
    LazyLock::new(|| gauge("otelcol_process_uptime", "Uptime of the process, seconds.", &[]));
static CPU: LazyLock<Gauges> = LazyLock::new(|| {
    gauge("otelcol_process_cpu_seconds", "CPU time of the process, user and system, whole seconds.", &[])
});
static RSS: LazyLock<Gauges> =
    LazyLock::new(|| gauge("otelcol_process_memory_rss", "Resident memory of the process, bytes.", &[]));
static BUILD: LazyLock<Gauges> =
    LazyLock::new(|| gauge("spanwarden_build_info", "Always 1; the version is the label.", &["version"]));
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Marks the start of the process for `otelcol_process_uptime`.
pub fn start() {
    LazyLock::force(&STARTED);
    BUILD.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
}

/// Raises the soft limit of open files to the hard one and returns it: a receiver takes thousands of connections,
/// and the soft limit is 1024 nearly everywhere, for the sake of `select(2)`, which is not used here.
pub fn raise_descriptor_limit() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Reads `/proc/self` into the gauges; called at each scrape.
pub fn update() {
    UPTIME.with_label_values::<&str>(&[]).set(STARTED.elapsed().as_secs().cast_signed());
    let Ok(stat) = procfs::process::Process::myself().and_then(|me| me.stat()) else { return };
    let ticks = procfs::ticks_per_second();
    CPU.with_label_values::<&str>(&[]).set(((stat.utime + stat.stime) / ticks).cast_signed());
    RSS.with_label_values::<&str>(&[]).set(memory::resident().unwrap_or(0).cast_signed());
}
