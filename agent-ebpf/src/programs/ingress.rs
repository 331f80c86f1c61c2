//! `cgroup_skb/ingress`: what a client's socket is answered, as long as it matters: the outcome of a TLS handshake, and
//! a proxy's answer to `CONNECT`. Whatever has its state in the table of clients, or none at all, is not looked at.

use super::{
    clients,
    decided::Cell,
    egress::any_socket,
    packet::{Packet, load},
    tls,
};
use aya_ebpf::{bindings::__sk_buff, macros::cgroup_skb, programs::SkBuffContext};
use core::ptr::addr_of_mut;
use spanwarden_ebpf::{
    abi::{ANSWER_OPENED, ANSWER_REFUSED, Flow, WATCH_NOTHING, WATCH_TLS},
    proto::status,
};

const PASS: i32 = 1;

#[cgroup_skb(ingress)]
fn plaintext_ingress(ctx: SkBuffContext) -> i32 {
    let skb: *mut __sk_buff = ctx.skb.skb;
    let Some(sk) = any_socket(skb) else { return PASS };
    if clients::is_nowhere_else(sk) || Cell::of(sk).is_some_and(Cell::is_quiet) {
        return PASS;
    }
    let Some(socket) = clients::stored(sk) else { return PASS };
    // SAFETY: the storage value of the packet's own socket. Its lock is not held here: see `Flow` for who writes what.
    let (flow, watch) = unsafe { (addr_of_mut!((*socket).flow), (*socket).flow.watch) };
    if watch == WATCH_NOTHING {
        return PASS;
    }
    let Some(packet) = Packet::parse(skb) else { return PASS };
    if watch == WATCH_TLS {
        tls::received(skb, socket, &packet);
    } else if packet.len > 0 {
        proxy_answer(skb, flow, &packet);
    }
    PASS
}

/// The status line of a proxy's answer, which begins a packet.
#[inline(always)]
fn proxy_answer(skb: *mut __sk_buff, flow: *mut Flow, packet: &Packet) {
    let Some(start) = load::<[u8; 10]>(skb, packet.payload) else { return };
    if let Some(is_success) = status(&start) {
        // SAFETY: as in `plaintext_ingress`.
        unsafe { (*flow).answer = if is_success { ANSWER_OPENED } else { ANSWER_REFUSED } };
    }
}
