//! A program's attachment, and whether it is still one.

#![forbid(unsafe_code)]

use aya::programs::links::FdLink;
use std::{fs, path::PathBuf};

/// Where the kernel tells about this process's descriptors (proc(5)).
const FDINFO: &str = "/proc/self/fdinfo";

/// An attached program. Dropping it detaches the program.
pub(super) struct Attachment {
    link: FdLink,
    /// The link's entry in [`FDINFO`].
    fdinfo: Option<PathBuf>,
}

impl Attachment {
    pub(super) fn new(link: FdLink) -> Self {
        let fdinfo = link.info().ok().and_then(|info| entry_of(info.id()));
        Self { link, fdinfo }
    }

    /// Whether the program is still attached. A link stays, and answers, after `BPF_LINK_DETACH`; only the cgroup
    /// in its description is then 0 (`bpf_cgroup_link_show_fdinfo`, Linux 5.7).
    pub(super) fn is_attached(&self) -> bool {
        match &self.fdinfo {
            Some(entry) => fs::read_to_string(entry)
                .is_ok_and(|text| field(&text, "cgroup_id").is_some_and(|id| id != 0)),
            None => self.link.info().is_ok(),
        }
    }
}

/// The entry of the link with this id. The library does not give its descriptor away.
fn entry_of(link: u32) -> Option<PathBuf> {
    let entries = fs::read_dir(FDINFO).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| {
        fs::read_to_string(path).is_ok_and(|text| field(&text, "link_id") == Some(u64::from(link)))
    })
}

/// The number in a line `name:\tnumber`.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_s_description_is_read() {
        let text =
            "pos:\t0\nflags:\t02000002\nlink_type:\tcgroup\nlink_id:\t17\nprog_id:\t42\ncgroup_id:\t0\n";
        assert_eq!(field(text, "link_id"), Some(17));
        assert_eq!(field(text, "cgroup_id"), Some(0));
        assert_eq!(field(text, "cgroup"), None);
    }
}
