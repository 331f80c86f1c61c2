//! How many connections are open, in all and by sender, how fast a sender opens them, and how it behaves.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    Limits,
    source::{Pace, Rate, Source},
};
use crate::{origin::Origin, telemetry::Cause};

/// One sender may have this part of the places.
const SHARE_DIVISOR: usize = 4;
/// Requests of one sender that may wait for a look at their credentials: far more than honest ones have at once.
const LOOKUPS: usize = 256;
/// How often senders that have gone are forgotten: after so many connections.
const SWEEP_EVERY: usize = 1024;

/// What is kept of a sender over all its connections.
#[derive(Debug)]
pub(super) struct Standing {
    /// TLS handshakes that it may have under way.
    pub(super) handshakes: Semaphore,
    /// Requests of it that may wait for keys or for somebody's word about its credentials.
    pub(super) lookups: Semaphore,
    /// Requests whose credentials were refused.
    refusals: Mutex<Pace>,
    refusal_rate: Rate,
}

impl Standing {
    /// How long its requests are not looked at, because too many were refused.
    pub(super) fn ignored_for(&self, now: Instant) -> Duration {
        lock(&self.refusals).wait(self.refusal_rate, now)
    }

    /// A request's credentials were refused.
    pub(super) fn refused(&self, now: Instant) {
        // Of those that were under way already, one is enough to be ignored.
        let _wait = lock(&self.refusals).take(self.refusal_rate, Duration::ZERO, now);
    }
}

#[derive(Debug)]
struct Known {
    open: usize,
    arrivals: Pace,
    standing: Arc<Standing>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<Source, Known>,
    since_sweep: usize,
}

/// The places of a receiver. Its lock is taken twice a connection, never for a request.
#[derive(Debug)]
pub(super) struct Places {
    limits: Arc<Limits>,
    arrivals: Rate,
    open: Mutex<Open>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: Source,
    /// How long it has to wait before it is served, because its sender comes too fast.
    pub(super) wait: Duration,
    /// How its sender behaves.
    pub(super) standing: Arc<Standing>,
}

impl Places {
    /// As many as the limits say, at least one.
    pub(super) fn new(limits: &Arc<Limits>) -> Arc<Self> {
        let arrivals = Rate::per_second(limits.connections_per_second);
        Arc::new(Self { limits: Arc::clone(limits), arrivals, open: Mutex::default() })
    }

    /// A place for a connection of this origin, or the cause why there is none.
    pub(super) fn take(self: &Arc<Self>, origin: &Origin) -> Result<Place, Cause> {
        self.take_at(origin, Instant::now())
    }

    fn take_at(self: &Arc<Self>, origin: &Origin, now: Instant) -> Result<Place, Cause> {
        let (limit, source) = (self.limits.connections.max(1), Source::from(origin));
        let mut open = lock(&self.open);
        open.sweep(now);
        if open.total >= limit {
            return Err("connection_limit");
        }
        let known = open.by_source.entry(source.clone()).or_insert_with(|| self.stranger(now));
        if known.open >= limit.div_ceil(SHARE_DIVISOR) {
            return Err("sender_connection_limit");
        }
        let Some(wait) = known.arrivals.take(self.arrivals, self.limits.handshake, now) else {
            return Err("sender_connection_rate");
        };
        known.open += 1;
        let standing = Arc::clone(&known.standing);
        open.total += 1;
        Ok(Place { places: Arc::clone(self), source, wait, standing })
    }

    fn stranger(&self, now: Instant) -> Known {
        let standing = Standing {
            handshakes: Semaphore::new(self.limits.handshakes.max(1)),
            lookups: Semaphore::new(LOOKUPS),
            refusals: Mutex::new(Pace::new(now)),
            refusal_rate: Rate::per_second(self.limits.refusals_per_second),
        };
        Known { open: 0, arrivals: Pace::new(now), standing: Arc::new(standing) }
    }
}

impl Open {
    /// Forgets now and then who has gone and of whom nothing matters any more.
    fn sweep(&mut self, now: Instant) {
        self.since_sweep += 1;
        if self.since_sweep < SWEEP_EVERY {
            return;
        }
        self.since_sweep = 0;
        self.by_source.retain(|_, known| {
            known.open > 0 || !known.arrivals.is_idle(now) || !lock(&known.standing.refusals).is_idle(now)
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.places.open);
        open.total -= 1;
        if let Some(known) = open.by_source.get_mut(&self.source) {
            known.open -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Origin {
        Origin::unknown(([10, 0, 0, last], 1).into())
    }

    fn places(connections: usize) -> Arc<Places> {
        Places::new(&Arc::new(Limits { connections, connections_per_second: 10, ..Limits::default() }))
    }

    #[test]
    fn a_sender_has_a_quarter_and_all_have_the_whole() {
        let places = places(8);
        let mut taken = Vec::new();
        for sender in 0..4 {
            for _ in 0..2 {
                taken.push(places.take(&from(sender)).unwrap());
            }
            if sender < 3 {
                assert_eq!(places.take(&from(sender)).unwrap_err(), "sender_connection_limit");
            }
        }
        assert_eq!(places.take(&from(9)).unwrap_err(), "connection_limit");
        taken.truncate(1);
        assert!(places.take(&from(9)).is_ok() && places.take(&from(0)).is_ok());
        taken.clear();
        assert!(lock(&places.open).total == 0);
    }

    #[test]
    fn who_comes_too_fast_waits_then_is_refused_and_others_are_not() {
        let (places, now) = (places(1000), Instant::now());
        let waits: Vec<_> = (0..300).map(|_| places.take_at(&from(1), now).map(|place| place.wait)).collect();
        let at_once = waits.iter().filter(|wait| **wait == Ok(Duration::ZERO)).count();
        let slowed = waits.iter().filter(|wait| wait.is_ok_and(|wait| !wait.is_zero())).count();
        // Ten seconds' worth at once, then what the time for a handshake allows.
        assert_eq!((at_once, slowed), (101, 100));
        assert_eq!(waits[299], Err("sender_connection_rate"));
        assert_eq!(places.take_at(&from(2), now).unwrap().wait, Duration::ZERO);
    }

    #[test]
    fn who_is_ignored_stays_so_on_other_connections_and_others_do_not() {
        let (places, now) = (places(8), Instant::now());
        let place = places.take_at(&from(1), now).unwrap();
        for refused in 0..=1000 {
            assert_eq!(place.standing.ignored_for(now), Duration::ZERO, "{refused}");
            place.standing.refused(now);
        }
        drop(place);
        let ignored = |last, now| places.take_at(&from(last), now).unwrap().standing.ignored_for(now);
        assert_eq!(ignored(1, now), Duration::from_millis(10));
        assert_eq!(ignored(2, now), Duration::ZERO);
        assert_eq!(ignored(1, now + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn nothing_is_kept_for_long_of_who_is_gone() {
        let (places, now) = (places(8), Instant::now());
        for round in 0..u64::try_from(4 * SWEEP_EVERY).unwrap() {
            let origin = Origin::unknown(([10, 0, (round / 256) as u8, round as u8], 1).into());
            drop(places.take_at(&origin, now + Duration::from_secs(round)).unwrap());
        }
        let kept = lock(&places.open).by_source.len();
        assert!(kept <= SWEEP_EVERY + 1, "{kept}");
    }
}
