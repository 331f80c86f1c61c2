//! When the configuration is read again: SIGHUP, and a file whose content has changed and stays as it is. Files of keys
//! for hashes are looked at as often.

#![forbid(unsafe_code)]

use std::{path::PathBuf, sync::LazyLock, time::Duration};

use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Outcome, Running};
use crate::{
    config::{self, Config, Errors, shape::Shape},
    scrub::{self, KeyFiles},
    telemetry::metrics::{Counters, Gauges, counter, gauge},
};

/// How often the file is looked at. A mounted `ConfigMap` takes a minute or more to arrive anyway.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a change must have lasted: a file that is being written is left alone.
const SETTLED: Duration = Duration::from_millis(100);

static RELOADS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_config_reloads",
        "Changes of the configuration file and SIGHUPs, by what came of them; all but success leave running what runs.",
        &["outcome"],
    )
});

static STALE: LazyLock<Gauges> = LazyLock::new(|| {
    gauge(
        "spanwarden_config_stale",
        "1 while the configuration file says something else than what runs: a mistake, or something that needs a restart.",
        &[],
    )
});

const OUTCOMES: [&str; 4] = ["success", "unchanged", "restart_needed", "failed"];

/// What was read: the configuration, and what stands in its files of keys.
type Read = Result<(Config, Shape, KeyFiles), Errors>;

/// Looks after the configuration file for as long as it is polled.
pub(in crate::pipeline) async fn watch(running: Running, path: Option<PathBuf>, mut hangup: Signal) {
    for outcome in OUTCOMES {
        RELOADS.with_label_values(&[outcome]);
    }
    STALE.with_label_values(&[] as &[&str]).set(0);
    let Some(path) = path else {
        while hangup.recv().await.is_some() {
            tracing::warn!("SIGHUP: there is no configuration file to read again, the embedded default runs");
        }
        return;
    };
    let mut watcher = Watcher { running, path, told: None, refused: None };
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tokio::select! {
            signal = hangup.recv() => match signal {
                Some(()) => watcher.look(true).await,
                None => return,
            },
            _ = tick.tick() => {
                // A file system may hang.
                if let Err(error) = tokio::task::spawn_blocking(scrub::reload_hash_keys).await {
                    tracing::error!(%error, "hash keys could not be read again");
                }
                watcher.look(false).await;
            }
        }
    }
}

struct Watcher {
    running: Running,
    path: PathBuf,
    /// What was said of the file last time, where it is not what runs.
    told: Option<String>,
    /// What was read last time and could not be used; with other keys perhaps it can.
    refused: Option<(Shape, KeyFiles)>,
}

impl Watcher {
    /// `asked`: somebody sent SIGHUP and wants to know, also that nothing has changed.
    async fn look(&mut self, asked: bool) {
        let mut read = self.read().await;
        if !asked {
            if self.is_running(&read) {
                self.back_to_normal();
                return;
            }
            let refused = |(shape, keys): &(Shape, KeyFiles)| {
                read.as_ref().is_ok_and(|(_, now, keys_now)| (now, keys_now) == (shape, keys))
            };
            if self.refused.as_ref().is_some_and(refused) {
                return;
            }
            sleep(SETTLED).await;
            let again = self.read().await;
            if !same(&read, &again) {
                return; // still being written; the next look is soon enough
            }
            read = again;
        }
        match read {
            Ok((config, shape, keys)) => {
                // Asked for, every plan is compiled: a key file may be another one now.
                let outcome = self.running.apply(config, shape.clone(), asked);
                let refused = matches!(outcome, Outcome::RestartNeeded(_) | Outcome::Failed(_));
                self.refused = refused.then_some((shape, keys));
                self.tell(&outcome, asked);
            }
            Err(errors) => self.trouble("failed", errors.to_string(), asked),
        }
    }

    async fn read(&self) -> Read {
        let path = self.path.clone();
        let name = path.clone();
        // A file system may hang.
        let load = move || {
            config::load_shaped(&path).map(|(config, shape)| {
                let keys = KeyFiles::of(&config);
                (config, shape, keys)
            })
        };
        tokio::task::spawn_blocking(load).await.unwrap_or_else(|error| {
            let at = config::Location {
                file: name.display().to_string().into(),
                line: 0,
                column: 0,
                path: "".into(),
            };
            Err(config::ConfigError { at, message: format!("could not be read: {error}") }.into())
        })
    }

    fn is_running(&self, read: &Read) -> bool {
        read.as_ref().is_ok_and(|(_, shape, _)| self.running.is(shape))
    }

    fn back_to_normal(&mut self) {
        self.refused = None;
        if self.told.take().is_some() {
            STALE.with_label_values(&[] as &[&str]).set(0);
            tracing::info!("the configuration file says again what runs");
        }
    }

    fn tell(&mut self, outcome: &Outcome, asked: bool) {
        match outcome {
            Outcome::Unchanged => count("unchanged"),
            Outcome::Swapped(plans) => {
                count("success");
                self.told = None;
                STALE.with_label_values(&[] as &[&str]).set(0);
                tracing::info!(plans, "configuration reloaded: the scrubbing rules of the file are in use");
            }
            Outcome::RestartNeeded(why) => self.trouble("restart_needed", why.clone(), asked),
            Outcome::Failed(error) => self.trouble("failed", error.to_string(), asked),
        }
    }

    fn trouble(&mut self, outcome: &'static str, why: String, asked: bool) {
        if !asked && self.told.as_ref() == Some(&why) {
            return;
        }
        count(outcome);
        STALE.with_label_values(&[] as &[&str]).set(1);
        if outcome == "failed" {
            tracing::error!(%why, "the changed configuration can't be used; what runs goes on (`spanwarden validate` shows all of it)");
        } else {
            tracing::warn!(%why, "the changed configuration needs a restart; what runs goes on, none of the change is in use");
        }
        self.told = Some(why);
    }
}

fn count(outcome: &str) {
    RELOADS.with_label_values(&[outcome]).inc();
}

/// Whether two readings found the same.
fn same(one: &Read, other: &Read) -> bool {
    match (one, other) {
        (Ok((_, one, keys)), Ok((_, other, other_keys))) => (one, keys) == (other, other_keys),
        (Err(one), Err(other)) => one.to_string() == other.to_string(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::pipeline::reload::tests::{BASE, running};

    /// A configuration that could not be used for its key file is tried again when that file changes, and not before.
    #[test]
    fn a_key_file_that_is_mended_needs_no_signal() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let running = {
            let _inside = runtime.enter();
            running(&runtime)
        };
        let folder = std::env::temp_dir();
        let file = |name: &str| folder.join(format!("spanwarden-watch-{name}-{}", std::process::id()));
        let (config, keys) = (file("config.yaml"), file("keys"));
        let write = |path: &Path, text: &str| fs::write(path, text).expect("a writable temporary folder");
        write(&keys, "a: short\n");
        let hash = format!("[a], hash_function: hmac-sha256, hmac_key_file: {}", keys.display());
        write(&config, &BASE.replacen("[a]", &hash, 1));
        let mut watcher = Watcher { running, path: config.clone(), told: None, refused: None };
        let mut look = || {
            runtime.block_on(watcher.look(false));
            (watcher.told.clone(), watcher.refused.clone())
        };
        let (told, refused) = look();
        assert!(told.is_some_and(|told| told.contains("the key has 5 bytes")));
        assert_eq!(look().1, refused, "nothing has changed");
        write(&keys, &format!("a: {}\n", "k".repeat(32)));
        let after = look();
        fs::remove_file(&config).expect("it is there");
        fs::remove_file(&keys).expect("it is there");
        assert_eq!(after, (None, None), "it is in use");
    }
}
