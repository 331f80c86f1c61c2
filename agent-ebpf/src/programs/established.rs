//! `sock_ops`: joins the two ends of a handshake by their sequence numbers.
//!
//! The client's callback runs before its final ACK leaves, and the server's before `accept()` can return the
//! socket, so the order is given for every connection on one node. Not with TCP Fast Open on the listener,
//! which the agent therefore never sets.

use super::{
    clients, decided, is_server,
    maps::{self, count, raw},
    packet::Address,
    place, tls,
};
use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE, BPF_TCP_FIN_WAIT1, bpf_sock, bpf_sock_ops,
    },
    helpers::generated::{
        bpf_ktime_get_boot_ns, bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem,
        bpf_sock_ops_cb_flags_set,
    },
    macros::sock_ops,
    programs::SockOpsContext,
};
use core::ptr::{self, addr_of, read_volatile};
use spanwarden_ebpf::abi::{
    FLOW_DONE, FLOW_OPENING, JoinKey, OriginRecord, STATE_CONFLICT, STATE_JOINED, STATE_OPENED,
    WATCH_NOTHING, counter,
};

#[sock_ops]
fn origin_established(ctx: SockOpsContext) -> u32 {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: the context outlives the program; fields are read in their own widths, here and below.
    let (op, sk) = unsafe {
        let op = read_volatile(addr_of!((*ops).op));
        let known = op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
            || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
            || op == BPF_SOCK_OPS_STATE_CB;
        if !known {
            return 1;
        }
        (op, read_volatile(addr_of!((*ops).__bindgen_anon_2.sk)))
    };
    if sk.is_null() {
        return 1;
    }
    if op != BPF_SOCK_OPS_STATE_CB {
        decided::forget(sk);
    }
    match op {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => active(ops, sk),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => passive(ops, sk),
        _ => changed(ops, sk),
    }
    1
}

/// The client's end: leave the origin for the server's end, and start to watch what is sent.
#[inline(always)]
fn active(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    // A socket opened before the programs were attached has no record, and gets none by guessing.
    let Some(socket) = clients::socket_of(sk) else { return };
    // SAFETY: `socket` is of this socket, which is locked; `key` lives on the stack during the call.
    unsafe {
        let record = &raw mut (*socket).origin;
        if (*record).state != STATE_OPENED {
            return;
        }
        tell_close(ops);
        clients::opened(sk);
        // What is acknowledged, not what was sent: a SYN may carry payload (TCP Fast Open), which a listener
        // without it, as the agent's is, leaves to be sent again.
        let key = JoinKey {
            client_next: read_volatile(addr_of!((*ops).snd_una)),
            server_next: read_volatile(addr_of!((*ops).rcv_nxt)),
        };
        if may_be_agents(record) {
            leave(record, key);
        }
        let flow = &raw mut (*socket).flow;
        if (*flow).state == FLOW_OPENING {
            (*flow).start(key.client_next, key.server_next);
        } else {
            // The SYN had payload, and is watched already.
            (*flow).peer_base = key.server_next;
        }
    }
}

/// Asks to be told of the socket's changes of state.
#[inline(always)]
fn tell_close(ops: *mut bpf_sock_ops) {
    // SAFETY: the context's field in its own width. Others may have asked for callbacks of their own, and their flags
    // are in the same field.
    unsafe {
        let flags = read_volatile(addr_of!((*ops).bpf_sock_ops_cb_flags));
        bpf_sock_ops_cb_flags_set(ops, (flags | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    }
}

/// Puts the origin where the server's end will look for it.
///
/// # Safety
/// `record` must be a socket's.
#[inline(always)]
unsafe fn leave(record: *mut OriginRecord, key: JoinKey) {
    // SAFETY: by contract; `key` lives on the stack during the call.
    unsafe {
        (*record).join = key;
        (*record).join_check = key;
        if bpf_map_update_elem(raw(&maps::JOIN), ptr::from_ref(&key).cast(), record.cast(), 0) != 0 {
            count(counter::STORE_FAILED);
        }
    }
}

/// The server's end: move the origin into the accepted socket, whose own bytes are nobody's export.
#[inline(always)]
fn passive(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    clients::strike(sk);
    // SAFETY: context fields in their own widths.
    let (local, remote) = unsafe {
        (
            read_volatile(addr_of!((*ops).local_port)),
            u32::from_be(read_volatile(addr_of!((*ops).remote_port))),
        )
    };
    // Most accepted sockets are not the agent's, and the ports tell egress that they are no client's either.
    let may_be_agent = place::receives_on(local);
    let is_told_by_ports = is_server(local, remote);
    if !may_be_agent && is_told_by_ports {
        return;
    }
    // SAFETY: `key` lives on the stack during the calls; look-ups are checked for null; the map's value and the
    // storage's origin have the same type.
    unsafe {
        let key = JoinKey {
            client_next: read_volatile(addr_of!((*ops).rcv_nxt)),
            server_next: read_volatile(addr_of!((*ops).snd_nxt)),
        };
        let left: *const OriginRecord = if may_be_agent {
            bpf_map_lookup_elem(raw(&maps::JOIN), ptr::from_ref(&key).cast()).cast()
        } else {
            ptr::null()
        };
        if left.is_null() {
            if !is_told_by_ports {
                accept_unread(ops, sk);
            }
            return;
        }
        // For user space to find by the socket; programs need to find it only where the ports do not tell.
        let stored = if is_told_by_ports {
            clients::store(sk)
        } else {
            tell_close(ops);
            clients::store_and_count(sk)
        };
        let Some(socket) = stored else {
            count(counter::STORE_FAILED);
            return;
        };
        (*socket).flow.state = FLOW_DONE;
        let record = &raw mut (*socket).origin;
        *record = *left;
        if (*record).join != key || (*record).join_check != key || !is_own(record) {
            (*record).state = STATE_CONFLICT;
            count(counter::CONFLICT);
        } else {
            (*record).state = STATE_JOINED;
            count(counter::JOINED);
        }
        bpf_map_delete_elem(raw(&maps::JOIN), ptr::from_ref(&key).cast());
    }
}

/// An accepted socket that its ports do not tell from a client's, and that is not the agent's: nothing that it sends is
/// to be looked at.
#[inline(always)]
fn accept_unread(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(socket) = clients::take(sk, now).or_else(|| clients::store_and_count(sk)) else {
        count(counter::STORE_FAILED);
        return;
    };
    // SAFETY: `socket` is of this socket, which is locked.
    unsafe {
        (*socket).origin = OriginRecord::default();
        (*socket).flow.state = FLOW_DONE;
        (*socket).flow.watch = WATCH_NOTHING;
    }
    tell_close(ops);
    clients::opened(sk);
}

/// The socket is in another state. Nobody on this node has accepted it, or the entry is gone: it must not push
/// out another's.
#[inline(always)]
fn changed(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    // SAFETY: the arguments of this callback are the old and the new state.
    let new = unsafe { read_volatile(addr_of!((*ops).__bindgen_anon_1.args[1])) };
    // In every later state the server has answered, so it is past its callback, or it never will.
    if new == BPF_TCP_FIN_WAIT1 {
        return;
    }
    let Some(socket) = clients::socket_of(sk) else { return };
    // SAFETY: `socket` is of this socket, which is locked; the key is in its memory. A server's record has its client's
    // key, and that entry is gone.
    unsafe {
        let key = &raw mut (*socket).origin.join;
        if ((*key).client_next != 0 || (*key).server_next != 0) && (*socket).origin.state == STATE_OPENED {
            bpf_map_delete_elem(raw(&maps::JOIN), key.cast_const().cast());
            *key = JoinKey { client_next: 0, server_next: 0 };
        }
    }
    if new == BPF_TCP_CLOSE {
        tls::gone(socket);
        clients::closed(sk, socket);
    }
}

/// Whether the agent may be at the other end. An entry for nothing costs each connection of the node more than all else
/// here. The agent's port at an address that is not known as its own counts, so that user space hears of it
/// ([`STATE_CONFLICT`]); loopback leads to nobody else's namespace.
///
/// # Safety
/// `record` must be a socket's.
#[inline(always)]
unsafe fn may_be_agents(record: *const OriginRecord) -> bool {
    // SAFETY: as in `is_own`.
    let (destination, port): (Address, u32) =
        unsafe { (*addr_of!((*record).destination).cast(), (*record).destination_port) };
    (!destination.is_loopback() && place::receives_on(port)) || unsafe { is_own(record) }
}

/// Whether the client wanted to reach the agent. Loopback (and the unspecified address, which Linux takes for
/// it) is the agent's only in the agent's network namespace.
///
/// # Safety
/// `record` must be a socket's.
#[inline(always)]
unsafe fn is_own(record: *const OriginRecord) -> bool {
    // SAFETY: 16 bytes at an offset that is a multiple of 8, and plain reads of the record.
    let (destination, netns_cookie): (Address, u64) =
        unsafe { (*addr_of!((*record).destination).cast(), (*record).netns_cookie) };
    if destination.is_loopback() {
        let Some(settings) = maps::SETTINGS.get(0) else { return false };
        return settings.netns_cookie != 0 && settings.netns_cookie == netns_cookie;
    }
    maps::own_contains(&destination.0)
}
