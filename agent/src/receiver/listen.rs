//! Listening sockets: one a worker on the same port, so that the kernel spreads connections over the workers.

#![forbid(unsafe_code)]

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::ReceiverError;

/// Connections that the kernel holds until they are accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
/// A peer that vanished without a word is noticed after this.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);

/// Opens `workers` listeners for each address of `endpoint`: `result[worker]` has one for each address. All
/// workers share a port, also where the endpoint asks for port 0.
pub(super) fn listen(endpoint: &str, workers: usize) -> Result<Vec<Vec<TcpListener>>, ReceiverError> {
    let error = |source| ReceiverError::Listen { endpoint: endpoint.to_owned(), source };
    let addresses = resolve(endpoint)?;
    let mut listeners: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    let mut port = None;
    for Address { mut at, only_v6 } in addresses {
        let any_port = at.port() == 0;
        if let Some(port) = port {
            at.set_port(port);
        }
        let opened = match open(at, only_v6, workers) {
            Ok(opened) => opened,
            // `localhost` and an empty host mean both families; a machine without IPv6 has one. A port that the
            // kernel chose for IPv4 may be taken for IPv6.
            Err(e) if port.is_some() && (no_such_address(&e) || any_port && in_use(&e)) => continue,
            Err(e) => return Err(error(e)),
        };
        port = opened.first().and_then(|l| l.local_addr().ok()).map(|a| a.port());
        for (worker, listener) in listeners.iter_mut().zip(opened) {
            worker.push(listener);
        }
    }
    Ok(listeners)
}

struct Address {
    at: SocketAddr,
    /// `[::]` alone takes IPv4 as well; beside `0.0.0.0` it must not.
    only_v6: bool,
}

/// The addresses of `host:port`: both loopbacks for `localhost`, IPv4 first; the first address of another name,
/// IPv4 preferred, as the Collector does.
fn resolve(endpoint: &str) -> Result<Vec<Address>, ReceiverError> {
    let bad =
        |message: &str| ReceiverError::Endpoint { endpoint: endpoint.to_owned(), message: message.into() };
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| bad("a port is missing"))?;
    let port: u16 = port.parse().map_err(|_| bad("the port is no number from 0 to 65535"))?;
    let both = |v4: Ipv4Addr, v6: Ipv6Addr| {
        [SocketAddr::from((v4, port)), SocketAddr::from((v6, port))]
            .map(|at| Address { at, only_v6: true })
            .into()
    };
    match host {
        "localhost" => Ok(both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)),
        "" => Ok(both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)),
        _ => {
            let found: Vec<_> = endpoint.to_socket_addrs().map_err(|e| bad(&e.to_string()))?.collect();
            let first = found.iter().find(|a| a.is_ipv4()).or(found.first());
            first
                .map(|&at| vec![Address { at, only_v6: false }])
                .ok_or_else(|| bad("the name has no address"))
        }
    }
}

fn no_such_address(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

fn in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn open(address: SocketAddr, only_v6: bool, workers: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // With SO_REUSEPORT alone, a second process of the same user would silently share the port and take
        // half of the connections. Without it this bind fails while anybody listens there.
        let probe = socket(address, only_v6)?;
        probe.bind(&address.into())?;
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = socket(address, only_v6)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        address.set_port(listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(listeners)
}

/// No TCP Fast Open: data in the SYN would arrive before the kernel has joined the connection to its opener.
fn socket(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restart bind while old connections are in TIME_WAIT; a listening socket still conflicts.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Accepted sockets inherit these.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
