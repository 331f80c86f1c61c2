//! Programs by hook, and what they share.

mod connect;
mod egress;
mod established;
mod maps;

use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use core::ffi::c_void;
use core::ptr;
use maps::raw;
use spanwarden_ebpf::abi::{Flow, OriginRecord};

/// `BPF_SK_STORAGE_GET_F_CREATE`
const CREATE: u64 = 1;

/// The socket's origin record, if it has one.
#[inline(always)]
fn origin_of(sk: *mut c_void) -> Option<*mut OriginRecord> {
    // SAFETY: the map is socket storage of `OriginRecord`; `sk` comes from the context and is not null.
    let record = unsafe { bpf_sk_storage_get(raw(&maps::ORIGINS), sk, ptr::null_mut(), 0) };
    (!record.is_null()).then_some(record.cast())
}

/// The socket's flow, if it has one.
#[inline(always)]
fn flow_of(sk: *mut c_void) -> Option<*mut Flow> {
    // SAFETY: the map is socket storage of `Flow`; `sk` comes from the context and is not null.
    let flow = unsafe { bpf_sk_storage_get(raw(&maps::FLOWS), sk, ptr::null_mut(), 0) };
    (!flow.is_null()).then_some(flow.cast())
}
