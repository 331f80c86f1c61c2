//! What the kernel programs and the agent share: the [`abi`] (shapes of map keys, values and events) and the
//! byte parsers in [`proto`]. Compiled for the BPF target and for the host, so that the very code that runs
//! in the kernel is unit-tested, property-tested and fuzzed in user space.

#![no_std]
#![forbid(unsafe_code)]
// The BPF verifier follows calls badly, and the kernel's stack is 512 bytes: one program is one function.
#![allow(clippy::inline_always)]

pub mod abi;
pub mod proto;
