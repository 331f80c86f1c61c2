//! Loads the kernel programs and attaches them to a cgroup.
//!
//! Always by `bpf_link`: a link cannot be detached or replaced by another program's attach call, and it goes
//! away with the process unless it is pinned ([`pins`]). The programs must be attached before any OTLP listener listens; then no connection
//! can reach the agent without its opener having been seen.

mod cgroup2;
mod error;
mod fdinfo;
mod link;
mod maps;
pub mod own;
mod pins;
mod programs;
mod sys;

pub(super) use cgroup2::{Root, open as open_cgroup};
pub use error::OriginError;
pub(super) use error::chain;
use link::Attachment;
pub(super) use maps::{ConsumerSide, EnforceSide};
use pins::{Pinned, Pins};

use super::{
    bpf::{Counters, abi},
    capabilities,
    findings::places::{self, Places},
};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, MapData, MapError, SkStorage},
    util::KernelVersion,
};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// The compiled programs; `build.rs` has checked that they belong to `agent-ebpf/src`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spanwarden.bpf.o"));

/// Oldest kernel on which the programs are tested: it has every helper they use.
pub(super) const OLDEST: KernelVersion = KernelVersion::new(5, 10, 0);

/// The outcome of [`attach`].
pub(super) struct Loaded {
    pub(super) attached: Attached,
    pub(super) origins: abi::Origins,
}

/// What is attached. Dropping it detaches everything that is not pinned.
pub(super) struct Attached {
    links: Vec<Attachment>,
    pub(super) root: Root,
    settings: Array<MapData, abi::Settings>,
    consumer: Option<ConsumerSide>,
    enforce: Option<EnforceSide>,
    pins: Option<Pins>,
}

impl Attached {
    /// After a failed start: what it has pinned does not stay attached. What it has inherited does, unless the
    /// failure may lie in it; then the next start begins anew.
    pub(super) fn abandon(self, why: &OriginError) {
        let Some(pins) = &self.pins else { return };
        if !pins.is_inherited() || matches!(why, OriginError::SelfTest(_) | OriginError::Map { .. }) {
            pins.abandon();
        }
    }

    pub(super) fn set_own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), OriginError> {
        match &mut self.consumer {
            Some(side) => side.own.set(addresses),
            None => Ok(()),
        }
    }

    pub(super) fn set_places(&mut self, places: &Places) -> Result<(), OriginError> {
        match &mut self.consumer {
            Some(side) => places::apply(&mut side.places, places),
            None => Ok(()),
        }
    }

    pub(super) fn set_settings(&mut self, settings: abi::Settings) -> Result<(), OriginError> {
        self.settings.set(0, settings, 0).map_err(|e| OriginError::Map { map: "SETTINGS", chain: chain(&e) })
    }

    /// Leaves everything as it is, but for what connects to this port: it has storage of its own.
    pub(super) fn set_stored_port(&mut self, port: u16) -> Result<(), OriginError> {
        let failed = |e: MapError| OriginError::Map { map: "SETTINGS", chain: chain(&e) };
        let settings = self.settings.get(&0, 0).map_err(failed)?;
        self.settings.set(0, settings.storing(port), 0).map_err(failed)
    }

    /// How often there was no memory for what is stored in a socket; 0 when it can't be told.
    pub(super) fn store_failures(&self) -> u64 {
        let counters = self.consumer.as_ref().map(|side| Counters::load(&side.counters, 0));
        counters.and_then(Result::ok).map_or(0, |counters| counters.store_failed)
    }

    /// Once.
    pub(super) fn take_consumer_side(&mut self) -> Option<ConsumerSide> {
        self.consumer.take()
    }

    /// Once.
    pub(super) fn take_enforce_side(&mut self) -> Option<EnforceSide> {
        self.enforce.take()
    }

    /// Whether every program is still attached, where it was attached.
    pub(super) fn is_intact(&self) -> bool {
        self.root.is_there() && self.links.iter().all(Attachment::is_attached)
    }
}

/// Loads the programs, or takes up those that are pinned below `pin`, and has them attached to `cgroup`.
pub(super) fn attach(cgroup: PathBuf, pin: Option<&Path>) -> Result<Loaded, OriginError> {
    let kernel = KernelVersion::current().map_err(|e| OriginError::KernelVersion(e.to_string()))?;
    if kernel < OLDEST {
        return Err(OriginError::KernelTooOld { found: format!("{kernel:?}") });
    }
    let root = cgroup2::open(cgroup)?;
    // Before 5.11 maps count against RLIMIT_MEMLOCK. A failure shows itself at the first map.
    if kernel < KernelVersion::new(5, 11, 0) {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
    if let Some(path) = pin {
        let Pinned { bpf, links, pins } = pins::attach(path, &root)?;
        return take_maps(bpf, links, root, Some(pins));
    }
    let mut bpf = EbpfLoader::new().load(OBJECT).map_err(|e| not_loaded(&e))?;
    let programs = programs::load(&mut bpf)?;
    let links = programs.iter().map(|program| program.attach(&root)).collect::<Result<_, _>>()?;
    take_maps(bpf, links, root, None)
}

fn take_maps(
    mut bpf: Ebpf,
    links: Vec<Attachment>,
    root: Root,
    pins: Option<Pins>,
) -> Result<Loaded, OriginError> {
    let published = pins.as_ref().map(Pins::published).transpose()?;
    let (consumer, mut enforce) = (ConsumerSide::take(&mut bpf, published)?, EnforceSide::take(&mut bpf)?);
    if pins.as_ref().is_some_and(Pins::is_inherited) {
        enforce.reset()?;
    }
    let settings = maps::take(&mut bpf, "SETTINGS", Array::try_from)?;
    let origins = maps::take(&mut bpf, "SOCKETS", SkStorage::try_from)?;
    let (consumer, enforce) = (Some(consumer), Some(enforce));
    Ok(Loaded { attached: Attached { links, root, settings, consumer, enforce, pins }, origins })
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

fn not_attached(program: &'static str, root: &Root, source: &io::Error) -> OriginError {
    let missing = capabilities::missing_for_bpf();
    let chain = error::chain(source);
    let path = root.path.clone();
    if !missing.is_empty() {
        return OriginError::Capabilities { missing, chain };
    }
    match source.raw_os_error() {
        Some(libc::EPERM) => OriginError::ForeignProgram { program, path },
        _ => OriginError::Attach { program, path, chain },
    }
}
