//! The sign of life without which the kernel stops nothing, and the switch that ends it.

#![forbid(unsafe_code)]

use crate::{
    origin::{bpf::abi::Pulse, loader::chain},
    telemetry::metrics::{self, gauge},
};
use aya::maps::{Array, MapData};
use nix::time::{ClockId, clock_gettime};
use spanwarden_ebpf::abi;
use std::{
    fs, io,
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{error, info, warn};

static ACTIVE: LazyLock<metrics::Gauges> = LazyLock::new(|| {
    gauge("spanwarden_enforcement_active", "1 while plaintext is blocked where the policy says so.", &[])
});

/// How often; the kernel waits [`abi::PULSE_TIMEOUT_NS`], twenty-five times as long.
pub(super) const BEAT: Duration = Duration::from_millis(200);

/// Why nothing is blocked at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// The file is there.
    KillSwitch,
    /// The thread that reads findings does not run: what is stopped would not be reported.
    NoFindings,
    /// The thread that has connections ended does not run: they would be left hanging.
    NoEndings,
    /// The helper has ended, and does not come back: the same.
    NoHelper,
    /// The thread that follows pods does not run: a pod that is excluded by now would be blocked.
    NoPods,
}

/// What must live for anything to be blocked.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent of each other, and all have to be true")]
pub(super) struct Vitals {
    /// Findings are read.
    pub(super) findings: bool,
    /// Connections are ended.
    pub(super) endings: bool,
    /// The helper runs, or is done without.
    pub(super) helper: bool,
    /// Pods are followed.
    pub(super) pods: bool,
}

/// Looks whether a number goes on growing.
#[derive(Debug)]
pub(super) struct Watch {
    last: u64,
    silence: u32,
    limit: u32,
}

impl Watch {
    /// One that takes `limit` looks without growth for the end.
    pub(super) fn new(limit: u32) -> Self {
        Self { last: 0, silence: limit, limit }
    }

    /// One look.
    pub(super) fn runs(&mut self, beat: &AtomicU64) -> bool {
        let seen = beat.load(Ordering::Relaxed);
        self.silence = if seen == self.last { self.silence.saturating_add(1) } else { 0 };
        self.last = seen;
        self.silence < self.limit
    }
}

/// What was said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Active,
    Paused(Pause),
}

/// What beats.
pub(super) struct Heartbeat {
    pulse: Array<MapData, Pulse>,
    kill_switch: Option<PathBuf>,
    said: Said,
    write_failed: bool,
    unreadable: bool,
}

impl Heartbeat {
    pub(super) fn new(pulse: Array<MapData, Pulse>, kill_switch: Option<PathBuf>) -> Self {
        Self { pulse, kill_switch, said: Said::Nothing, write_failed: false, unreadable: false }
    }

    /// Once every [`BEAT`]: tells the kernel that this program is here to act, and whether it may.
    pub(super) fn beat(&mut self, vitals: Vitals) -> bool {
        let pause = match () {
            () if self.is_killed() => Some(Pause::KillSwitch),
            () if !vitals.findings => Some(Pause::NoFindings),
            () if !vitals.endings => Some(Pause::NoEndings),
            () if !vitals.pods => Some(Pause::NoPods),
            () if !vitals.helper => Some(Pause::NoHelper),
            () => None,
        };
        let state = pause.map_or(Said::Active, Said::Paused);
        if self.said != state {
            self.say(pause);
            self.said = state;
        }
        self.write(pause.is_none())
    }

    /// Nothing is blocked from now on: this program ends in good order.
    pub(super) fn stop(&mut self) {
        self.write(false);
    }

    fn write(&mut self, enforce: bool) -> bool {
        let pulse = abi::Pulse { boot_ns: boot_ns(), enforce: u32::from(enforce), reserved: 0 };
        let written = self.pulse.set(0, Pulse(pulse), 0);
        if let Err(error) = &written
            && !self.write_failed
        {
            error!(error = %chain(error), "the kernel takes no heartbeat: nothing is blocked");
        }
        self.write_failed = written.is_err();
        let active = enforce && written.is_ok();
        ACTIVE.with_label_values::<&str>(&[]).set(i64::from(active));
        active
    }

    /// A file that may or may not be there counts as there.
    fn is_killed(&mut self) -> bool {
        let Some(path) = &self.kill_switch else { return false };
        match fs::symlink_metadata(path) {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.unreadable = false;
                false
            }
            Err(error) => {
                if !self.unreadable {
                    warn!(path = %path.display(), %error, "whether the kill switch is there cannot be told");
                }
                self.unreadable = true;
                true
            }
        }
    }

    fn say(&self, pause: Option<Pause>) {
        let path = self.kill_switch.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        match pause {
            None => info!("plaintext is blocked where the policy says so"),
            Some(Pause::KillSwitch) => {
                warn!(kill_switch = path, "the kill switch is set: plaintext is reported and not blocked");
            }
            // At the start those threads are not there yet.
            Some(Pause::NoFindings | Pause::NoEndings | Pause::NoPods) if self.said == Said::Nothing => {}
            Some(Pause::NoPods) => {
                error!(
                    "the thread that follows pods does not run: plaintext is not blocked; restart the agent"
                );
            }
            Some(Pause::NoFindings) => {
                error!(
                    "the thread that reads findings does not run: plaintext is not blocked; restart the agent"
                );
            }
            Some(Pause::NoEndings) => {
                error!(
                    "the thread that has blocked connections ended does not run: plaintext is not blocked; restart the \
                     agent"
                );
            }
            Some(Pause::NoHelper) => {
                error!(
                    "the helper that ends blocked connections is gone and does not come back: plaintext is reported and not \
                     blocked; restart the agent"
                );
            }
        }
    }
}

/// Nanoseconds since boot, suspend included: `bpf_ktime_get_boot_ns`.
pub(super) fn boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|now| u64::try_from(Duration::from(now).as_nanos()).ok())
        // A pulse from the time of boot is stale, and nothing is enforced.
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::loader::OBJECT;
    use aya::EbpfLoader;

    const ALL: Vitals = Vitals { findings: true, endings: true, helper: true, pods: true };

    #[test]
    fn a_number_that_stops_growing_is_noticed_and_one_late_beat_is_not() {
        let (mut watch, beat) = (Watch::new(3), AtomicU64::new(0));
        assert!(!watch.runs(&beat), "nothing yet");
        beat.store(1, Ordering::Relaxed);
        let looks = [0; 4].map(|_| watch.runs(&beat));
        assert_eq!(looks, [true, true, true, false]);
        beat.store(2, Ordering::Relaxed);
        assert!(watch.runs(&beat));
    }

    fn heartbeat(kill_switch: Option<PathBuf>) -> Heartbeat {
        let mut bpf = EbpfLoader::new().load(OBJECT).unwrap();
        Heartbeat::new(bpf.take_map("PULSE").unwrap().try_into().unwrap(), kill_switch)
    }

    fn told(heartbeat: &Heartbeat) -> (u64, u32) {
        let Pulse(pulse) = heartbeat.pulse.get(&0, 0).unwrap();
        (pulse.boot_ns, pulse.enforce)
    }

    #[test]
    fn the_kernel_is_told_to_enforce_only_while_all_that_it_takes_is_there() {
        let mut heartbeat = heartbeat(None);
        assert_eq!(told(&heartbeat), (0, 0), "nothing is enforced before the first beat");
        for (findings, endings, helper, pods) in [
            (true, true, true, true),
            (false, true, true, true),
            (true, false, true, true),
            (true, true, false, true),
            (true, true, true, false),
            (true, true, true, true),
        ] {
            let before = boot_ns();
            let all = findings && endings && helper && pods;
            assert_eq!(heartbeat.beat(Vitals { findings, endings, helper, pods }), all);
            let (beat, enforce) = told(&heartbeat);
            assert!(beat >= before, "a beat is a beat, whatever it says");
            assert_eq!(enforce, u32::from(all));
        }
        heartbeat.stop();
        assert_eq!(told(&heartbeat).1, 0);
    }

    #[test]
    fn the_kill_switch_is_a_file_that_exists() {
        let path = std::env::temp_dir().join(format!("spanwarden-kill-switch-{}", std::process::id()));
        let mut heartbeat = heartbeat(Some(path.clone()));
        assert!(heartbeat.beat(ALL));
        fs::write(&path, "").unwrap();
        assert!(!heartbeat.beat(ALL));
        assert_eq!(told(&heartbeat).1, 0);
        fs::remove_file(&path).unwrap();
        assert!(heartbeat.beat(ALL));
        // A link that leads nowhere is there all the same.
        std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap();
        assert!(!heartbeat.beat(ALL));
        fs::remove_file(&path).unwrap();
    }
}
