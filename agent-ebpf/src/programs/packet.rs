//! A TCP packet as `cgroup_skb` sees it: the IP header first.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use core::{
    mem::MaybeUninit,
    ptr::{self, addr_of, read_volatile},
};

const ETH_P_IP: u32 = (0x0800_u16).to_be() as u32;
const ETH_P_IPV6: u32 = (0x86dd_u16).to_be() as u32;
const IPPROTO_TCP: u32 = 6;

/// IPv6 extension headers that may stand before TCP (RFC 8200 section 4): hop-by-hop options, routing, destination
/// options; and the authentication header (RFC 4302), which counts its length differently.
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const AUTHENTICATION: u32 = 51;
const DESTINATION: u32 = 60;

/// Extension headers that are passed over. More than these four at once have no use.
const EXTENSIONS: u32 = 4;

/// Bits of the TCP header's flags.
const FIN: u32 = 1;
const SYN: u32 = 2;
const RST: u32 = 4;

/// What a TCP packet's headers say.
pub(super) struct Packet {
    pub(super) is_v6: bool,
    /// Offset of the payload.
    pub(super) payload: u32,
    /// Length of the payload.
    pub(super) len: u32,
    /// Sequence number of the payload's first byte.
    pub(super) sequence: u32,
    /// Source and destination port as they are in the header.
    ports: u32,
    /// The header's flags.
    flags: u32,
}

/// An address in network byte order, IPv4 v4-mapped, as the maps' keys have it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) [u64; 2]);

impl Packet {
    /// None for what is not TCP, or not to be read.
    #[inline(always)]
    pub(super) fn parse(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: context fields in their own widths.
        let (protocol, total) =
            unsafe { (read_volatile(addr_of!((*skb).protocol)), read_volatile(addr_of!((*skb).len))) };
        let (is_v6, tcp, header) = match protocol {
            ETH_P_IP => match plain::<20>(skb) {
                Some(header) => (false, 20, header),
                None => with_header(skb, false, tcp_in_v4(skb)?)?,
            },
            ETH_P_IPV6 => match plain::<40>(skb) {
                Some(header) => (true, 40, header),
                None => with_header(skb, true, tcp_in_v6(skb)?)?,
            },
            _ => return None,
        };
        let Header { ports, sequence, control } = header;
        let flags = control >> 8 & 0xff;
        let payload = tcp + (control >> 4 & 0xf) * 4;
        if total < payload {
            return None;
        }
        Some(Self {
            is_v6,
            payload,
            len: total - payload,
            sequence: u32::from_be(sequence).wrapping_add(u32::from(flags & SYN != 0)),
            ports,
            flags,
        })
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
    pub(super) fn source_port(&self) -> u32 {
        u32::from(u16::from_be(self.ports as u16))
    }

    #[inline(always)]
    pub(super) fn destination_port(&self) -> u32 {
        u32::from(u16::from_be((self.ports >> 16) as u16))
    }

    #[inline(always)]
    pub(super) fn is_syn(&self) -> bool {
        self.flags & SYN != 0
    }

    /// The sender closes its direction, or resets.
    #[inline(always)]
    pub(super) fn closes(&self) -> bool {
        self.flags & (FIN | RST) != 0
    }

    #[inline(always)]
    pub(super) fn resets(&self) -> bool {
        self.flags & RST != 0
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

/// What of the TCP header is read (RFC 9293 section 3.1), each as it is in memory.
struct Header {
    ports: u32,
    sequence: u32,
    /// Offset of the data, and the flags.
    control: u32,
}

/// The TCP header right behind an IP header of IP bytes without options or extensions, where both are in the packet's
/// linear part: hardly any is not, and no helper needs to be called for it.
#[inline(always)]
fn plain<const IP: usize>(skb: *mut __sk_buff) -> Option<Header> {
    // SAFETY: the verifier makes sure that nothing is read beyond the end, which is compared with first. The context's
    // fields are numbers of 32 bits that it turns into pointers.
    unsafe {
        let data = read_volatile(addr_of!((*skb).data)) as usize;
        let end = read_volatile(addr_of!((*skb).data_end)) as usize;
        if data + IP + 20 > end {
            return None;
        }
        let word = |at: usize| read_volatile((data + at) as *const u32);
        // RFC 791 section 3.1: version and length in the first byte, the protocol in the tenth. RFC 8200 section 3: the
        // next header in the seventh.
        let is_plain = if IP == 20 {
            word(0) & 0xff == 0x45 && word(8) >> 8 & 0xff == IPPROTO_TCP
        } else {
            word(4) >> 16 & 0xff == IPPROTO_TCP
        };
        is_plain.then(|| Header { ports: word(IP), sequence: word(IP + 4), control: word(IP + 12) })
    }
}

/// The TCP header at `tcp`, wherever that is.
#[inline(always)]
fn with_header(skb: *mut __sk_buff, is_v6: bool, tcp: u32) -> Option<(bool, u32, Header)> {
    let [ports, sequence, _, control]: [u32; 4] = load(skb, tcp)?;
    Some((is_v6, tcp, Header { ports, sequence, control }))
}

/// Offset of the TCP header in an IPv4 packet.
#[inline(always)]
fn tcp_in_v4(skb: *mut __sk_buff) -> Option<u32> {
    let [first, _, third]: [u32; 3] = load(skb, 0)?;
    (third >> 8 & 0xff == IPPROTO_TCP).then_some((first & 0xf) * 4)
}

/// Offset of the TCP header in an IPv6 packet, behind extension headers if there are any. A fragment is not read.
#[inline(always)]
fn tcp_in_v6(skb: *mut __sk_buff) -> Option<u32> {
    let second: u32 = load(skb, 4)?;
    let mut next = second >> 16 & 0xff;
    let mut offset = 40;
    let mut extensions = 0;
    while extensions < EXTENSIONS && next != IPPROTO_TCP {
        let header: u16 = load(skb, offset)?;
        let length = u32::from(header >> 8);
        if next == HOP_BY_HOP || next == ROUTING || next == DESTINATION {
            offset += (length + 1) * 8;
        } else if next == AUTHENTICATION {
            offset += (length + 2) * 4;
        } else {
            return None;
        }
        next = u32::from(header & 0xff);
        extensions += 1;
    }
    (next == IPPROTO_TCP).then_some(offset)
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

/// Loads `n` bytes (1 to N; N is a power of two) to `to`; whether they were there.
///
/// # Safety
/// `to` must point to N writable bytes.
#[inline(always)]
pub(super) unsafe fn load_up_to<const N: u32>(skb: *mut __sk_buff, offset: u32, to: *mut u8, n: u32) -> bool {
    // The mask tells the verifier what is known of `n`; the optimiser must not know it.
    let n = (core::hint::black_box(n.wrapping_sub(1)) & (N - 1)) + 1;
    // SAFETY: the helper writes 1 to N bytes, or fails.
    unsafe { bpf_skb_load_bytes(skb.cast_const().cast(), offset, to.cast(), n) == 0 }
}

/// A value from the packet, in network byte order.
#[inline(always)]
pub(super) fn load<T>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the whole value or fails; only integers and arrays of them are loaded.
    unsafe {
        let to = ptr::from_mut(&mut value).cast();
        (bpf_skb_load_bytes(skb.cast_const().cast(), offset, to, size_of::<T>() as u32) == 0)
            .then(|| value.assume_init())
    }
}
