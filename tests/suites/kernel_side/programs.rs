//! The programs attached to a node of the tests, and their maps.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    mem::{offset_of, size_of},
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError},
};
use nix::time::{ClockId, clock_gettime};
use spanwarden_ebpf::abi::{self, DenyKey, Finding, OriginRecord, Policy, Settings, TlsAttempt, counter};
use spanwarden_tests::patience::deadline;
use spanwarden_tests::{
    node::Node,
    process::{Place, Process},
};

pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_kernel-client");
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The committed object, which `cargo xtask test` compares with a fresh build.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../agent-ebpf/object/spanwarden.bpf.o"
));

/// The attached programs. Dropping them detaches them.
pub(crate) struct Programs {
    _bpf: Ebpf,
    policies: HashMap<MapData, u64, [u32; 4]>,
    places: LpmTrie<MapData, [u8; 16], u32>,
    own: HashMap<MapData, [u8; 16], u32>,
    settings: Array<MapData, [u64; 10]>,
    pulse: Array<MapData, [u64; 2]>,
    denied: HashMap<MapData, [u64; 4], u64>,
    counters: PerCpuArray<MapData, u64>,
    ring: RingBuf<MapData>,
}

/// One event of the ring buffer, as far as the tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) proof: u32,
    pub(crate) flags: u32,
    pub(crate) place: u32,
    pub(crate) mode: u32,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) tgid: u32,
    pub(crate) cgroup_id: u64,
    pub(crate) tls_kind: u32,
    pub(crate) tls_detail: u32,
    pub(crate) tls_weak: u32,
    pub(crate) tls_tgid: u32,
    pub(crate) tls_local_port: u32,
}

impl Programs {
    pub(crate) fn attach(node: &Node) -> Result<Self> {
        let mut bpf = EbpfLoader::new().load(OBJECT)?;
        let root = File::open(node.cgroups().path())?;
        for (name, program) in bpf.programs_mut() {
            attach(name, program, &root).with_context(|| name.to_owned())?;
        }
        let mut map = |name: &str| bpf.take_map(name).with_context(|| name.to_owned());
        let mut programs = Self {
            policies: map("POLICIES")?.try_into()?,
            places: map("PLACES")?.try_into()?,
            own: map("OWN")?.try_into()?,
            settings: map("SETTINGS")?.try_into()?,
            pulse: map("PULSE")?.try_into()?,
            denied: map("DENIED")?.try_into()?,
            counters: map("COUNTERS")?.try_into()?,
            ring: map("FINDINGS")?.try_into()?,
            _bpf: bpf,
        };
        programs.settings(Settings::default())?;
        Ok(programs)
    }

    pub(crate) fn policy(&mut self, cgroup: &Path, policy: Policy) -> Result<()> {
        let value = [policy.mode, policy.places, policy.flags, 0];
        Ok(self.policies.insert(cgroup_id(cgroup)?, value, 0)?)
    }

    pub(crate) fn forget_policy(&mut self, cgroup: &Path) -> Result<()> {
        Ok(self.policies.remove(&cgroup_id(cgroup)?)?)
    }

    pub(crate) fn place(&mut self, network: &str, bits: u32, place: u32) -> Result<()> {
        let network: IpAddr = network.parse()?;
        let bits = if network.is_ipv4() { 96 + bits } else { bits };
        Ok(self.places.insert(&Key::new(bits, bytes(network)), place, 0)?)
    }

    pub(crate) fn own(&mut self, address: IpAddr) -> Result<()> {
        Ok(self.own.insert(bytes(address), 1, 0)?)
    }

    pub(crate) fn settings(&mut self, settings: Settings) -> Result<()> {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let p = settings.ports;
        let words = [
            settings.netns_cookie,
            settings.fallback_window_ns,
            settings.deny_ns,
            pair(settings.agent_tgid, settings.findings_per_second),
            pair(settings.findings_burst, settings.port_count),
            pair(p[0], p[1]),
            pair(p[2], p[3]),
            pair(p[4], p[5]),
            pair(p[6], p[7]),
            pair(settings.stored_port, 0),
        ];
        Ok(self.settings.set(0, words, 0)?)
    }

    /// A sign of life that is `age` old.
    pub(crate) fn pulse(&mut self, age: Duration, enforce: bool) -> Result<()> {
        let beat = boot_ns()?.saturating_sub(u64::try_from(age.as_nanos())?);
        Ok(self.pulse.set(0, [beat, u64::from(enforce)], 0)?)
    }

    /// Until when a pod may not connect there, nanoseconds since boot.
    pub(crate) fn denied_until(&self, pod: &Path, to: SocketAddr) -> Result<Option<u64>> {
        let address = bytes(to.ip());
        let word = |at: usize| u64::from_ne_bytes(address[at..at + 8].try_into().unwrap_or_default());
        let key = DenyKey { cgroup_id: cgroup_id(pod)?, port: to.port().into(), ..DenyKey::default() };
        let key = [key.cgroup_id, word(0), word(8), u64::from(key.port)];
        match self.denied.get(&key, 0) {
            Ok(until) => Ok(Some(until)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// One of [`counter`], all CPUs together.
    pub(crate) fn counter(&self, index: u32) -> Result<u64> {
        Ok(self.counters.get(&index, 0)?.iter().sum())
    }

    /// The findings that are there. Programs deliver within the system call that sends, so nothing is late.
    pub(crate) fn events(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(bytes) = self.ring.next() {
            events.push(event(&bytes)?);
        }
        Ok(events)
    }

    /// The only finding that is there.
    pub(crate) fn event(&mut self) -> Result<Event> {
        let mut events = self.events()?;
        ensure!(events.len() == 1, "{} findings instead of one: {events:#?}", events.len());
        events.pop().context("one")
    }

    /// `SEEN == DELIVERED + FULL + THROTTLED`
    pub(crate) fn reconcile(&self) -> Result<BTreeMap<&'static str, u64>> {
        let mut all = BTreeMap::new();
        for (name, index) in [
            ("seen", counter::SEEN),
            ("delivered", counter::DELIVERED),
            ("full", counter::FULL),
            ("throttled", counter::THROTTLED),
        ] {
            all.insert(name, self.counter(index)?);
        }
        ensure!(all["seen"] == all["delivered"] + all["full"] + all["throttled"], "{all:?}");
        Ok(all)
    }
}

fn attach(name: &str, program: &mut Program, root: &File) -> Result<(), ProgramError> {
    // Each kind of program has methods of its own; `Single` is the mode in which links are made, beside others.
    let mode = CgroupAttachMode::Single;
    match program {
        Program::CgroupSkb(program) => {
            let egress = name.ends_with("egress");
            let hook = if egress { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
            program.load()?;
            program.attach(root, hook, mode).map(drop)
        }
        Program::CgroupSockAddr(program) => {
            program.load()?;
            program.attach(root, mode).map(drop)
        }
        Program::SockOps(program) => {
            program.load()?;
            program.attach(root, mode).map(drop)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Its directory's inode number.
pub(crate) fn cgroup_id(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.ino())
}

pub(crate) fn boot_ns() -> Result<u64> {
    Ok(u64::try_from(Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?).as_nanos())?)
}

fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn event(bytes: &[u8]) -> Result<Event> {
    const TLS: usize = offset_of!(Finding, tls);
    const ORIGIN: usize = offset_of!(Finding, origin);
    ensure!(bytes.len() == size_of::<Finding>(), "an event of {} bytes", bytes.len());
    let u32_at = |at: usize| -> Result<u32> { Ok(u32::from_ne_bytes(bytes[at..at + 4].try_into()?)) };
    let address_at = |address: usize, port: usize| -> Result<SocketAddr> {
        let address: [u8; 16] = bytes[address..address + 16].try_into()?;
        Ok(SocketAddr::new(IpAddr::from(address).to_canonical(), u32_at(port)?.try_into()?))
    };
    ensure!(u32_at(0)? == abi::ABI_VERSION, "version {}", u32_at(0)?);
    Ok(Event {
        kind: u32_at(offset_of!(Finding, kind))?,
        proof: u32_at(offset_of!(Finding, proof))?,
        flags: u32_at(offset_of!(Finding, flags))?,
        place: u32_at(offset_of!(Finding, place))?,
        mode: u32_at(offset_of!(Finding, mode))?,
        local: address_at(offset_of!(Finding, local), offset_of!(Finding, local_port))?,
        remote: address_at(offset_of!(Finding, remote), offset_of!(Finding, remote_port))?,
        destination: address_at(
            ORIGIN + offset_of!(OriginRecord, destination),
            ORIGIN + offset_of!(OriginRecord, destination_port),
        )?,
        tgid: u32_at(ORIGIN + offset_of!(OriginRecord, tgid))?,
        cgroup_id: u64::from_ne_bytes(bytes[ORIGIN + offset_of!(OriginRecord, cgroup_id)..][..8].try_into()?),
        tls_kind: u32_at(TLS + offset_of!(TlsAttempt, kind))?,
        tls_detail: u32_at(TLS + offset_of!(TlsAttempt, detail))?,
        tls_weak: u32_at(TLS + offset_of!(TlsAttempt, weak))?,
        tls_tgid: u32_at(TLS + offset_of!(TlsAttempt, tgid))?,
        tls_local_port: u32_at(TLS + offset_of!(TlsAttempt, local_port))?,
    })
}

/// What a client said: its pid, and how it went (`sent`, `refused ERRNO`, ...).
pub(crate) struct Said {
    pub(crate) pid: u32,
    pub(crate) outcome: String,
}

/// Runs the client to its end.
pub(crate) fn client(place: &Place, arguments: &[&str]) -> Result<Said> {
    let mut command = place.command(CLIENT)?;
    command.args(arguments);
    let mut process = Process::spawn("kernel-client", command)?;
    let pid = process.id();
    let line = process.wait_for_line("outcome ", PATIENCE)?;
    process.wait_success(PATIENCE)?;
    Ok(Said { pid, outcome: line.trim_start_matches("outcome ").to_owned() })
}

/// A peer that runs until it is dropped. Counts what it is sent.
pub(crate) struct Peer {
    process: Process,
    pub(crate) port: u16,
}

impl Peer {
    pub(crate) fn start(place: &Place, arguments: &[&str]) -> Result<Self> {
        let mut command = place.command(CLIENT)?;
        command.args(arguments);
        let mut process = Process::spawn("peer", command)?;
        let line = process.wait_for_line("ready ", PATIENCE)?;
        let address: SocketAddr = line.trim_start_matches("ready ").parse()?;
        Ok(Self { process, port: address.port() })
    }

    /// How many payload bytes the next connection that ended had brought.
    pub(crate) fn got(&mut self) -> Result<usize> {
        let line = self.process.wait_for_line("got ", PATIENCE)?;
        Ok(line.trim_start_matches("got ").parse()?)
    }
}

/// Waits for something that comes by itself.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = deadline(PATIENCE);
    while !holds()? {
        ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
