//! Pins in a bpffs of the test's own, which is mounted in a mount namespace of the test's own and goes with it.

use super::*;
use crate::origin::{
    bpf::abi,
    capabilities,
    loader::{self, cgroup2},
};
use aya::maps::Map;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use spanwarden_ebpf::abi::{DenyKey, MODE_BLOCK, Policy, Pulse};
use std::{
    collections::BTreeSet,
    env,
    net::IpAddr,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    process::Command,
    thread,
    time::{Duration, Instant},
};

const BASE: &str = "/run/spanwarden";

/// Runs `body` in a process of its own, with a cgroup that goes when it has ended, and a bpffs at `/run` that nobody
/// else sees.
fn with_bpffs(test: &str, body: impl FnOnce(&Root)) {
    if let Some(cgroup) = env::var_os("TEST_CGROUP") {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("bpf"), "/run", Some("bpf"), MsFlags::empty(), none).unwrap();
        return body(&cgroup2::open(cgroup.into()).unwrap());
    }
    let missing = capabilities::missing_for_bpf();
    if !missing.is_empty() {
        assert!(env::var_os("CI").is_none(), "CI must run this with {missing:?}");
        eprintln!("skipped: needs {missing:?}");
        return;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let hierarchy = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 mount");
    let name = format!("spanwarden-test-{}-{test}", std::process::id());
    let cgroup = Path::new(hierarchy.split(' ').nth(4).unwrap()).join(name);
    fs::create_dir(&cgroup).unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("origin::loader::pins::tests::{test}"), "--nocapture"])
        .env("TEST_CGROUP", &cgroup)
        .status();
    fs::remove_dir(&cgroup).unwrap();
    assert!(status.unwrap().success(), "{test} in a process of its own");
}

fn pin(root: &Root) -> Pinned {
    pin_object(OBJECT, root)
}

fn pin_object(object: &[u8], root: &Root) -> Pinned {
    attach_object(object, Path::new(BASE), root).unwrap_or_else(|error| panic!("{error}"))
}

fn current(root: &Root) -> PathBuf {
    Path::new(BASE).join(Kind::Current.name(ABI_VERSION, root.id))
}

/// Another version of our programs: in each one the first `rX = N` is written `wX = N`, which does the same.
fn variant() -> Vec<u8> {
    let mut object = OBJECT.to_vec();
    let number = |object: &[u8], at: usize, bytes: usize| {
        object[at..at + bytes].iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
    };
    // elf(5): e_shoff, e_shnum; of each header of 64 bytes sh_flags with SHF_EXECINSTR (4), sh_offset, sh_size.
    let (headers, count) = (number(&object, 40, 8), number(&object, 60, 2));
    for header in (0..count).map(|section| headers + 64 * section) {
        if number(&object, header + 8, 8) & 4 == 0 {
            continue;
        }
        let (at, size) = (number(&object, header + 24, 8), number(&object, header + 32, 8));
        let mut code = object[at..at + size].chunks_exact_mut(8);
        // BPF_ALU64 | BPF_MOV | BPF_K; no source register, no offset, a number that is not negative.
        if let Some(mov) = code.find(|i| i[0] == 0xb7 && i[1] < 10 && i[2..4] == [0, 0] && i[7] < 0x80) {
            mov[0] = 0xb4;
        }
    }
    object
}

/// Ids of what is pinned: of maps, programs and links by name.
fn ids(root: &Root) -> Vec<(String, u64)> {
    let mut ids = Vec::new();
    for (part, field) in [(MAPS, "map_id"), (PROGRAMS, "prog_id"), (LINKS, "link_id")] {
        for entry in fs::read_dir(current(root).join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(current(root)).unwrap().display().to_string();
            let object = sys::open(&path).unwrap();
            ids.push((
                name,
                crate::origin::loader::fdinfo::of(object.as_fd()).unwrap().number(field).unwrap(),
            ));
        }
    }
    ids.sort();
    ids
}

fn of_part<'a>(part: &str, ids: &'a [(String, u64)]) -> Vec<&'a (String, u64)> {
    ids.iter().filter(|(name, _)| name.starts_with(part)).collect()
}

/// How many programs are attached to the cgroup, at all our hooks.
fn attached(root: &Root) -> usize {
    let count = |hook: &programs::Hook| sys::programs_at(root.dir.as_fd(), hook.attach_type).unwrap();
    programs::HOOKS.iter().map(count).sum()
}

/// That so many programs are attached, as soon as the kernel has let go of those whose pins were removed: an inode
/// of a bpffs is freed after a grace period of its own.
fn assert_attached(count: usize, root: &Root, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while attached(root) > count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(attached(root), count, "{what}");
}

#[test]
fn a_second_start_finds_everything_as_it_was() {
    with_bpffs("a_second_start_finds_everything_as_it_was", |root| {
        let first = pin(root);
        assert_eq!(first.pins.outcome, Outcome::Created);
        let (before, count) = (ids(root), first.links.len());
        assert_eq!(attached(root), count);
        drop(first);
        assert_attached(count, root, "what is pinned stays attached");
        let second = pin(root);
        assert_eq!(second.pins.outcome, Outcome::Reused);
        assert_eq!(ids(root), before);
        assert_eq!(attached(root), count);
        assert!(second.links.iter().all(Attachment::is_attached));
        second.pins.abandon();
        drop(second);
        assert_attached(0, root, "an abandoned start leaves nothing");
        assert_eq!(pin(root).pins.outcome, Outcome::Created);
    });
}

#[test]
fn other_programs_take_the_place_of_the_pinned_ones_within_the_same_links() {
    with_bpffs("other_programs_take_the_place_of_the_pinned_ones_within_the_same_links", |root| {
        drop(pin(root));
        let before = ids(root);
        let updated = pin_object(&variant(), root);
        assert_eq!(updated.pins.outcome, Outcome::Updated);
        let count = updated.links.len();
        drop(updated);
        let after = ids(root);
        for part in [MAPS, LINKS] {
            assert_eq!(of_part(part, &before), of_part(part, &after));
        }
        let programs = of_part(PROGRAMS, &before);
        assert!(
            programs.iter().zip(of_part(PROGRAMS, &after)).all(|(a, b)| a.0 == b.0 && a.1 != b.1),
            "{after:?}"
        );
        assert_eq!(attached(root), count);
        let again = pin_object(&variant(), root);
        assert_eq!(again.pins.outcome, Outcome::Reused, "the update is complete");
        drop(again);
        assert_eq!(ids(root), after);
        assert_eq!(pin(root).pins.outcome, Outcome::Updated, "and back");
    });
}

/// Killed between any two steps of an update, it is found as it was or as it was to be.
#[test]
fn an_interrupted_update_is_finished_or_taken_back() {
    with_bpffs("an_interrupted_update_is_finished_or_taken_back", |root| {
        drop(pin(root));
        let programs = current(root).join(PROGRAMS);
        let (name, next) = ("plaintext_egress", format!("plaintext_egress{NEXT}"));
        let mut other = load_maps(OBJECT).unwrap();
        let other = programs::load(&mut other).unwrap();
        let other = other.iter().find(|loaded| loaded.hook.name == name).unwrap();
        let before = ids(root);

        // The new program was pinned, and no more.
        sys::pin(other.program.as_fd(), &programs.join(&next)).unwrap();
        let taken_up = pin(root);
        assert_eq!(taken_up.pins.outcome, Outcome::Reused);
        drop(taken_up);
        assert_eq!(ids(root), before);

        // The link was updated as well; here its program gets the name that it had in between.
        fs::rename(programs.join(name), programs.join(&next)).unwrap();
        sys::pin(other.program.as_fd(), &programs.join(name)).unwrap();
        let taken_up = pin(root);
        assert_eq!(taken_up.pins.outcome, Outcome::Reused);
        drop(taken_up);
        assert_eq!(ids(root), before);
    });
}

/// What somebody did to the pins.
type Deed = (&'static str, fn(&Root, &Path));

const DEEDS: [Deed; 15] = [
    ("a program under a link's name", |_, pins| {
        fs::remove_file(pins.join("links/origin_connect4")).unwrap();
        let program = sys::open(&pins.join("programs/origin_connect4")).unwrap();
        sys::pin(program.as_fd(), &pins.join("links/origin_connect4")).unwrap();
    }),
    ("two links exchanged", |_, pins| {
        let links = pins.join(LINKS);
        fs::rename(links.join("origin_connect4"), links.join("aside")).unwrap();
        fs::rename(links.join("origin_connect6"), links.join("origin_connect4")).unwrap();
        fs::rename(links.join("aside"), links.join("origin_connect6")).unwrap();
    }),
    ("a link to another cgroup", |root, pins| {
        let below = root.path.join("below");
        fs::create_dir(&below).unwrap();
        let cgroup = fs::File::open(&below).unwrap();
        let program = sys::open(&pins.join("programs/plaintext_egress")).unwrap();
        let link = sys::link_create(program.as_fd(), cgroup.as_fd(), 1).unwrap();
        fs::remove_file(pins.join("links/plaintext_egress")).unwrap();
        sys::pin(link.as_fd(), &pins.join("links/plaintext_egress")).unwrap();
        drop(cgroup);
        drop(link);
        fs::remove_dir(&below).unwrap();
    }),
    ("a link with a program that nobody pinned", |root, pins| {
        let mut other = load_maps(&variant()).unwrap();
        let link = link_of(&mut other, "origin_connect4", root);
        fs::remove_file(pins.join("links/origin_connect4")).unwrap();
        sys::pin(link.as_fd(), &pins.join("links/origin_connect4")).unwrap();
    }),
    ("our own program, with other maps", |root, pins| {
        let mut other = load_maps(OBJECT).unwrap();
        let loaded = programs::load(&mut other).unwrap();
        let loaded = loaded.iter().find(|loaded| loaded.hook.name == "origin_connect4").unwrap();
        for part in [PROGRAMS, LINKS] {
            fs::remove_file(pins.join(part).join("origin_connect4")).unwrap();
        }
        sys::pin(loaded.program.as_fd(), &pins.join("programs/origin_connect4")).unwrap();
        let link = loaded.attach(root).unwrap();
        sys::pin(link.as_fd(), &pins.join("links/origin_connect4")).unwrap();
    }),
    ("a link that is missing", |_, pins| fs::remove_file(pins.join("links/origin_connect6")).unwrap()),
    ("a link that is too many", |root, pins| {
        let program = sys::open(&pins.join("programs/plaintext_egress")).unwrap();
        let link = sys::link_create(program.as_fd(), root.dir.as_fd(), 1).unwrap();
        sys::pin(link.as_fd(), &pins.join("links/another")).unwrap();
    }),
    ("a map of another shape", |_, pins| {
        let map = aya::maps::Array::<_, u64>::create(3, 0).unwrap();
        fs::remove_file(pins.join("maps/SETTINGS")).unwrap();
        map.pin(pins.join("maps/SETTINGS")).unwrap();
    }),
    ("a map that is missing", |_, pins| fs::remove_file(pins.join("maps/JOIN")).unwrap()),
    ("a map that is frozen", |_, pins| {
        sys::freeze(sys::open(&pins.join("maps/SETTINGS")).unwrap().as_fd()).unwrap();
    }),
    ("a map under two names", |_, pins| {
        fs::remove_file(pins.join("maps/OWN")).unwrap();
        let map = sys::open(&pins.join("maps/JOIN")).unwrap();
        sys::pin(map.as_fd(), &pins.join("maps/OWN")).unwrap();
    }),
    ("a directory open for others", |_, pins| {
        fs::set_permissions(pins.join(MAPS), fs::Permissions::from_mode(0o770)).unwrap();
    }),
    ("a directory of somebody else", |_, pins| chown(pins, Some(65_534), None).unwrap()),
    ("a symbolic link in a directory's place", |_, pins| {
        let elsewhere = Path::new("/run/elsewhere");
        fs::rename(pins.join(PROGRAMS), elsewhere).unwrap();
        symlink(elsewhere, pins.join(PROGRAMS)).unwrap();
    }),
    ("a parent that others could write to", |_, pins| {
        let base = pins.parent().unwrap();
        fs::set_permissions(base, fs::Permissions::from_mode(0o1777)).unwrap();
    }),
];

fn link_of(bpf: &mut Ebpf, name: &str, root: &Root) -> Attachment {
    let loaded = programs::load(bpf).unwrap();
    loaded.iter().find(|loaded| loaded.hook.name == name).unwrap().attach(root).unwrap()
}

#[test]
fn what_is_not_verified_is_replaced_and_goes() {
    with_bpffs("what_is_not_verified_is_replaced_and_goes", |root| {
        let count = pin(root).links.len();
        for (deed, manipulate) in DEEDS {
            let before = ids(root);
            manipulate(root, &current(root));
            let after_deed = pin(root);
            assert_eq!(after_deed.pins.outcome, Outcome::Replaced, "{deed}");
            assert_attached(count, root, deed);
            drop(after_deed);
            let after = ids(root);
            assert!(after.iter().all(|id| !before.contains(id)), "{deed}: nothing is used again");
            let again = pin(root);
            assert_eq!(again.pins.outcome, Outcome::Reused, "{deed}: the replacement is whole");
            let names: Vec<_> = fs::read_dir(BASE).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 1, "{deed}: {names:?}");
        }
    });
}

#[test]
fn what_a_crash_another_version_or_another_cgroup_has_left_is_removed() {
    with_bpffs("what_a_crash_another_version_or_another_cgroup_has_left_is_removed", |root| {
        let rename = |to: String| {
            let first = pin(root);
            let count = first.links.len();
            drop(first);
            fs::rename(current(root), Path::new(BASE).join(to)).unwrap();
            count
        };
        let others = [
            (Kind::New.name(ABI_VERSION, root.id), Outcome::Replaced),
            (Kind::Old.name(ABI_VERSION, root.id), Outcome::Replaced),
            (Kind::Current.name(ABI_VERSION - 1, root.id), Outcome::Replaced),
            (Kind::Current.name(ABI_VERSION, root.id + 1), Outcome::Created),
        ];
        for (name, outcome) in others {
            let count = rename(name.clone());
            if name.starts_with("new") {
                fs::remove_file(Path::new(BASE).join(&name).join("links/origin_connect6")).unwrap();
            }
            let foreign = Path::new(BASE).join("not_ours");
            fs::create_dir_all(&foreign).unwrap();
            let second = pin(root);
            assert_eq!(second.pins.outcome, outcome, "{name}");
            assert_attached(count, root, &name);
            assert!(!Path::new(BASE).join(&name).exists(), "{name}");
            assert!(foreign.exists());
            second.pins.abandon();
        }
    });
}

#[test]
fn maps_keep_their_content() {
    with_bpffs("maps_keep_their_content", |root| {
        let mut first = pin(root);
        let Some(Map::HashMap(own)) = first.bpf.take_map("OWN") else { panic!("OWN") };
        let mut own = aya::maps::HashMap::<_, [u8; 16], u32>::try_from(Map::HashMap(own)).unwrap();
        own.insert([7; 16], 1, 0).unwrap();
        drop((own, first));
        let mut second = pin_object(&variant(), root);
        let own = second.bpf.take_map("OWN").unwrap();
        let own = aya::maps::HashMap::<_, [u8; 16], u32>::try_from(own).unwrap();
        assert_eq!(own.get(&[7; 16], 0).unwrap(), 1);
    });
}

#[test]
fn what_a_previous_process_wanted_is_forgotten() {
    with_bpffs("what_a_previous_process_wanted_is_forgotten", |root| {
        let start = || {
            let loaded = loader::attach(root.path.clone(), Some(Path::new(BASE)));
            let mut attached = loaded.unwrap_or_else(|error| panic!("{error}")).attached;
            (attached.take_enforce_side().unwrap(), attached)
        };
        let (mut side, mut attached) = start();
        let pulse = abi::Pulse(Pulse { boot_ns: u64::MAX, enforce: 1, reserved: 0 });
        side.pulse.set(0, pulse, 0).unwrap();
        side.policies.insert(7, abi::Policy(Policy { mode: MODE_BLOCK, ..Policy::default() }), 0).unwrap();
        let key = abi::DenyKey(DenyKey { cgroup_id: 7, ..DenyKey::default() });
        side.denied.insert(key, u64::MAX, 0).unwrap();
        let addresses = |text: &[&str]| text.iter().map(|address| address.parse().unwrap()).collect();
        attached.set_own(&addresses(&["10.0.0.1", "fd00::1"])).unwrap();
        drop((side, attached));

        let (side, mut attached) = start();
        assert_eq!(side.pulse.get(&0, 0).unwrap().0, Pulse::default());
        assert_eq!((side.policies.keys().count(), side.denied.keys().count()), (0, 0));
        attached.set_own(&addresses(&["10.0.0.2", "fd00::1"])).unwrap();
        drop((side, attached));
        let map = pin(root).bpf.take_map("OWN").unwrap();
        let map = aya::maps::HashMap::<_, [u8; 16], u32>::try_from(map).unwrap();
        let own: BTreeSet<IpAddr> = map.keys().map(|key| loader::own::from_bytes(key.unwrap())).collect();
        assert_eq!(own, addresses(&["10.0.0.2", "fd00::1"]));
    });
}

#[test]
fn a_directory_of_another_user_is_refused() {
    with_bpffs("a_directory_of_another_user_is_refused", |root| {
        fs::create_dir(BASE).unwrap();
        chown(BASE, Some(65_534), None).unwrap();
        let Err(error) = attach(Path::new(BASE), root) else { panic!("taken for ours") };
        assert!(matches!(&error, OriginError::PinOwner { owner: 65_534, .. }), "{error}");
        assert_eq!(attached(root), 0);
    });
}

#[test]
fn a_second_agent_is_told_so_and_breaks_nothing() {
    with_bpffs("a_second_agent_is_told_so_and_breaks_nothing", |root| {
        let first = pin(root);
        let before = ids(root);
        let Err(error) = attach(Path::new(BASE), root) else { panic!("two agents on one directory") };
        assert!(matches!(&error, OriginError::PinLocked { .. }), "{error}");
        assert_eq!(ids(root), before);
        assert!(first.links.iter().all(Attachment::is_attached));
    });
}
