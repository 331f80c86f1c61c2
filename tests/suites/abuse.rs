//! What a process does to be taken for another, or to be found by nobody: evidence is the truth, or there is none.
//!
//! Forged cgroup names, and the same addresses and ports in two namespaces, are in the suite of attribution; floods and
//! exhausted maps in that of the kernel side.

#[path = "attribution/server.rs"]
mod server;

#[allow(dead_code, reason = "shared with the suite of the kernel side, which needs all of it")]
#[path = "kernel_side/programs.rs"]
mod programs;

mod abuse {
    pub(crate) mod foreign;
    pub(crate) mod packets;
    pub(crate) mod sockets;
}
