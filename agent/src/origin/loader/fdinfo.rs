//! What the kernel tells of a map, program or link in `/proc/self/fdinfo` (proc(5)): to everybody who has it
//! open, without any capability.

#![forbid(unsafe_code)]

use std::{
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Lines `name:\tvalue`.
pub(super) struct Info(String);

/// The description of an open descriptor.
pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Info> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).map(Info)
}

impl Info {
    /// The text after a name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }

    /// The number after a name; the kernel writes flags in hexadecimal, with `0x`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_s_description_is_read() {
        let info = Info(
            "pos:\t0\nflags:\t02000002\nlink_type:\tcgroup\nlink_id:\t17\nprog_id:\t42\ncgroup_id:\t0\nmap_flags:\t0x1f\n"
                .to_owned(),
        );
        assert_eq!(info.text("link_type"), Some("cgroup"));
        assert_eq!(info.number("link_id"), Some(17));
        assert_eq!(info.number("cgroup_id"), Some(0));
        assert_eq!(info.number("cgroup"), None, "a name is not the beginning of another");
        assert_eq!(info.number("link_type"), None);
        assert_eq!(info.number("map_flags"), Some(31));
    }
}
