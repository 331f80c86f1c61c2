//! Why there is no kernel evidence, and what to do about it.

use std::{error::Error, io, path::PathBuf};

/// Why the kernel side could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Capabilities are missing.
    #[error(
        "kernel evidence needs the capabilities {}, which this process lacks: add them to the container's \
         securityContext (no privileged mode is needed), or run as root; the kernel said: {chain}",
        missing.join(" and ")
    )]
    Capabilities {
        /// Names as Kubernetes writes them, without `CAP_`.
        missing: Vec<&'static str>,
        /// The kernel's answer.
        chain: String,
    },
    /// `extensions.origin.cgroup` is no directory.
    #[error("`{}` cannot be opened: {source}; set `extensions.origin.cgroup` to the host's cgroup2 directory", path.display())]
    NoCgroup {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `extensions.origin.cgroup` is a directory of another file system.
    #[error(
        "`{}` is not in a cgroup2 hierarchy, and programs attach only there; {hint}", path.display()
    )]
    NotCgroup2 {
        /// As configured.
        path: PathBuf,
        /// Where the hierarchy is, or how to get one.
        hint: String,
    },
    /// An older kernel than 5.10.
    #[error(
        "this kernel is {found}; kernel evidence needs 5.10 or newer. Upgrade the node, or set \
         `extensions.origin.evidence: preferred` to go on with the peer's address as the only evidence"
    )]
    KernelTooOld {
        /// What it is.
        found: String,
    },
    /// `uname` failed or made no sense.
    #[error("the kernel's version cannot be read: {0}")]
    KernelVersion(String),
    /// Somebody else's program is attached in exclusive mode.
    #[error(
        "the kernel refuses to attach `{program}` at `{}` although no capability is missing: another program \
         is attached there or above without BPF_F_ALLOW_MULTI. `bpftool cgroup tree {}` shows it; its owner must \
         attach by link or with the multi flag", path.display(), path.display()
    )]
    ForeignProgram {
        /// Ours.
        program: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A program could not be attached for another reason.
    #[error("`{program}` cannot be attached at `{}`: {chain}", path.display())]
    Attach {
        /// Ours.
        program: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        chain: String,
    },
    /// The kernel does not take the programs or maps.
    #[error(
        "the kernel does not load the programs although no capability is missing: {chain}. Is the kernel built \
         with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL? Please report the message with `uname -r`"
    )]
    Load {
        /// The kernel's answer, the verifier's log included.
        chain: String,
    },
    /// The embedded object is not ours.
    #[error(
        "the embedded BPF object has no `{0}`: it was built from other sources; run `cargo xtask ebpf build`"
    )]
    Object(&'static str),
    /// This process is not in the watched cgroup.
    #[error(
        "this process is outside of the cgroup that `extensions.origin.cgroup` names, and the kernel programs see only \
         what is in it: watch the hierarchy's root, or start the agent in a cgroup below"
    )]
    Outside,
    /// The programs could not store who opened a connection.
    #[error(
        "the kernel has no memory to store who opens a connection: raise net.core.optmem_max, which limits what a socket \
         may take (20480 is enough), or see whether the node or this cgroup is out of memory"
    )]
    NoSocketMemory,
    /// The programs are attached but do not do their work.
    #[error("the kernel programs are attached but do not work here: {0}")]
    SelfTest(String),
    /// An environment variable names no address.
    #[error(
        "the environment variable {variable} has `{value}`, which is no IP address: give addresses, not host names, separated by commas"
    )]
    OwnAddress {
        /// Its name.
        variable: String,
        /// What it has.
        value: String,
    },
    /// The node's addresses cannot be listed.
    #[error("the addresses of this network namespace cannot be listed: {0}")]
    Interfaces(io::Error),
    /// More addresses than the map holds.
    #[error("{0} addresses are the agent's own, and the kernel side holds {max}: shorten SPANWARDEN_OWN_ADDRESSES", max = spanwarden_ebpf::abi::OWN_ADDRESSES)]
    TooManyAddresses(usize),
    /// `extensions.origin.pin_path` is on another file system.
    #[error(
        "`{}` is not on a BPF file system, and nothing can be pinned there: mount one with `mount -t bpf bpf \
         /sys/fs/bpf` on the node, give the container the directory as a hostPath volume (`/sys/fs/bpf`, \
         mountPropagation HostToContainer), and set `extensions.origin.pin_path` to a directory of the agent's own \
         below, such as /sys/fs/bpf/spanwarden", path.display()
    )]
    NoBpffs {
        /// As configured.
        path: PathBuf,
    },
    /// `extensions.origin.pin_path` is somebody else's.
    #[error(
        "`{}` is no directory of this process's user but belongs to user {owner}, who could put programs of his own \
         there: remove it, or set `extensions.origin.pin_path` to another", path.display()
    )]
    PinOwner {
        /// As configured.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// Another agent uses `extensions.origin.pin_path`.
    #[error(
        "another agent uses `{}`: two on one directory would take each other's findings. End the other one, or give \
         each a directory and a cgroup of its own (`extensions.origin.pin_path`, `extensions.origin.cgroup`)",
        path.display()
    )]
    PinLocked {
        /// As configured.
        path: PathBuf,
    },
    /// Pins cannot be made or removed.
    #[error(
        "pins cannot be made or removed in `{}`: {source}; is the file system mounted read-only? \
         `extensions.origin.pin_path` must be a directory on a bpffs that this user may write to", path.display()
    )]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A map cannot be written or read.
    #[error("the BPF map {map} cannot be used: {chain}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The kernel's answer.
        chain: String,
    },
    /// A thread cannot be started.
    #[error("the thread that reads findings cannot be started: {0}")]
    Thread(io::Error),
    /// Capabilities cannot be dropped.
    #[error("capabilities cannot be dropped: {0}")]
    Drop(String),
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
