//! What runs in the pods of the restart tests: connections that outlive an agent, and connections that never pause.
//!
//! ```text
//! restart-client late   TARGET PAYLOAD              one connection; sends when standard input gives a line
//! restart-client steady TARGET PAYLOAD MILLISECONDS one after the other, with that pause, until a line comes
//! ```
//!
//! Both say `open PID LOCAL` for each connection; `late` says `sent` when the other side has read it, `steady` says
//! `done COUNT` at its end.

use std::{
    env,
    io::{BufRead as _, Read as _, Write as _, stdin},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use spanwarden_tests::patience::patience;
use spanwarden_tests::payload;

const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["late", target, name] => late(target.parse()?, &bytes(name)?),
        ["steady", target, name, pause] => {
            steady(target.parse()?, &bytes(name)?, Duration::from_millis(pause.parse()?))
        }
        _ => bail!("unknown arguments: {arguments:?}"),
    }
}

fn bytes(name: &str) -> Result<Vec<u8>> {
    payload::by_name(name).with_context(|| format!("no payload {name}"))
}

fn late(target: SocketAddr, payload: &[u8]) -> Result<()> {
    let stream = open(target)?;
    stdin().lock().read_line(&mut String::new())?;
    send(stream, payload)?;
    println!("sent");
    Ok(())
}

fn steady(target: SocketAddr, payload: &[u8], pause: Duration) -> Result<()> {
    let (stop, stopped) = mpsc::channel();
    thread::spawn(move || {
        let _ = stdin().lock().read_line(&mut String::new());
        let _ = stop.send(());
    });
    let mut count = 0;
    loop {
        send(open(target)?, payload)?;
        count += 1;
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    println!("done {count}");
    Ok(())
}

fn open(target: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&target, patience(PATIENCE)).with_context(|| target.to_string())?;
    println!("open {} {}", std::process::id(), stream.local_addr()?);
    Ok(stream)
}

/// Until the other side has read everything and closed.
fn send(mut stream: TcpStream, payload: &[u8]) -> Result<()> {
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    stream.write_all(payload)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
