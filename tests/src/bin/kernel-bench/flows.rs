//! Nanoseconds a packet of decided flows, and a connection from end to end.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use socket2::SockRef;
use spanwarden_tests::{payload, process::Process};

use crate::{
    PATIENCE, SERVICE, median,
    peer::{self, MESSAGE, RECORD, ping},
    quartiles,
    stats::{Programs, Runs, Snapshot, between},
    turns,
};

/// Messages to and fro in a round: a fraction of a millisecond, so that the rounds in the middle are those that nobody
/// else's work has come into.
const ROUND: usize = 20;
/// Connections in a round.
const CONNECTIONS: usize = 5;
/// The bounds that the figures are reported against.
const PACKET_BOUND: f64 = 30.0;
const CONNECTION_BOUND: f64 = 2_000.0;

/// A client's flow under test: what it sends first, and then over and over.
struct Flow {
    name: &'static str,
    first: Vec<u8>,
    message: [u8; MESSAGE],
}

fn flows() -> Vec<Flow> {
    let fixed = |text: &str| {
        let mut message = [b' '; MESSAGE];
        message[..text.len()].copy_from_slice(text.as_bytes());
        message
    };
    let first = |name: &str| payload::by_name(name).unwrap_or_default();
    vec![
        Flow {
            name: "client, unwatched (foreign protocol)",
            first: b"SSH-2.0-bench\r\n".to_vec(),
            message: [b'.'; MESSAGE],
        },
        Flow { name: "client, TLS", first: peer::client_hello(), message: RECORD },
        Flow {
            name: "client, h2c to no OTLP service",
            first: first("h2c"),
            message: fixed("\0\0\x37\x06\0\0\0\0\0"),
        },
        Flow {
            name: "client, HTTP/1.1 keep-alive, a request a packet",
            first: first("http1-other"),
            message: fixed("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        },
    ]
}

/// Prints the table of packets. `other` is a [`peer`].
pub(crate) fn packets(time: Duration, watched: &Path, mut other: Process) -> Result<()> {
    let programs = Programs::at(watched)?;
    println!(
        "| per packet, ns | egress | empty | above (quartiles) | one look-up above | ingress | empty | above (quartiles) | one look-up above |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    other.say("serve")?;
    let port = other.wait_for_line("port ", PATIENCE)?;
    let port: u16 = port.trim_start_matches("port ").parse().context("a port")?;
    let mut bounded = f64::NAN;
    for flow in flows() {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&flow.first)?;
        // The answer to the first bytes, whatever it is long, and then messages until everything is decided.
        stream.read(&mut [0; 4_096]).context(flow.name)?;
        ping(&mut stream, &flow.message, 20)?;
        let figures = rounds(time, &programs, || Ok(ping(&mut stream, &flow.message, ROUND)?))?;
        let above = packet_row(flow.name, &figures);
        if flow.name.contains("unwatched") {
            bounded = above;
        }
    }
    let address = peer::serve()?;
    other.say(&format!("drive {address} {ROUND}"))?;
    other.wait_for_line("ready", PATIENCE)?;
    let figures = rounds(time, &programs, || {
        other.say("go")?;
        other.wait_for_line("done", PATIENCE).map(|_| ())
    })?;
    packet_row("server", &figures);
    println!(
        "\nUnwatched flow above the empty program: {bounded:.1} ns a packet ({}).\n",
        verdict(bounded, PACKET_BOUND)
    );
    Ok(())
}

/// What each of many rounds added, for `time`.
fn rounds(
    time: Duration,
    programs: &Programs,
    mut round: impl FnMut() -> Result<()>,
) -> Result<Vec<Snapshot>> {
    let end = Instant::now() + time;
    let mut found = Vec::new();
    while Instant::now() < end {
        let before = programs.snapshot()?;
        round()?;
        found.push(between(&before, &programs.snapshot()?));
    }
    Ok(found)
}

/// One line of the table; what egress and ingress take above the empty program, the larger of both.
fn packet_row(name: &str, rounds: &[Snapshot]) -> f64 {
    let mut cells = Vec::new();
    let mut worst = f64::NAN;
    for hook in ["egress", "ingress"] {
        let all = |figure: fn([f64; 3]) -> f64| {
            let values = rounds.iter().filter_map(|round| {
                let runs = round.get(hook)?;
                runs.iter().all(|runs| runs.count > 0.0).then(|| figure(runs.map(Runs::mean)))
            });
            quartiles(values.collect())
        };
        let of = |figure| all(figure)[1];
        let [low, above, high] = all(|[empty, ours, _]| ours - empty);
        if above.is_nan() {
            cells.push("- | - | - | -".to_owned());
            continue;
        }
        worst = above.max(worst);
        let (ours, empty) = (of(|[_, ours, _]| ours), of(|[empty, ..]| empty));
        let look_up = of(|[empty, _, look_up]| look_up - empty);
        cells.push(format!("{ours:.1} | {empty:.1} | {above:.1} ({low:.1} to {high:.1}) | {look_up:.1}"));
    }
    println!("| {name} | {} |", cells.join(" | "));
    worst
}

/// Prints the table of connections: both ends here.
pub(crate) fn connections(time: Duration, watched: &Path) -> Result<()> {
    let programs = Programs::at(watched)?;
    connection_head();
    let mut worst = 0.0_f64;
    for (name, address) in [
        ("IPv4", SocketAddr::from((Ipv4Addr::LOCALHOST, SERVICE))),
        ("IPv6", SocketAddr::from((Ipv6Addr::LOCALHOST, SERVICE))),
    ] {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        thread::Builder::new().name("accept".to_owned()).spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut buffer = [0; MESSAGE];
                // The client's end of it, which is checked there.
                let _ = stream.read(&mut buffer).and_then(|_| stream.write_all(&buffer));
                let _ = stream.read(&mut buffer);
            }
        })?;
        let figures = rounds(time, &programs, || (0..CONNECTIONS).try_for_each(|_| connection(address)))?;
        let figures: Vec<_> = figures.into_iter().map(|round| (round, CONNECTIONS as f64)).collect();
        worst = worst.max(connection_row(&format!("{name}, one HTTP request each"), &figures));
    }
    println!(
        "\nA connection in all programs, with its packets: {worst:.0} ns ({}).\n",
        verdict(worst, CONNECTION_BOUND)
    );
    Ok(())
}

/// Prints the table of connections as a load has them, which lets the caches go cold in between. It is in the watched
/// cgroup.
pub(crate) fn load(time: Duration, watched: &Path, mut load: Process) -> Result<()> {
    const TURN: Duration = Duration::from_millis(30);
    let programs = Programs::at(watched)?;
    load.wait_for_line("ready", PATIENCE)?;
    let end = Instant::now() + time;
    let mut figures = Vec::new();
    while Instant::now() < end {
        let before = programs.snapshot()?;
        let [requests, ..] = turns::ask(&mut load, 0, "connect", TURN)?;
        figures.push((between(&before, &programs.snapshot()?), requests));
    }
    connection_head();
    connection_row("as the load has them", &figures);
    println!();
    Ok(())
}

fn connection_head() {
    println!(
        "| per connection, both ends, ns above empty programs | connect | sock_ops | together | egress | ingress | all |"
    );
    println!("|---|---|---|---|---|---|---|");
}

/// One line of the table, of rounds with so many connections each; what all programs take.
fn connection_row(name: &str, rounds: &[(Snapshot, f64)]) -> f64 {
    let of = |hooks: &[&str]| {
        let values = rounds.iter().map(|(round, connections)| {
            let runs = hooks.iter().filter_map(|hook| round.get(hook));
            let above: f64 = runs.map(|[empty, ours, _]| ours.nanoseconds - empty.nanoseconds).sum();
            above / connections
        });
        median(values.collect())
    };
    let all = of(&["connect4", "connect6", "sock_ops", "egress", "ingress"]);
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {all:.0} |",
        of(&["connect4", "connect6"]),
        of(&["sock_ops"]),
        of(&["connect4", "connect6", "sock_ops"]),
        of(&["egress"]),
        of(&["ingress"]),
    );
    all
}

/// Connects, asks, is answered, and closes so that no port is left waiting.
fn connection(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    stream.read_exact(&mut [0; MESSAGE])?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

pub(crate) fn verdict(value: f64, bound: f64) -> String {
    format!("{} the bound of {bound}", if value <= bound { "within" } else { "ABOVE" })
}
