//! Shapes that cross the border between kernel and user space.
//!
//! Every struct is `repr(C)`, has no implicit padding (asserted below) and holds integers only: a `bool` or an
//! `enum` would be undefined behaviour the day one side writes a value that the other does not know. Addresses
//! are 16 bytes, IPv4 in its v4-mapped form (RFC 4291 section 2.5.5.2); ports are in host byte order.

use crate::proto::{CHUNK, Classifier};

/// Goes up with every change of a shape in this file; each event carries it.
pub const ABI_VERSION: u32 = 1;

/// Ancestor levels kept of a cgroup: levels 1 to 6, the root being level 0. A container of the kubelet is at
/// level 3 or 4, one of a nested cluster (kind) at 6.
pub const ANCESTOR_LEVELS: usize = 6;

/// Entries of the join map. An entry is needed for one round trip on the node, so this is ample.
pub const JOIN_ENTRIES: usize = 65_536;

/// Addresses that may be the agent's own.
pub const OWN_ADDRESSES: usize = 1_024;

/// Bytes of the ring of findings: about 1,100 of them.
pub const FINDINGS_BYTES: usize = 262_144;

/// [`OriginRecord::state`]: written at `connect`, on the client's socket.
pub const STATE_OPENED: u32 = 1;
/// [`OriginRecord::state`]: joined to an accepted socket, its destination being the agent's own.
pub const STATE_JOINED: u32 = 2;
/// [`OriginRecord::state`]: joined, but the client wanted to reach somebody else (a relayed handshake).
pub const STATE_CONFLICT: u32 = 3;

/// Who opened a connection. In the storage of the client's socket from `connect` on, in the join map from
/// `ACTIVE_ESTABLISHED` on, and from `PASSIVE_ESTABLISHED` on in the accepted socket's storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginRecord {
    /// The sequence numbers under which the record was put in the join map; repeated in `join_check`, so that
    /// an entry which the LRU recycles while it is copied is noticed.
    pub join: JoinKey,
    /// Thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// One of the `STATE_*`.
    pub state: u32,
    /// The thread's name, padded with zeroes.
    pub comm: [u8; 16],
    /// Id of the innermost cgroup (cgroup2), which is its directory's inode number.
    pub cgroup_id: u64,
    /// Ids of the ancestors at levels 1 to 6; 0 where the hierarchy is not that deep. They still resolve when
    /// the innermost one has been removed.
    pub ancestors: [u64; ANCESTOR_LEVELS],
    /// Cookie of the opener's network namespace, never reused.
    pub netns_cookie: u64,
    /// Cookie of the opener's socket, never reused.
    pub socket_cookie: u64,
    /// Time of the `connect`, nanoseconds since boot (suspend included).
    pub boot_ns: u64,
    /// Where the client wanted to go, before any destination NAT.
    pub destination: [u8; 16],
    /// Port of the same, host byte order.
    pub destination_port: u32,
    /// Explicit padding.
    pub reserved: u32,
    /// Equal to `join` in a whole record.
    pub join_check: JoinKey,
}

/// Key of the join map: what the client sends next and what it expects next, as both ends know them when the
/// handshake is done. Both numbers are chosen at random by two kernels and no NAT changes them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinKey {
    /// The client's `snd_nxt`, the server's `rcv_nxt`.
    pub client_next: u32,
    /// The client's `rcv_nxt`, the server's `snd_nxt`.
    pub server_next: u32,
}

/// What egress remembers of a client's socket until the first payload bytes have told the protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The parser.
    pub classifier: Classifier,
    /// Sequence number of the first payload byte.
    pub base: u32,
    /// 1 when the verdict is there and nothing is to be looked at any more.
    pub done: u32,
    /// How many bytes of `chunk` are under inspection.
    pub length: u32,
    /// Where in the packet the next ones are.
    pub offset: u32,
    /// Bytes under inspection. Here and not in per-CPU scratch space: egress in process context can be
    /// interrupted by egress of another socket on the same CPU.
    pub chunk: Chunk,
}

/// See [`Flow::chunk`]; a type of its own because `Default` stops at 32 elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk(pub [u8; CHUNK]);

impl Default for Chunk {
    fn default() -> Self {
        Self([0; CHUNK])
    }
}

/// [`Finding::protocol`]: HTTP/1 `POST …/v1/traces`.
pub const PROTOCOL_HTTP1_TRACES: u32 = 1;
/// [`Finding::protocol`]: HTTP/2 without TLS.
pub const PROTOCOL_H2C: u32 = 2;

/// [`Finding::proof`]: the request's path.
pub const PROOF_PATH: u32 = 1;
/// [`Finding::proof`]: the HTTP/2 connection preface; the port says whether it is likely to be OTLP.
pub const PROOF_PREFACE: u32 = 2;

/// One connection that carries telemetry in the clear, through the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// [`ABI_VERSION`]
    pub version: u32,
    /// One of the `PROTOCOL_*`.
    pub protocol: u32,
    /// One of the `PROOF_*`.
    pub proof: u32,
    /// Explicit padding.
    pub reserved: u32,
    /// Time of the packet that gave the verdict, nanoseconds since boot.
    pub boot_ns: u64,
    /// Source address in that packet.
    pub local: [u8; 16],
    /// Destination address in that packet, after any destination NAT in the sender's namespace.
    pub remote: [u8; 16],
    /// Source port.
    pub local_port: u32,
    /// Destination port.
    pub remote_port: u32,
    /// Who opened the connection.
    pub origin: OriginRecord,
}

/// The loader's settings for the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Cookie of the agent's network namespace, 0 while it is not known: a loopback destination counts as the
    /// agent's own only from there.
    pub netns_cookie: u64,
}

/// Index of a per-CPU counter.
pub mod counter {
    /// Findings made. `SEEN == DELIVERED + FULL` at rest.
    pub const SEEN: u32 = 0;
    /// Findings put in the ring buffer.
    pub const DELIVERED: u32 = 1;
    /// Findings lost because the ring buffer was full.
    pub const FULL: u32 = 2;
    /// Stream sockets seen at `connect`.
    pub const CONNECTS: u32 = 3;
    /// Accepted sockets that got their opener's record.
    pub const JOINED: u32 = 4;
    /// Accepted sockets whose opener wanted to reach another address.
    pub const CONFLICT: u32 = 5;
    /// Records or flows that could not be stored (socket memory limit, out of memory).
    pub const STORE_FAILED: u32 = 6;
    /// Connections whose first bytes were a TLS `ClientHello`.
    pub const TLS: u32 = 7;
    /// Connections whose first bytes were neither TLS nor plaintext telemetry.
    pub const FOREIGN: u32 = 8;
    /// Connections whose packets could not be read (IPv6 extension headers, a hole in the sequence).
    pub const UNREADABLE: u32 = 9;
    /// How many counters there are.
    pub const COUNT: usize = 10;
}

const _: () = {
    use core::mem::{align_of, size_of};
    assert!(size_of::<JoinKey>() == 8);
    assert!(size_of::<OriginRecord>() == 8 + 16 + 16 + 8 + 8 * ANCESTOR_LEVELS + 24 + 16 + 8 + 8);
    assert!(size_of::<Flow>() == size_of::<Classifier>() + 16 + CHUNK);
    assert!(size_of::<Finding>() == 24 + 32 + 8 + size_of::<OriginRecord>());
    assert!(align_of::<Finding>() == 8 && align_of::<OriginRecord>() == 8 && align_of::<Flow>() == 8);
    assert!(size_of::<Settings>() == 8);
};
