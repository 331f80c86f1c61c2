//! Shapes that cross the border between kernel and user space.
//!
//! Every struct is `repr(C)`, has no implicit padding (asserted below) and holds integers only: a `bool` or an
//! `enum` would be undefined behaviour the day one side writes a value that the other does not know. Addresses
//! are 16 bytes, IPv4 in its v4-mapped form (RFC 4291 section 2.5.5.2); ports are in host byte order.

use crate::proto::{CHUNK, Classifier, tls::Side};

/// Goes up with every change of a shape in this file; each event carries it.
pub const ABI_VERSION: u32 = 4;

/// Ancestor levels kept of a cgroup: levels 1 to 6, the root being level 0. A container of the kubelet is at
/// level 3 or 4, one of a nested cluster (kind) at 6.
pub const ANCESTOR_LEVELS: usize = 6;

/// Entries of the join map. An entry is needed for one round trip on the node, so this is ample.
pub const JOIN_ENTRIES: usize = 65_536;

/// Cells of the table of clients' sockets ([`Client`]), a power of two; 8.3 MiB.
pub const CLIENTS: usize = 16_384;

/// Addresses that may be the agent's own.
pub const OWN_ADDRESSES: usize = 1_024;

/// Bytes of the ring of findings: about 800 of them.
pub const FINDINGS_BYTES: usize = 262_144;

/// [`OriginRecord::state`]: nobody's. An accepted socket whose client's end was not seen on this node.
pub const STATE_NONE: u32 = 0;
/// [`OriginRecord::state`]: written at `connect`, on the client's socket.
pub const STATE_OPENED: u32 = 1;
/// [`OriginRecord::state`]: joined to an accepted socket, its destination being the agent's own.
pub const STATE_JOINED: u32 = 2;
/// [`OriginRecord::state`]: joined, but the client wanted to reach somebody else (a relayed handshake).
pub const STATE_CONFLICT: u32 = 3;
/// [`OriginRecord::state`]: of a connection that is older than the programs; see [`FLAG_PRE_EXISTING`].
pub const STATE_PRE_EXISTING: u32 = 4;

/// Who opened a connection. With the client's socket ([`Client`], or its storage) from `connect` on, in the join map
/// from `ACTIVE_ESTABLISHED` to `PASSIVE_ESTABLISHED` or the client's close, and then in the accepted socket's storage.
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

/// What is known of a socket: who opened it, and what it sends. In a cell of the table of clients, or in the socket's
/// own storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// All zeroes ([`STATE_NONE`]) where nobody is known.
    pub origin: OriginRecord,
    /// What is to be looked at of the bytes it sends.
    pub flow: Flow,
}

/// A cell of the table of clients' sockets, which each socket finds by its address. A cell costs no allocation, and no
/// call of a helper to be found: of what a connection costs with storage of its own, that is the larger part.
///
/// Only what holds the socket's lock reads or writes `socket`, so a socket whose peer is to be looked at (TLS, a proxy's
/// answer) leaves its cell for storage of its own; and so does one whose cell is taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Address of the socket that the cell is or was of; 0 for none.
    pub owner: u64,
    /// How many have the cell or are about to take it: whoever counts himself and finds himself alone has it, until he
    /// counts himself out.
    pub holders: u64,
    /// The same for taking over what is abandoned.
    pub heirs: u64,
    /// One of the `CLIENT_*`.
    pub phase: u64,
    /// What is known of it.
    pub socket: Socket,
}

/// [`Client::phase`]: `connect` was called, and nobody may ever hear of the socket again; see [`ABANDONED_NS`].
pub const CLIENT_OPENING: u64 = 0;
/// [`Client::phase`]: established; the socket's close will be told.
pub const CLIENT_OPEN: u64 = 1;
/// [`Client::phase`]: closed, and counted out. The last packet, a reset, may be sent after that, so `owner` stays until
/// somebody else takes the cell.
pub const CLIENT_CLOSED: u64 = 2;

/// After how long in [`CLIENT_OPENING`] a cell may be given to another socket: with the kernel's defaults `connect` gives
/// up after 127 s.
pub const ABANDONED_NS: u64 = 600_000_000_000;

/// [`Flow::state`]: the storage was made by the first payload packet, the connection being older than the programs.
pub const FLOW_NEW: u32 = 0;
/// [`Flow::state`]: `connect` was called; [`Flow::base`] is not known. Set by a SYN that carries payload (TCP Fast
/// Open), or by `ACTIVE_ESTABLISHED`.
pub const FLOW_OPENING: u32 = 1;
/// [`Flow::state`]: [`Flow::base`] is known, and payload is looked at.
pub const FLOW_WATCHED: u32 = 2;
/// [`Flow::state`]: nothing is to be looked at: decided, or a server's socket. Together with [`WATCH_NOTHING`] it holds
/// until the socket is connected again, because the socket's packets are not even looked up from then on.
pub const FLOW_DONE: u32 = 3;
/// [`Flow::state`]: payload is dropped as long as the programs enforce.
pub const FLOW_BLOCKED: u32 = 4;
/// [`Flow::state`]: in a cell ([`Client`]): closed, but for a reset.
pub const FLOW_CLOSED: u32 = 5;

/// [`Flow::watch`]: nothing of what the peer sends. Egress alone may begin a watch, and must empty the socket's cell
/// for it.
pub const WATCH_NOTHING: u32 = 0;
/// [`Flow::watch`]: a proxy's answer to `CONNECT`.
pub const WATCH_TUNNEL: u32 = 1;
/// [`Flow::watch`]: TLS records.
pub const WATCH_TLS: u32 = 2;

/// [`Flow::answer`]: none yet.
pub const ANSWER_NONE: u32 = 0;
/// [`Flow::answer`]: the proxy has given the tunnel.
pub const ANSWER_OPENED: u32 = 1;
/// [`Flow::answer`]: the proxy has refused it.
pub const ANSWER_REFUSED: u32 = 2;

/// What is remembered of a client's socket until it is known what it carries. Ingress, which does not hold the
/// socket's lock, writes `received` and `answer` only (and `state` and `watch` when it ends the watch), and all else
/// is written by egress.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The parser of what is sent.
    pub classifier: Classifier,
    /// TLS records that are sent.
    pub sent: Side,
    /// TLS records that are received.
    pub received: Side,
    /// Sequence number of the first payload byte that is sent.
    pub base: u32,
    /// Sequence number of the first payload byte that is received; not known of older connections.
    pub peer_base: u32,
    /// Source address of a TLS connection, as its packets show it, and ...
    pub local: [u8; 16],
    /// ... port.
    pub local_port: u32,
    /// In a socket's storage: 1 while the programs may look for it there (`ELSEWHERE`).
    pub counted: u32,
    /// When user space was last told to end this connection, nanoseconds since boot; 0 for never. See [`Ending`].
    pub told_ns: u64,
    /// One of the `FLOW_*`.
    pub state: u32,
    /// One of the `WATCH_*`: what ingress looks at.
    pub watch: u32,
    /// One of the `ANSWER_*`.
    pub answer: u32,
    /// How many bytes of `chunk` are under inspection.
    pub length: u32,
    /// Bytes under inspection. Here and not in per-CPU scratch space: egress in process context can be
    /// interrupted by egress of another socket on the same CPU.
    pub chunk: Chunk,
}

impl Flow {
    /// A connection whose first payload bytes have these sequence numbers.
    #[inline(always)]
    pub fn start(&mut self, base: u32, peer_base: u32) {
        self.classifier = Classifier::default();
        self.base = base;
        self.peer_base = peer_base;
        self.watch = WATCH_NOTHING;
        self.answer = ANSWER_NONE;
        self.told_ns = 0;
        self.state = FLOW_WATCHED;
    }
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

/// [`Finding::kind`]: telemetry in the clear, by configuration as far as the kernel saw.
pub const KIND_PLAINTEXT: u32 = 1;
/// [`Finding::kind`]: telemetry in the clear after TLS had been tried and had failed; see [`Finding::tls`].
pub const KIND_FALLBACK: u32 = 2;

/// [`Finding::protocol`]: HTTP/1.
pub const PROTOCOL_HTTP1: u32 = 1;
/// [`Finding::protocol`]: HTTP/2 without TLS.
pub const PROTOCOL_H2C: u32 = 2;

/// [`Finding::signal`]: not known (the path could not be read).
pub const SIGNAL_UNKNOWN: u32 = 0;
/// [`Finding::signal`]
pub const SIGNAL_TRACES: u32 = 1;
/// [`Finding::signal`]
pub const SIGNAL_METRICS: u32 = 2;
/// [`Finding::signal`]
pub const SIGNAL_LOGS: u32 = 3;
/// [`Finding::signal`]: `v1development/profiles`.
pub const SIGNAL_PROFILES: u32 = 4;

/// [`Finding::proof`]: the request's path. It is OTLP.
pub const PROOF_PATH: u32 = 1;
/// [`Finding::proof`]: a gRPC message that is built like an OTLP request; the path could not be read.
pub const PROOF_GRPC: u32 = 2;
/// [`Finding::proof`]: HTTP in the clear towards one of OTLP's ports ([`OTLP_PORTS`]), no more.
pub const PROOF_PORT: u32 = 3;

/// The ports that IANA has registered for OTLP over gRPC and over HTTP.
pub const OTLP_PORTS: [u32; 2] = [4317, 4318];

/// Bit of [`Finding::flags`]: the connection is older than the programs; its opener is known by the socket's
/// cgroup only, and nothing was seen of its beginning.
pub const FLAG_PRE_EXISTING: u32 = 1;
/// Bit of [`Finding::flags`]: the packet was dropped, and what follows on this socket is.
pub const FLAG_BLOCKED: u32 = 2;
/// Bit of [`Finding::flags`]: better evidence than an earlier finding of the same connection had.
pub const FLAG_REVISED: u32 = 4;
/// Bit of [`Finding::flags`]: inside a proxy's `CONNECT` tunnel.
pub const FLAG_TUNNEL: u32 = 8;
/// Bit of [`Finding::flags`]: the policy says block, and the packet passed: no heartbeat, or the kill switch.
pub const FLAG_NOT_ENFORCED: u32 = 16;

/// [`Finding::place`]: loopback, so within the pod (or the node, for a process in its network namespace).
pub const PLACE_POD: u32 = 1;
/// [`Finding::place`]: one of the agent's own addresses and ports.
pub const PLACE_AGENT: u32 = 2;
/// [`Finding::place`]: another address or port of this node.
pub const PLACE_NODE: u32 = 3;
/// [`Finding::place`]: the cluster's networks.
pub const PLACE_CLUSTER: u32 = 4;
/// [`Finding::place`]: everything else.
pub const PLACE_OUTSIDE: u32 = 5;

/// [`TlsAttempt::kind`]: the server sent an alert; its description (RFC 8446 section 6) is in `detail`.
pub const TLS_ALERT_RECEIVED: u32 = 1;
/// [`TlsAttempt::kind`]: the client sent an alert in the clear (certificate refused, for one); `detail` as above.
pub const TLS_ALERT_SENT: u32 = 2;
/// [`TlsAttempt::kind`]: the server answered the `ClientHello` with something that is not TLS.
pub const TLS_PLAINTEXT_ANSWER: u32 = 3;
/// [`TlsAttempt::kind`]: the server closed before its `ServerHello`.
pub const TLS_CLOSED: u32 = 4;
/// [`TlsAttempt::kind`]: reset before the `ServerHello`.
pub const TLS_RESET: u32 = 5;
/// [`TlsAttempt::kind`]: the handshake's messages went both ways, and then one side refused before any
/// application data was answered: a client certificate in TLS 1.3, a name that the client checks late.
pub const TLS_REFUSED: u32 = 6;
/// [`TlsAttempt::kind`]: the client gave up without an answer.
pub const TLS_NO_ANSWER: u32 = 7;
/// [`TlsAttempt::kind`]: the `ClientHello` had no answer when the plaintext came, and its connection is still there as
/// far as was seen; see [`TlsHello`].
pub const TLS_UNANSWERED: u32 = 8;

/// The failed TLS connection before a [`KIND_FALLBACK`]; all zeroes otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsAttempt {
    /// Time of the failure, nanoseconds since boot.
    pub boot_ns: u64,
    /// Its socket.
    pub socket_cookie: u64,
    /// Source address of that connection.
    pub local: [u8; 16],
    /// Where its opener wanted to go.
    pub destination: [u8; 16],
    /// Source port.
    pub local_port: u32,
    /// Destination port.
    pub destination_port: u32,
    /// One of the `TLS_*`.
    pub kind: u32,
    /// The alert's description where `kind` is an alert.
    pub detail: u32,
    /// Thread-group id of its opener.
    pub tgid: u32,
    /// 1 when only cgroup, namespace and port are the same, and not the address.
    pub weak: u32,
}

/// One connection that carries telemetry in the clear, through the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// [`ABI_VERSION`]
    pub version: u32,
    /// One of the `KIND_*`.
    pub kind: u32,
    /// One of the `PROTOCOL_*`.
    pub protocol: u32,
    /// One of the `SIGNAL_*`.
    pub signal: u32,
    /// One of the `PROOF_*`.
    pub proof: u32,
    /// `FLAG_*` bits.
    pub flags: u32,
    /// One of the `PLACE_*`.
    pub place: u32,
    /// One of the `MODE_*`: what the policy says about this sender and place.
    pub mode: u32,
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
    /// What had failed before, for [`KIND_FALLBACK`].
    pub tls: TlsAttempt,
    /// Who opened the connection. For [`FLAG_PRE_EXISTING`] what the socket tells: cgroup ids, cookie, remote
    /// address as destination; everything else 0.
    pub origin: OriginRecord,
}

/// [`Policy::mode`]: report.
pub const MODE_OBSERVE: u32 = 0;
/// [`Policy::mode`]: report louder.
pub const MODE_WARN: u32 = 1;
/// [`Policy::mode`]: drop, and deny what follows.
pub const MODE_BLOCK: u32 = 2;

/// Bit of [`Policy::flags`]: the cgroup holds pods (`kubepods.slice`, a class of service) and is none itself;
/// the pod is one level below the deepest such cgroup.
pub const POLICY_GROUP: u32 = 1;

/// What is to be done about plaintext telemetry of everything below a cgroup. The deepest entry among the
/// sender's cgroup and its ancestors counts; without one it is [`MODE_OBSERVE`] (processes of the host).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// One of the `MODE_*`.
    pub mode: u32,
    /// Places that the mode is for, bit `1 << PLACE_*`; elsewhere it is [`MODE_OBSERVE`].
    pub places: u32,
    /// `POLICY_*` bits.
    pub flags: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// Cgroups that have a [`Policy`]: pods of a node (the kubelet's default is 110, the largest in use 1,000) and
/// their groups.
pub const POLICIES: usize = 4_096;

/// Destinations that may be denied at one time, all pods together; the least recently used goes first.
pub const DENIALS: usize = 4_096;

/// Networks in the map of places.
pub const NETWORKS: usize = 1_024;

/// A destination that a pod may not connect to for a while.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DenyKey {
    /// The pod's cgroup, as [`Policy`] tells it.
    pub cgroup_id: u64,
    /// As in [`OriginRecord::destination`].
    pub destination: [u8; 16],
    /// Host byte order.
    pub port: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// Key of the memory of failed TLS connections. Each one is in it twice, under a strong and under a weak key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptKey {
    /// As in [`OriginRecord::netns_cookie`].
    pub netns_cookie: u64,
    /// As in [`OriginRecord::cgroup_id`]: the container, and not the pod, whose other containers have other
    /// clients.
    pub cgroup_id: u64,
    /// As in [`OriginRecord::destination`]; all zeroes in the weak key.
    pub destination: [u8; 16],
    /// As in [`OriginRecord::destination_port`].
    pub port: u32,
    /// 1 in the weak key, which any address with this port has.
    pub weak: u32,
}

/// A TLS connection whose `ClientHello` the server has not answered yet, under the strong key of [`AttemptKey`].
///
/// A client that waits for an answer and goes on in plaintext meanwhile (a pool that keeps a hanging dial, a second
/// exporter) is falling back before its TLS connection has come to any end. What says so is one entry a
/// destination: made by the `ClientHello`, removed by the first byte that the server sends, so that a working
/// handshake leaves nothing behind. The plaintext looks at it, and it counts when all of this is so:
///
/// - the `ClientHello` is at least [`HELLO_GRACE_NS`] old: a handshake that is merely under way is no failure, and its
///   client may have nothing to do with another one of the same container that is configured for plaintext;
/// - it is younger than the fallback's window, counted from the `ClientHello`;
/// - the destination is the same, address and port. By the port alone a container with one exporter in TLS and another
///   in plaintext, to different places, would be accused whenever the former's server is slow.
///
/// Several connections may wait under one key. The oldest has the entry, and only its own answer removes it: where one
/// of them hangs, the others' answers do not make it answered, and a newcomer does not make it younger. When
/// the oldest is answered, those that were started meanwhile have no entry; they have one again with the next
/// `ClientHello`, or their end is an attempt that failed. A TLS connection that succeeds removes it whoever's it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsHello {
    /// When it was sent, nanoseconds since boot.
    pub boot_ns: u64,
    /// As in [`TlsAttempt::socket_cookie`].
    pub socket_cookie: u64,
    /// As in [`TlsAttempt::local`].
    pub local: [u8; 16],
    /// As in [`TlsAttempt::local_port`].
    pub local_port: u32,
    /// As in [`TlsAttempt::tgid`].
    pub tgid: u32,
}

/// Handshakes that wait for an answer at one time; an answer makes room.
pub const HELLOS: usize = 8_192;

/// How long a `ClientHello` is without an answer before plaintext to the same place counts as its consequence: longer
/// than any round trip and one retransmission (200 ms at least, RFC 6298 with Linux's minimum), shorter than the
/// patience of any client.
pub const HELLO_GRACE_NS: u64 = 500_000_000;

/// Entries of the memory of failed TLS connections, two for each. One pod can add [`ATTEMPTS_BURST`] at once and
/// [`ATTEMPTS_PER_SECOND`] on, so that within a minute forty of them could not push out another's.
pub const ATTEMPTS: usize = 16_384;

/// New failures a second that one pod may have remembered. One that replaces an older one of its key is free.
pub const ATTEMPTS_PER_SECOND: u32 = 2;

/// As above, at once after a time of silence.
pub const ATTEMPTS_BURST: u32 = 64;

/// Key of a token bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketKey {
    /// The pod's cgroup, as [`Policy`] tells it.
    pub cgroup_id: u64,
    /// One of the `BUCKET_*`.
    pub what: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// [`BucketKey::what`]: findings that are delivered.
pub const BUCKET_FINDINGS: u32 = 0;
/// [`BucketKey::what`]: failed TLS connections that are remembered.
pub const BUCKET_ATTEMPTS: u32 = 1;
/// [`BucketKey::what`]: blocked connections that user space is told to end.
pub const BUCKET_ENDINGS: u32 = 2;

/// A connection that is blocked and still there: user space is to end it. Told with the first packet that is dropped,
/// and again with each later one (TCP sends again what was dropped, at growing intervals), for as long as the connection
/// lives. So what gets lost on the way, whether here for want of room, or in user space, is told again, and
/// a connection that has been ended is silent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// [`ABI_VERSION`]
    pub version: u32,
    /// Explicit padding.
    pub reserved: u32,
    /// As in [`Finding::local`].
    pub local: [u8; 16],
    /// As in [`Finding::remote`].
    pub remote: [u8; 16],
    /// As in [`Finding::local_port`].
    pub local_port: u32,
    /// As in [`Finding::remote_port`].
    pub remote_port: u32,
    /// As in [`Finding::origin`].
    pub origin: OriginRecord,
}

/// Bytes of the ring of endings: about 1,200 of them.
pub const ENDINGS_BYTES: usize = 262_144;

/// For how long user space is not told again of one connection: shorter than TCP's shortest retransmission, 200 ms,
/// longer than an ending takes.
pub const ENDING_PAUSE_NS: u64 = 150_000_000;

/// Endings a second of one pod, and ...
pub const ENDINGS_PER_SECOND: u32 = 500;
/// ... at once after a time of silence. The rest comes with the next packet of each connection.
pub const ENDINGS_BURST: u32 = 2_000;

/// Token buckets at one time, three for a pod.
pub const BUCKETS: usize = 8_192;

/// Receiving ports that [`Settings::ports`] holds.
pub const OWN_PORTS: usize = 8;

/// The loader's settings for the programs, written once before they are relied on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Cookie of the agent's network namespace, 0 while it is not known: a loopback destination counts as the
    /// agent's own only from there.
    pub netns_cookie: u64,
    /// How long after a failed TLS connection plaintext is a fallback, nanoseconds; 0 for not at all.
    pub fallback_window_ns: u64,
    /// How long a blocked destination is denied at `connect`, nanoseconds; 0 for not at all.
    pub deny_ns: u64,
    /// Thread-group id of the agent, which is never blocked.
    pub agent_tgid: u32,
    /// Findings a second that one pod gets on average (0: as many as there are), and ...
    pub findings_per_second: u32,
    /// ... at once after a time of silence. The rest is counted as throttled.
    pub findings_burst: u32,
    /// How many of `ports` count; 0 means that any port on the agent's own addresses is the agent's. Where they are
    /// known, sockets accepted on other ports are not joined to their openers.
    pub port_count: u32,
    /// Ports on which the agent receives.
    pub ports: [u32; OWN_PORTS],
    /// What connects to this port has storage of its own from the beginning, for user space to read; 0 for none.
    pub stored_port: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// How old [`Pulse::boot_ns`] may be for the programs to enforce.
pub const PULSE_TIMEOUT_NS: u64 = 5_000_000_000;

/// The sign of life of user space; without it everything passes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// When user space was last there to act, nanoseconds since boot.
    pub boot_ns: u64,
    /// 1: enforce. 0: report only (the kill switch, or nothing is to be blocked).
    pub enforce: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// Index of a per-CPU counter.
pub mod counter {
    /// Findings made. `SEEN == DELIVERED + FULL + THROTTLED` at rest.
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
    /// Findings not delivered because their pod had more than its share.
    pub const THROTTLED: u32 = 10;
    /// TLS connections that failed.
    pub const TLS_FAILED: u32 = 11;
    /// Connections older than the programs that were looked at.
    pub const PRE_EXISTING: u32 = 12;
    /// Connections blocked.
    pub const BLOCKED: u32 = 13;
    /// Packets dropped of those.
    pub const DROPPED: u32 = 14;
    /// `connect` calls denied.
    pub const DENIED: u32 = 15;
    /// Connections that the policy blocks and that passed: no heartbeat, or the kill switch.
    pub const NOT_ENFORCED: u32 = 16;
    /// Failed TLS connections not remembered, because their pod had more than its share.
    pub const TLS_FORGOTTEN: u32 = 17;
    /// Blocked connections that user space was told to end, each time that it was told.
    pub const ENDINGS: u32 = 18;
    /// Those it was not told of (the ring was full, or their pod had more than its share): it is with their next packet.
    pub const ENDINGS_LATER: u32 = 19;
    /// How many counters there are.
    pub const COUNT: usize = 20;
}

const _: () = {
    use core::mem::{align_of, size_of};
    assert!(size_of::<JoinKey>() == 8);
    assert!(size_of::<OriginRecord>() == 8 + 16 + 16 + 8 + 8 * ANCESTOR_LEVELS + 24 + 16 + 8 + 8);
    assert!(size_of::<Flow>() == size_of::<Classifier>() + 2 * size_of::<Side>() + 56 + CHUNK);
    assert!(size_of::<TlsAttempt>() == 72 && size_of::<TlsHello>() == 40);
    assert!(size_of::<Ending>() == 8 + 32 + 8 + size_of::<OriginRecord>());
    assert!(size_of::<Finding>() == 40 + 32 + 8 + 72 + size_of::<OriginRecord>());
    assert!(size_of::<Policy>() == 16 && size_of::<DenyKey>() == 32 && size_of::<Pulse>() == 16);
    assert!(align_of::<Finding>() == 8 && align_of::<OriginRecord>() == 8 && align_of::<Flow>() == 8);
    assert!(size_of::<Socket>() == size_of::<OriginRecord>() + size_of::<Flow>());
    assert!(size_of::<AttemptKey>() == 40 && size_of::<BucketKey>() == 16);
    assert!(size_of::<Settings>() == 24 + 16 + 4 * OWN_PORTS + 8);
    assert!(size_of::<Client>() == 32 + size_of::<Socket>() && CLIENTS.is_power_of_two());
};
