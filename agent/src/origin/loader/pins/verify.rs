//! Whether pins are what this version would have made, piece by piece, and the update of those that are not.
//!
//! A name proves nothing. A map counts by what the kernel says of its shape; a link by its hook and cgroup; a
//! program by the hash of its instructions (its tag) and by the ids of the maps it works with, because the tag
//! leaves those out.

#![forbid(unsafe_code)]

use super::{
    LINKS, MAPS, NEXT, Outcome, PROGRAMS, PUBLISHED,
    directory::{self, Base},
    is_pinned,
};
use crate::origin::bpf::KEPT;
use crate::origin::loader::{
    Root, chain, fdinfo,
    link::Attachment,
    programs::{self, Loaded},
    sys::{self, ProgramInfo},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

/// Why pins are not used.
pub(super) type Reason = String;

/// What a map is, besides its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    /// As [`SHAPE`] names them.
    numbers: [Option<u64>; 5],
    /// A frozen map takes no value from user space any more.
    frozen: Option<u64>,
}

const SHAPE: [&str; 5] = ["map_type", "key_size", "value_size", "max_entries", "map_flags"];

impl Shape {
    fn of(info: &fdinfo::Info) -> Self {
        Self { numbers: SHAPE.map(|name| info.number(name)), frozen: info.number("frozen") }
    }

    /// Of a `BPF_MAP_TYPE_ARRAY` (2), whose keys are `u32`.
    fn of_array(value: usize, entries: usize) -> Self {
        Self { numbers: [2, 4, value as u64, entries as u64, 0].map(Some), frozen: Some(0) }
    }
}

/// The pinned maps, by which a program is told from one that looks the same and works with others.
struct Known {
    ids: BTreeSet<u32>,
    /// Maps that belong to the programs alone ([`super::is_pinned`]).
    unpinned: usize,
}

impl Known {
    fn fit(&self, maps: &[u32]) -> bool {
        maps.iter().filter(|id| !self.ids.contains(id)).count() <= self.unpinned
    }
}

/// Uses the pins in `directory`: as they are, or with our programs in the place of theirs.
pub(super) fn take_up(
    object: &[u8],
    fresh: &Ebpf,
    directory: &Path,
    base: &Base,
    root: &Root,
) -> Result<(Ebpf, Vec<Attachment>, Outcome), Reason> {
    if !base.trusted {
        return Err(format!("`{}` was writable for others", base.path().display()));
    }
    directory::is_ours(directory)?;
    for part in [MAPS, PROGRAMS, LINKS] {
        directory::is_ours(&directory.join(part))?;
    }
    let known = maps(fresh, &directory.join(MAPS))?;
    let (bpf, ours) = load_with(object, fresh, &directory.join(MAPS), &known)?;
    let links =
        ours.iter().map(|ours| Link::open(ours, directory, root, &known)).collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<String> = ours.iter().map(|ours| ours.hook.name.to_owned()).collect();
    if names_in(&directory.join(LINKS))? != names {
        return Err("there are links of other names".to_owned());
    }
    let mut outcome = Outcome::Reused;
    for (link, ours) in links.iter().zip(&ours) {
        link.settle(directory)?;
        if !link.runs(&ours.info) {
            outcome = Outcome::Updated;
            link.update(ours, directory)?;
        }
    }
    clear_leftovers(&directory.join(PROGRAMS), &names)?;
    Ok((bpf, links.into_iter().map(|link| Attachment::new(link.fd)).collect(), outcome))
}

/// The ids of the pinned maps, which are those of the object and no others.
fn maps(fresh: &Ebpf, directory: &Path) -> Result<Known, Reason> {
    let mut expected: BTreeMap<String, Shape> = fresh
        .maps()
        .filter(|(name, _)| is_pinned(name))
        .map(|(name, map)| {
            let fd = map_fd(map).ok_or_else(|| format!("map {name} is of a type that is not pinned"))?;
            let info = fdinfo::of(fd).map_err(|e| e.to_string())?;
            Ok((name.to_owned(), Shape::of(&info)))
        })
        .collect::<Result<_, Reason>>()?;
    expected.insert(PUBLISHED.to_owned(), Shape::of_array(size_of::<u64>(), KEPT));
    if names_in(directory)? != expected.keys().cloned().collect() {
        return Err("there are other maps than this version has".to_owned());
    }
    let mut ids = BTreeSet::new();
    for (name, shape) in &expected {
        let info = open(&directory.join(name)).and_then(|map| fdinfo::of(map.as_fd()));
        let info = info.map_err(|e| format!("map {name}: {e}"))?;
        let found = Shape::of(&info);
        if found != *shape {
            return Err(format!(
                "map {name} is not of the shape it must have: {found:?} instead of {shape:?}"
            ));
        }
        let id = info.number("map_id").and_then(|id| u32::try_from(id).ok());
        if !ids.insert(id.ok_or_else(|| format!("map {name} has no id"))?) {
            return Err(format!("map {name} is pinned under two names"));
        }
    }
    Ok(Known { ids, unpinned: fresh.maps().filter(|(name, _)| !is_pinned(name)).count() })
}

/// Our programs, loaded with the pinned maps instead of their own.
fn load_with(
    object: &[u8],
    fresh: &Ebpf,
    directory: &Path,
    known: &Known,
) -> Result<(Ebpf, Vec<Loaded>), Reason> {
    let names: Vec<&str> = fresh.maps().map(|(name, _)| name).filter(|name| is_pinned(name)).collect();
    let mut loader = EbpfLoader::new();
    for name in names {
        loader.map_pin_path(name, directory.join(name));
    }
    let mut bpf = loader.load(object).map_err(|e| chain(&e))?;
    let ours = programs::load(&mut bpf).map_err(|e| e.to_string())?;
    // The loader makes what it cannot open; that would be a map that nobody else knows.
    match ours.iter().find(|ours| !known.fit(&ours.info.maps)) {
        Some(other) => Err(format!("{} was loaded with other maps than the pinned ones", other.hook.name)),
        None => Ok((bpf, ours)),
    }
}

/// A pinned link of ours, and the program in it.
struct Link {
    name: &'static str,
    /// The program has the name of one that is to take another's place.
    is_next: bool,
    fd: OwnedFd,
    program: OwnedFd,
    info: ProgramInfo,
}

impl Link {
    fn open(ours: &Loaded, directory: &Path, root: &Root, known: &Known) -> Result<Self, Reason> {
        let name = ours.hook.name;
        let link = open(&directory.join(LINKS).join(name)).map_err(|e| format!("link {name}: {e}"))?;
        let told = fdinfo::of(link.as_fd()).map_err(|e| format!("link {name}: {e}"))?;
        let at = (told.text("link_type"), told.number("cgroup_id"), told.number("attach_type"));
        let expected = (Some("cgroup"), Some(root.id), Some(u64::from(ours.hook.attach_type)));
        if at != expected {
            return Err(format!(
                "link {name} is not one of our hook and cgroup: {at:?} instead of {expected:?}"
            ));
        }
        // Under its own name, or under the next one's when an update was interrupted.
        for (pin, is_next) in [(name.to_owned(), false), (format!("{name}{NEXT}"), true)] {
            let path = directory.join(PROGRAMS).join(pin);
            let Ok(program) = open(&path) else { continue };
            let Ok(info) = sys::program_info(program.as_fd()) else { continue };
            if told.number("prog_id") == Some(u64::from(info.id)) {
                if info.kind != ours.info.kind || !known.fit(&info.maps) {
                    return Err(format!(
                        "the program in link {name} works with other maps than the pinned ones"
                    ));
                }
                return Ok(Self { name, is_next, fd: link, program, info });
            }
        }
        Err(format!("the program in link {name} is none that was pinned for it"))
    }

    /// Whether its program is the same as `ours`: instruction by instruction, and map by map.
    fn runs(&self, ours: &ProgramInfo) -> bool {
        (self.info.kind, self.info.tag, &self.info.maps) == (ours.kind, ours.tag, &ours.maps)
    }

    /// Finishes or takes back an update that was interrupted: the program in the link gets the name that it must
    /// have, and the other one's name goes.
    fn settle(&self, directory: &Path) -> Result<(), Reason> {
        let programs = directory.join(PROGRAMS);
        let next = programs.join(format!("{}{NEXT}", self.name));
        let settled =
            if self.is_next { fs::rename(&next, programs.join(self.name)) } else { fs::remove_file(&next) };
        match settled {
            Err(error) if self.is_next || error.kind() != io::ErrorKind::NotFound => {
                Err(format!("interrupted update of {}: {error}", self.name))
            }
            _ => Ok(()),
        }
    }

    /// Puts our program in the place of the one in the link, which is pinned under its own name ([`Self::settle`]).
    /// At every moment one of the two names is that of the program in the link.
    fn update(&self, ours: &Loaded, directory: &Path) -> Result<(), Reason> {
        let name = ours.hook.name;
        let failed = |what: &str, e: io::Error| format!("update of {name}: {what}: {e}");
        let pin = directory.join(PROGRAMS).join(name);
        let next = directory.join(PROGRAMS).join(format!("{name}{NEXT}"));
        sys::pin(ours.program.as_fd(), &next).map_err(|e| failed("new pin", e))?;
        sys::link_update(self.fd.as_fd(), ours.program.as_fd(), self.program.as_fd())
            .map_err(|e| failed("BPF_LINK_UPDATE", e))?;
        fs::rename(&next, &pin).map_err(|e| failed("renaming the new pin", e))?;
        let told = fdinfo::of(self.fd.as_fd()).map_err(|e| failed("checking", e))?;
        if told.number("prog_id") == Some(u64::from(ours.info.id)) {
            Ok(())
        } else {
            Err(format!("link {name} does not run the program that it was updated to"))
        }
    }
}

/// Removes what has no business among the programs.
fn clear_leftovers(directory: &Path, names: &BTreeSet<String>) -> Result<(), Reason> {
    for name in names_in(directory)?.difference(names) {
        let removed = fs::remove_file(directory.join(name));
        removed.map_err(|e| format!("program pin {name} is none of ours and stays: {e}"))?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    // What the kernel would follow a symbolic link to is not in the directory that was checked.
    if fs::symlink_metadata(path)?.is_symlink() {
        return Err(io::Error::other("a symbolic link"));
    }
    sys::open(path)
}

fn names_in(directory: &Path) -> Result<BTreeSet<String>, Reason> {
    let failed = |e: io::Error| format!("`{}`: {e}", directory.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.insert(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The library hides what all maps have in common.
fn map_fd(map: &Map) -> Option<BorrowedFd<'_>> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd())
}
