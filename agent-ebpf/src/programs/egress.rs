//! `cgroup_skb/egress`: what really leaves a client's socket.
//!
//! A socket that needs no watching (a server's, or one that is decided) is told by its address; so is what is known of
//! the others, and headers are read after that. Positions are sequence numbers, so that a retransmission is not read
//! twice and a GSO packet is read as one.

use super::{
    clients::{self, spanwarden_settle},
    decided::{Cell, is_open},
    endings::spanwarden_end,
    is_server,
    maps::count,
    packet::{Packet, load, load_up_to},
    report::{self, Action, Evidence},
    tls,
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_TCP_SYN_SENT, bpf_sock},
    helpers::generated::bpf_sk_fullsock,
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use core::ptr::{addr_of, addr_of_mut, read_volatile};
use spanwarden_ebpf::{
    abi::{
        ANSWER_NONE, ANSWER_OPENED, FLAG_REVISED, FLAG_TUNNEL, FLOW_BLOCKED, FLOW_CLOSED, FLOW_DONE,
        FLOW_OPENING, Flow, OTLP_PORTS, PROTOCOL_H2C, PROTOCOL_HTTP1, Socket, WATCH_NOTHING, WATCH_TLS,
        WATCH_TUNNEL, counter,
    },
    proto::{CHUNK, Classifier, FOREIGN, FOUND, PENDING, ROUNDS, TLS},
};

const PASS: i32 = 1;
const DROP: i32 = 0;
const IPPROTO_TCP: u32 = 6;

#[cgroup_skb(egress)]
fn plaintext_egress(ctx: SkBuffContext) -> i32 {
    let skb: *mut __sk_buff = ctx.skb.skb;
    let Some(sk) = any_socket(skb) else { return PASS };
    let Some(cell) = Cell::of(sk) else { return PASS };
    if cell.is_decided() {
        return PASS;
    }
    let known = clients::socket_of(sk);
    if let Some(socket) = known {
        // SAFETY: what is known of the packet's own socket, whose lock the sender holds.
        let (state, watch) = unsafe { ((*socket).flow.state, (*socket).flow.watch) };
        if state == FLOW_DONE {
            if watch == WATCH_NOTHING {
                cell.decide();
            }
            return PASS;
        }
    } else if is_servers(sk) {
        cell.decide();
        return PASS;
    }
    let Some(packet) = Packet::parse(skb) else { return PASS };
    let Some(socket) = known.or_else(|| unknown(skb, sk, &packet)) else { return PASS };
    let flow = flow_of(socket);
    // SAFETY: as above, here and below.
    let state = unsafe { (*flow).state };
    if state == FLOW_DONE || state == FLOW_CLOSED && !packet.resets() {
        return PASS;
    }
    if state == FLOW_BLOCKED {
        if packet.len > 0 && report::blocked() == Action::Drop {
            spanwarden_end(skb);
            return DROP;
        }
        return PASS;
    }
    if state == FLOW_OPENING {
        // TCP Fast Open: the SYN itself carries payload.
        if !packet.is_syn() || packet.len == 0 || !is_connecting(sk) {
            return PASS;
        }
        unsafe { (*flow).start(packet.sequence, 0) };
    }
    if unsafe { (*flow).watch } == WATCH_TLS {
        tls::sent(skb, socket, &packet);
        return PASS;
    }
    if !packet.closes() && (packet.len == 0 || adds_nothing(skb, flow, &packet)) {
        return PASS;
    }
    inspect(skb, flow, &packet);
    conclude(skb, cell, socket, &packet)
}

/// The packet's socket, be it full or not.
#[inline(always)]
pub(super) fn any_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context outlives the program.
    let sk = unsafe { read_volatile(addr_of!((*skb).__bindgen_anon_2.sk)) };
    (!sk.is_null()).then_some(sk)
}

/// The packet's socket, unless it is a mere request or in time-wait.
#[inline(always)]
pub(super) fn full_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context outlives the program; `bpf_sk_fullsock` gives null for anything but a full socket.
    let sk = unsafe {
        let sk = read_volatile(addr_of!((*skb).__bindgen_anon_2.sk));
        if sk.is_null() {
            return None;
        }
        bpf_sk_fullsock(sk)
    };
    (!sk.is_null()).then_some(sk)
}

#[inline(always)]
fn flow_of(socket: *mut Socket) -> *mut Flow {
    // SAFETY: only the address is taken.
    unsafe { addr_of_mut!((*socket).flow) }
}

/// Whether a socket of which nothing is known is a server's by its ports. One that is closed has none of its own any
/// more.
#[inline(always)]
fn is_servers(sk: *mut bpf_sock) -> bool {
    // SAFETY: fields that all sockets have, in their own widths.
    let (local, remote) =
        unsafe { (read_volatile(addr_of!((*sk).src_port)), read_volatile(addr_of!((*sk).dst_port))) };
    local != 0 && is_server(local, u32::from(u16::from_be(remote)))
}

/// Whether a connection is under way.
#[inline(always)]
fn is_connecting(sk: *mut bpf_sock) -> bool {
    // SAFETY: as above.
    unsafe { read_volatile(addr_of!((*sk).state)) == BPF_TCP_SYN_SENT }
}

/// A socket of which nothing is known where it is looked for. One that is closed and sends its reset is no longer looked
/// for; else it is of a connection that is older than the programs, which is watched from its first payload on.
#[inline(always)]
fn unknown(skb: *mut __sk_buff, sk: *mut bpf_sock, packet: &Packet) -> Option<*mut Socket> {
    if packet.resets() {
        return clients::stored(sk);
    }
    if packet.len == 0 || !is_open(sk) {
        return None;
    }
    let full = full_socket(skb)?;
    // SAFETY: a field of a full socket in its own width.
    if unsafe { read_volatile(addr_of!((*full).protocol)) } != IPPROTO_TCP {
        return None;
    }
    let Some(socket) = clients::store_and_count(sk) else {
        count(counter::STORE_FAILED);
        return None;
    };
    count(counter::PRE_EXISTING);
    let flow = flow_of(socket);
    // SAFETY: the storage value of the packet's own socket.
    unsafe {
        (*flow).start(packet.sequence, 0);
        (*flow).classifier.prepare(is_otlp_port(packet), true);
    }
    Some(socket)
}

#[inline(always)]
fn is_otlp_port(packet: &Packet) -> bool {
    let port = packet.destination_port();
    port == OTLP_PORTS[0] || port == OTLP_PORTS[1]
}

/// Whether the packet's first bytes tell that it matters to nobody, as most do within HTTP/1.
#[inline(always)]
fn adds_nothing(skb: *mut __sk_buff, flow: *mut Flow, packet: &Packet) -> bool {
    // SAFETY: `flow` is of the packet's own socket, whose lock the sender holds.
    let (parser, answer) = unsafe { (&(*flow).classifier, (*flow).answer) };
    answer == ANSWER_NONE
        && parser.is_idle()
        && load(skb, packet.payload).is_some_and(|start| parser.passes_over(u64::from_be(start)))
}

/// Whether the first bytes of the connection tell everything that its first packet can, as most do.
#[inline(always)]
fn is_told_at_once(skb: *mut __sk_buff, parser: &mut Classifier, packet: &Packet, at: u32) -> bool {
    parser.is_beginning(at, packet.len)
        && load(skb, packet.payload).is_some_and(|start| parser.glance(u64::from_be(start)))
}

/// Feeds the parser with what this packet adds to the stream.
#[inline(always)]
fn inspect(skb: *mut __sk_buff, flow: *mut Flow, packet: &Packet) {
    // SAFETY: `flow` is of the packet's own socket, whose lock the sender holds.
    let (parser, answer, base) = unsafe { (&mut (*flow).classifier, (*flow).answer, (*flow).base) };
    if !parser.is_prepared() {
        parser.prepare(is_otlp_port(packet), false);
    }
    if answer != ANSWER_NONE {
        parser.tunnel_answered(answer == ANSWER_OPENED);
        // SAFETY: as above. Ingress writes it only while it watches.
        unsafe {
            (*flow).watch = WATCH_NOTHING;
            (*flow).answer = ANSWER_NONE;
        }
    }
    let at = packet.sequence.wrapping_sub(base);
    if packet.len > 0 && !is_told_at_once(skb, parser, packet, at) && parser.begin(at, packet.len) {
        let mut round = 0;
        while round < ROUNDS && spanwarden_round(skb, packet.payload, packet.len) != 0 {
            round += 1;
        }
    }
    if packet.closes() {
        // SAFETY: as above.
        unsafe { (*flow).classifier.close() };
    }
}

/// One chunk, of which the parser takes as much as it can use at its stage; whether there may be more.
///
/// A global function in the kernel's sense: the verifier follows it once, by itself, for any arguments, and not once
/// a round. That is why it has an exported name and looks up the socket again: it may be given the context
/// and numbers only (pointers to memory since 5.12).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn spanwarden_round(skb: *mut __sk_buff, payload: u32, length: u32) -> u32 {
    let Some(flow) = any_socket(skb).and_then(clients::socket_of).map(flow_of) else { return 0 };
    // SAFETY: fields of the storage value of the packet's own socket; `chunk` is lent to the parser only after the
    // helper has written to it.
    unsafe {
        let parser = &mut (*flow).classifier;
        if !parser.wants_more(length) {
            return 0;
        }
        let offset = parser.offset();
        let left = length.wrapping_sub(offset);
        let n = if left > CHUNK as u32 { CHUNK as u32 } else { left };
        let chunk = addr_of_mut!((*flow).chunk);
        if !load_up_to::<{ CHUNK as u32 }>(skb, payload.wrapping_add(offset), chunk.cast(), n) {
            return 0;
        }
        // Hidden from the optimiser, which would leave out the bound of the loops over the chunk: verifiers before 6.8
        // cannot derive it for themselves.
        parser.round(&(*chunk).0, core::hint::black_box(n));
        u32::from(parser.wants_more(length))
    }
}

/// Acts on what the parser has come to.
#[inline(always)]
fn conclude(skb: *mut __sk_buff, cell: Cell, socket: *mut Socket, packet: &Packet) -> i32 {
    let flow = flow_of(socket);
    // SAFETY: what is known of the packet's own socket, whose lock the sender holds; here and below.
    let parser = unsafe { &mut (*flow).classifier };
    let result = parser.result();
    if result == PENDING {
        if !parser.awaits_tunnel() {
            unsafe { (*flow).watch = WATCH_NOTHING };
            cell.quiet();
            return PASS;
        }
        cell.listen();
        if let Some(socket) = to_storage(skb) {
            unsafe { (*socket).flow.watch = WATCH_TUNNEL };
        }
        return PASS;
    }
    if result == FOUND {
        return found(skb, socket, packet);
    }
    if result == TLS {
        count(counter::TLS);
        // Before the packet leaves, so before it can be answered.
        cell.listen();
        match to_storage(skb) {
            Some(socket) => tls::hello(skb, socket, packet),
            None => done(flow),
        }
        return PASS;
    }
    count(if result == FOREIGN { counter::FOREIGN } else { counter::UNREADABLE });
    done(flow);
    cell.decide();
    PASS
}

/// What is known of the socket, in storage: ingress, which does not hold its lock, is to look at it.
#[inline(always)]
fn to_storage(skb: *mut __sk_buff) -> Option<*mut Socket> {
    if spanwarden_settle(skb) == 0 {
        count(counter::STORE_FAILED);
        return None;
    }
    any_socket(skb).and_then(clients::stored)
}

/// Nothing is to be looked at any more, of either direction.
#[inline(always)]
fn done(flow: *mut Flow) {
    // SAFETY: `flow` is of the packet's own socket, whose lock the sender holds.
    unsafe {
        (*flow).state = FLOW_DONE;
        (*flow).watch = WATCH_NOTHING;
    }
}

#[inline(always)]
fn found(skb: *mut __sk_buff, socket: *mut Socket, packet: &Packet) -> i32 {
    let Some(sk) = full_socket(skb) else { return PASS };
    let flow = flow_of(socket);
    // SAFETY: as in `conclude`; here and below.
    let evidence = unsafe { (*flow).classifier.evidence() };
    let mut flags = 0;
    if evidence.tunnel {
        flags |= FLAG_TUNNEL;
    }
    if evidence.revised {
        flags |= FLAG_REVISED;
    }
    let evidence = Evidence {
        protocol: if evidence.is_http2 { PROTOCOL_H2C } else { PROTOCOL_HTTP1 },
        signal: evidence.signal,
        proof: evidence.proof,
        flags,
    };
    if report::verdict(skb, sk, packet, socket, &evidence) == Action::Drop {
        spanwarden_end(skb);
        return DROP;
    }
    if !unsafe { (*flow).classifier.go_on() } {
        done(flow);
    }
    PASS
}
