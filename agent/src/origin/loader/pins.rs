//! Links, programs and maps with names in a bpffs: they outlive this process, so that a restart loses nothing.
//!
//! ```text
//! <pin_path>/v<ABI>-<cgroup id>/{maps,programs,links}/NAME     all directories 0700
//! <pin_path>/new-…, old-…                                      on the way in or out
//! ```
//!
//! What is found is used again only when every piece of it is what it must be ([`verify`]); anything else is
//! replaced, the new programs being attached before the old ones go. A program that is not the one in our object
//! is exchanged within its link, so that no packet meets neither. The directory is locked by the agent that uses
//! it: two would take each other's findings from the ring.

#![forbid(unsafe_code)]

mod directory;
mod verify;

use super::{
    OBJECT, OriginError, Root,
    link::Attachment,
    maps::Published,
    not_loaded,
    programs::{self, Loaded},
    sys,
};
use crate::telemetry::metrics::{self, counter};
use aya::{Ebpf, EbpfLoader};
use directory::{Base, Kind};
use spanwarden_ebpf::abi::ABI_VERSION;
use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::LazyLock,
};
use tracing::{info, warn};

static PINS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_origin_pins",
        "Starts by what became of pinned kernel programs: reused as they were, updated to this version's programs \
         without a gap, replaced because they could not be trusted, created where there were none.",
        &["result"],
    )
});

/// Subdirectories.
const MAPS: &str = "maps";
const PROGRAMS: &str = "programs";
const LINKS: &str = "links";
/// A map that is not in the object, because no program uses it.
const PUBLISHED: &str = "PUBLISHED";
/// Ends the name of a program's pin while it takes another one's place.
const NEXT: &str = "_next";

/// What became of what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::origin) enum Outcome {
    /// Everything is as the previous process left it.
    Reused,
    /// The maps and links are; this version's programs took the place of others.
    Updated,
    /// What was there could not be used and is gone.
    Replaced,
    /// There was nothing.
    Created,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Updated => "updated",
            Self::Replaced => "replaced",
            Self::Created => "created",
        }
    }
}

/// The directory with this process's pins, locked as long as this is there.
pub(in crate::origin) struct Pins {
    base: Base,
    directory: PathBuf,
    pub(in crate::origin) outcome: Outcome,
}

impl Pins {
    /// Whether the maps may hold what a previous process left.
    pub(in crate::origin) fn is_inherited(&self) -> bool {
        matches!(self.outcome, Outcome::Reused | Outcome::Updated)
    }

    /// What was published of the counters; zero for new pins.
    pub(super) fn published(&self) -> Result<Published, OriginError> {
        Published::open(&self.directory.join(MAPS).join(PUBLISHED))
    }

    /// Removes the names: what this process holds goes with it.
    pub(in crate::origin) fn abandon(&self) {
        if let Err(error) = self.base.remove(&self.directory) {
            warn!(%error, path = %self.directory.display(), "pins of a failed start are left; the next start replaces them");
        }
    }
}

/// Programs that are attached and pinned.
pub(super) struct Pinned {
    pub(super) bpf: Ebpf,
    pub(super) links: Vec<Attachment>,
    pub(super) pins: Pins,
}

/// Takes up what is pinned below `path` for this cgroup, or pins anew.
pub(super) fn attach(path: &Path, root: &Root) -> Result<Pinned, OriginError> {
    attach_object(OBJECT, path, root)
}

fn attach_object(object: &[u8], path: &Path, root: &Root) -> Result<Pinned, OriginError> {
    let base = Base::open(path)?;
    let directory = base.path().join(Kind::Current.name(ABI_VERSION, root.id));
    let found = base.list(ABI_VERSION, root.id)?;
    // Loaded before anything that exists is touched: a kernel or a lack of privilege that refuses our programs must
    // not cost what works.
    let mut fresh = load_maps(object)?;
    if found.current {
        match verify::take_up(object, &fresh, &directory, &base, root) {
            Ok((bpf, links, outcome)) => {
                base.remove_all(&found.others);
                return Ok(report(Pinned { bpf, links, pins: Pins { base, directory, outcome } }, root));
            }
            Err(reason) => warn!(
                path = %directory.display(), %reason,
                "pinned kernel programs are not used and are being replaced: connections that are open now count as \
                 older than the agent, and findings that nobody has read are lost"
            ),
        }
    }
    let links = create(&mut fresh, &base, &directory, root, found.current)?;
    base.remove_all(&found.others);
    // A directory of another ABI, or a half-written one, was somebody's state as well.
    let replaced = found.current || found.others.iter().any(|other| other.cgroup == root.id);
    let outcome = if replaced { Outcome::Replaced } else { Outcome::Created };
    Ok(report(Pinned { bpf: fresh, links, pins: Pins { base, directory, outcome } }, root))
}

fn report(pinned: Pinned, root: &Root) -> Pinned {
    let Pins { directory, outcome, .. } = &pinned.pins;
    let result = outcome.as_str();
    PINS.with_label_values(&[result]).inc();
    info!(path = %directory.display(), cgroup = %root.path.display(), result, "kernel programs are pinned");
    pinned
}

/// Our object with maps of its own.
fn load_maps(object: &[u8]) -> Result<Ebpf, OriginError> {
    EbpfLoader::new().load(object).map_err(|e| not_loaded(&e))
}

/// Whether a map outlives its programs. The compiler's own (`.rodata`) hold constants of one version of them.
fn is_pinned(map: &str) -> bool {
    !map.starts_with('.')
}

/// Pins everything in a directory that gets its name only when it is complete, and attaches on the way. What had
/// the name before goes afterwards.
fn create(
    bpf: &mut Ebpf,
    base: &Base,
    directory: &Path,
    root: &Root,
    occupied: bool,
) -> Result<Vec<Attachment>, OriginError> {
    let new = base.path().join(Kind::New.name(ABI_VERSION, root.id));
    let old = base.path().join(Kind::Old.name(ABI_VERSION, root.id));
    let failed = |e: std::io::Error| base.failed(&e);
    base.remove(&new).and_then(|()| base.remove(&old)).map_err(failed)?;
    let links = fill(bpf, &new, root).and_then(|links| {
        if occupied {
            fs::rename(directory, &old).map_err(failed)?;
        }
        fs::rename(&new, directory).map_err(failed)?;
        Ok(links)
    });
    if links.is_err() {
        // The error says more than one of the clean-up would; what stays is found at the next start.
        let _ = base.remove(&new);
    }
    let links = links?;
    base.remove(&old).map_err(failed)?;
    Ok(links)
}

/// Links last: whoever finds one finds all that it depends on.
fn fill(bpf: &mut Ebpf, new: &Path, root: &Root) -> Result<Vec<Attachment>, OriginError> {
    let failed = |e: std::io::Error| OriginError::Pin { path: new.to_path_buf(), source: e };
    for part in [None, Some(MAPS), Some(PROGRAMS), Some(LINKS)] {
        let path = part.map_or_else(|| new.to_path_buf(), |part| new.join(part));
        directory::make(&path).map_err(failed)?;
    }
    let loaded = programs::load(bpf)?;
    for (name, map) in bpf.maps().filter(|(name, _)| is_pinned(name)) {
        let pinned = map.pin(new.join(MAPS).join(name));
        pinned.map_err(|e| OriginError::Map { map: "pinned", chain: super::chain(&e) })?;
    }
    Published::create(&new.join(MAPS).join(PUBLISHED))?;
    for Loaded { hook, program, .. } in &loaded {
        sys::pin(program.as_fd(), &new.join(PROGRAMS).join(hook.name)).map_err(failed)?;
    }
    let mut links = Vec::with_capacity(loaded.len());
    for program in &loaded {
        let link = program.attach(root)?;
        sys::pin(link.as_fd(), &new.join(LINKS).join(program.hook.name)).map_err(failed)?;
        links.push(link);
    }
    Ok(links)
}

#[cfg(test)]
mod tests;
