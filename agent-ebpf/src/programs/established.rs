//! `sock_ops`: joins the two ends of a handshake by their sequence numbers.
//!
//! The client's callback runs before its final ACK leaves, and the server's before `accept()` can return the
//! socket, so the order is given for every connection on one node. Not with TCP Fast Open on the listener,
//! which the agent therefore never sets.

use super::{
    CREATE,
    maps::{self, count, raw},
    origin_of,
};
use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, bpf_sock_ops},
    helpers::generated::{bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem, bpf_sk_storage_get},
    macros::sock_ops,
    programs::SockOpsContext,
};
use core::{
    ffi::c_void,
    ptr::{self, addr_of, read_volatile},
};
use spanwarden_ebpf::{
    abi::{Flow, JoinKey, OriginRecord, STATE_CONFLICT, STATE_JOINED, counter},
    proto::Classifier,
};

#[sock_ops]
fn origin_established(ctx: SockOpsContext) -> u32 {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: the context outlives the program; fields are read in their own widths.
    let op = unsafe { read_volatile(addr_of!((*ops).op)) };
    if op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        return 1;
    }
    // SAFETY: as above.
    let (sent, received, sk) = unsafe {
        (
            read_volatile(addr_of!((*ops).snd_nxt)),
            read_volatile(addr_of!((*ops).rcv_nxt)),
            read_volatile(addr_of!((*ops).__bindgen_anon_2.sk)),
        )
    };
    if sk.is_null() {
        return 1;
    }
    if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB {
        active(sk.cast(), JoinKey { client_next: sent, server_next: received });
    } else {
        passive(sk.cast(), JoinKey { client_next: received, server_next: sent });
    }
    1
}

/// The client's end: leave the origin for the server's end, and start to watch what is sent.
#[inline(always)]
fn active(sk: *mut c_void, key: JoinKey) {
    // A socket opened before the programs were attached has no record, and gets none by guessing.
    let Some(record) = origin_of(sk) else { return };
    // SAFETY: `record` and `flow` are this socket's storage values; `key` lives on the stack during the call.
    unsafe {
        (*record).join = key;
        (*record).join_check = key;
        if bpf_map_update_elem(raw(&maps::JOIN), ptr::from_ref(&key).cast(), record.cast(), 0) != 0 {
            count(counter::STORE_FAILED);
        }
        let flow: *mut Flow = bpf_sk_storage_get(raw(&maps::FLOWS), sk, ptr::null_mut(), CREATE).cast();
        if flow.is_null() {
            count(counter::STORE_FAILED);
            return;
        }
        // A socket that connects again starts again.
        (*flow).classifier = Classifier::default();
        (*flow).done = 0;
        (*flow).base = key.client_next;
    }
}

/// The server's end: move the origin into the accepted socket.
#[inline(always)]
fn passive(sk: *mut c_void, key: JoinKey) {
    // SAFETY: `key` lives on the stack during the calls; look-ups are checked for null; the map's value and the
    // storage's value have the same type.
    unsafe {
        let left = bpf_map_lookup_elem(raw(&maps::JOIN), ptr::from_ref(&key).cast());
        if left.is_null() {
            return;
        }
        let record: *mut OriginRecord = bpf_sk_storage_get(raw(&maps::ORIGINS), sk, left, CREATE).cast();
        if record.is_null() {
            count(counter::STORE_FAILED);
        } else if (*record).join != key || (*record).join_check != key || !is_own(record) {
            (*record).state = STATE_CONFLICT;
            count(counter::CONFLICT);
        } else {
            (*record).state = STATE_JOINED;
            count(counter::JOINED);
        }
        bpf_map_delete_elem(raw(&maps::JOIN), ptr::from_ref(&key).cast());
    }
}

/// Whether the client wanted to reach the agent. Loopback (and the unspecified address, which Linux takes for
/// it) is the agent's only in the agent's network namespace.
///
/// # Safety
/// `record` must be a value of the origins map.
#[inline(always)]
unsafe fn is_own(record: *const OriginRecord) -> bool {
    // SAFETY: 16 bytes at an offset that is a multiple of 8, read as two words.
    let (high, low) = unsafe {
        let words: *const u64 = addr_of!((*record).destination).cast();
        (u64::from_be(*words), u64::from_be(*words.add(1)))
    };
    let mapped = high == 0 && low >> 32 == 0xffff;
    let loopback = mapped && (low as u32 >> 24 == 127 || low as u32 == 0) || high == 0 && low <= 1;
    if loopback {
        let Some(settings) = maps::SETTINGS.get(0) else { return false };
        // SAFETY: plain read of the record.
        let client = unsafe { (*record).netns_cookie };
        return settings.netns_cookie != 0 && settings.netns_cookie == client;
    }
    let address = [high.to_be(), low.to_be()];
    maps::own_contains(&address)
}
