//! A program's attachment, and whether it is still one.

#![forbid(unsafe_code)]

use super::fdinfo;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// An attached program. Dropping it detaches the program, unless the link is pinned.
pub(super) struct Attachment {
    link: OwnedFd,
}

impl Attachment {
    pub(super) fn new(link: OwnedFd) -> Self {
        Self { link }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// Whether the program is still attached. A link stays, and answers, after `BPF_LINK_DETACH`; only the cgroup
    /// in its description is then 0 (`bpf_cgroup_link_show_fdinfo`, Linux 5.7).
    pub(super) fn is_attached(&self) -> bool {
        fdinfo::of(self.link.as_fd()).is_ok_and(|info| info.number("cgroup_id").is_some_and(|id| id != 0))
    }
}
