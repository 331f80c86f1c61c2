//! `cgroup/connect4` and `connect6`: the opener, in its own context, into its socket's cell; and a refusal, where the same pod was stopped on its way to the same destination a moment ago.

use super::{
    ancestry, clients,
    maps::{self, count, lookup},
    policy,
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use core::ptr::{self, addr_of, read_volatile};
use spanwarden_ebpf::abi::{
    DenyKey, FLOW_OPENING, JoinKey, MODE_BLOCK, OriginRecord, STATE_OPENED, WATCH_NOTHING, counter,
};

/// `SOCK_STREAM`: TCP, and MPTCP, which opens a TCP connection.
const SOCK_STREAM: u32 = 1;
const ALLOW: i32 = 1;
/// `connect` gives EPERM.
const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
fn origin_connect4(ctx: SockAddrContext) -> i32 {
    if let Some(record) = open(&ctx) {
        let address = ctx.sock_addr;
        // SAFETY: `record` is this socket's. The context is read field by field, volatile, in
        // 32-bit steps: the widths that the verifier allows, whatever the optimiser would like to merge.
        unsafe {
            let v4 = read_volatile(addr_of!((*address).user_ip4));
            write_address(record, [0, 0, 0xffff_u32.to_be(), v4]);
            return decide(record);
        }
    }
    ALLOW
}

#[cgroup_sock_addr(connect6)]
fn origin_connect6(ctx: SockAddrContext) -> i32 {
    if let Some(record) = open(&ctx) {
        let address = ctx.sock_addr;
        // SAFETY: as in `origin_connect4`.
        unsafe {
            let words = [
                read_volatile(addr_of!((*address).user_ip6[0])),
                read_volatile(addr_of!((*address).user_ip6[1])),
                read_volatile(addr_of!((*address).user_ip6[2])),
                read_volatile(addr_of!((*address).user_ip6[3])),
            ];
            write_address(record, words);
            return decide(record);
        }
    }
    ALLOW
}

/// Stores everything but the address, which the two families read differently.
#[inline(always)]
fn open(ctx: &SockAddrContext) -> Option<*mut OriginRecord> {
    let address: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context outlives the program; its fields are read in their own widths.
    let (kind, port, sk) = unsafe {
        (
            read_volatile(addr_of!((*address).type_)),
            read_volatile(addr_of!((*address).user_port)),
            read_volatile(addr_of!((*address).__bindgen_anon_1.sk)),
        )
    };
    if kind != SOCK_STREAM || sk.is_null() {
        return None;
    }
    count(counter::CONNECTS);
    let port = u32::from(u16::from_be(port as u16));
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let cell = if is_stored(port) {
        clients::strike(sk);
        None
    } else {
        clients::take(sk, now)
    };
    let Some(socket) = cell.or_else(|| clients::store_and_count(sk)) else {
        count(counter::STORE_FAILED);
        return None;
    };
    // SAFETY: helpers allowed in this hook since 5.8; `socket` is of this socket, which is locked.
    unsafe {
        // A socket that connects again starts again.
        (*socket).flow.state = FLOW_OPENING;
        (*socket).flow.watch = WATCH_NOTHING;
        let record = &raw mut (*socket).origin;
        (*record).join = JoinKey { client_next: 0, server_next: 0 };
        (*record).join_check = JoinKey { client_next: 0, server_next: 0 };
        let ids = bpf_get_current_pid_tgid();
        (*record).tgid = (ids >> 32) as u32;
        (*record).pid = ids as u32;
        (*record).uid = bpf_get_current_uid_gid() as u32;
        (*record).state = STATE_OPENED;
        bpf_get_current_comm(ptr::addr_of_mut!((*record).comm).cast(), 16);
        (*record).cgroup_id = bpf_get_current_cgroup_id();
        ancestry::write(record);
        (*record).netns_cookie = bpf_get_netns_cookie(ctx.as_ptr());
        (*record).socket_cookie = bpf_get_socket_cookie(ctx.as_ptr());
        (*record).boot_ns = now;
        (*record).destination_port = port;
        (*record).reserved = 0;
        Some(record)
    }
}

/// Whether user space is to read what is known of the socket.
#[inline(always)]
fn is_stored(port: u32) -> bool {
    maps::SETTINGS.get(0).is_some_and(|settings| settings.stored_port != 0 && settings.stored_port == port)
}

/// `words` are in network byte order, as the kernel gives them.
///
/// # Safety
/// `record` must be a socket's.
#[inline(always)]
unsafe fn write_address(record: *mut OriginRecord, words: [u32; 4]) {
    // SAFETY: 16 bytes at an offset that is a multiple of 8.
    unsafe {
        let to: *mut u32 = ptr::addr_of_mut!((*record).destination).cast();
        *to = words[0];
        *to.add(1) = words[1];
        *to.add(2) = words[2];
        *to.add(3) = words[3];
    }
}

/// Looked at only while the programs enforce, so that mere observation does not pay for it.
///
/// # Safety
/// `record` must be a socket's, complete.
#[inline(always)]
unsafe fn decide(record: *const OriginRecord) -> i32 {
    // SAFETY: by contract; the key is the map's and lives on the stack during the call.
    unsafe {
        if !policy::enforcing() || policy::is_agent((*record).tgid) {
            return ALLOW;
        }
        let ruling = policy::of(record);
        if ruling.mode != MODE_BLOCK {
            return ALLOW;
        }
        let key = DenyKey {
            cgroup_id: ruling.pod,
            destination: (*record).destination,
            port: (*record).destination_port,
            reserved: 0,
        };
        let Some(until) = lookup::<_, _, u64>(&maps::DENIED, &key) else { return ALLOW };
        if read_volatile(until) <= (*record).boot_ns {
            return ALLOW;
        }
    }
    count(counter::DENIED);
    REFUSE
}
