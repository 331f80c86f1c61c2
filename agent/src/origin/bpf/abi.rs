//! The shapes of `spanwarden_ebpf::abi` for aya, which reads and writes maps by a trait of its own.

#![allow(unsafe_code)]

use crate::config::extensions::{FindingsOutput, PlaintextPolicy};
use aya::maps::{MapData, MapError, SkStorage};
use spanwarden_ebpf::abi;
use std::{
    fmt::Write as _,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

/// Sockets' storage, with their origins: of accepted sockets, and of clients' that are not in the table of clients.
pub(in crate::origin) type Origins = SkStorage<MapData, Socket>;

/// A map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::origin) struct Socket(abi::Socket);

// SAFETY: `abi::Socket` is `repr(C)`, `Copy`, made of integers, and has no padding (asserted where it is defined),
// so every bit pattern of its size is a value.
unsafe impl aya::Pod for Socket {}

/// A socket's origin. `None` where the programs have not seen the socket, or nobody at its other end.
pub(in crate::origin) fn origin_of(
    sockets: &Origins,
    socket: BorrowedFd<'_>,
) -> Result<Option<abi::OriginRecord>, MapError> {
    match sockets.get(&socket.as_raw_fd(), 0) {
        Ok(Socket(socket)) => Ok((socket.origin.state != abi::STATE_NONE).then_some(socket.origin)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::origin) struct Settings(pub(in crate::origin) abi::Settings);

// SAFETY: as for `Socket`.
unsafe impl aya::Pod for Settings {}

impl Settings {
    /// What connects to this port has storage of its own, for user space to read.
    pub(in crate::origin) fn storing(self, port: u16) -> Self {
        let Self(settings) = self;
        Self(abi::Settings { stored_port: u32::from(port), ..settings })
    }
}

/// A map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::origin) struct Policy(pub(in crate::origin) abi::Policy);

// SAFETY: as for `Socket`.
unsafe impl aya::Pod for Policy {}

/// A map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::origin) struct Pulse(pub(in crate::origin) abi::Pulse);

// SAFETY: as for `Socket`.
unsafe impl aya::Pod for Pulse {}

/// A map's key.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::origin) struct DenyKey(pub(in crate::origin) abi::DenyKey);

// SAFETY: as for `Socket`.
unsafe impl aya::Pod for DenyKey {}

/// What the programs are told. Ports beyond those that fit mean any port; nothing is hidden by that, for they
/// only tell the agent from others on its own addresses.
pub(in crate::origin) fn settings(
    netns_cookie: u64,
    agent_tgid: u32,
    ports: &[u16],
    plaintext: &PlaintextPolicy,
    findings: &FindingsOutput,
) -> Settings {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut settings = abi::Settings {
        netns_cookie,
        fallback_window_ns: nanos(plaintext.fallback_window),
        deny_ns: nanos(plaintext.deny_for),
        agent_tgid,
        findings_per_second: findings.per_second,
        findings_burst: findings.burst,
        ..abi::Settings::default()
    };
    if ports.len() <= settings.ports.len() {
        settings.port_count = ports.len() as u32;
        for (slot, port) in settings.ports.iter_mut().zip(ports) {
            *slot = u32::from(*port);
        }
    }
    Settings(settings)
}

/// One event of the ring buffer. `None` when it has another size or version: then the programs are not ours.
pub(in crate::origin) fn finding(bytes: &[u8]) -> Option<abi::Finding> {
    if bytes.len() != size_of::<abi::Finding>() {
        return None;
    }
    // SAFETY: the length was checked, any bytes are a `Finding` (integers, no padding), and `read_unaligned` asks
    // nothing of the address.
    let finding = unsafe { bytes.as_ptr().cast::<abi::Finding>().read_unaligned() };
    (finding.version == abi::ABI_VERSION).then_some(finding)
}

/// One order of the ring buffer of endings; `None` as for [`finding`].
pub(in crate::origin) fn ending(bytes: &[u8]) -> Option<abi::Ending> {
    if bytes.len() != size_of::<abi::Ending>() {
        return None;
    }
    // SAFETY: as in `finding`, of an `Ending`.
    let ending = unsafe { bytes.as_ptr().cast::<abi::Ending>().read_unaligned() };
    (ending.version == abi::ABI_VERSION).then_some(ending)
}

/// `comm` made printable: a process names itself as it likes, line breaks and escape sequences included.
pub(in crate::origin) fn comm(raw: &[u8; 16]) -> String {
    let end = raw.iter().position(|&b| b == 0).unwrap_or(raw.len());
    printable(&raw[..end])
}

/// Bytes that a sender chose, as text that does nothing to a terminal, a log or a reader: control characters,
/// characters that turn or hide text, and what is no UTF-8 are written as numbers. Backslashes stay as they are:
/// systemd's own names are full of them.
pub(in crate::origin) fn printable(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            } else if is_invisible(c) {
                let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Line and paragraph separators, characters without width, and those that change the direction of text.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comm_is_printable_whatever_the_process_calls_itself() {
        let table: &[(&[u8], &str)] = &[
            (b"python3\0\0\0\0\0\0\0\0\0", "python3"),
            (b"sixteen-bytes-ab", "sixteen-bytes-ab"),
            (b"\x1b[31mred\n\0junk\0\0", "\\x1b[31mred\\x0a"),
            (b"\xff\xfe\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "\\xff\\xfe"),
            ("a\u{202e}b\u{9b}".as_bytes(), "a\\u{202e}b\\x9b"),
            (b"gr\xc3\xbc\xc3\0\0\0\0\0\0\0\0\0\0\0", "gr\u{fc}\\xc3"),
        ];
        for (raw, text) in table {
            let mut padded = [0; 16];
            padded[..raw.len()].copy_from_slice(raw);
            assert_eq!(comm(&padded), *text);
        }
    }

    #[test]
    fn the_programs_are_told_what_is_configured() {
        let plaintext = PlaintextPolicy::default();
        let findings = FindingsOutput { per_second: 7, burst: 9, ..FindingsOutput::default() };
        let Settings(told) = settings(5, 6, &[4317, 4318], &plaintext, &findings);
        assert_eq!((told.netns_cookie, told.agent_tgid), (5, 6));
        assert_eq!((told.fallback_window_ns, told.deny_ns), (60_000_000_000, 30_000_000_000));
        assert_eq!((told.findings_per_second, told.findings_burst), (7, 9));
        assert_eq!((told.port_count, &told.ports[..3]), (2, &[4317, 4318, 0][..]));
        let many: Vec<u16> = (1..10).collect();
        assert_eq!(settings(5, 6, &many, &plaintext, &findings).0.port_count, 0, "any port");
    }

    #[test]
    fn events_of_another_shape_are_refused() {
        let mut bytes = vec![0; size_of::<abi::Finding>()];
        assert_eq!(finding(&bytes), None, "version 0");
        bytes[..4].copy_from_slice(&abi::ABI_VERSION.to_ne_bytes());
        assert!(finding(&bytes).is_some());
        bytes.push(0);
        assert_eq!(finding(&bytes), None);
    }
}
