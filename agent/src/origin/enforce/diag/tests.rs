//! Sockets of our own are destroyed, for real. Needs root, as the programs' tests do.

use super::*;
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    time::Duration,
};

/// Both ends of a connection.
fn connected(
    listen: SocketAddr,
    target: impl Fn(u16) -> SocketAddr,
    domain: Domain,
) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(listen).unwrap();
    let client = Socket::new(domain, Type::STREAM, None).unwrap();
    client.connect(&target(listener.local_addr().unwrap().port()).into()).unwrap();
    (client.into(), listener.accept().unwrap().0)
}

fn ipv4() -> (TcpStream, TcpStream) {
    let local = Ipv4Addr::LOCALHOST;
    connected((local, 0).into(), |port| (local, port).into(), Domain::IPV4)
}

fn cookie(socket: &TcpStream) -> u64 {
    SockRef::from(socket).cookie().unwrap()
}

/// As packets show them: IPv4 wherever it is IPv4.
fn ends(socket: &TcpStream) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    (canonical(socket.local_addr().unwrap()), canonical(socket.peer_addr().unwrap()))
}

fn assert_aborted(client: &mut TcpStream, server: &mut TcpStream) {
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn assert_alive(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
}

#[test]
fn ipv4_ipv6_and_mapped_sockets_are_destroyed_and_no_others() {
    let mut diag = Diag::open().unwrap();
    diag.probe().unwrap();
    let loopback6 = Ipv6Addr::LOCALHOST;
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let kinds = [
        ipv4(),
        connected((loopback6, 0).into(), |port| (loopback6, port).into(), Domain::IPV6),
        connected((Ipv4Addr::LOCALHOST, 0).into(), |port| (mapped, port).into(), Domain::IPV6),
    ];
    let (mut other, mut others_peer) = ipv4();
    for (mut client, mut server) in kinds {
        let ((local, remote), cookie) = (ends(&client), cookie(&client));
        diag.destroy(local, &[remote, remote], cookie).unwrap();
        assert_aborted(&mut client, &mut server);
        drop(client);
        assert_eq!(diag.destroy(local, &[remote], cookie), Err(Errno::ENOENT), "it is gone");
    }
    assert_alive(&mut other, &mut others_peer);
}

#[test]
fn the_cookie_decides_and_not_the_addresses() {
    let mut diag = Diag::open().unwrap();
    let (mut client, mut server) = ipv4();
    let (local, remote) = ends(&client);
    // The right addresses, the cookie of nobody.
    assert_eq!(diag.destroy(local, &[remote], 1 << 62), Err(Errno::ENOENT));
    assert_alive(&mut client, &mut server);
    // Addresses as they look behind a translation.
    let translated = SocketAddr::from(([192, 0, 2, 1], 9));
    diag.destroy(translated, &[translated, remote], cookie(&client)).unwrap();
    assert_aborted(&mut client, &mut server);
}

#[test]
fn a_destroyed_socket_is_destroyed_for_all_who_share_it() {
    let mut diag = Diag::open().unwrap();
    let (client, mut server) = ipv4();
    let mut copy = client.try_clone().unwrap();
    let (local, remote) = ends(&client);
    diag.destroy(local, &[remote], cookie(&client)).unwrap();
    assert_aborted(&mut copy, &mut server);
    assert_eq!(copy.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn answers_that_make_no_sense_are_passed_over() {
    assert_eq!(messages(&[]).count(), 0);
    assert_eq!(messages(&[0xff; 64]).count(), 0, "longer than the datagram");
    assert_eq!(messages(&[0; 64]).count(), 0, "shorter than a header");
    let mut two = [0_u8; 40];
    two[0] = 17;
    two[20] = 20;
    assert_eq!(messages(&two).map(<[u8]>::len).collect::<Vec<_>>(), [17, 20]);
}
