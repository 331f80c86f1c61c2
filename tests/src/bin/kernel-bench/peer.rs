//! The other end of a flow, in a cgroup that is not watched, so that each packet is met once: at the end under test.
//!
//! ```text
//! serve                    listens, says `port N`, and answers every connection by the rules of `answer`
//! drive ADDRESS ROUNDS     connects once (`ready`), then on each `go` sends and receives ROUNDS messages (`done`)
//! ```

use std::{
    io::{self, BufRead as _, Read, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result, bail};

/// Bytes of the messages that go to and fro once a flow is decided.
pub(crate) const MESSAGE: usize = 64;

/// A TLS record of application data, [`MESSAGE`] bytes long.
pub(crate) const RECORD: [u8; MESSAGE] = {
    let mut record = [0xa5; MESSAGE];
    record[0] = 0x17;
    record[1] = 3;
    record[2] = 3;
    record[3] = 0;
    record[4] = MESSAGE as u8 - 5;
    record
};

pub(crate) fn run() -> Result<()> {
    let mut driven: Option<(TcpStream, usize)> = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["serve"] => println!("port {}", serve()?.port()),
            ["drive", address, rounds] => {
                let mut stream = TcpStream::connect(address.parse::<SocketAddr>()?)?;
                stream.set_nodelay(true)?;
                ping(&mut stream, &[b'.'; MESSAGE], 10)?;
                driven = Some((stream, rounds.parse()?));
                println!("ready");
            }
            ["go"] => {
                let (stream, rounds) = driven.as_mut().context("`go` before `drive`")?;
                ping(stream, &[b'.'; MESSAGE], *rounds)?;
                println!("done");
            }
            _ => bail!("unknown command: {line}"),
        }
    }
    Ok(())
}

/// Sends `message` and waits for as many bytes, `rounds` times.
pub(crate) fn ping(stream: &mut TcpStream, message: &[u8; MESSAGE], rounds: usize) -> io::Result<()> {
    let mut answer = [0; MESSAGE];
    for _ in 0..rounds {
        stream.write_all(message)?;
        stream.read_exact(&mut answer)?;
    }
    Ok(())
}

/// Listens, and answers in threads of its own.
pub(crate) fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("serve".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes is the end of its connection, and of nothing else.
            let _ = thread::Builder::new().name("answer".to_owned()).spawn(move || answer(stream));
        }
    })?;
    Ok(address)
}

/// A `ClientHello` gets a `ServerHello` and application data; all else comes back as it went.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4_096];
    let length = stream.read(&mut buffer)?;
    if buffer.first() == Some(&0x16) {
        stream.write_all(&server_hello())?;
    } else {
        stream.write_all(&buffer[..length])?;
    }
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

/// A `ClientHello` (RFC 8446 section 4.1.2) in its record: version, random, session id, one cipher suite, no compression.
pub(crate) fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0x11; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0, 0, 0]);
    handshake(1, &body)
}

/// A `ServerHello`, and the server's first application data.
fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0x22; 32]);
    body.extend([0, 0x13, 0x01, 0, 0, 0]);
    let mut bytes = handshake(2, &body);
    bytes.extend(RECORD);
    bytes
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u16;
    let mut bytes = vec![0x16, 3, 1];
    bytes.extend((length + 4).to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}
