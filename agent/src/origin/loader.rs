//! Loads the kernel programs and attaches them to a cgroup.
//!
//! Always by `bpf_link`: a link cannot be detached or replaced by another program's attach call, and it goes
//! away with the process. The programs must be attached before any OTLP listener listens; then no connection
//! can reach the agent without its opener having been seen.

mod cgroup2;
mod error;
mod link;
pub mod own;

pub(super) use cgroup2::Root;
pub use error::OriginError;
pub(super) use error::chain;
use link::Attachment;

use super::{bpf::abi, capabilities};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf, SkStorage},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, ProgramError, SockOps,
        links::FdLink,
    },
    util::KernelVersion,
};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use spanwarden_ebpf::abi::OWN_ADDRESSES;
use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

/// The compiled programs; `build.rs` has checked that they belong to `agent-ebpf/src`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spanwarden.bpf.o"));

/// Oldest kernel on which the programs are tested: it has every helper they use.
const OLDEST: KernelVersion = KernelVersion::new(5, 10, 0);

/// The outcome of [`attach`].
pub(super) struct Loaded {
    pub(super) attached: Attached,
    pub(super) origins: abi::Origins,
}

/// What is attached. Dropping it detaches everything.
pub(super) struct Attached {
    links: Vec<Attachment>,
    pub(super) root: Root,
    settings: Array<MapData, abi::Settings>,
    side: Option<ConsumerSide>,
}

/// The maps that the thread which reads findings works with.
pub(super) struct ConsumerSide {
    pub(super) findings: RingBuf<MapData>,
    pub(super) counters: PerCpuArray<MapData, u64>,
    pub(super) own: OwnMap,
}

/// The agent's own addresses in the kernel.
pub(super) struct OwnMap(HashMap<MapData, [u8; 16], u32>);

impl OwnMap {
    /// Brings the map from `before` to `after`.
    pub(super) fn update(
        &mut self,
        before: &BTreeSet<IpAddr>,
        after: &BTreeSet<IpAddr>,
    ) -> Result<(), OriginError> {
        if after.len() > OWN_ADDRESSES {
            return Err(OriginError::TooManyAddresses(after.len()));
        }
        let failed = |e: MapError| OriginError::Map { map: "OWN", chain: chain(&e) };
        for address in before.difference(after) {
            match self.0.remove(&own::to_bytes(*address)) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        for address in after.difference(before) {
            self.0.insert(own::to_bytes(*address), 1, 0).map_err(failed)?;
        }
        Ok(())
    }
}

impl Attached {
    pub(super) fn set_own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), OriginError> {
        match &mut self.side {
            Some(side) => side.own.update(&BTreeSet::new(), addresses),
            None => Ok(()),
        }
    }

    pub(super) fn set_settings(&mut self, settings: abi::Settings) -> Result<(), OriginError> {
        self.settings.set(0, settings, 0).map_err(|e| OriginError::Map { map: "SETTINGS", chain: chain(&e) })
    }

    /// Once.
    pub(super) fn take_consumer_side(&mut self) -> Option<ConsumerSide> {
        self.side.take()
    }

    /// Whether every program is still attached, where it was attached.
    pub(super) fn is_intact(&self) -> bool {
        self.root.is_there() && self.links.iter().all(Attachment::is_attached)
    }
}

pub(super) fn attach(cgroup: PathBuf) -> Result<Loaded, OriginError> {
    let kernel = KernelVersion::current().map_err(|e| OriginError::KernelVersion(e.to_string()))?;
    if kernel < OLDEST {
        return Err(OriginError::KernelTooOld { found: format!("{kernel:?}") });
    }
    let root = cgroup2::open(cgroup)?;
    // Before 5.11 maps count against RLIMIT_MEMLOCK. A failure shows itself at the first map.
    if kernel < KernelVersion::new(5, 11, 0) {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
    let mut bpf = EbpfLoader::new().load(OBJECT).map_err(|e| not_loaded(&e))?;
    let links = attach_all(&mut bpf, &root)?;
    let side = ConsumerSide {
        findings: map(&mut bpf, "FINDINGS", RingBuf::try_from)?,
        counters: map(&mut bpf, "COUNTERS", PerCpuArray::try_from)?,
        own: OwnMap(map(&mut bpf, "OWN", HashMap::try_from)?),
    };
    let settings = map(&mut bpf, "SETTINGS", Array::try_from)?;
    let origins = map(&mut bpf, "ORIGINS", SkStorage::try_from)?;
    Ok(Loaded { attached: Attached { links, root, settings, side: Some(side) }, origins })
}

/// Moves a map out of the object.
fn map<T, E: Into<EbpfError>>(
    bpf: &mut Ebpf,
    name: &'static str,
    convert: impl FnOnce(aya::maps::Map) -> Result<T, E>,
) -> Result<T, OriginError> {
    let map = bpf.take_map(name).ok_or(OriginError::Object(name))?;
    convert(map).map_err(|e| not_loaded(&e.into()))
}

/// In the order in which a connection meets them backwards, so that whatever an early program leaves is already
/// expected by the later ones.
fn attach_all(bpf: &mut Ebpf, root: &Root) -> Result<Vec<Attachment>, OriginError> {
    let mut links = Vec::with_capacity(4);
    let egress: &mut CgroupSkb = program(bpf, "plaintext_egress")?;
    egress.load().map_err(|e| not_loaded(&e.into()))?;
    let id = egress
        .attach(&root.dir, CgroupSkbAttachType::Egress, CgroupAttachMode::Single)
        .map_err(|e| not_attached("plaintext_egress", root, &e))?;
    links.push(link("plaintext_egress", egress.take_link(id), root)?);

    let established: &mut SockOps = program(bpf, "origin_established")?;
    established.load().map_err(|e| not_loaded(&e.into()))?;
    let id = established
        .attach(&root.dir, CgroupAttachMode::Single)
        .map_err(|e| not_attached("origin_established", root, &e))?;
    links.push(link("origin_established", established.take_link(id), root)?);

    for name in ["origin_connect4", "origin_connect6"] {
        let connect: &mut CgroupSockAddr = program(bpf, name)?;
        connect.load().map_err(|e| not_loaded(&e.into()))?;
        let id =
            connect.attach(&root.dir, CgroupAttachMode::Single).map_err(|e| not_attached(name, root, &e))?;
        links.push(link(name, connect.take_link(id), root)?);
    }
    Ok(links)
}

fn program<'a, P>(bpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, OriginError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = bpf.program_mut(name).ok_or(OriginError::Object(name))?;
    program.try_into().map_err(|_| OriginError::Object(name))
}

/// Owns the link apart from the program, for a look at it later.
fn link<L>(name: &'static str, link: Result<L, ProgramError>, root: &Root) -> Result<Attachment, OriginError>
where
    FdLink: TryFrom<L>,
{
    let link = link.map_err(|e| not_attached(name, root, &e))?;
    FdLink::try_from(link).map(Attachment::new).map_err(|_| OriginError::Object(name))
}

/// A load that fails is a lack of privilege in almost every case: say which.
fn not_loaded(source: &EbpfError) -> OriginError {
    let missing = capabilities::missing_for_bpf();
    if missing.is_empty() {
        OriginError::Load { chain: error::chain(source) }
    } else {
        OriginError::Capabilities { missing, chain: error::chain(source) }
    }
}

fn not_attached(program: &'static str, root: &Root, source: &ProgramError) -> OriginError {
    let missing = capabilities::missing_for_bpf();
    let chain = error::chain(source);
    let path = root.path.clone();
    if !missing.is_empty() {
        return OriginError::Capabilities { missing, chain };
    }
    match error::os_error(source) {
        Some(libc::EPERM) => OriginError::ForeignProgram { program, path },
        _ => OriginError::Attach { program, path, chain },
    }
}
