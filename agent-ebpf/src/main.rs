//! The kernel programs. Built by `cargo xtask ebpf build` for `bpfel-unknown-none` only.
//!
//! Nothing but UAPI contexts and helpers of kernel 5.10 is used: no CO-RE, no struct offsets, no probes. Every
//! program passes whatever it does not understand, and stops only what the policy says and while user space lives.

#![no_std]
#![no_main]
// One instruction; see `maps::add`.
#![feature(asm_experimental_arch)]
#![allow(unsafe_code)]

mod programs;

/// The kernel asks for a licence; no helper used here is restricted to GPL programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
