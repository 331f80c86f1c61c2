//! A connection of our own, from `connect` to attribution and to a finding, through programs attached for it.

#![forbid(unsafe_code)]

use super::{
    Check, Options,
    privileges::{in_initial_cgroup_namespace, in_initial_pid_namespace, own_comm},
};
use crate::origin::{
    Evidence, NoPods, Origin, OriginSource as _,
    bpf::{KernelOrigins, Options as Attach},
    findings::Finding,
    loader::OriginError,
};
use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    time::Duration,
};

const ATTACH: &str = "attach";
const CANARY: &str = "canary";
const RING: &str = "findings-ring";

/// How long a packet, a finding and a thread may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// An export without spans, to ourselves.
const EXPORT: &[u8] = b"POST /v1/traces HTTP/1.1\r\nHost: spanwarden-doctor\r\nContent-Length: 0\r\n\r\n";

/// Attaches, connects to itself, and detaches. `possible`: there is a cgroup; `loads`: and programs.
pub(super) fn checks(options: &Options, possible: bool, loads: bool, checks: &mut Vec<Check>) {
    let all = [ATTACH, CANARY, RING];
    if !options.attach {
        checks.extend(all.map(|name| Check::skipped(name, "--no-attach was given")));
        return;
    }
    if !possible || !loads {
        let cause = if possible {
            "not every program loads"
        } else {
            "there is no cgroup to attach to (see `cgroup`)"
        };
        checks.extend(all.map(|name| Check::unchecked(name, cause)));
        return;
    }
    let attach = Attach::new(options.cgroup.clone(), Arc::new(NoPods));
    let kernel = match KernelOrigins::attach(attach) {
        Ok(kernel) => kernel,
        Err(error) => {
            let attached = matches!(
                error,
                OriginError::Outside | OriginError::NoSocketMemory | OriginError::SelfTest(_)
            );
            checks.push(if attached { attached_check(options) } else { not_attached(&error) });
            let cause = if attached { error.to_string() } else { "the programs are not attached".to_owned() };
            checks.extend([CANARY, RING].map(|name| Check::unchecked(name, cause.clone())));
            return;
        }
    };
    checks.push(attached_check(options));
    checks.push(attribution(&kernel));
    checks.push(ring(&kernel));
}

fn attached_check(options: &Options) -> Check {
    Check::ok(
        ATTACH,
        format!(
            "every program attaches to `{}`, by links that end with this process",
            options.cgroup.display()
        ),
    )
}

fn not_attached(error: &OriginError) -> Check {
    let check = Check::fail(ATTACH, "the programs do not attach").because(error.to_string());
    match error {
        OriginError::ForeignProgram { .. } => check.remedy("see `hooks` for whose program that is"),
        OriginError::Capabilities { .. } => check.remedy("see `capabilities`"),
        _ => check.remedy("see the checks above; if all are well, please report this with `uname -r`"),
    }
}

fn attribution(kernel: &KernelOrigins) -> Check {
    let mut families = Vec::new();
    for (family, address) in
        [("IPv4", IpAddr::V4(Ipv4Addr::LOCALHOST)), ("IPv6", IpAddr::V6(Ipv6Addr::LOCALHOST))]
    {
        let (client, server) = match connect(address) {
            Ok(pair) => pair,
            // A machine without IPv6 has nothing to be attributed over it.
            Err(error) if address.is_ipv6() && no_ipv6(&error) => continue,
            Err(error) => {
                return Check::fail(CANARY, format!("no connection to {address}: {error}"))
                    .because(cause_of(&error));
            }
        };
        let peer = client.local_addr().unwrap_or_else(|_| SocketAddr::new(address, 0));
        let origin = kernel.origin(server.as_fd(), peer);
        if let Err(cause) = is_ours(&origin) {
            return Check::fail(CANARY, format!("a connection over {family} was not attributed"))
                .because(cause)
                .remedy("please report this with `uname -r` and the output of `spanwarden doctor -o json`");
        }
        families.push((family, origin));
    }
    let Some((_, origin)) = families.first() else { return Check::fail(CANARY, "no connection was made") };
    let names: Vec<&str> = families.iter().map(|(family, _)| *family).collect();
    let process = origin.process.as_ref();
    Check::ok(
        CANARY,
        format!(
            "own connections over {} were attributed to pid {} (`{}`) in cgroup `{}`",
            names.join(" and "),
            process.map_or(0, |process| process.pid),
            process.map_or("", |process| &process.comm),
            process.and_then(|process| process.cgroup_path.as_deref()).unwrap_or("?"),
        ),
    )
}

/// Whether the origin is this very process.
fn is_ours(origin: &Origin) -> Result<(), String> {
    let Some(process) = origin.process.as_ref().filter(|_| origin.evidence == Evidence::Kernel) else {
        return Err(format!("the evidence is `{}` and not `kernel`", origin.evidence));
    };
    if in_initial_pid_namespace() && process.pid != std::process::id() {
        return Err(format!("pid {} instead of {}", process.pid, std::process::id()));
    }
    let comm = own_comm().unwrap_or_default();
    if process.comm != comm {
        return Err(format!("a process called `{}` instead of `{comm}`", process.comm));
    }
    if in_initial_cgroup_namespace() && process.cgroup_id == 0 {
        return Err("no cgroup".to_owned());
    }
    Ok(())
}

/// Sends an export without spans in the clear to ourselves, and waits for the finding about it.
fn ring(kernel: &KernelOrigins) -> Check {
    let (sender, findings) = mpsc::channel();
    let watching = kernel.watch_findings(move |finding: Finding| {
        // The receiver goes when the check has what it wanted.
        let _ = sender.send(finding);
    });
    if let Err(error) = watching {
        return Check::fail(RING, "findings cannot be read").because(error.to_string());
    }
    let sent = connect(IpAddr::V4(Ipv4Addr::LOCALHOST)).and_then(|(mut client, server)| {
        client.write_all(EXPORT)?;
        Ok((client.local_addr()?, client, server))
    });
    let (local, _client, _server) = match sent {
        Ok(sent) => sent,
        Err(error) => {
            return Check::fail(RING, format!("nothing could be sent: {error}")).because(cause_of(&error));
        }
    };
    loop {
        match findings.recv_timeout(PATIENCE) {
            Ok(finding) if finding.local == local => {
                return Check::ok(RING, "an own export in the clear was found, and the finding was read");
            }
            // Somebody else's, in the watched cgroup.
            Ok(_) => {}
            Err(_) => {
                let seen = kernel.counters();
                return Check::fail(
                    RING,
                    format!("no finding about an own export in the clear within {PATIENCE:?}"),
                )
                .because(format!(
                    "the programs made {} findings, delivered {}, and {} found the ring full",
                    seen.seen, seen.delivered, seen.full
                ))
                .remedy("please report this with `uname -r` and the output of `spanwarden doctor -o json`");
            }
        }
    }
}

/// Both ends of a connection to ourselves.
pub(super) fn connect(address: IpAddr) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((address, 0))?;
    let client = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let local = client.local_addr()?;
    // Somebody else on the machine may have been quicker.
    for _ in 0..16 {
        let (server, peer) = listener.accept()?;
        if peer == local {
            return Ok((client, server));
        }
    }
    Err(io::Error::other("strangers connect to a port of our own"))
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn cause_of(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "a program denies the connection; does an agent that runs here block this pod's loopback?"
    } else {
        "the loopback interface of this network namespace must be up"
    }
}
