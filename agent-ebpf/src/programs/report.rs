//! What a verdict leads to: an event, or the count of its loss; and the packet dropped, if the policy says so.

use super::{
    attempts,
    maps::{self, count, raw},
    packet::{Address, Packet},
    place,
    policy::{self, Ruling},
    throttle,
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_map_update_elem, bpf_sk_ancestor_cgroup_id,
        bpf_sk_cgroup_id,
    },
};
use core::{ffi::c_void, ptr};
use spanwarden_ebpf::abi::{
    ABI_VERSION, BUCKET_FINDINGS, DenyKey, FLAG_BLOCKED, FLAG_NOT_ENFORCED, FLAG_PRE_EXISTING, FLOW_BLOCKED,
    Finding, KIND_FALLBACK, KIND_PLAINTEXT, MODE_BLOCK, OTLP_PORTS, OriginRecord, PROOF_GRPC, PROOF_PATH,
    STATE_NONE, STATE_PRE_EXISTING, Socket, counter,
};

/// Id of the root of the cgroup2 hierarchy, where kernel threads are.
const ROOT_CGROUP: u64 = 1;

/// What was seen of a connection.
#[derive(Clone, Copy)]
pub(super) struct Evidence {
    /// One of the `PROTOCOL_*`.
    pub(super) protocol: u32,
    /// One of the `SIGNAL_*`.
    pub(super) signal: u32,
    /// One of the `PROOF_*`.
    pub(super) proof: u32,
    /// `FLAG_REVISED`, `FLAG_TUNNEL`; the others are added here.
    pub(super) flags: u32,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pass,
    Drop,
}

/// A connection carries telemetry in the clear. On [`Action::Drop`] the flow is [`FLOW_BLOCKED`]; else its state is
/// the caller's to set.
#[inline(always)]
pub(super) fn verdict(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    packet: &Packet,
    socket: *mut Socket,
    evidence: &Evidence,
) -> Action {
    let remote = packet.destination(skb);
    // SAFETY: `socket` is the storage value of the packet's own socket, here and below.
    let origin = unsafe {
        let origin = &raw mut (*socket).origin;
        if (*origin).state == STATE_NONE {
            adopt(skb, sk, origin, remote, packet.destination_port());
        } else if (*origin).cgroup_id == ROOT_CGROUP {
            // A kernel thread has connected, as MPTCP does with all but the first path of a connection.
            cgroups_of(sk, origin);
        }
        origin.cast_const()
    };
    let wanted_port = unsafe { (*origin).destination_port };
    let place = place::of(remote, packet.destination_port());
    let ruling = unsafe { policy::of(origin) };
    let mut event = Event { evidence: *evidence, remote, place, mode: ruling.at(place) };
    let mut action = Action::Pass;
    if event.mode == MODE_BLOCK && is_certain(evidence, wanted_port, packet.destination_port()) {
        // SAFETY: as above.
        if !policy::is_agent(unsafe { (*origin).tgid }) {
            action = enforce(&mut event.evidence.flags);
        }
    }
    if action == Action::Drop {
        // SAFETY: as above.
        unsafe {
            (*socket).flow.state = FLOW_BLOCKED;
            deny(origin, ruling.pod);
        }
    }
    count(counter::SEEN);
    // SAFETY: as above.
    unsafe { send(skb, packet, origin, &event, &ruling) };
    action
}

/// A payload packet of a flow that is blocked: dropped as long as user space is there.
#[inline(always)]
pub(super) fn blocked() -> Action {
    if !policy::enforcing() {
        return Action::Pass;
    }
    count(counter::DROPPED);
    Action::Drop
}

/// [`Finding`] as far as it is not the packet's or the origin's.
struct Event {
    evidence: Evidence,
    remote: Address,
    place: u32,
    mode: u32,
}

/// Whether it is telemetry beyond doubt. A port alone never is.
#[inline(always)]
fn is_certain(evidence: &Evidence, wanted: u32, remote: u32) -> bool {
    let otlp = |port: u32| port == OTLP_PORTS[0] || port == OTLP_PORTS[1];
    evidence.proof == PROOF_PATH || evidence.proof == PROOF_GRPC && (otlp(wanted) || otlp(remote))
}

/// The policy says block.
#[inline(always)]
fn enforce(flags: &mut u32) -> Action {
    if policy::enforcing() {
        count(counter::BLOCKED);
        count(counter::DROPPED);
        *flags |= FLAG_BLOCKED;
        Action::Drop
    } else {
        count(counter::NOT_ENFORCED);
        *flags |= FLAG_NOT_ENFORCED;
        Action::Pass
    }
}

/// Later attempts of the pod to connect there fail at once, for a while.
///
/// # Safety
/// `origin` must point to a record.
#[inline(always)]
unsafe fn deny(origin: *const OriginRecord, pod: u64) {
    let Some(settings) = maps::SETTINGS.get(0) else { return };
    if settings.deny_ns == 0 {
        return;
    }
    // SAFETY: by contract; key and value are the map's and live on the stack during the call.
    unsafe {
        let until = bpf_ktime_get_boot_ns().saturating_add(settings.deny_ns);
        let key = DenyKey {
            cgroup_id: pod,
            destination: (*origin).destination,
            port: (*origin).destination_port,
            reserved: 0,
        };
        let (key, until) = (ptr::from_ref(&key).cast(), ptr::from_ref(&until).cast());
        bpf_map_update_elem(raw(&maps::DENIED), key, until, 0);
    }
}

/// Writes into the storage what the socket tells of who opened it: nothing saw the `connect`.
///
/// # Safety
/// `origin` must point to a socket's storage, `sk` be that socket.
#[inline(always)]
unsafe fn adopt(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    origin: *mut OriginRecord,
    remote: Address,
    remote_port: u32,
) {
    // SAFETY: by contract.
    unsafe {
        (*origin).state = STATE_PRE_EXISTING;
        cgroups_of(sk, origin);
        (*origin).socket_cookie = bpf_get_socket_cookie(skb.cast());
        *(&raw mut (*origin).destination).cast() = remote;
        (*origin).destination_port = remote_port;
    }
}

/// The socket's own cgroup, which is that of the process that made it.
///
/// # Safety
/// As for [`adopt`].
#[inline(always)]
unsafe fn cgroups_of(sk: *mut bpf_sock, origin: *mut OriginRecord) {
    let sk: *mut c_void = sk.cast();
    // SAFETY: by contract; helpers of `cgroup_skb` since 5.8.
    unsafe {
        (*origin).cgroup_id = bpf_sk_cgroup_id(sk);
        (*origin).ancestors[0] = bpf_sk_ancestor_cgroup_id(sk, 1);
        (*origin).ancestors[1] = bpf_sk_ancestor_cgroup_id(sk, 2);
        (*origin).ancestors[2] = bpf_sk_ancestor_cgroup_id(sk, 3);
        (*origin).ancestors[3] = bpf_sk_ancestor_cgroup_id(sk, 4);
        (*origin).ancestors[4] = bpf_sk_ancestor_cgroup_id(sk, 5);
        (*origin).ancestors[5] = bpf_sk_ancestor_cgroup_id(sk, 6);
    }
}

/// One event into the ring buffer, or the loss of it into a counter.
///
/// # Safety
/// `origin` must point to a record.
#[inline(always)]
unsafe fn send(
    skb: *mut __sk_buff,
    packet: &Packet,
    origin: *const OriginRecord,
    event: &Event,
    ruling: &Ruling,
) {
    let (rate, burst) = maps::SETTINGS
        .get(0)
        .map_or((0, 0), |settings| (settings.findings_per_second, settings.findings_burst));
    if !throttle::admits(ruling.pod, BUCKET_FINDINGS, rate, burst) {
        count(counter::THROTTLED);
        return;
    }
    // SAFETY: by contract.
    let cause = unsafe { attempts::cause(origin) };
    let Some(mut entry) = maps::FINDINGS.reserve(0) else {
        count(counter::FULL);
        return;
    };
    let finding: *mut Finding = entry.as_mut_ptr();
    let evidence = &event.evidence;
    // SAFETY: the reservation is as large as a `Finding`, and every field is written.
    unsafe {
        (*finding).version = ABI_VERSION;
        (*finding).protocol = evidence.protocol;
        (*finding).signal = evidence.signal;
        (*finding).proof = evidence.proof;
        let old = (*origin).state == STATE_PRE_EXISTING;
        (*finding).flags = evidence.flags | if old { FLAG_PRE_EXISTING } else { 0 };
        (*finding).place = event.place;
        (*finding).mode = event.mode;
        (*finding).boot_ns = bpf_ktime_get_boot_ns();
        *(&raw mut (*finding).local).cast() = packet.source(skb);
        *(&raw mut (*finding).remote).cast() = event.remote;
        (*finding).local_port = packet.source_port();
        (*finding).remote_port = packet.destination_port();
        let is_fallback = cause.write(origin, &raw mut (*finding).tls);
        (*finding).kind = if is_fallback { KIND_FALLBACK } else { KIND_PLAINTEXT };
        (*finding).origin = *origin;
    }
    entry.submit(0);
    count(counter::DELIVERED);
}
