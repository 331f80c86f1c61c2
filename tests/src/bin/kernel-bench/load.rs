//! Requests a second and their latency, with the programs and without, in turns.
//!
//! ```text
//! keepalive MS     requests on two open connections for so long
//! connect MS       each on a connection of its own
//! ```
//! Either is answered with `result REQUESTS SECONDS CPU-SECONDS P50-NS P99-NS`.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};
use socket2::SockRef;
use spanwarden_tests::process::Process;

use crate::{PATIENCE, SERVICE, median, quartiles};

const REQUEST: &[u8] = b"GET /orders/1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"order\":1,\"state\":\"paid\"}\n";

/// Clients at a time.
const CLIENTS: usize = 2;
/// How often the processes are started anew.
const GENERATIONS: u32 = 6;
/// Length of a turn: short, so that both sides of a comparison meet the same weather.
const TURN: Duration = Duration::from_millis(50);

pub(crate) fn run() -> Result<()> {
    // Three of these run beside each other, and beside a server of connections.
    let bound = (SERVICE..SERVICE + 9).find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let listener = bound.context("no free port for a server")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("server".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes is the end of its connection, and of nothing else.
            let _ = thread::Builder::new().name("answer".to_owned()).spawn(move || serve(stream));
        }
    })?;
    let mut open: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address)).collect::<io::Result<_>>()?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (kind, time) = line.split_once(' ').context("a command")?;
        let time = Duration::from_millis(time.parse()?);
        let (start, cpu) = (Instant::now(), cpu()?);
        let mut latencies = match kind {
            "keepalive" => clients(&mut open, |stream| keep_alive(stream, time))?,
            "connect" => clients(&mut open, |_| connect_each(address, time))?,
            _ => bail!("unknown command: {line}"),
        };
        let (wall, cpu) = (start.elapsed().as_secs_f64(), self::cpu()? - cpu);
        latencies.sort_unstable();
        let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or(0);
        println!("result {} {wall} {cpu} {} {}", latencies.len(), at(50), at(99));
    }
    Ok(())
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
fn clients(
    streams: &mut [TcpStream],
    work: impl Fn(&mut TcpStream) -> io::Result<Vec<u64>> + Sync,
) -> Result<Vec<u64>> {
    thread::scope(|scope| {
        let threads: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(|| work(stream))).collect();
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

/// One turn of one side.
struct Turn {
    rate: f64,
    cpu: f64,
    p50: f64,
    p99: f64,
}

impl Turn {
    /// Two of them on average.
    fn and(&self, other: &Self) -> Self {
        let mean = |figure: fn(&Self) -> f64| f64::midpoint(figure(self), figure(other));
        Self { rate: mean(|t| t.rate), cpu: mean(|t| t.cpu), p50: mean(|t| t.p50), p99: mean(|t| t.p99) }
    }
}

/// Prints the table of loads. Of the processes that `start` starts the first has no programs, the second has empty
/// ones, which is what the kernel itself takes, and the third has ours.
pub(crate) fn compare(time: Duration, start: impl Fn() -> Result<[Process; 3]>) -> Result<()> {
    println!(
        "| load over loopback, 2 clients | without | with | ratio (quartiles) | with empty programs | p50 | p99, µs without | with | ratio | CPU a request (quartiles) | with empty programs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, kind) in [("HTTP/1.1 keep-alive", "keepalive"), ("a connection a request", "connect")] {
        let mut turns = Vec::new();
        for _ in 0..GENERATIONS {
            let mut sides = start()?;
            for pair in &mut sides {
                pair.wait_for_line("ready", PATIENCE)?;
                turn(pair, kind)?; // caches warm
            }
            let end = Instant::now() + time * 2 / GENERATIONS;
            while Instant::now() < end {
                // To and fro, so that a drift counts for nobody; and all of them, so that all meet the same weather.
                let forth: Vec<Turn> =
                    sides.iter_mut().map(|pair| turn(pair, kind)).collect::<Result<_>>()?;
                let back: Vec<Turn> =
                    sides.iter_mut().rev().map(|pair| turn(pair, kind)).collect::<Result<_>>()?;
                turns.push([0, 1, 2].map(|side| forth[side].and(&back[2 - side])));
            }
        }
        row(name, &turns);
    }
    println!();
    Ok(())
}

fn turn(pair: &mut Process, kind: &str) -> Result<Turn> {
    pair.say(&format!("{kind} {}", TURN.as_millis()))?;
    let line = pair.wait_for_line("result ", PATIENCE)?;
    let figures: Vec<f64> =
        line.split(' ').skip(1).map(str::parse).collect::<Result<_, _>>().context(line.clone())?;
    let [requests, wall, cpu, p50, p99] = figures[..] else { bail!("an odd result: {line}") };
    Ok(Turn { rate: requests / wall, cpu: cpu / requests, p50, p99 })
}

fn row(name: &str, turns: &[[Turn; 3]]) {
    let ratio = |side: usize, figure: fn(&Turn) -> f64| {
        quartiles(turns.iter().map(|turn| figure(&turn[side]) / figure(&turn[0])).collect())
    };
    let middle = |side: usize, figure: fn(&Turn) -> f64| {
        median(turns.iter().map(|turn| figure(&turn[side])).collect())
    };
    let quarters = |[low, middle, high]: [f64; 3]| format!("{middle:.3} ({low:.3} to {high:.3})");
    println!(
        "| {name}, {} times to and fro | {:.0}/s | {:.0}/s | {} | {} | {:.3} | {:.0} | {:.0} | {:.3} | {} | {} |",
        turns.len(),
        middle(0, |turn| turn.rate),
        middle(2, |turn| turn.rate),
        quarters(ratio(2, |turn| turn.rate)),
        quarters(ratio(1, |turn| turn.rate)),
        ratio(2, |turn| turn.p50)[1],
        middle(0, |turn| turn.p99) / 1e3,
        middle(2, |turn| turn.p99) / 1e3,
        ratio(2, |turn| turn.p99)[1],
        quarters(ratio(2, |turn| turn.cpu)),
        quarters(ratio(1, |turn| turn.cpu)),
    );
}
