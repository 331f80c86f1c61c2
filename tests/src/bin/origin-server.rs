//! The receiving side of the attribution tests: kernel evidence for every accepted connection, compared with
//! what the client says on that connection (see `pod-client`).
//!
//! ```text
//! origin-server CGROUP PODS-FILE LISTEN
//! ```
//!
//! Commands on standard input, one JSON line each in answer: `accept N` takes N connections, `findings N` waits
//! for N findings and gives all so far, `table` gives the table of them, `counters` the kernel programs'. The end of
//! the input ends the program.

use std::{
    collections::{BTreeSet, VecDeque},
    env,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use spanwarden::origin::{
    Evidence, Origin, OriginSource,
    bpf::{KernelOrigins, Options},
    findings::{Finding, Kind, Row},
    loader::own,
    pods::FilePods,
};
use spanwarden_tests::patience::{deadline, patience};

/// How long a client may take to connect and to say who it is.
const PATIENCE: Duration = Duration::from_mins(1);
/// Connections that are reported in full, and mismatches.
const SHOWN: usize = 32;
/// Connections of this size wait to be accepted while their openers exit.
const BACKLOG: i32 = 4096;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [cgroup, pods, listen] = arguments.as_slice() else { bail!("arguments: CGROUP PODS-FILE LISTEN") };
    let origins = KernelOrigins::attach(Options {
        own_addresses: own::from_env(env::vars())?,
        ..Options::new(cgroup.into(), Arc::new(FilePods::open(Path::new(pods))?))
    })?;
    let findings = Findings::default();
    let sink = findings.clone();
    origins.watch_findings(move |finding| sink.lock().push(finding))?;
    // After the programs are attached, as the agent does it.
    let listener = listen_on(listen.parse()?)?;
    println!("ready {}", listener.local_addr()?.as_socket().context("an IP address")?);
    // Held open until so many later ones have come, so that connections overlap in time.
    let mut held = VecDeque::new();
    for line in std::io::stdin().lines() {
        let line = line?;
        let answer = match line.split_once(' ') {
            Some(("accept", count)) => accept(count.parse()?, &listener, &origins, &mut held)?,
            Some(("findings", count)) => findings.answer(count.parse()?)?,
            None if line == "table" => origins.findings().rows().iter().map(row).collect(),
            None if line == "counters" => {
                // The thread that reads the ring buffer refreshes them with every tick.
                thread::sleep(Duration::from_secs(1));
                json!(format!("{:?}", origins.counters()))
            }
            _ => bail!("unknown command {line:?}"),
        };
        println!("answer {answer}");
    }
    Ok(())
}

fn listen_on(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("binding {address}"))?;
    socket.listen(BACKLOG)?;
    // accept(2) keeps to it, see socket(7).
    socket.set_read_timeout(Some(patience(PATIENCE)))?;
    Ok(socket)
}

/// What the clients say against what the kernel says.
#[derive(Default)]
struct Tally {
    ids: BTreeSet<u64>,
    accepted: u64,
    right: u64,
    missing: u64,
    wrong: u64,
    twice: u64,
    gone: u64,
    problems: Vec<String>,
    connections: Vec<Value>,
}

fn accept(
    count: u64,
    listener: &Socket,
    origins: &KernelOrigins,
    held: &mut VecDeque<BufReader<TcpStream>>,
) -> Result<Value> {
    let mut tally = Tally::default();
    for _ in 0..count {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                tally.problems.push(format!("after {} connections: {error}", tally.accepted));
                break;
            }
        };
        let peer = peer.as_socket().context("an IP address")?;
        let origin = origins.origin(socket.as_fd(), peer);
        socket.set_read_timeout(Some(patience(PATIENCE)))?;
        let mut stream = BufReader::new(TcpStream::from(socket));
        let mut said = String::new();
        stream.read_line(&mut said).with_context(|| format!("reading from {peer}"))?;
        tally.compare(&said, &origin);
        if held.len() == SHOWN {
            held.pop_front();
        }
        held.push_back(stream);
    }
    Ok(json!({
        "accepted": tally.accepted, "right": tally.right, "missing": tally.missing, "wrong": tally.wrong,
        "twice": tally.twice, "gone": tally.gone, "ids": ranges(&tally.ids), "problems": tally.problems,
        "connections": tally.connections,
    }))
}

impl Tally {
    fn compare(&mut self, said: &str, origin: &Origin) {
        self.accepted += 1;
        let fields: Vec<&str> = said.split_whitespace().collect();
        let [id, pid, pod, local, uid, comm] = fields.as_slice() else {
            self.problem(format!("a client said {said:?}"));
            return;
        };
        let Ok(id) = id.parse::<u64>() else { return self.problem(format!("no id: {said:?}")) };
        if !self.ids.insert(id) {
            self.twice += 1;
        }
        // The process was there when it connected; by now it may not be.
        if !Path::new("/proc").join(pid).exists() {
            self.gone += 1;
        }
        if self.connections.len() < SHOWN {
            self.connections.push(connection(id, local, origin));
        }
        if origin.evidence != Evidence::Kernel {
            self.missing += 1;
            return self.problem(format!("{}: {said:?} from {}", origin.evidence, origin.peer));
        }
        let process = origin.process.as_ref();
        let same = process
            .is_some_and(|p| p.pid.to_string() == *pid && p.uid.to_string() == *uid && p.comm == *comm)
            && origin.pod_uid.as_deref() == Some(*pod)
            && origin.pod.as_ref().is_some_and(|known| known.uid == *pod);
        if same {
            self.right += 1;
        } else {
            self.wrong += 1;
            self.problem(format!("{said:?} but {origin:?}"));
        }
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < SHOWN {
            self.problems.push(problem);
        }
    }
}

fn connection(id: u64, local: &str, origin: &Origin) -> Value {
    let process = origin.process.as_ref();
    json!({
        "id": id,
        "local": local,
        "evidence": origin.evidence.as_str(),
        "peer": SocketAddr::new(origin.peer.ip().to_canonical(), origin.peer.port()),
        "pod_uid": origin.pod_uid,
        "container_id": origin.container_id,
        "cgroup": process.and_then(|process| process.cgroup_path.clone()),
    })
}

/// `[first, last]` pairs.
fn ranges(ids: &BTreeSet<u64>) -> Vec<[u64; 2]> {
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for &id in ids {
        match ranges.last_mut() {
            Some([_, last]) if *last + 1 == id => *last = id,
            _ => ranges.push([id, id]),
        }
    }
    ranges
}

#[derive(Clone, Default)]
struct Findings(Arc<Mutex<Vec<Finding>>>);

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All findings once there are `count` of them. More that come right after are given as well: a connection
    /// that is found twice is a fault, and must not hide behind the waiting.
    fn answer(&self, count: usize) -> Result<Value> {
        let deadline = deadline(PATIENCE);
        while self.lock().len() < count {
            if Instant::now() > deadline {
                bail!("{} findings instead of {count}: {:?}", self.lock().len(), self.lock());
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(300));
        let findings = self.lock();
        Ok(findings.iter().map(finding).collect())
    }
}

fn row(row: &Row) -> Value {
    json!({
        "count": row.count,
        "blocked": row.blocked,
        "proof": row.proof.as_str(),
        "in_order": row.first_seen <= row.last_seen,
        "last": finding(&row.last),
    })
}

fn finding(finding: &Finding) -> Value {
    let origin = &finding.origin;
    let tls_failure = match &finding.kind {
        Kind::Plaintext => Value::Null,
        Kind::Fallback(failure) => json!({
            "kind": failure.kind.as_str(),
            "detail": failure.kind.detail(),
            "local": failure.local,
            "destination": failure.destination,
            "pid": failure.pid,
            "weak": failure.weak,
        }),
    };
    json!({
        "finding": finding.kind.as_str(),
        "protocol": finding.protocol.as_str(),
        "signal": finding.signal.as_str(),
        "proof": finding.proof_word(),
        "where": finding.place.as_str(),
        "local": finding.local,
        "remote": finding.remote,
        "destination": finding.destination,
        "pre_existing": finding.pre_existing,
        "revised": finding.revised,
        "tunnel": finding.tunnel,
        "blocked": finding.blocked,
        "not_enforced": finding.not_enforced,
        "tls_failure": tls_failure,
        "evidence": origin.evidence.as_str(),
        "pod_uid": origin.pod_uid,
        "pod": origin.pod.as_ref().map(|pod| pod.name.clone()),
        "pid": origin.process.as_ref().map(|process| process.pid),
    })
}
