//! A TCP packet as `cgroup_skb` sees it: the IP header first.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use core::{
    mem::MaybeUninit,
    ptr::{self, addr_of, read_volatile},
};

const ETH_P_IP: u32 = (0x0800_u16).to_be() as u32;
const ETH_P_IPV6: u32 = (0x86dd_u16).to_be() as u32;
const IPPROTO_TCP: u8 = 6;

/// Where things are in a TCP packet.
pub(super) struct Packet {
    pub(super) is_v6: bool,
    /// Offset of the TCP header.
    pub(super) tcp: u32,
    /// Offset of the payload.
    pub(super) payload: u32,
    /// Length of the payload.
    pub(super) len: u32,
    pub(super) sequence: u32,
}

/// An address in network byte order, IPv4 v4-mapped, as the maps' keys have it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) [u64; 2]);

impl Packet {
    #[inline(always)]
    pub(super) fn parse(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: context fields in their own widths.
        let (protocol, total) =
            unsafe { (read_volatile(addr_of!((*skb).protocol)), read_volatile(addr_of!((*skb).len))) };
        let (is_v6, tcp) = match protocol {
            ETH_P_IP => {
                let first: u8 = load(skb, 0)?;
                if load::<u8>(skb, 9)? != IPPROTO_TCP {
                    return None;
                }
                (false, u32::from(first & 0x0f) * 4)
            }
            ETH_P_IPV6 if load::<u8>(skb, 6)? == IPPROTO_TCP => (true, 40),
            _ => return None,
        };
        let sequence = u32::from_be(load(skb, tcp + 4)?);
        let header = u32::from(load::<u8>(skb, tcp + 12)? >> 4) * 4;
        let payload = tcp + header;
        if total < payload {
            return None;
        }
        Some(Self { is_v6, tcp, payload, len: total - payload, sequence })
    }

    #[inline(always)]
    pub(super) fn source(&self, skb: *mut __sk_buff) -> Address {
        self.address(skb, 12, 8)
    }

    #[inline(always)]
    pub(super) fn destination(&self, skb: *mut __sk_buff) -> Address {
        self.address(skb, 16, 24)
    }

    #[inline(always)]
    pub(super) fn source_port(&self, skb: *mut __sk_buff) -> u32 {
        u32::from(u16::from_be(load(skb, self.tcp).unwrap_or(0)))
    }

    #[inline(always)]
    pub(super) fn destination_port(&self, skb: *mut __sk_buff) -> u32 {
        u32::from(u16::from_be(load(skb, self.tcp + 2).unwrap_or(0)))
    }

    /// The address at an offset that depends on the family (RFC 791 section 3.1, RFC 8200 section 3).
    #[inline(always)]
    fn address(&self, skb: *mut __sk_buff, v4: u32, v6: u32) -> Address {
        if self.is_v6 {
            Address([load(skb, v6).unwrap_or(0), load(skb, v6 + 8).unwrap_or(0)])
        } else {
            Address::mapped(load(skb, v4).unwrap_or(0))
        }
    }
}

impl Address {
    /// `v4` in network byte order (RFC 4291 section 2.5.5.2).
    #[inline(always)]
    pub(super) fn mapped(v4: u32) -> Self {
        // Little-endian, as the target is: the lower half comes first in memory.
        Self([0, u64::from(v4) << 32 | u64::from(0xffff_u32.to_be())])
    }

    /// 127.0.0.0/8 or `::1`; and the unspecified addresses, which Linux takes for it.
    #[inline(always)]
    pub(super) fn is_loopback(self) -> bool {
        let (high, low) = (u64::from_be(self.0[0]), u64::from_be(self.0[1]));
        let mapped = high == 0 && low >> 32 == 0xffff;
        mapped && (low as u32 >> 24 == 127 || low as u32 == 0) || high == 0 && low <= 1
    }
}

/// A value from the packet, in network byte order.
#[inline(always)]
pub(super) fn load<T>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the whole value or fails; only integers are loaded.
    unsafe {
        let to = ptr::from_mut(&mut value).cast();
        (bpf_skb_load_bytes(skb.cast_const().cast(), offset, to, size_of::<T>() as u32) == 0)
            .then(|| value.assume_init())
    }
}
