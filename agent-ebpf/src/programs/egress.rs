//! `cgroup_skb/egress`: what really leaves a client's socket, classified at the first payload bytes.
//!
//! Server sockets and finished flows cost one storage look-up. Indexed by sequence number, so that a
//! retransmission is not read twice and a GSO packet is read as one.

use super::{
    flow_of,
    maps::{self, count},
    origin_of,
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_sk_fullsock, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use core::{
    ffi::c_void,
    mem::MaybeUninit,
    ptr::{self, addr_of, addr_of_mut, read_volatile, write_volatile},
};
use spanwarden_ebpf::{
    abi::{
        ABI_VERSION, Finding, Flow, KIND_PLAINTEXT, MODE_OBSERVE, PLACE_OUTSIDE, PROOF_PATH, PROOF_PORT,
        PROTOCOL_H2C, PROTOCOL_HTTP1, SIGNAL_TRACES, SIGNAL_UNKNOWN, TlsAttempt, counter,
    },
    proto::{CHUNK, ROUNDS, Verdict},
};

const PASS: i32 = 1;
const ETH_P_IP: u32 = (0x0800_u16).to_be() as u32;
const ETH_P_IPV6: u32 = (0x86dd_u16).to_be() as u32;
const IPPROTO_TCP: u8 = 6;
#[cgroup_skb(egress)]
fn plaintext_egress(ctx: SkBuffContext) -> i32 {
    let skb: *mut __sk_buff = ctx.skb.skb;
    // SAFETY: the context outlives the program; `bpf_sk_fullsock` gives null for anything but a full socket.
    let sk = unsafe {
        let sk = read_volatile(addr_of!((*skb).__bindgen_anon_2.sk));
        if sk.is_null() {
            return PASS;
        }
        bpf_sk_fullsock(sk)
    };
    if sk.is_null() {
        return PASS;
    }
    let Some(flow) = flow_of(sk.cast()) else { return PASS };
    // SAFETY: `flow` is the storage value of the packet's own socket, whose lock the sender holds.
    if unsafe { (*flow).done } != 0 {
        return PASS;
    }
    let Some(packet) = Packet::parse(skb) else {
        // SAFETY: as above.
        unsafe { (*flow).done = 1 };
        count(counter::UNREADABLE);
        return PASS;
    };
    let verdict = inspect(skb, flow, &packet);
    match verdict {
        Verdict::Pending => return PASS,
        Verdict::Tls => count(counter::TLS),
        Verdict::Foreign => count(counter::FOREIGN),
        Verdict::Http1Traces => report(skb, sk.cast(), &packet, PROTOCOL_HTTP1, PROOF_PATH),
        Verdict::H2c => report(skb, sk.cast(), &packet, PROTOCOL_H2C, PROOF_PORT),
    }
    // SAFETY: as above.
    unsafe { (*flow).done = 1 };
    PASS
}

/// Where things are in a TCP packet, IP header first.
struct Packet {
    is_v6: bool,
    /// Offset of the TCP header.
    tcp: u32,
    /// Offset of the payload.
    payload: u32,
    /// Length of the payload.
    len: u32,
    sequence: u32,
}

impl Packet {
    #[inline(always)]
    fn parse(skb: *mut __sk_buff) -> Option<Self> {
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
}

/// Feeds the parser with what this packet adds to the stream.
///
/// Parser, length and offset go through the flow's memory in every round: the verifier forgets what it knew of
/// them, so that a round ends in one state and not in as many as it has ways out.
#[inline(always)]
fn inspect(skb: *mut __sk_buff, flow: *mut Flow, packet: &Packet) -> Verdict {
    // SAFETY: `flow` is the storage value of the packet's own socket.
    let (base, seen) = unsafe { ((*flow).base, (*flow).classifier.seen()) };
    let at = packet.sequence.wrapping_sub(base);
    // A SYN is one before the base and carries nothing; so does a keep-alive probe.
    if packet.len == 0 || at > u32::MAX / 2 {
        return Verdict::Pending;
    }
    if at > seen {
        count(counter::UNREADABLE);
        return Verdict::Foreign;
    }
    let known = seen - at;
    if packet.len <= known {
        return Verdict::Pending;
    }
    // SAFETY: as above.
    unsafe { write_volatile(addr_of_mut!((*flow).offset), packet.payload + known) };
    let end = packet.payload + packet.len;
    let mut round = 0;
    while round < ROUNDS {
        match one_round(skb, flow, end) {
            Verdict::Pending => {}
            verdict => return verdict,
        }
        // SAFETY: as above.
        if unsafe { read_volatile(addr_of!((*flow).offset)) } >= end {
            break;
        }
        round += 1;
    }
    Verdict::Pending
}

/// One chunk, of which the parser takes as much as it can use at its stage.
#[inline(always)]
fn one_round(skb: *mut __sk_buff, flow: *mut Flow, end: u32) -> Verdict {
    // SAFETY: fields of the storage value of the packet's own socket; the helper writes at most CHUNK bytes into
    // `chunk`, which is lent to the parser only afterwards.
    unsafe {
        let offset = read_volatile(addr_of!((*flow).offset));
        let left = end.wrapping_sub(offset);
        write_volatile(addr_of_mut!((*flow).length), if left > CHUNK as u32 { CHUNK as u32 } else { left });
        // The mask says what the comparison said: 1 to CHUNK.
        let n = (read_volatile(addr_of!((*flow).length)).wrapping_sub(1) & (CHUNK as u32 - 1)) + 1;
        let chunk = addr_of_mut!((*flow).chunk);
        if bpf_skb_load_bytes(skb.cast_const().cast(), offset, chunk.cast(), n) != 0 {
            count(counter::UNREADABLE);
            return Verdict::Foreign;
        }
        let mut parser = read_volatile(addr_of!((*flow).classifier));
        let (taken, verdict) = parser.consume(&(*chunk).0, n);
        write_volatile(addr_of_mut!((*flow).classifier), parser);
        write_volatile(addr_of_mut!((*flow).offset), offset + taken);
        verdict
    }
}

/// One finding into the ring buffer, or the loss of it into the counter.
#[inline(always)]
fn report(skb: *mut __sk_buff, sk: *mut c_void, packet: &Packet, protocol: u32, proof: u32) {
    let Some(origin) = origin_of(sk) else { return };
    count(counter::SEEN);
    let Some(mut entry) = maps::FINDINGS.reserve(0) else {
        count(counter::FULL);
        return;
    };
    let finding: *mut Finding = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as a `Finding`, and every field is written; the loads go into its
    // address fields, 16 bytes each, with constant lengths.
    unsafe {
        (*finding).version = ABI_VERSION;
        (*finding).kind = KIND_PLAINTEXT;
        (*finding).protocol = protocol;
        (*finding).signal = if proof == PROOF_PATH { SIGNAL_TRACES } else { SIGNAL_UNKNOWN };
        (*finding).proof = proof;
        (*finding).flags = 0;
        (*finding).place = PLACE_OUTSIDE;
        (*finding).mode = MODE_OBSERVE;
        (*finding).tls = TlsAttempt::default();
        (*finding).boot_ns = bpf_ktime_get_boot_ns();
        (*finding).origin = *origin;
        let local: *mut u8 = addr_of_mut!((*finding).local).cast();
        let remote: *mut u8 = addr_of_mut!((*finding).remote).cast();
        if packet.is_v6 {
            bpf_skb_load_bytes(skb.cast_const().cast(), 8, local.cast(), 16);
            bpf_skb_load_bytes(skb.cast_const().cast(), 24, remote.cast(), 16);
        } else {
            map_v4(local);
            map_v4(remote);
            bpf_skb_load_bytes(skb.cast_const().cast(), 12, local.add(12).cast(), 4);
            bpf_skb_load_bytes(skb.cast_const().cast(), 16, remote.add(12).cast(), 4);
        }
        (*finding).local_port = u32::from(u16::from_be(load(skb, packet.tcp).unwrap_or(0)));
        (*finding).remote_port = u32::from(u16::from_be(load(skb, packet.tcp + 2).unwrap_or(0)));
    }
    entry.submit(0);
    count(counter::DELIVERED);
}

/// The first twelve bytes of a v4-mapped address.
///
/// # Safety
/// `to` must point to 16 writable bytes, aligned to 8.
#[inline(always)]
unsafe fn map_v4(to: *mut u8) {
    // SAFETY: by contract.
    unsafe {
        *to.cast::<u64>() = 0;
        *to.add(8).cast::<u32>() = 0xffff_u32.to_be();
    }
}

/// A value from the packet, in network byte order.
#[inline(always)]
fn load<T>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the whole value or fails; only integers are loaded.
    unsafe {
        let to = ptr::from_mut(&mut value).cast();
        (bpf_skb_load_bytes(skb.cast_const().cast(), offset, to, size_of::<T>() as u32) == 0)
            .then(|| value.assume_init())
    }
}
