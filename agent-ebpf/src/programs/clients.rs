//! What is known of sockets, by their addresses: in the table of clients, or else in storage of their own.
//!
//! An address is that of one socket at a time. A client's is written down by `connect`, before it can send anything,
//! and struck out by the close ([`closed`]) or by whatever is accepted at the same address later ([`strike`]). A close
//! is told of established sockets only: what never gets there leaves its cell to the next client with this address, or
//! to anybody after [`ABANDONED_NS`]. Other kinds of sockets at such an address have nothing that would count: they are
//! neither opening nor do they send TCP.

use super::{
    egress::any_socket,
    maps::{self, add, alone, raw},
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_sk_storage_get,
};
use core::{
    arch::asm,
    ffi::c_void,
    ptr::{self, addr_of, addr_of_mut, read_volatile, write_volatile},
};
use spanwarden_ebpf::abi::{
    ABANDONED_NS, CLIENT_CLOSED, CLIENT_OPEN, CLIENT_OPENING, CLIENTS, Client, FLOW_CLOSED, FLOW_DONE,
    FLOW_OPENING, FLOW_WATCHED, Socket,
};

/// `BPF_SK_STORAGE_GET_F_CREATE`
const CREATE: u64 = 1;

/// Where a socket's cell is.
#[inline(always)]
fn index(sk: *mut bpf_sock) -> u32 {
    let low: u64;
    // `w0 = w1`, which the assembler has no name for on the oldest of targets: the verifier takes no arithmetic of
    // pointers, but the lower half of one for the number that it is (with `CAP_PERFMON`).
    // SAFETY: nothing but the two registers.
    unsafe { asm!(".8byte 0x10bc", in("r1") sk, lateout("r0") low, options(pure, nomem, nostack)) };
    (low.wrapping_mul(0x9e37_79b1) as u32) >> (u32::BITS - CLIENTS.trailing_zeros())
}

#[inline(always)]
fn cell(index: u32) -> Option<*mut Client> {
    maps::CLIENTS.get_ptr_mut(index)
}

#[inline(always)]
fn is_owner(cell: *mut Client, sk: *mut bpf_sock) -> bool {
    // SAFETY: an aligned word of a map's value, here and below.
    unsafe { read_volatile(addr_of!((*cell).owner)) == sk as u64 }
}

/// Whether nothing is known of any socket like this one but what is in the table.
#[inline(always)]
pub(super) fn is_nowhere_else(sk: *mut bpf_sock) -> bool {
    nothing_elsewhere(index(sk))
}

#[inline(always)]
fn nothing_elsewhere(index: u32) -> bool {
    // SAFETY: as above.
    maps::ELSEWHERE.get_ptr(index).is_some_and(|count| unsafe { read_volatile(count) } == 0)
}

/// What is known of a socket, which must be locked.
#[inline(always)]
pub(super) fn socket_of(sk: *mut bpf_sock) -> Option<*mut Socket> {
    let index = index(sk);
    let cell = cell(index)?;
    if is_owner(cell, sk) {
        // SAFETY: only the address is taken.
        return Some(unsafe { addr_of_mut!((*cell).socket) });
    }
    if nothing_elsewhere(index) { None } else { stored(sk) }
}

/// The socket's storage, if it has one. The look-up makes sure by itself that the socket is a full one (5.10,
/// 592a3498648a).
#[inline(always)]
pub(super) fn stored(sk: *mut bpf_sock) -> Option<*mut Socket> {
    storage(sk, 0)
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, flags: u64) -> Option<*mut Socket> {
    // SAFETY: the map is socket storage of `Socket`; `sk` comes from the context and is not null.
    let socket =
        unsafe { bpf_sk_storage_get(raw(&maps::SOCKETS), sk.cast::<c_void>(), ptr::null_mut(), flags) };
    (!socket.is_null()).then_some(socket.cast())
}

/// The socket's storage, for user space alone; all zeroes when it had none. `None` when there is no memory for it.
#[inline(always)]
pub(super) fn store(sk: *mut bpf_sock) -> Option<*mut Socket> {
    storage(sk, CREATE)
}

/// The socket's storage, which the programs look for from now on.
#[inline(always)]
pub(super) fn store_and_count(sk: *mut bpf_sock) -> Option<*mut Socket> {
    let socket = store(sk)?;
    // SAFETY: the storage value of the caller's own socket; the count is eight aligned bytes of a map's value.
    unsafe {
        if (*socket).flow.counted == 0
            && let Some(count) = maps::ELSEWHERE.get_ptr_mut(index(sk))
        {
            add(count, 1);
            (*socket).flow.counted = 1;
        }
    }
    Some(socket)
}

/// Takes the socket's cell. `None` where it is another's, or another is about to take it.
#[inline(always)]
pub(super) fn take(sk: *mut bpf_sock, now: u64) -> Option<*mut Socket> {
    let cell = cell(index(sk))?;
    // SAFETY: aligned words of a map's value.
    unsafe {
        let socket = addr_of_mut!((*cell).socket);
        // After a `connect` that came to nothing it still has it.
        if !has(cell, sk) && !alone(addr_of_mut!((*cell).holders)) && !inherits(cell, now) {
            // What is there of an earlier connection does not count for this one.
            if is_owner(cell, sk) {
                write_volatile(addr_of_mut!((*cell).owner), 0);
            }
            return None;
        }
        write_volatile(addr_of_mut!((*socket).origin.boot_ns), now);
        write_volatile(addr_of_mut!((*cell).phase), CLIENT_OPENING);
        (*socket).flow.state = FLOW_OPENING;
        write_volatile(addr_of_mut!((*cell).owner), sk as u64);
        Some(socket)
    }
}

/// Whether the cell is the socket's, and it has not been closed.
#[inline(always)]
fn has(cell: *mut Client, sk: *mut bpf_sock) -> bool {
    // SAFETY: as above.
    is_owner(cell, sk) && unsafe { read_volatile(addr_of!((*cell).phase)) } != CLIENT_CLOSED
}

/// Takes over a cell whose owner is not heard of any more.
///
/// # Safety
/// `cell` must be a value of the table.
#[inline(always)]
unsafe fn inherits(cell: *mut Client, now: u64) -> bool {
    // SAFETY: by contract, aligned words of a map's value.
    unsafe {
        if !is_abandoned(cell, now) || !alone(addr_of_mut!((*cell).heirs)) {
            return false;
        }
        let inherits = is_abandoned(cell, now);
        if inherits {
            write_volatile(addr_of_mut!((*cell).socket.origin.boot_ns), now);
        }
        add(addr_of_mut!((*cell).heirs), u64::MAX);
        inherits
    }
}

/// Whether the owner had long enough to be established.
///
/// # Safety
/// `cell` must be a value of the table.
#[inline(always)]
unsafe fn is_abandoned(cell: *mut Client, now: u64) -> bool {
    // SAFETY: by contract, aligned words of a map's value.
    unsafe {
        let since = read_volatile(addr_of!((*cell).socket.origin.boot_ns));
        read_volatile(addr_of!((*cell).phase)) == CLIENT_OPENING
            && read_volatile(addr_of!((*cell).owner)) != 0
            && now.saturating_sub(since) > ABANDONED_NS
    }
}

/// Nothing is known of this socket by its address: it is new.
#[inline(always)]
pub(super) fn strike(sk: *mut bpf_sock) {
    let Some(cell) = cell(index(sk)) else { return };
    if is_owner(cell, sk) {
        leave(cell, sk);
    }
}

/// The owner has no more use for his cell.
#[inline(always)]
fn leave(cell: *mut Client, sk: *mut bpf_sock) {
    let has = has(cell, sk);
    // SAFETY: as above.
    unsafe {
        write_volatile(addr_of_mut!((*cell).owner), 0);
        if has {
            add(addr_of_mut!((*cell).holders), u64::MAX);
        }
    }
}

/// The socket is established, and its close will be told.
#[inline(always)]
pub(super) fn opened(sk: *mut bpf_sock) {
    if let Some(cell) = cell(index(sk))
        && has(cell, sk)
    {
        // SAFETY: as above.
        unsafe { write_volatile(addr_of_mut!((*cell).phase), CLIENT_OPEN) };
    }
}

/// The socket is closed, and all that it may still send is a reset.
#[inline(always)]
pub(super) fn closed(sk: *mut bpf_sock, socket: *mut Socket) {
    let index = index(sk);
    // SAFETY: the callback's own socket, whose lock is held; the counts are eight aligned bytes of a map's value.
    unsafe {
        if let Some(cell) = cell(index)
            && has(cell, sk)
        {
            let flow = addr_of_mut!((*socket).flow);
            (*flow).state = if (*flow).state == FLOW_WATCHED { FLOW_CLOSED } else { FLOW_DONE };
            write_volatile(addr_of_mut!((*cell).phase), CLIENT_CLOSED);
            add(addr_of_mut!((*cell).holders), u64::MAX);
            return;
        }
        if (*socket).flow.counted != 0
            && let Some(count) = maps::ELSEWHERE.get_ptr_mut(index)
        {
            (*socket).flow.counted = 0;
            add(count, u64::MAX);
        }
    }
}

/// Moves the packet's socket from its cell, if it has one, to storage of its own, because programs that do not hold its
/// lock are to look at it. 0 when there is no memory for that. A global function like `spanwarden_round`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn spanwarden_settle(skb: *mut __sk_buff) -> u32 {
    let Some(sk) = any_socket(skb) else { return 0 };
    let Some(cell) = cell(index(sk)) else { return 0 };
    if !is_owner(cell, sk) {
        return 1;
    }
    let Some(to) = store_and_count(sk) else { return 0 };
    // SAFETY: both are of the packet's own socket, whose lock the sender holds. What is left out is written before it
    // is read: the sides of a TLS connection and its source by `tls::hello`, the chunk by each round.
    unsafe {
        let from = addr_of!((*cell).socket);
        (*to).origin = (*from).origin;
        let (to, from) = (addr_of_mut!((*to).flow), addr_of!((*from).flow));
        (*to).classifier = (*from).classifier;
        (*to).base = (*from).base;
        (*to).peer_base = (*from).peer_base;
        (*to).told_ns = (*from).told_ns;
        (*to).state = (*from).state;
        (*to).watch = (*from).watch;
        (*to).answer = (*from).answer;
    }
    leave(cell, sk);
    1
}
