//! An application that exports in the clear, and the collector it exports to: for what enforcement does to both.
//!
//! ```text
//! plain-exporter sink      FILE CERTIFICATES ADDRESS...   collects; every byte from a client goes to FILE, what it
//!                                                         decrypts (certificates: a directory, see `certificates`) not
//! plain-exporter http1     TARGET COUNT [WAIT-MS]         COUNT exports over HTTP/1, a connection each
//! plain-exporter h2c       TARGET COUNT [WAIT-MS]         the same over HTTP/2 without TLS
//! plain-exporter tls       TARGET CERTIFICATES            one over TLS
//! plain-exporter forked    TARGET                         connects; a forked child exports over the socket
//! plain-exporter hold      TARGET                         exports, and says how the connection ends
//! plain-exporter older     TARGET                         connects, and exports when a line is read
//! plain-exporter flood     TARGET COUNT                   COUNT connections at one time, an export on each; says how
//!                                                         many ended with which error, and after how long all had
//! plain-exporter hang      TARGET PLAIN                   sends a ClientHello and nothing more; when a line is read,
//!                                                         exports to PLAIN while the first connection is still there
//! plain-exporter lost      TARGET                         the same, until the kernel gives the connection up
//! ```
//!
//! An exporter says of each export `NUMBER accepted`, or `NUMBER connect ERROR`, or `NUMBER failed ERROR MICROSECONDS` (from
//! before the write of the request to the error). `end` is the last line.

use std::{
    collections::BTreeMap,
    env,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::ForkResult,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use spanwarden_tests::patience::patience;

const PATIENCE: Duration = Duration::from_secs(30);
/// In the body of every export.
const CANARY: &[u8] = b"canary-4c1f0e5b-of-a-span";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// What the sink answers to an export: an HTTP/1 response, a PING frame.
const ACCEPTED_HTTP1: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const ACCEPTED_H2C: &[u8] = b"\0\0\x08\x06\0\0\0\0\0accepted";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["sink", file, certificates, addresses @ ..] => sink(file, Path::new(certificates), addresses),
        [protocol @ ("http1" | "h2c"), target, count, wait @ ..] => {
            let wait = wait.first().map_or(Ok(0), |wait| wait.parse())?;
            export(protocol, target.parse()?, count.parse()?, Duration::from_millis(wait))
        }
        ["tls", target, certificates] => tls(target.parse()?, Path::new(certificates)),
        ["forked", target] => forked(target.parse()?),
        ["hold", target] => hold(target.parse()?),
        ["older", target] => older(target.parse()?),
        ["flood", target, count] => flood(target.parse()?, count.parse()?),
        ["hang", target, plain] => hang(target.parse()?, plain.parse()?),
        ["lost", target] => lost(target.parse()?),
        _ => bail!("unknown arguments: {arguments:?}"),
    };
    println!("end");
    outcome
}

fn export(protocol: &str, target: SocketAddr, count: u32, wait: Duration) -> Result<()> {
    for number in 0..count {
        if number > 0 {
            thread::sleep(wait);
        }
        let mut stream = match TcpStream::connect_timeout(&target, patience(PATIENCE)) {
            Ok(stream) => stream,
            Err(error) => {
                println!("{number} connect {}", name(&error));
                continue;
            }
        };
        prepare(&stream)?;
        let mut started = Instant::now();
        let outcome =
            if protocol == "http1" { over_http1(&mut stream) } else { over_h2c(&mut stream, &mut started) };
        match outcome {
            Ok(()) => println!("{number} accepted"),
            Err(error) => println!("{number} failed {} {}", name(&error), started.elapsed().as_micros()),
        }
    }
    Ok(())
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    Ok(())
}

/// The error's name, as errno(3) has it.
fn name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => format!("{:?}", Errno::from_raw(errno)),
        None => format!("{:?}", error.kind()),
    }
}

fn request() -> Vec<u8> {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: collector\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        CANARY.len()
    );
    [head.as_bytes(), CANARY].concat()
}

fn over_http1(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&request())?;
    read_until(stream, b"HTTP/1.1 ")
}

/// As gRPC's libraries do: preface and settings first, the request when the server's settings are there.
fn over_h2c(stream: &mut TcpStream, started: &mut Instant) -> io::Result<()> {
    stream.write_all(&[PREFACE, SETTINGS].concat())?;
    read_until(stream, SETTINGS)?;
    *started = Instant::now();
    stream.write_all(&h2c_request())?;
    read_until(stream, ACCEPTED_H2C)
}

/// HEADERS and DATA of a gRPC call.
fn h2c_request() -> Vec<u8> {
    let mut block = Vec::new();
    // `:method: POST` and `:scheme: http` of the static table (RFC 7541 appendix A), then literals.
    block.extend([0x83, 0x86]);
    for (index, value) in [
        (Some(4), "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        (Some(1), "collector:4317"),
        (Some(31), "application/grpc"),
        (None, "trailers"),
    ] {
        match index {
            // Without indexing, name from the table; 31 needs the second byte of a 4-bit prefix.
            Some(index) if index < 15 => block.push(index),
            Some(index) => block.extend([0x0f, index - 15]),
            None => block.extend(b"\0\x02te"),
        }
        block.push(u8::try_from(value.len()).unwrap_or(0));
        block.extend(value.as_bytes());
    }
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    };
    let message = [&[0][..], &u32::try_from(CANARY.len()).unwrap_or(0).to_be_bytes(), CANARY].concat();
    [frame(1, 4, &block), frame(0, 1, &message)].concat()
}

fn read_until(stream: &mut impl Read, wanted: &[u8]) -> io::Result<()> {
    let (mut seen, mut buffer) = (Vec::new(), [0; 1_024]);
    while !contains(&seen, wanted) {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => seen.extend(&buffer[..length]),
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn tls(target: SocketAddr, certificates: &Path) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.join("ca.crt"))?)?;
    let config = ClientConfig::builder_with_provider(spanwarden::transport::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = match TcpStream::connect_timeout(&target, patience(PATIENCE)) {
        Ok(stream) => stream,
        Err(error) => {
            println!("0 connect {}", name(&error));
            return Ok(());
        }
    };
    prepare(&stream)?;
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into()?)?;
    match over_http1(&mut StreamOwned::new(connection, stream)) {
        Ok(()) => println!("0 accepted"),
        Err(error) => println!("0 failed {} 0", name(&error)),
    }
    Ok(())
}

/// The parent has the socket too, and hears of its end.
fn forked(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))?;
    prepare(&stream)?;
    // SAFETY: this process has one thread, so the child may do all that its parent may (fork(2)).
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            let started = Instant::now();
            match over_http1(&mut stream) {
                Ok(()) => println!("child accepted"),
                Err(error) => println!("child failed {} {}", name(&error), started.elapsed().as_micros()),
            }
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None)?;
            match stream.write(b"x").and_then(|_| stream.read(&mut [0])) {
                Ok(_) => println!("parent alive"),
                Err(error) => println!("parent failed {}", name(&error)),
            }
        }
    }
    Ok(())
}

fn older(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))?;
    prepare(&stream)?;
    println!("connected");
    io::stdin().read_line(&mut String::new())?;
    match over_http1(&mut stream) {
        Ok(()) => println!("accepted"),
        Err(error) => println!("failed {}", name(&error)),
    }
    Ok(())
}

fn flood(target: SocketAddr, count: usize) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut streams = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
        prepare(&stream)?;
        streams.push(stream);
    }
    let started = Instant::now();
    let mut ends = BTreeMap::<String, usize>::new();
    for stream in &mut streams {
        // One that is ended already says so with the next call.
        let _ = stream.write_all(&request());
    }
    for stream in &mut streams {
        let end = stream.read(&mut [0]).map_or_else(|error| name(&error), |_| "accepted".to_owned());
        *ends.entry(end).or_default() += 1;
    }
    for (end, count) in ends {
        println!("{end} {count}");
    }
    println!("after {}", started.elapsed().as_millis());
    Ok(())
}

/// A `ClientHello`, as rustls makes it.
fn hello(target: SocketAddr) -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(spanwarden::transport::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), target.ip().into())?.write_tls(&mut bytes)?;
    Ok(bytes)
}

fn hang(target: SocketAddr, plain: SocketAddr) -> Result<()> {
    let mut tls = TcpStream::connect_timeout(&target, PATIENCE)?;
    tls.write_all(&hello(target)?)?;
    println!("sent");
    io::stdin().read_line(&mut String::new())?;
    let mut stream = TcpStream::connect_timeout(&plain, PATIENCE)?;
    prepare(&stream)?;
    over_http1(&mut stream)?;
    println!("accepted");
    drop(tls);
    Ok(())
}

fn lost(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    prepare(&stream)?;
    // What is not acknowledged for so long ends the connection (tcp(7), TCP_USER_TIMEOUT).
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(&hello(target)?)?;
    match stream.read(&mut [0]) {
        Ok(_) => println!("answered"),
        Err(error) => println!("ended {}", name(&error)),
    }
    Ok(())
}

fn hold(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))?;
    prepare(&stream)?;
    match over_http1(&mut stream) {
        Ok(()) => println!("accepted"),
        Err(error) => println!("failed {}", name(&error)),
    }
    match stream.read(&mut [0]) {
        Ok(_) => println!("closed"),
        Err(error) => println!("ended {}", name(&error)),
    }
    Ok(())
}

fn sink(file: &str, certificates: &Path, addresses: &[&str]) -> Result<()> {
    let chain = CertificateDer::from_pem_file(certificates.join("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_file(certificates.join("tls.key"))?;
    let config = ServerConfig::builder_with_provider(spanwarden::transport::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)?;
    let config = Arc::new(config);
    let file = Arc::new(OpenOptions::new().create(true).append(true).open(file)?);
    // A flood is a connection, and a descriptor, for each of thousands.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let listeners: Vec<TcpListener> = addresses
        .iter()
        .map(|address| TcpListener::bind(address).with_context(|| (*address).to_owned()))
        .collect::<Result<_>>()?;
    println!("ready");
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let (config, file) = (Arc::clone(&config), Arc::clone(&file));
            thread::spawn(move || -> Result<()> {
                loop {
                    let (stream, _) = listener.accept()?;
                    let (config, file) = (Arc::clone(&config), Arc::clone(&file));
                    thread::spawn(move || {
                        // How a connection ends is the exporter's to tell.
                        let _ = collect(stream, &config, &file);
                    });
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a listener panicked"))??;
    }
    Ok(())
}

fn collect(stream: TcpStream, config: &Arc<ServerConfig>, mut file: &File) -> Result<()> {
    let mut first = [0];
    if stream.peek(&mut first)? == 0 {
        return Ok(());
    }
    if first[0] == 0x16 {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config))?, stream);
        read_until(&mut stream, CANARY)?;
        stream.write_all(ACCEPTED_HTTP1)?;
        stream.flush()?;
        return Ok(());
    }
    let (mut stream, mut seen, mut buffer) = (stream, Vec::new(), [0; 4_096]);
    let is_h2c = first[0] == PREFACE[1] || first[0] == PREFACE[0];
    let mut settings_sent = false;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..length])?;
        seen.extend(&buffer[..length]);
        let h2c = is_h2c && seen.starts_with(b"PR");
        if h2c && !settings_sent && seen.starts_with(PREFACE) {
            stream.write_all(SETTINGS)?;
            settings_sent = true;
        }
        if contains(&seen, CANARY) {
            stream.write_all(if h2c { ACCEPTED_H2C } else { ACCEPTED_HTTP1 })?;
            seen.clear();
        }
    }
}
