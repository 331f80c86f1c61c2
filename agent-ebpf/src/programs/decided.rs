//! Sockets that need no look at their packets, by address: the test of a cell costs no call of a helper, and one of a
//! socket's storage costs more than all else of a packet together.
//!
//! It is exact, because an address is that of one socket at a time. It gets into the cell of its ports only when its
//! socket has been decided, and the cell is emptied for whichever socket is established next with these ports
//! ([`forget`]), before its payload: so what a socket has left does not count for a later one at the same address.
//! Before that, a later one is not open ([`is_open`]), and a SYN with payload (TCP Fast Open) is looked at. This
//! needs `sock_ops` to be attached before `egress`. Two sockets with one cell take it from each other, which costs them
//! a look-up. Only egress writes here, which holds the socket's lock, and `sock_ops`, which does too.
//!
//! The addresses are the kernel's own. Whoever may read the map (`CAP_BPF` and `CAP_SYS_ADMIN`, or the programs' own
//! `CAP_PERFMON`) may read the kernel's memory as well.

use super::maps;
use aya_ebpf::bindings::{BPF_TCP_CLOSE_WAIT, BPF_TCP_ESTABLISHED, bpf_sock};
use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};

/// Cells: an index has 16 bits.
pub(super) const CELLS: usize = 65_536;

/// The cell of a pair of ports: addresses of sockets, or 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Decided {
    /// Nothing that it sends is to be looked at.
    sent: u64,
    /// Nothing that it receives is, for the time being.
    received: u64,
}

/// A socket's cell.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    sk: *mut bpf_sock,
    at: *mut Decided,
}

impl Cell {
    /// Of a socket that need not be a full one.
    #[inline(always)]
    pub(super) fn of(sk: *mut bpf_sock) -> Option<Self> {
        // SAFETY: fields that all sockets have, in their own widths.
        let (local, remote) =
            unsafe { (read_volatile(addr_of!((*sk).src_port)), read_volatile(addr_of!((*sk).dst_port))) };
        // The two ends of a connection on one node have the same ports in another order: their cells must differ.
        let mixed = local.wrapping_mul(0x9e37_79b1) ^ u32::from(remote).wrapping_mul(0x85eb_ca6b);
        Some(Self { sk, at: maps::DECIDED.get_ptr_mut(mixed >> 16)? })
    }

    /// Whether nothing that the socket sends is to be looked at.
    #[inline(always)]
    pub(super) fn is_decided(self) -> bool {
        // SAFETY: aligned words of a map's value, each read and written at once; here and below.
        unsafe { read_volatile(addr_of!((*self.at).sent)) == self.sk as u64 && is_open(self.sk) }
    }

    /// Whether nothing that the socket receives is to be looked at.
    #[inline(always)]
    pub(super) fn is_quiet(self) -> bool {
        // SAFETY: as above.
        unsafe { read_volatile(addr_of!((*self.at).received)) == self.sk as u64 && is_open(self.sk) }
    }

    /// Nothing of this socket is to be looked at until it is connected again.
    #[inline(always)]
    pub(super) fn decide(self) {
        if is_open(self.sk) {
            // SAFETY: as above.
            unsafe {
                write_volatile(addr_of_mut!((*self.at).sent), self.sk as u64);
                write_volatile(addr_of_mut!((*self.at).received), self.sk as u64);
            }
        }
    }

    /// Nothing that it receives is to be looked at, until [`Self::listen`].
    #[inline(always)]
    pub(super) fn quiet(self) {
        if !self.is_quiet() && is_open(self.sk) {
            // SAFETY: as above.
            unsafe { write_volatile(addr_of_mut!((*self.at).received), self.sk as u64) };
        }
    }

    /// What it receives is to be looked at.
    #[inline(always)]
    pub(super) fn listen(self) {
        // SAFETY: as above.
        unsafe { write_volatile(addr_of_mut!((*self.at).received), 0) };
    }
}

/// A socket is established, of which nothing is known by its address.
#[inline(always)]
pub(super) fn forget(sk: *mut bpf_sock) {
    if let Some(cell) = Cell::of(sk) {
        // SAFETY: as in `Cell::is_decided`.
        unsafe { write_volatile(addr_of_mut!((*cell.at).sent), 0) };
        cell.listen();
    }
}

/// Established, whether or not the peer has closed.
#[inline(always)]
pub(super) fn is_open(sk: *mut bpf_sock) -> bool {
    // SAFETY: a field that all sockets have, in its own width.
    let state = unsafe { read_volatile(addr_of!((*sk).state)) };
    state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT
}
