//! TCP by hand, IPv4. The kernel of this end knows nothing of the connection and would reset it: the namespace must
//! drop its resets.

use std::{
    io::Read as _,
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use spanwarden_tests::patience::deadline;

const PATIENCE: Duration = Duration::from_secs(20);
/// How often something is sent again that is not answered.
const AGAIN: Duration = Duration::from_secs(1);

const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// One end of a connection.
struct End<'a> {
    socket: &'a Socket,
    local: SocketAddrV4,
    remote: SocketAddrV4,
}

/// What counts of a packet.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: SocketAddrV4,
    to: SocketAddrV4,
    flags: u8,
    sequence: u32,
    acknowledges: u32,
}

/// A handshake with numbers of our own, and a line on the connection.
pub(crate) fn shake(local: SocketAddrV4, target: SocketAddrV4, line: &str) -> Result<String> {
    let socket = raw()?;
    let end = End { socket: &socket, local, remote: target };
    let first = 0x1234_5678;
    let answer = end.ask(first, 0, SYN, &[], |answer| answer.flags == SYN | ACK)?;
    talk(&end, first.wrapping_add(1), answer.sequence.wrapping_add(1), line)?;
    Ok("shaken".to_owned())
}

/// Waits for somebody who connects to `local`, and makes a handshake with `target` that has the same numbers in both
/// directions: what the other two ends see is one connection.
pub(crate) fn relay(local: SocketAddrV4, target: SocketAddrV4, line: &str) -> Result<String> {
    let socket = raw()?;
    println!("ready {local}");
    let victim =
        receive(&socket, PATIENCE, |segment| segment.to == local && segment.flags & (SYN | ACK) == SYN)
            .context("nobody connects")?;
    let to_target = End { socket: &socket, local: SocketAddrV4::new(*local.ip(), 40_000), remote: target };
    let answer = to_target.ask(victim.sequence, 0, SYN, &[], |answer| answer.flags == SYN | ACK)?;
    let (client_next, server_next) = (victim.sequence.wrapping_add(1), answer.sequence.wrapping_add(1));
    let to_victim = End { socket: &socket, local, remote: victim.from };
    // The victim's kernel takes its connection for established when it acknowledges this.
    to_victim.ask(answer.sequence, client_next, SYN | ACK, &[], |end| {
        end.flags & (SYN | ACK) == ACK && end.acknowledges == server_next
    })?;
    talk(&to_target, client_next, server_next, line)?;
    Ok("relayed".to_owned())
}

/// The last step of the handshake, and a line; then the connection is held until standard input ends.
fn talk(end: &End<'_>, sequence: u32, acknowledges: u32, line: &str) -> Result<()> {
    end.send(sequence, acknowledges, ACK, &[])?;
    let line = format!("{line}\n");
    let after = sequence.wrapping_add(u32::try_from(line.len())?);
    end.ask(sequence, acknowledges, PSH | ACK, line.as_bytes(), |answer| answer.acknowledges == after)?;
    println!("said");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn raw() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).context("a raw socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

impl End<'_> {
    /// Sends until there is the answer.
    fn ask(
        &self,
        sequence: u32,
        acknowledges: u32,
        flags: u8,
        payload: &[u8],
        is_answer: impl Fn(&Segment) -> bool,
    ) -> Result<Segment> {
        let deadline = deadline(PATIENCE);
        while Instant::now() < deadline {
            self.send(sequence, acknowledges, flags, payload)?;
            let answer = receive(self.socket, AGAIN, |segment| {
                segment.from == self.remote && segment.to == self.local && is_answer(segment)
            });
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        bail!("{} does not answer", self.remote)
    }

    /// One segment (RFC 9293 section 3.1); the kernel puts the IP header before it.
    fn send(&self, sequence: u32, acknowledges: u32, flags: u8, payload: &[u8]) -> Result<()> {
        let mut segment = Vec::with_capacity(20 + payload.len());
        segment.extend(self.local.port().to_be_bytes());
        segment.extend(self.remote.port().to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledges.to_be_bytes());
        segment.extend([5 << 4, flags]);
        segment.extend(0xffff_u16.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(payload);
        let sum = checksum(*self.local.ip(), *self.remote.ip(), &segment)?;
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let to = SocketAddrV4::new(*self.remote.ip(), 0).into();
        self.socket.send_to(&segment, &to).context("a raw packet")?;
        Ok(())
    }
}

/// With the pseudo header.
fn checksum(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> Result<u16> {
    let length = u16::try_from(segment.len())?;
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6], &length.to_be_bytes()].concat();
    let words = pseudo.chunks(2).chain(segment.chunks(2));
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    Ok(!(sum as u16))
}

/// The next segment that is wanted.
fn receive(socket: &Socket, patience: Duration, wanted: impl Fn(&Segment) -> bool) -> Option<Segment> {
    let deadline = deadline(patience);
    while Instant::now() < deadline {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        // SAFETY: so many bytes were written.
        let packet: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        if let Some(segment) = parse(&packet)
            && wanted(&segment)
        {
            return Some(segment);
        }
    }
    None
}

fn parse(packet: &[u8]) -> Option<Segment> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let tcp = packet.get(header..header + 20)?;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    Some(Segment {
        from: SocketAddrV4::new(address(12)?, port(0)),
        to: SocketAddrV4::new(address(16)?, port(2)),
        flags: tcp[13],
        sequence: number(4),
        acknowledges: number(8),
    })
}
