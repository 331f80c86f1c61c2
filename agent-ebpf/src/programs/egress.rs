//! `cgroup_skb/egress`: what really leaves a client's socket, classified at the first payload bytes.
//!
//! Server sockets and finished flows cost one storage look-up. Indexed by sequence number, so that a
//! retransmission is not read twice and a GSO packet is read as one.

use super::{
    maps::count,
    packet::Packet,
    report::{self, Action, Evidence},
    socket_of,
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};
use spanwarden_ebpf::{
    abi::{
        FLOW_BLOCKED, FLOW_DONE, FLOW_WATCHED, Flow, PROOF_PATH, PROOF_PORT, PROTOCOL_H2C, PROTOCOL_HTTP1,
        SIGNAL_TRACES, SIGNAL_UNKNOWN, counter,
    },
    proto::{CHUNK, ROUNDS, Verdict},
};

const PASS: i32 = 1;
const DROP: i32 = 0;

#[cgroup_skb(egress)]
fn plaintext_egress(ctx: SkBuffContext) -> i32 {
    let skb: *mut __sk_buff = ctx.skb.skb;
    // SAFETY: the context outlives the program; `bpf_sk_fullsock` gives null for anything but a full socket.
    let sk = unsafe {
        let sk = read_volatile(addr_of!((*skb).__bindgen_anon_2.sk));
        if sk.is_null() {
            return PASS;
        }
        bpf_sk_fullsock(sk)
    };
    if sk.is_null() {
        return PASS;
    }
    let Some(socket) = socket_of(sk.cast()) else { return PASS };
    // SAFETY: `socket` is the storage value of the packet's own socket, whose lock the sender holds; here and below.
    let (flow, state) = unsafe { (addr_of_mut!((*socket).flow), (*socket).flow.state) };
    if state != FLOW_WATCHED && state != FLOW_BLOCKED {
        return PASS;
    }
    let Some(packet) = Packet::parse(skb) else {
        unsafe { (*flow).state = FLOW_DONE };
        count(counter::UNREADABLE);
        return PASS;
    };
    if state == FLOW_BLOCKED {
        let drop = packet.len > 0 && report::blocked() == Action::Drop;
        return if drop { DROP } else { PASS };
    }
    let evidence = match inspect(skb, flow, &packet) {
        Verdict::Pending => return PASS,
        Verdict::Http1Traces => {
            Evidence { protocol: PROTOCOL_HTTP1, signal: SIGNAL_TRACES, proof: PROOF_PATH, flags: 0 }
        }
        Verdict::H2c => {
            Evidence { protocol: PROTOCOL_H2C, signal: SIGNAL_UNKNOWN, proof: PROOF_PORT, flags: 0 }
        }
        other => {
            count(if other == Verdict::Tls { counter::TLS } else { counter::FOREIGN });
            unsafe { (*flow).state = FLOW_DONE };
            return PASS;
        }
    };
    if report::verdict(skb, sk, &packet, socket, &evidence) == Action::Drop {
        return DROP;
    }
    unsafe { (*flow).state = FLOW_DONE };
    PASS
}

/// Feeds the parser with what this packet adds to the stream.
///
/// Parser, length and offset go through the flow's memory in every round: the verifier forgets what it knew of
/// them, so that a round ends in one state and not in as many as it has ways out.
#[inline(always)]
fn inspect(skb: *mut __sk_buff, flow: *mut Flow, packet: &Packet) -> Verdict {
    // SAFETY: `flow` is the storage value of the packet's own socket.
    let (base, seen) = unsafe { ((*flow).base, (*flow).classifier.seen()) };
    let at = packet.sequence.wrapping_sub(base);
    // A SYN is one before the base and carries nothing; so does a keep-alive probe.
    if packet.len == 0 || at > u32::MAX / 2 {
        return Verdict::Pending;
    }
    if at > seen {
        count(counter::UNREADABLE);
        return Verdict::Foreign;
    }
    let known = seen - at;
    if packet.len <= known {
        return Verdict::Pending;
    }
    // SAFETY: as above.
    unsafe { write_volatile(addr_of_mut!((*flow).offset), packet.payload + known) };
    let end = packet.payload + packet.len;
    let mut round = 0;
    while round < ROUNDS {
        match one_round(skb, flow, end) {
            Verdict::Pending => {}
            verdict => return verdict,
        }
        // SAFETY: as above.
        if unsafe { read_volatile(addr_of!((*flow).offset)) } >= end {
            break;
        }
        round += 1;
    }
    Verdict::Pending
}

/// One chunk, of which the parser takes as much as it can use at its stage.
#[inline(always)]
fn one_round(skb: *mut __sk_buff, flow: *mut Flow, end: u32) -> Verdict {
    // SAFETY: fields of the storage value of the packet's own socket; the helper writes at most CHUNK bytes into
    // `chunk`, which is lent to the parser only afterwards.
    unsafe {
        let offset = read_volatile(addr_of!((*flow).offset));
        let left = end.wrapping_sub(offset);
        write_volatile(addr_of_mut!((*flow).length), if left > CHUNK as u32 { CHUNK as u32 } else { left });
        // The mask says what the comparison said: 1 to CHUNK.
        let n = (read_volatile(addr_of!((*flow).length)).wrapping_sub(1) & (CHUNK as u32 - 1)) + 1;
        let chunk = addr_of_mut!((*flow).chunk);
        if bpf_skb_load_bytes(skb.cast_const().cast(), offset, chunk.cast(), n) != 0 {
            count(counter::UNREADABLE);
            return Verdict::Foreign;
        }
        let mut parser = read_volatile(addr_of!((*flow).classifier));
        let (taken, verdict) = parser.consume(&(*chunk).0, n);
        write_volatile(addr_of_mut!((*flow).classifier), parser);
        write_volatile(addr_of_mut!((*flow).offset), offset + taken);
        verdict
    }
}
