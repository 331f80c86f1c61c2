//! How much memory this process uses, and how much it may use.

#![forbid(unsafe_code)]

use std::{fs, path::Path};

/// Resident memory of this process in bytes (`/proc/self/statm`, second field, in pages).
pub fn resident() -> Option<u64> {
    let statm = procfs::process::Process::myself().ok()?.statm().ok()?;
    Some(statm.resident * procfs::page_size())
}

/// What this process may use in bytes: the lowest limit of its cgroup and the cgroups above it, or the
/// machine's memory where there is none.
pub fn limit() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let cgroup = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|membership| cgroup_limit(Path::new("/sys/fs/cgroup"), &membership));
    match (machine, cgroup) {
        (Some(machine), Some(cgroup)) => Some(machine.min(cgroup)),
        (machine, cgroup) => machine.or(cgroup),
    }
}

/// `MemTotal` of `/proc/meminfo`, which is given in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit on the way from the cgroup named in `/proc/self/cgroup` up to the mount's root. Inside a
/// container the path may not exist below the mount; the mount's root is then the container's own cgroup.
fn cgroup_limit(mount: &Path, membership: &str) -> Option<u64> {
    let mut lowest = None;
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            (mount.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let start = root.join(path.trim_start_matches('/'));
        for group in start.ancestors().take_while(|group| group.starts_with(&root)) {
            // "max" on v2 and a page-rounded i64::MAX on v1 mean no limit; neither becomes the lowest.
            let limit =
                fs::read_to_string(group.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
            lowest = match (lowest, limit) {
                (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
                (a, b) => a.or(b),
            };
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_known_and_below_the_limit() {
        let (resident, limit) = (resident().unwrap(), limit().unwrap());
        assert!(resident > 0 && resident < limit, "{resident} of {limit}");
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let mount = std::env::temp_dir().join(format!("spanwarden-cgroup-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = mount.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("pods/memory.max", "3000\n");
        write("pods/a/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/docker/b/memory.limit_in_bytes", "5000\n");
        let cases = [
            ("0::/pods/a\n", Some(3000)),
            ("0::/\n", None),
            ("0::/not/here\n", None),
            ("4:memory:/docker/b\n1:cpu:/docker/b\n", Some(5000)),
            ("4:cpu,memory:/gone\n", Some(9_223_372_036_854_771_712)),
            ("garbage\n", None),
        ];
        for (membership, expected) in cases {
            assert_eq!(cgroup_limit(&mount, membership), expected, "{membership}");
        }
        fs::remove_dir_all(&mount).unwrap();
    }
}
