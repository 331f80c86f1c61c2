//! Kernel evidence: [`KernelOrigins`] reads the opener's record from an accepted socket's storage.

pub(in crate::origin) mod abi;
mod counters;
mod selftest;

pub use counters::Counters;
pub(in crate::origin) use counters::KEPT;
pub(super) use selftest::netns_cookie_of;

use super::{
    Origin, OriginSource, PodSource, enforce,
    findings::{self, Finding, FindingsFile, Table},
    join::{Resolver, count_evidence},
    loader::{self, OriginError, own},
};
use crate::config::extensions::{FindingsOutput, PlaintextPolicy};
use spanwarden_ebpf::abi::{OriginRecord, STATE_CONFLICT, STATE_JOINED};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tracing::{info, warn};

/// What [`KernelOrigins::attach`] needs to know.
pub struct Options {
    /// The cgroup2 directory to attach to; its children are watched too.
    pub cgroup: PathBuf,
    /// Addresses under which clients reach the agent, besides those of its own interfaces; see
    /// [`own::from_env`].
    pub own_addresses: BTreeSet<IpAddr>,
    /// Ports on which the agent receives; empty means any. Only for [`findings::Place::Agent`].
    pub ports: Vec<u16>,
    /// Pods by uid and address.
    pub pods: Arc<dyn PodSource>,
    /// What is done about plaintext telemetry.
    pub plaintext: PlaintextPolicy,
    /// How many findings a pod gets; the file in it is [`Self::file`], opened.
    pub findings: FindingsOutput,
    /// The file that findings are written to.
    pub file: Option<FindingsFile>,
    /// The cluster's networks; see [`OriginExtension::cluster_cidrs`](crate::config::extensions::OriginExtension::cluster_cidrs).
    pub cluster_cidrs: Vec<(IpAddr, u8)>,
    /// A directory on a bpffs where programs, links and maps are pinned, so that they outlive this process;
    /// without one they end with it.
    pub pin: Option<PathBuf>,
}

impl Options {
    /// The defaults: any port, observe, not pinned.
    pub fn new(cgroup: PathBuf, pods: Arc<dyn PodSource>) -> Self {
        Self {
            cgroup,
            own_addresses: BTreeSet::new(),
            ports: Vec::new(),
            pods,
            plaintext: PlaintextPolicy::default(),
            findings: FindingsOutput::default(),
            file: None,
            cluster_cidrs: Vec::new(),
            pin: None,
        }
    }
}

/// The attached programs, and what they leave in sockets. Dropping it detaches what is not pinned.
pub struct KernelOrigins {
    loaded: Mutex<loader::Attached>,
    origins: abi::Origins,
    resolver: Arc<Resolver>,
    own: Arc<Mutex<BTreeSet<IpAddr>>>,
    cluster_cidrs: Vec<(IpAddr, u8)>,
    plaintext: PlaintextPolicy,
    ports: Vec<u16>,
    /// This process, as the kernel sees it.
    own_record: OriginRecord,
    /// Goes up as long as the thread of [`Self::watch_findings`] reads.
    findings_beat: Arc<AtomicU64>,
    /// The last look-up was refused for another reason than that there is no record.
    refused: AtomicBool,
    conflicts: AtomicU64,
    table: Arc<Table>,
    file: Mutex<Option<FindingsFile>>,
    consumer: Mutex<Option<findings::Consumer>>,
}

impl KernelOrigins {
    /// Loads the programs, attaches them, and proves with a loopback connection that they work. Before any OTLP
    /// listener listens, in a process that has `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON` and is in the cgroup itself; starts no thread, so that [`super::capabilities::drop_all`] can follow.
    pub fn attach(options: Options) -> Result<Self, OriginError> {
        let loader::Loaded { mut attached, origins } =
            loader::attach(options.cgroup.clone(), options.pin.as_deref())?;
        let (own, own_record) = match start(&mut attached, &origins, &options) {
            Ok(started) => started,
            Err(error) => {
                attached.abandon(&error);
                return Err(error);
            }
        };
        let Options { ports, pods, plaintext, file, cluster_cidrs, .. } = options;
        info!(cgroup = %attached.root.path.display(), own_addresses = own.len(), "kernel programs are attached");
        let resolver = Arc::new(Resolver::new(&attached.root, pods));
        Ok(Self {
            loaded: Mutex::new(attached),
            origins,
            resolver,
            own: Arc::new(Mutex::new(own)),
            cluster_cidrs,
            plaintext,
            ports,
            own_record,
            findings_beat: Arc::default(),
            refused: AtomicBool::new(false),
            conflicts: AtomicU64::new(0),
            table: Arc::default(),
            file: Mutex::new(file),
            consumer: Mutex::new(None),
        })
    }

    /// Starts the thread that reads findings: each one is counted, logged, and given to `then`. After
    /// capabilities were dropped. A second call does nothing.
    pub fn watch_findings(&self, then: impl Fn(Finding) + Send + 'static) -> Result<(), OriginError> {
        let mut slot = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attached = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kernel) = attached.take_consumer_side() else { return Ok(()) };
        let context = findings::Context {
            resolver: Arc::clone(&self.resolver),
            own: Arc::clone(&self.own),
            cluster_cidrs: self.cluster_cidrs.clone(),
            plaintext: self.plaintext.clone(),
            ports: self.ports.clone(),
            netns_cookie: self.own_record.netns_cookie,
            beat: Arc::clone(&self.findings_beat),
        };
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        let consumer = findings::Consumer::start(kernel, context, Arc::clone(&self.table), file, then);
        *slot = Some(consumer.map_err(OriginError::Thread)?);
        Ok(())
    }

    /// What was found so far, by sender and destination. Filled by the thread of [`Self::watch_findings`].
    pub fn findings(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// What the programs counted so far, all CPUs together. Kept up to date by the thread of
    /// [`Self::watch_findings`], zero without it.
    pub fn counters(&self) -> Counters {
        let slot = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().map(findings::Consumer::counters).unwrap_or_default()
    }

    /// What enforcement works with; once.
    pub(super) fn take_enforcement(&self) -> Option<enforce::Kernel> {
        let mut attached = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let side = attached.take_enforce_side()?;
        Some(enforce::Kernel {
            side,
            watched: enforce::Watched::of(&attached.root),
            own: self.own_record,
            resolver: Arc::clone(&self.resolver),
            findings_beat: Arc::clone(&self.findings_beat),
        })
    }

    /// One line for the first, second, fourth, eighth… conflict: an attacker can make as many as he likes.
    fn note_conflict(&self, record: &OriginRecord, peer: SocketAddr) {
        let seen = self.conflicts.fetch_add(1, Ordering::Relaxed) + 1;
        if seen.is_power_of_two() {
            let wanted = SocketAddr::new(own::from_bytes(record.destination), record.destination_port as u16);
            warn!(
                conflicts = seen, %peer, pid = record.tgid, comm = %abi::comm(&record.comm), destination = %wanted,
                "a connection's opener wanted to reach an address that is not the agent's: either a relayed handshake, or \
                 an address of a Service in front of the agent that SPANWARDEN_OWN_ADDRESSES lacks"
            );
        }
    }
}

/// Tells the programs of this process, and proves that they work. The agent's own addresses, and its record.
fn start(
    attached: &mut loader::Attached,
    origins: &abi::Origins,
    options: &Options,
) -> Result<(BTreeSet<IpAddr>, OriginRecord), OriginError> {
    let Options { own_addresses, ports, plaintext, findings: output, cluster_cidrs, .. } = options;
    // First: until then pinned programs take a process that is no more for the agent.
    let listener = selftest::listen()?;
    let port = listener.local_addr().map_or(0, |address| address.port());
    attached.set_stored_port(port)?;
    let failed = attached.store_failures();
    let record = selftest::identity(origins, &listener).map_err(|error| match error {
        // There is no record either way, and the programs say which.
        OriginError::Outside if attached.store_failures() > failed => OriginError::NoSocketMemory,
        other => other,
    })?;
    let OriginRecord { netns_cookie, tgid: agent_tgid, .. } = record;
    // Any port until the self-test, whose listener has one of its own, is done.
    let settings = |ports: &[u16]| abi::settings(netns_cookie, agent_tgid, ports, plaintext, output);
    attached.set_settings(settings(&[]).storing(port))?;
    let mut own = own_addresses.clone();
    own.extend(own::of_interfaces().map_err(OriginError::Interfaces)?);
    attached.set_own(&own)?;
    attached.set_places(&findings::places::table(&own, cluster_cidrs))?;
    selftest::join(origins, &listener)?;
    attached.set_settings(settings(ports))?;
    Ok((own, record))
}

impl OriginSource for KernelOrigins {
    fn origin(&self, socket: BorrowedFd<'_>, peer: SocketAddr) -> Arc<Origin> {
        let origin = match abi::origin_of(&self.origins, socket) {
            Ok(Some(record)) if record.state == STATE_JOINED => self.resolver.kernel(&record, peer),
            Ok(Some(record)) => {
                if record.state == STATE_CONFLICT {
                    self.note_conflict(&record, peer);
                }
                Origin { evidence: super::Evidence::Conflict, ..Origin::unknown(peer) }
            }
            Ok(None) => self.resolver.address(peer),
            Err(error) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    warn!(error = %loader::chain(&error), "the kernel refuses to tell sockets' origins");
                }
                count_evidence(super::Evidence::None);
                return Arc::new(Origin::unknown(peer));
            }
        };
        self.refused.store(false, Ordering::Relaxed);
        count_evidence(origin.evidence);
        Arc::new(origin)
    }

    fn renewed(&self, origin: &Arc<Origin>) -> Option<Arc<Origin>> {
        self.resolver.renewed(origin)
    }

    fn alive(&self) -> bool {
        if self.refused.load(Ordering::Relaxed) {
            return false;
        }
        let slot = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|consumer| !consumer.is_running()) {
            return false;
        }
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).is_intact()
    }
}

#[cfg(test)]
mod tests;
