//! The upper rungs of the ladder: who is to be warned about or blocked, and the end of blocked connections.
//!
//! The kernel programs drop packets and refuse connections by themselves; what they are told, and what follows, is
//! done here:
//!
//! - [`policies`] writes the mode of each pod's cgroup and follows pods and cgroups;
//! - [`heartbeat`] says several times a second that this program lives and may act: when it is missing, everything
//!   passes;
//! - [`helper`] is a process of its own with the capabilities to destroy a blocked socket in its pod's network
//!   namespace, so that the application gets an error at once instead of waiting for packets that never arrive.

mod destroy;
mod diag;
mod encode;
mod endings;
mod error;
mod heartbeat;
mod helper;
mod namespaces;
mod policies;
mod request;
mod sys;
mod tree;
mod waiting;

use diag::Diag;
use endings::Endings;
pub use error::EnforceError;
pub use helper::missing;
pub(super) use tree::Watched;

use super::{
    bpf::KernelOrigins,
    findings::{Finding, PlaintextMode, Proof},
    join::Resolver,
    loader::EnforceSide,
};
use crate::{
    config::extensions::PlaintextPolicy,
    telemetry::metrics::{self, counter},
};
use heartbeat::{BEAT, Heartbeat, Vitals, Watch, boot_ns};
use helper::{Helper, NotSent};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policies::{Policies, Verdict};
use request::{Outcome, Reply, Request};
use spanwarden_ebpf::abi::{OTLP_PORTS, OriginRecord};
use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};
use waiting::Waiting;

/// Destroys a connection of this process's own network namespace, as the helper does it in others.
pub(super) fn destroy_own(local: SocketAddr, remote: SocketAddr) -> nix::Result<()> {
    /// `INET_DIAG_NOCOOKIE` (`linux/inet_diag.h`): the addresses say which socket.
    const NO_COOKIE: u64 = u64::MAX;
    Diag::open()?.destroy(local, &[remote], NO_COOKIE)
}

static DESTROYED: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_plaintext_destroyed",
        "Connections that were to be ended, by result: destroyed; late (destroyed after data had passed, because the \
         pod was not known yet); gone (ended before); no_namespace, refused, unsupported, failed, declined, queue_full, \
         no_helper (not destroyed: what is sent on them is dropped, and with the next packet it is tried again).",
        &["result"],
    )
});
static RESTARTS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_enforcement_helper_restarts",
        "How often the process that ends blocked connections had ended and was started again.",
        &[],
    )
});

/// How often what is known of pods is asked for anew.
const REFRESH: Duration = Duration::from_secs(1);
/// How often the cgroups are walked without having been told of a change.
const RESCAN: Duration = Duration::from_secs(10);
/// Beats without a sign of the findings' reader, which shows itself about as often. Not a time: after a pause of the
/// whole process (SIGSTOP, a suspended machine) neither thread is late.
const FINDINGS_SILENCE: u32 = 10;
/// The same for the thread that follows pods, which may have a large file of them to read.
const PODS_SILENCE: u32 = 50;

/// What the attached programs hand over.
pub(super) struct Kernel {
    pub(super) side: EnforceSide,
    pub(super) watched: Watched,
    /// This program's own record.
    pub(super) own: OriginRecord,
    pub(super) resolver: Arc<Resolver>,
    /// Goes up as long as findings are read.
    pub(super) findings_beat: Arc<AtomicU64>,
}

/// Enforces a policy. Dropping it ends enforcement: everything passes.
pub struct Enforcer {
    shared: Arc<Shared>,
    /// What the threads begin with.
    work: Mutex<Option<(Heartbeat, Endings)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    policy: PlaintextPolicy,
    policies: Policies,
    /// Absent when nothing is to be blocked, or it could not be had.
    helper: Option<Helper>,
    own_tgid: u32,
    findings_beat: Arc<AtomicU64>,
    /// Goes up as long as pods are followed.
    pods_beat: AtomicU64,
    /// Goes up as long as the kernel's orders are read.
    endings_beat: AtomicU64,
    /// Whether the kernel was told to enforce.
    active: AtomicBool,
    stop: AtomicBool,
    asked: AtomicU64,
    said: Mutex<HashSet<&'static str>>,
    /// What passed and may have to be ended all the same.
    waiting: Waiting<Finding>,
}

/// Bit of a request's id: data had passed.
const LATE: u64 = 1 << 63;

impl Enforcer {
    /// Tells the kernel the policy of every pod that is there, and forks the helper when anything is to be blocked.
    /// After attaching, in a process with one thread, before capabilities are dropped. Without what the helper needs
    /// it is an error when `required`; else blocked connections are left to time out.
    pub fn prepare(
        kernel: &KernelOrigins,
        policy: &PlaintextPolicy,
        required: bool,
    ) -> Result<Self, EnforceError> {
        let Kernel { side, watched, own, resolver, findings_beat } =
            kernel.take_enforcement().ok_or(EnforceError::Taken)?;
        let blocks = policy.blocks() && !policy.places.is_empty();
        let helper = match blocks.then(|| Helper::start(&watched.path, own.tgid)) {
            Some(Err(error)) if required => return Err(error),
            Some(Err(error)) => {
                warn!(
                    %error, "plaintext will be dropped, but its connections cannot be ended: applications notice only when \
                     they time out, and by EPERM when they connect again"
                );
                None
            }
            Some(Ok(helper)) => Some(helper),
            None => None,
        };
        let EnforceSide { policies, pulse, denied, endings } = side;
        let chain = own.ancestors.iter().copied().chain([own.cgroup_id]).filter(|&id| id != 0);
        let policies =
            Policies::new((policies, denied), policy.clone(), watched, chain.collect(), resolver.pods());
        policies.rescan();
        let heartbeat = blocks.then(|| Heartbeat::new(pulse, policy.kill_switch.clone()));
        let endings = blocks.then(|| Endings::new(endings, resolver));
        let shared = Shared {
            policy: policy.clone(),
            policies,
            helper,
            own_tgid: own.tgid,
            findings_beat,
            pods_beat: AtomicU64::new(0),
            endings_beat: AtomicU64::new(0),
            active: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            said: Mutex::default(),
            waiting: Waiting::default(),
        };
        let work = Mutex::new(heartbeat.zip(endings));
        Ok(Self { shared: Arc::new(shared), work, threads: Mutex::default() })
    }

    /// Starts the threads. After capabilities were dropped; a second call does nothing.
    pub fn start(&self) -> io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !threads.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        threads.push(named("enforce-policy").spawn(move || shared.follow_pods())?);
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((heartbeat, endings)) = work {
            let shared = Arc::clone(&self.shared);
            threads.push(named("enforce-end").spawn(move || shared.end_connections(endings))?);
            let shared = Arc::clone(&self.shared);
            threads.push(named("enforce-beat").spawn(move || shared.beat(heartbeat))?);
        }
        Ok(())
    }

    /// To be called with every finding: ends the connection of one that should have been blocked, and passed because its
    /// pod was not known yet. Does not wait.
    pub fn finding(&self, finding: &Finding) {
        self.shared.finding(finding);
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic was seen by what it leaves undone: no heartbeat, old policies.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn finding(&self, finding: &Finding) {
        if finding.blocked {
            // The kernel has ordered its end: see `endings`.
            return;
        }
        let Some(uid) = self.missed(finding) else { return };
        match self.policies.verdict(uid) {
            Verdict::Blocked => self.destroy_late(uid, finding),
            Verdict::Unknown => self.waiting.keep(uid, finding.clone()),
            Verdict::Passes => {}
        }
    }

    fn destroy_late(&self, uid: &str, finding: &Finding) {
        let deny_for = u64::try_from(self.policy.deny_for.as_nanos()).unwrap_or(u64::MAX);
        if deny_for > 0 {
            self.policies.deny(uid, finding.destination, boot_ns().saturating_add(deny_for));
        }
        let process = finding.origin.process.as_ref();
        self.destroy(Request {
            id: LATE,
            socket_cookie: finding.socket_cookie,
            netns_cookie: finding.netns_cookie,
            tgid: process.map_or(0, |process| process.pid),
            local: finding.local,
            remote: finding.remote,
            destination: finding.destination,
            cgroup: process.and_then(|process| process.cgroup_path.clone()).unwrap_or_default(),
        });
    }

    /// Looks again at what waits for its pod to become known.
    fn decide(&self) {
        self.waiting.decide(|uid, finding| {
            let verdict = self.policies.known(uid);
            if verdict == Verdict::Blocked && self.active.load(Ordering::Relaxed) {
                self.destroy_late(uid, finding);
            }
            verdict
        });
    }

    /// The pod of a finding that passed and would not have, had the kernel known that the pod is to be blocked. What
    /// goes over loopback the kernel never blocks as the node's, because it does not know whose loopback it is.
    fn missed<'a>(&self, finding: &'a Finding) -> Option<&'a str> {
        let enforceable = self.active.load(Ordering::Relaxed)
            && finding.mode != PlaintextMode::Block
            && !finding.not_enforced
            && !finding.remote.ip().is_loopback()
            && self.policy.places.contains(&finding.place);
        let otlp_port = [finding.destination, finding.remote]
            .iter()
            .any(|address| OTLP_PORTS.contains(&u32::from(address.port())));
        let proven = match finding.proof {
            Proof::Path => true,
            Proof::Grpc => otlp_port,
            Proof::Port => false,
        };
        let own = finding.origin.process.as_ref().is_some_and(|process| process.pid == self.own_tgid);
        finding.origin.pod_uid.as_deref().filter(|_| enforceable && proven && !own)
    }

    /// Has a connection ended. The request's id is 0, or [`LATE`].
    fn destroy(&self, request: Request) {
        let id = request.id | (self.asked.fetch_add(1, Ordering::Relaxed) + 1);
        let request = Request { id, ..request };
        let result = match self.helper.as_ref().map(|helper| helper.ask(&request)) {
            Some(Ok(())) => return,
            Some(Err(NotSent::Full)) => "queue_full",
            Some(Err(NotSent::Ended)) | None => "no_helper",
        };
        self.count(result, request.socket_cookie, 0);
    }

    /// The life of the thread that does what the kernel orders.
    fn end_connections(&self, mut endings: Endings) {
        while !self.stopped() {
            self.endings_beat.fetch_add(1, Ordering::Relaxed);
            endings.wait(BEAT);
            while let Some(request) = endings.next() {
                self.endings_beat.fetch_add(1, Ordering::Relaxed);
                self.destroy(request);
            }
        }
    }

    fn note(&self, reply: Reply) {
        if reply.is_ready() {
            RESTARTS.with_label_values::<&str>(&[]).inc();
            warn!("the process that ends blocked connections had ended, and was started again");
            return;
        }
        let result = match reply.outcome {
            Outcome::Destroyed if reply.id & LATE != 0 => "late",
            outcome => outcome.as_str(),
        };
        self.count(result, reply.socket_cookie, reply.errno);
    }

    fn count(&self, result: &'static str, connection: u64, errno: i32) {
        DESTROYED.with_label_values(&[result]).inc();
        if matches!(result, "destroyed" | "late" | "gone") {
            debug!(connection, result, "blocked connection ended");
            return;
        }
        let first = self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(result);
        if first {
            let error = io::Error::from_raw_os_error(errno);
            let error = if errno == 0 { String::new() } else { error.to_string() };
            warn!(
                connection,
                result,
                error,
                "a blocked connection could not be ended: what it sends is dropped, and it is tried again with its next \
                 packet (said once for each result; spanwarden_plaintext_destroyed counts them)"
            );
        }
    }

    /// The life of the thread that keeps policies up to date.
    fn follow_pods(&self) {
        let events = self.policies.events();
        let (mut walked, mut refreshed) = (Instant::now(), Instant::now());
        while !self.stopped() {
            self.pods_beat.fetch_add(1, Ordering::Relaxed);
            let changed = if let Some(events) = &events {
                let timeout = PollTimeout::try_from(BEAT).unwrap_or(PollTimeout::ZERO);
                poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout) == Ok(1)
            } else {
                thread::sleep(BEAT);
                false
            };
            if changed || walked.elapsed() >= RESCAN {
                self.policies.rescan();
                (walked, refreshed) = (Instant::now(), Instant::now());
                self.decide();
            } else if refreshed.elapsed() >= REFRESH {
                self.policies.refresh();
                refreshed = Instant::now();
                self.decide();
            }
        }
    }

    /// The life of the thread that beats, and takes what the helper answers.
    fn beat(&self, mut heartbeat: Heartbeat) {
        let (mut findings, mut pods) = (Watch::new(FINDINGS_SILENCE), Watch::new(PODS_SILENCE));
        let mut endings = Watch::new(FINDINGS_SILENCE);
        while !self.stopped() {
            let vitals = Vitals {
                findings: findings.runs(&self.findings_beat),
                endings: endings.runs(&self.endings_beat),
                pods: pods.runs(&self.pods_beat),
                helper: self.helper.as_ref().is_none_or(Helper::is_running),
            };
            let active = heartbeat.beat(vitals);
            self.active.store(active, Ordering::Relaxed);
            self.take_replies(Instant::now() + BEAT);
        }
        self.active.store(false, Ordering::Relaxed);
        heartbeat.stop();
    }

    fn take_replies(&self, until: Instant) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(helper) = self.helper.as_ref().filter(|helper| helper.is_running()) else {
                if let Some(status) = self.helper.as_ref().and_then(Helper::reap) {
                    info!(?status, "the helper has ended");
                }
                thread::sleep(left);
                return;
            };
            match helper.wait_for_reply(left) {
                Some(reply) => self.note(reply),
                None if left.is_zero() => return,
                None => {}
            }
        }
    }
}
