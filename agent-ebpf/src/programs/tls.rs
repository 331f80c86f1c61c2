//! TLS records of both directions, until the outcome of the handshake is known.

use super::{
    attempts::{self, Failure},
    clients,
    egress::any_socket,
    packet::{Address, Packet, load_up_to},
};
use aya_ebpf::bindings::__sk_buff;
use core::ptr::{addr_of, addr_of_mut};
use spanwarden_ebpf::{
    abi::{FLOW_DONE, Socket, TLS_NO_ANSWER, WATCH_NOTHING, WATCH_TLS},
    proto::tls::{self, HEAD, PENDING, RECORDS, SUCCEEDED, Side, UNKNOWN},
};

/// The client has sent a `ClientHello`, of which this packet has the beginning or more.
#[inline(always)]
pub(super) fn hello(skb: *mut __sk_buff, socket: *mut Socket, packet: &Packet) {
    // SAFETY: the storage value of the packet's own socket, whose lock the sender holds. Ingress does not look at it
    // before `watch` says so.
    unsafe {
        let flow = addr_of_mut!((*socket).flow);
        let at = (*flow).classifier.hello_at();
        (*flow).sent.start(at);
        // In a tunnel the proxy's answer comes before the server's first record.
        if (*flow).classifier.is_in_tunnel() {
            (*flow).received.start_anywhere();
        } else {
            (*flow).received.start(0);
        }
        (*flow).local = core::mem::transmute::<Address, [u8; 16]>(packet.source(skb));
        (*flow).local_port = packet.source_port();
        (*flow).watch = WATCH_TLS;
        attempts::hello(socket);
    }
    sent(skb, socket, packet);
}

/// A packet that the client sends.
#[inline(always)]
pub(super) fn sent(skb: *mut __sk_buff, socket: *mut Socket, packet: &Packet) {
    // SAFETY: as in `hello`.
    let flow = unsafe { addr_of_mut!((*socket).flow) };
    let at = packet.sequence.wrapping_sub(unsafe { (*flow).base });
    if packet.len > 0 && unsafe { (*flow).sent.begin(at, packet.len) } {
        let mut round = 0;
        while round < RECORDS && spanwarden_sent_record(skb, at, packet.payload, packet.len) != 0 {
            round += 1;
        }
    }
    if packet.closes() {
        unsafe { (*flow).sent.closed(packet.resets()) };
    }
    conclude(socket);
}

/// A packet that the server sends.
#[inline(always)]
pub(super) fn received(skb: *mut __sk_buff, socket: *mut Socket, packet: &Packet) {
    // SAFETY: the storage value of the packet's own socket; egress does not write to `received` while ingress
    // watches.
    let flow = unsafe { addr_of_mut!((*socket).flow) };
    let at = packet.sequence.wrapping_sub(unsafe { (*flow).peer_base });
    if packet.len > 0 && unsafe { (*flow).received.is_first() } {
        unsafe { attempts::answered(addr_of!((*socket).origin)) };
    }
    if packet.len > 0 && unsafe { (*flow).received.begin(at, packet.len) } {
        let mut round = 0;
        while round < RECORDS && spanwarden_received_record(skb, at, packet.payload, packet.len) != 0 {
            round += 1;
        }
    }
    if packet.closes() {
        unsafe { (*flow).received.closed(packet.resets()) };
    }
    conclude(socket);
}

/// The connection is no more. Where the kernel gave it up (nothing was acknowledged for too long, an ICMP error, no answer
/// to keep-alives) no packet has said so.
#[inline(always)]
pub(super) fn gone(socket: *mut Socket) {
    // SAFETY: the storage value of the callback's own socket, whose lock is held.
    unsafe {
        let flow = addr_of_mut!((*socket).flow);
        // Once the server has answered, it takes packets to tell what went wrong.
        if (*flow).watch != WATCH_TLS || !(*flow).received.is_silent() {
            return;
        }
        (*flow).watch = WATCH_NOTHING;
        (*flow).state = FLOW_DONE;
        let local = core::mem::transmute::<[u8; 16], Address>((*flow).local);
        let failure = Failure { kind: TLS_NO_ANSWER, detail: 0, local, local_port: (*flow).local_port };
        attempts::failed(addr_of!((*socket).origin), &failure);
    }
}

/// One record's beginning, or what of it is in the packet; whether there may be more. A global function like
/// `spanwarden_round`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn spanwarden_sent_record(skb: *mut __sk_buff, at: u32, payload: u32, length: u32) -> u32 {
    let Some(socket) = any_socket(skb).and_then(clients::stored) else { return 0 };
    // SAFETY: as in `hello`.
    unsafe {
        let side = &mut (*socket).flow.sent;
        let read = next(skb, side, at, payload, length);
        if read == COMPLETE {
            side.client_record();
        }
        u32::from(read != NOTHING && !side.is_over())
    }
}

/// As [`spanwarden_sent_record`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn spanwarden_received_record(skb: *mut __sk_buff, at: u32, payload: u32, length: u32) -> u32 {
    let Some(socket) = any_socket(skb).and_then(clients::stored) else { return 0 };
    // SAFETY: as in `received`; what egress writes to `sent` meanwhile are plain integers.
    unsafe {
        let side = &mut (*socket).flow.received;
        let read = next(skb, side, at, payload, length);
        if read == COMPLETE {
            side.server_record(&(*socket).flow.sent);
        }
        u32::from(read != NOTHING && !side.is_over())
    }
}

/// The packet has no more.
const NOTHING: u32 = 0;
/// Some bytes were taken.
const SOME: u32 = 1;
/// A record's beginning is there.
const COMPLETE: u32 = 2;

#[inline(always)]
fn next(skb: *mut __sk_buff, side: &mut Side, at: u32, payload: u32, length: u32) -> u32 {
    let offset = side.offset(at);
    if offset >= length {
        return NOTHING;
    }
    let left = length.wrapping_sub(offset);
    let n = if left > HEAD as u32 { HEAD as u32 } else { left };
    let mut chunk = [0_u8; HEAD];
    // SAFETY: the array has as many bytes.
    let loaded =
        unsafe { load_up_to::<{ HEAD as u32 }>(skb, payload.wrapping_add(offset), chunk.as_mut_ptr(), n) };
    if !loaded {
        return NOTHING;
    }
    if side.round(&chunk, n) { COMPLETE } else { SOME }
}

/// Ends the watch when the outcome is known.
#[inline(always)]
fn conclude(socket: *mut Socket) {
    // SAFETY: as in `received`.
    unsafe {
        let flow = addr_of_mut!((*socket).flow);
        let outcome = tls::outcome(&(*flow).sent, &(*flow).received);
        if outcome.kind == PENDING {
            return;
        }
        (*flow).watch = WATCH_NOTHING;
        (*flow).state = FLOW_DONE;
        let origin = addr_of_mut!((*socket).origin);
        if outcome.kind == SUCCEEDED {
            attempts::succeeded(origin);
        } else if outcome.kind != UNKNOWN {
            let local = core::mem::transmute::<[u8; 16], Address>((*flow).local);
            let local_port = (*flow).local_port;
            let failure = Failure { kind: outcome.kind, detail: outcome.detail, local, local_port };
            attempts::failed(origin, &failure);
        }
    }
}
