//! What runs in the pods of the tests.
//!
//! ```text
//! pod-client stay     POD-UID TARGET FIRST COUNT [SOURCE]   COUNT connections, one after the other
//! pod-client one-shot POD-UID TARGET FIRST COUNT            each from a process that exits at once
//! pod-client hold     POD-UID TARGET ID [SOURCE]            one connection, open until standard input ends
//! pod-client send     TARGET PAYLOAD [CHUNK]                a payload (see `payload`), CHUNK bytes a packet
//! pod-client via      WAY TARGET FILE...                    files, by a way of sending (see `ways`)
//! pod-client post     TARGET FILE                           an OTLP/HTTP request with FILE as body
//! pod-client grpc     TARGET FILE                           the same over OTLP/gRPC
//! pod-client cases    DIRECTORY FILE                        exports over TLS and without (see `cases`)
//! pod-client drain    ADDRESS [fastopen] [mptcp]            accepts connections and reads them to their end
//! pod-client collect  DIRECTORY PORT=BEHAVIOUR...           an OTLP server with TLS, or with faults in it
//! ```
//!
//! The first three say on each connection who they are, so that the receiving side can compare that with what the
//! kernel says. With `POD_CLIENT_UID` in the environment it becomes that user first; `post` sends what
//! `POD_CLIENT_AUTHORIZATION` says as that header.

use std::{env, io::Read as _, time::Duration};

use anyhow::{Context, Result, bail};
use nix::unistd::{Uid, setuid};

mod cases;
mod collector;
mod export;
mod identity;
mod sink;
mod tls;
mod ways;

use identity::{address, ids, in_own_process, introduce};

/// Longest that a peer may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(uid) = env::var_os("POD_CLIENT_UID") {
        let uid = uid.to_str().and_then(|uid| uid.parse().ok()).context("POD_CLIENT_UID is no number")?;
        setuid(Uid::from_raw(uid))?;
    }
    match arguments.as_slice() {
        ["stay", uid, target, first, count, source @ ..] => {
            let (target, source) = (target.parse()?, address(source)?);
            for id in ids(first, count)? {
                introduce(uid, target, id, source)?;
            }
        }
        ["one-shot", uid, target, first, count] => {
            let target = target.parse()?;
            for id in ids(first, count)? {
                in_own_process(|| introduce(uid, target, id, None).map(|_| ()))?;
            }
        }
        ["hold", uid, target, id, source @ ..] => {
            let stream = introduce(uid, target.parse()?, id.parse()?, address(source)?)?;
            println!("open {}", stream.local_addr()?);
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        ["send", target, name, chunk @ ..] => export::send(target.parse()?, name, chunk.first().copied())?,
        ["via", way, target, files @ ..] => ways::send(way, target.parse()?, files)?,
        ["post", target, file] => export::post(target.parse()?, file)?,
        ["grpc", target, file] => export::grpc(target.parse()?, file)?,
        ["cases", directory, file] => cases::run(directory, file)?,
        ["collect", directory, ports @ ..] => collector::run(directory, ports)?,
        ["drain", address, options @ ..] => sink::run(address.parse()?, options)?,
        _ => bail!("unknown arguments: {arguments:?}"),
    }
    Ok(())
}
