//! TLS by the kernel (`Documentation/networking/tls.rst`): the system call has plaintext, the wire has records.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::{await_head, files, introduce, options::set_option};
use crate::{PATIENCE, sink::hex};
use spanwarden_tests::patience::patience;

/// `SOL_TLS` of `include/linux/socket.h` and `TLS_TX` of `include/uapi/linux/tls.h`.
const SOL_TLS: libc::c_int = 282;
const TLS_TX: libc::c_int = 1;

/// Sends all turns but the last as they are, then the last one encrypted (TLS 1.2, with a key that nobody else knows),
/// without a handshake, so that no `ClientHello` tells beforehand what comes. Says `ktls sent`, or `ktls unavailable`
/// and sends nothing.
pub(super) fn send(target: SocketAddr, turns: &[Vec<u8>], by_sendfile: bool) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))?;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    stream.set_nodelay(true)?;
    if let Err(error) = set_option(&stream, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls") {
        ensure!(
            error.kind() == ErrorKind::NotFound,
            "TCP_ULP: {error}, and ENOENT is what a kernel without says"
        );
        println!("ktls unavailable: {error}");
        return Ok(());
    }
    introduce(&stream)?;
    let (last, before) = turns.split_last().context("nothing to send")?;
    for turn in before {
        stream.write_all(turn)?;
        if turn.starts_with(b"CONNECT ") {
            await_head(&mut stream)?;
        }
    }
    set_option(&stream, SOL_TLS, TLS_TX, &crypto_info()).context("TLS_TX")?;
    if by_sendfile {
        files::sendfile(&stream, last).context("sendfile")?;
    } else {
        stream.write_all(last).context("write")?;
    }
    stream.shutdown(Shutdown::Write).context("shutdown")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the digest from the server")?;
    let plain = hex(&Sha256::digest(turns.concat()));
    ensure!(
        answer.len() == plain.len() && answer != plain,
        "the server got plaintext, or nothing: {answer:?}"
    );
    println!("ktls sent");
    Ok(())
}

/// `struct tls12_crypto_info_aes_gcm_128` of `include/uapi/linux/tls.h`: version, cipher type, IV, key, salt,
/// record sequence number.
fn crypto_info() -> [u8; 40] {
    let mut info = [0x5a; 40];
    info[..2].copy_from_slice(&0x0303_u16.to_ne_bytes());
    info[2..4].copy_from_slice(&51_u16.to_ne_bytes());
    info
}
