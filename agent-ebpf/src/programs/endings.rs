//! Blocked connections that are still there, for user space to end.

use super::{
    clients,
    egress::any_socket,
    maps::{self, count},
    packet::Packet,
    policy, throttle,
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_ktime_get_boot_ns};
use spanwarden_ebpf::abi::{
    ABI_VERSION, BUCKET_ENDINGS, ENDING_PAUSE_NS, ENDINGS_BURST, ENDINGS_PER_SECOND, Ending, counter,
};

/// Tells user space of the connection of a packet that is dropped, unless it was told a moment ago. What can't be told
/// is with the connection's next packet. A global function like `spanwarden_round`; its result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn spanwarden_end(skb: *mut __sk_buff) -> u32 {
    let Some(socket) = any_socket(skb).and_then(clients::socket_of) else { return 0 };
    let Some(packet) = Packet::parse(skb) else { return 0 };
    // SAFETY: the storage value of the packet's own socket, whose lock the sender holds; here and below.
    let (origin, flow) = unsafe { (&raw const (*socket).origin, &raw mut (*socket).flow) };
    let (now, told) = unsafe { (bpf_ktime_get_boot_ns(), (*flow).told_ns) };
    if told != 0 && now.saturating_sub(told) < ENDING_PAUSE_NS {
        return 0;
    }
    let pod = unsafe { policy::of(origin) }.pod;
    if !throttle::admits(pod, BUCKET_ENDINGS, ENDINGS_PER_SECOND, ENDINGS_BURST) {
        count(counter::ENDINGS_LATER);
        return 0;
    }
    let Some(mut entry) = maps::ENDINGS.reserve(0) else {
        count(counter::ENDINGS_LATER);
        return 0;
    };
    let ending: *mut Ending = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as an `Ending`, and every field is written.
    unsafe {
        (*ending).version = ABI_VERSION;
        (*ending).reserved = 0;
        *(&raw mut (*ending).local).cast() = packet.source(skb);
        *(&raw mut (*ending).remote).cast() = packet.destination(skb);
        (*ending).local_port = packet.source_port();
        (*ending).remote_port = packet.destination_port();
        (*ending).origin = *origin;
        (*flow).told_ns = now;
    }
    entry.submit(0);
    count(counter::ENDINGS);
    1
}
