//! A load of HTTP requests that take next to nothing but the kernel's time: no parser, no encoder, fixed bytes.
//!
//! ```text
//! CGROUP keepalive MS     requests on two open connections for so long
//! CGROUP connect MS       each on a connection of its own
//! ```
//! Either is answered with `result REQUESTS SECONDS CPU-SECONDS P50-NS P99-NS`. Arguments are the cgroups' directories:
//! of each there are two listeners and a connection to each, all in this one process, so that a comparison is not of
//! where in memory two processes came to lie. Both ends of a connection are on the same processor, so that it is not of
//! which processors the scheduler chose either. `tests/clients/go/load` does the same without the latter.

use std::{
    fs::OpenOptions,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use socket2::SockRef;

use crate::{PATIENCE, SERVICE};

const REQUEST: &[u8] = b"GET /orders/1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"order\":1,\"state\":\"paid\"}\n";

/// Clients at a time.
const CLIENTS: usize = 2;
/// Ports from the first on that are tried.
const PORTS: u16 = 64;

/// What belongs to a cgroup.
struct Side<'a> {
    cgroup: &'a str,
    /// Of each client.
    ends: Vec<End>,
}

/// A client's connection, its server and its processor.
struct End {
    address: SocketAddr,
    open: TcpStream,
    processor: CpuSet,
}

pub(crate) fn run(cgroups: &[&str]) -> Result<()> {
    let mut sides = cgroups.iter().map(|cgroup| Side::new(cgroup)).collect::<Result<Vec<_>>>()?;
    let mut current = sides.len().wrapping_sub(1);
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let [number, kind, time] = line.split(' ').collect::<Vec<_>>()[..] else {
            bail!("unknown command: {line}")
        };
        let (number, time): (usize, _) = (number.parse()?, Duration::from_millis(time.parse()?));
        let side = sides.get_mut(number).with_context(|| format!("no such cgroup: {line}"))?;
        // What is open stays in the cgroup that it was opened in.
        if kind == "connect" && current != number {
            enter(side.cgroup)?;
            current = number;
        }
        let (start, cpu) = (Instant::now(), cpu()?);
        let mut latencies = match kind {
            "keepalive" => clients(&mut side.ends, |end| keep_alive(&mut end.open, time))?,
            "connect" => clients(&mut side.ends, |end| connect_each(end.address, time))?,
            _ => bail!("unknown command: {line}"),
        };
        let (wall, cpu) = (start.elapsed().as_secs_f64(), self::cpu()? - cpu);
        latencies.sort_unstable();
        let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or(0);
        println!("result {} {wall} {cpu} {} {}", latencies.len(), at(50), at(99));
    }
    Ok(())
}

impl<'a> Side<'a> {
    /// Listens and connects in the cgroup. What is accepted is in the listener's.
    fn new(cgroup: &'a str) -> Result<Self> {
        enter(cgroup)?;
        let ends = processors()?.into_iter().cycle().take(CLIENTS).map(End::new).collect::<Result<_>>()?;
        Ok(Self { cgroup, ends })
    }
}

impl End {
    fn new(number: usize) -> Result<Self> {
        let mut processor = CpuSet::new();
        processor.set(number)?;
        let mut ports = SERVICE..SERVICE + PORTS;
        let bound = ports.find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        let listener = bound.context("no free port for a server")?;
        let address = listener.local_addr()?;
        thread::Builder::new().name("server".to_owned()).spawn(move || {
            pin(&processor);
            for stream in listener.incoming().flatten() {
                // On the same processor. A client that goes is the end of its connection, and of nothing else.
                let _ = thread::Builder::new().name("answer".to_owned()).spawn(move || serve(stream));
            }
        })?;
        Ok(Self { address, open: connect(address)?, processor })
    }
}

/// The first that this process may run on.
pub(crate) fn processor() -> Result<usize> {
    processors()?.first().copied().context("no processor")
}

/// Those that this process may run on.
fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::this()).context("sched_getaffinity")?;
    Ok((0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap_or(false)).collect())
}

/// Keeps this thread, and those that it starts, on a processor.
fn pin(processor: &CpuSet) {
    // It was allowed a moment ago. Without, the figures are noisier and no less true.
    let _ = sched_setaffinity(Pid::from_raw(0), processor);
}

/// Moves this process to a cgroup, which is that of all sockets it makes from now on.
fn enter(cgroup: &str) -> Result<()> {
    let procs = Path::new(cgroup).join("cgroup.procs");
    let file = OpenOptions::new().write(true).open(&procs);
    file.and_then(|mut file| file.write_all(b"0")).with_context(|| procs.display().to_string())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1_024];
    let mut have = 0;
    loop {
        have += match stream.read(&mut buffer[have..])? {
            0 => return Ok(()),
            length => length,
        };
        // Clients send one request at a time.
        if buffer[..have].ends_with(b"\r\n\r\n") {
            stream.write_all(ANSWER)?;
            have = 0;
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Runs `work` once a client at the same time; nanoseconds of all requests.
fn clients(ends: &mut [End], work: impl Fn(&mut End) -> io::Result<Vec<u64>> + Sync) -> Result<Vec<u64>> {
    let work = &work;
    thread::scope(|scope| {
        let client = |end: &mut End| {
            pin(&end.processor);
            work(end)
        };
        let threads: Vec<_> = ends.iter_mut().map(|end| scope.spawn(move || client(end))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok(all)
    })
}

fn keep_alive(stream: &mut TcpStream, time: Duration) -> io::Result<Vec<u64>> {
    let start = Instant::now();
    let mut latencies = Vec::with_capacity(16_384);
    while start.elapsed() < time {
        latencies.push(request(stream)?);
    }
    Ok(latencies)
}

fn connect_each(address: SocketAddr, time: Duration) -> io::Result<Vec<u64>> {
    let start = Instant::now();
    let mut latencies = Vec::with_capacity(8_192);
    while start.elapsed() < time {
        let began = Instant::now();
        let mut stream = connect(address)?;
        request(&mut stream)?;
        // By a reset, so that the port is free at once.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        drop(stream);
        latencies.push(began.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

fn request(stream: &mut TcpStream) -> io::Result<u64> {
    let began = Instant::now();
    stream.write_all(REQUEST)?;
    stream.read_exact(&mut [0; ANSWER.len()])?;
    Ok(began.elapsed().as_nanos() as u64)
}

/// User and system time of this process, with what it does in the kernel for its packets.
fn cpu() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
