//! What the network namespace says: TCP Fast Open, and whether sockets can be destroyed.

#![forbid(unsafe_code)]

use super::{Check, canary, privileges::blocks, read};
use crate::{config::extensions::OriginExtension, origin::enforce};
use nix::errno::Errno;
use std::{
    io::{ErrorKind, Read as _},
    net::{IpAddr, Ipv4Addr},
};

/// Bits of `net.ipv4.tcp_fastopen` (Documentation/networking/ip-sysctl.rst): servers may, and all listeners do
/// without asking for it.
const SERVER: u32 = 0x2;
const ALL_LISTENERS: u32 = 0x400;

pub(super) fn fast_open() -> Check {
    judge(read("/proc/sys/net/ipv4/tcp_fastopen").as_deref())
}

fn judge(value: Option<&str>) -> Check {
    const NAME: &str = "tcp-fast-open";
    let Some(value) = value else {
        return Check::ok(NAME, "this kernel has no TCP Fast Open");
    };
    // The kernel prints it in decimal and takes both.
    let bits = value.parse::<u32>().unwrap_or(0);
    if bits & (SERVER | ALL_LISTENERS) != SERVER | ALL_LISTENERS {
        return Check::ok(
            NAME,
            format!("net.ipv4.tcp_fastopen is {value}: not forced upon the agent's listeners"),
        );
    }
    Check::warn(NAME, format!("net.ipv4.tcp_fastopen is {value}: on for every listener of this network namespace"))
        .because(
            "a client that sends data in its SYN is accepted before its handshake is done, so that its two ends are \
             never joined: its spans have no kernel evidence (never a wrong one)",
        )
        .remedy("sysctl -w net.ipv4.tcp_fastopen=1 in the agent's network namespace")
}

/// Destroys a connection of our own, and looks at what its application sees.
pub(super) fn sock_destroy(extension: Option<&OriginExtension>) -> Check {
    const NAME: &str = "sock-destroy";
    let needed = extension.is_some_and(blocks);
    let failed = |detail: &str, cause: String, remedy: &str| {
        let check = if needed { Check::fail(NAME, detail) } else { Check::warn(NAME, detail) };
        let cause = if needed { cause } else { format!("{cause}; only `plaintext: block` needs it") };
        check.because(cause).remedy(remedy)
    };
    let (mut client, _server) = match canary::connect(IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        Ok(pair) => pair,
        Err(error) => {
            return failed("could not be checked", format!("no loopback connection: {error}"), "set `lo` up");
        }
    };
    let destroyed = client
        .local_addr()
        .and_then(|local| Ok((local, client.peer_addr()?)))
        .map_err(|_| Errno::ENOTCONN)
        .and_then(|(local, remote)| enforce::destroy_own(local, remote));
    let errno = match destroyed {
        Ok(()) => match client.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                return Check::ok(
                    NAME,
                    "an own connection was destroyed, and its application saw ECONNABORTED at once",
                );
            }
            answer => {
                let saw = answer.map_or_else(|error| error.to_string(), |read| format!("{read} bytes"));
                return failed(
                    "a destroyed connection goes on",
                    format!("the kernel says that it destroyed it, and its application saw: {saw}"),
                    "please report this with `uname -r`",
                );
            }
        },
        Err(errno) => errno,
    };
    match errno {
        Errno::EOPNOTSUPP => failed(
            "the kernel cannot destroy sockets",
            "it is built without CONFIG_INET_DIAG_DESTROY, and an application whose data is dropped would hang"
                .to_owned(),
            "use a distribution's kernel (Debian, Ubuntu, RHEL, COS have it)",
        ),
        Errno::EPERM | Errno::EACCES => failed(
            "could not be checked",
            "destroying a socket needs NET_ADMIN, which this process lacks".to_owned(),
            "see `capabilities`",
        ),
        errno => failed(
            "sock_diag does not work",
            errno.desc().to_owned(),
            "load the kernel modules inet_diag and tcp_diag",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::doctor::Status;

    #[test]
    fn only_fast_open_on_every_listener_is_warned_about() {
        for (value, status) in [
            (None, Status::Ok),
            (Some("0"), Status::Ok),
            (Some("1"), Status::Ok),
            (Some("3"), Status::Ok),
            (Some("519"), Status::Ok),
            (Some("1025"), Status::Ok),
            (Some("1027"), Status::Warn),
            (Some("1539"), Status::Warn),
        ] {
            assert_eq!(judge(value).status, status, "{value:?}");
        }
    }
}
