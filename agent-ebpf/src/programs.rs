//! Programs by hook, and what they share.

mod attempts;
mod connect;
mod decided;
mod egress;
mod endings;
mod established;
mod ingress;
mod maps;
mod packet;
mod place;
mod policy;
mod report;
mod throttle;
mod tls;

use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use core::{ffi::c_void, ptr};
use maps::raw;
use spanwarden_ebpf::abi::Socket;

/// `BPF_SK_STORAGE_GET_F_CREATE`
const CREATE: u64 = 1;

/// The socket's storage, if it has one.
#[inline(always)]
fn socket_of(sk: *mut c_void) -> Option<*mut Socket> {
    storage(sk, 0)
}

/// The socket's storage; all zeroes when it had none. `None` when there is no memory for it.
#[inline(always)]
fn socket_or_new(sk: *mut c_void) -> Option<*mut Socket> {
    storage(sk, CREATE)
}

#[inline(always)]
fn storage(sk: *mut c_void, flags: u64) -> Option<*mut Socket> {
    // SAFETY: the map is socket storage of `Socket`; `sk` comes from the context and is not null.
    let socket = unsafe { bpf_sk_storage_get(raw(&maps::SOCKETS), sk, ptr::null_mut(), flags) };
    (!socket.is_null()).then_some(socket.cast())
}

/// The first port that a kernel gives to clients, unless it is told otherwise (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: u32 = 32_768;

/// Whether a socket without storage is a server's beyond doubt, by its own port and its peer's. What is accepted
/// while the programs run has storage where the ports do not say it; so has every client's socket.
#[inline(always)]
fn is_server(local: u32, remote: u32) -> bool {
    local < EPHEMERAL && local < remote
}
