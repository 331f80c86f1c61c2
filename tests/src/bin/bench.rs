//! The benchmark: a load generator and a sink of our own around the real program.
//!
//! `bench` (run by `cargo xtask bench`) starts one sink process with three OTLP/gRPC ports, the release build of
//! `spanwarden` under each configuration of the table, and offers load from a third process; it prints the CPU that
//! `spanwarden` used, divided by the spans it acknowledged. CPU is the process's own, so that the load generator and
//! the sink, which share the machine, do not count.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use spanwarden_tests::tokens::{Signer, bound};

#[path = "bench/adversary.rs"]
mod adversary;
#[path = "bench/load.rs"]
mod load;
#[path = "bench/sink.rs"]
mod sink;
#[path = "bench/stages.rs"]
mod stages;
#[path = "bench/tokens.rs"]
mod tokens;
#[path = "bench/turns.rs"]
mod turns;

/// The program's own, so that its stages cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPANS: usize = 512;
const ISSUER: &str = "https://issuer.example";
const RULES: &str = include_str!("bench/rules.yaml");
/// What goes under `processors` after the rules: all built-in detectors.
const DETECTORS: &str = "  scrub/default: {}\n";
const SINK_PORTS: [u16; 3] = [24_401, 24_402, 24_403];
/// Where a spanwarden listens, and where it answers for its health; the second is for a second one beside it.
const PORTS: [[u16; 2]; 2] = [[24_410, 24_413], [24_420, 24_423]];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sink"] => sink::run(&SINK_PORTS),
        ["load", address, zstd, seconds] => load::run(address, zstd == "zstd", seconds.parse()?),
        ["turns", address, other] => load::turns(&[address, other]),
        ["admission", program] => turns::run(Path::new(program)),
        ["adversary"] => adversary::run(),
        ["stages"] => stages::run(""),
        ["stages", which] => stages::run(which),
        ["tokens"] => tokens::run(),
        [program, seconds] => compare(Path::new(program), seconds.parse()?, ""),
        [program, seconds, rows] => compare(Path::new(program), seconds.parse()?, rows),
        _ => bail!(
            "usage: bench SPANWARDEN SECONDS [ROWS] | admission SPANWARDEN | adversary | stages [STAGES] | tokens"
        ),
    }
}

struct Row {
    name: &'static str,
    processors: &'static [&'static str],
    gateways: usize,
    zstd: bool,
    /// Senders show a token, and identities are asked for.
    admission: bool,
}

const ROWS: [Row; 6] = [
    Row {
        name: "receive, check, forward to one",
        processors: &[],
        gateways: 1,
        zstd: false,
        admission: false,
    },
    Row {
        name: "+ scrub",
        processors: &["redaction/pii", "transform/scrub-urls", "transform/hash-user-ids"],
        gateways: 1,
        zstd: false,
        admission: false,
    },
    Row {
        name: "+ scrub, route to three",
        processors: &["redaction/pii", "transform/scrub-urls", "transform/hash-user-ids"],
        gateways: 3,
        zstd: false,
        admission: false,
    },
    Row {
        name: "+ all built-in detectors instead, route to three",
        processors: &["scrub/default"],
        gateways: 3,
        zstd: false,
        admission: false,
    },
    Row {
        name: "+ admission (token, identity, rules, tenants), scrub, route to three",
        processors: &["redaction/pii", "transform/scrub-urls", "transform/hash-user-ids"],
        gateways: 3,
        zstd: false,
        admission: true,
    },
    Row {
        name: "+ scrub, route to three, zstd in and out",
        processors: &["redaction/pii", "transform/scrub-urls", "transform/hash-user-ids"],
        gateways: 3,
        zstd: true,
        admission: false,
    },
];

/// Measures the rows whose names contain `rows`; and the stages alone, where that is all of them.
fn compare(program: &Path, seconds: u64, rows: &str) -> Result<()> {
    ensure!(program.exists(), "{} is not built: run `cargo xtask bench`", program.display());
    let bytes = spanwarden_tests::load::requests(8, SPANS, 1).iter().map(bytes::Bytes::len).sum::<usize>();
    println!(
        "Spans of {} bytes on average ({}), {SPANS} a request, 4 connections with 4 requests in flight each.",
        bytes / 8 / SPANS,
        spanwarden_tests::load::SHAPE,
    );
    println!("CPU is that of spanwarden alone, user and system; a batch is acknowledged after delivery.\n");
    println!("| pipeline | µs CPU/span | spans/s per core | spans/s | peak RSS, MiB |");
    println!("|---|---|---|---|---|");
    let mut sink = Running::start(std::env::current_exe()?, &["sink"], &[])?;
    sink.wait_for("listening")?;
    for row in ROWS.iter().filter(|row| row.name.contains(rows)) {
        let figure = measure(program, row, seconds).with_context(|| row.name)?;
        println!(
            "| {} | {:.2} | {:.0} | {:.0} | {} |",
            row.name,
            figure.cpu.as_secs_f64() * 1e6 / figure.spans as f64,
            figure.spans as f64 / figure.cpu.as_secs_f64(),
            figure.spans as f64 / figure.wall.as_secs_f64(),
            figure.peak_rss_kib / 1024,
        );
    }
    drop(sink);
    if !rows.is_empty() {
        return Ok(());
    }
    println!("\nStages alone, one thread, in memory:\n");
    stages::run("")?;
    tokens::run()
}

struct Figure {
    cpu: Duration,
    wall: Duration,
    spans: u64,
    peak_rss_kib: u64,
}

fn measure(program: &Path, row: &Row, seconds: u64) -> Result<Figure> {
    let directory = std::env::temp_dir().join(format!("spanwarden-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let config = directory.join("bench.yaml");
    let (token, admission) =
        if row.admission { admission(&directory)? } else { (String::new(), Admission::default()) };
    std::fs::File::create(&config)?.write_all(configuration(row, &admission, PORTS[0]).as_bytes())?;
    let config = config.to_str().context("a temporary directory whose name is not UTF-8")?;
    let agent = Running::start(program.to_owned(), &["run", "--config", config], &[("RUST_LOG", "warn")])?;
    wait_ready(PORTS[0][1])?;
    let seconds_text = seconds.to_string();
    let encoding = if row.zstd { "zstd" } else { "none" };
    offer(encoding, "2", &token)?; // connections made, code and caches warm
    let before = agent.cpu()?;
    let start = Instant::now();
    let spans = offer(encoding, &seconds_text, &token)?;
    let figure = Figure {
        cpu: agent.cpu()?.saturating_sub(before),
        wall: start.elapsed(),
        spans,
        peak_rss_kib: agent.peak_rss_kib()?,
    };
    drop(agent);
    std::fs::remove_dir_all(&directory)?;
    ensure!(spans > 0, "no span was acknowledged");
    Ok(figure)
}

fn offer(encoding: &str, seconds: &str, token: &str) -> Result<u64> {
    let output = Command::new(std::env::current_exe()?)
        .args(["load", "127.0.0.1:24410", encoding, seconds])
        .env(load::TOKEN, token)
        .output()?;
    ensure!(output.status.success(), "the load generator: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// What a configuration has more where senders are admitted.
#[derive(Default)]
struct Admission {
    auth: String,
    extensions: String,
    enabled: &'static str,
}

/// A pod's token, of an issuer whose key is in a file.
fn admission(directory: &Path) -> Result<(String, Admission)> {
    let signer = Signer::new("a")?;
    let file = directory.join("key.pem");
    std::fs::write(&file, signer.public_pem())?;
    let pod = ("order-service-1", "22222222-aaaa-4000-8000-000000000001");
    let token = signer.sign(&bound(ISSUER, "spanwarden", "shop", "order-service", pod))?;
    let extensions = format!(
        "  oidc: {{issuer_url: \"{ISSUER}\", audience: spanwarden, public_keys_file: \"{}\"}}\n  identity:\n    rules: \
         [{{namespaces: [shop], claims: {{service.name: [order-service, 'order-*']}}}}]\n    tenants: {{rules: \
         [{{namespaces: [shop], tenant: '{{namespace}}'}}]}}\n",
        file.display()
    );
    let auth = ", auth: {authenticator: oidc}".to_owned();
    Ok((token, Admission { auth, extensions, enabled: ", oidc, identity" }))
}

fn configuration(row: &Row, admission: &Admission, [port, health]: [u16; 2]) -> String {
    let Admission { auth, extensions, enabled } = admission;
    let compression = if row.zstd { "zstd" } else { "none" };
    let hosts: Vec<String> =
        SINK_PORTS[..row.gateways].iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let exporter = if row.gateways == 1 {
        format!(
            "  otlp: {{endpoint: \"{}\", compression: {compression}, tls: {{insecure: true}}}}\n",
            hosts[0]
        )
    } else {
        format!(
            "  loadbalancing:\n    protocol: {{otlp: {{compression: {compression}, tls: {{insecure: true}}}}}}\n    \
             resolver: {{static: {{hostnames: [\"{}\"]}}}}\n",
            hosts.join("\", \"")
        )
    };
    let processors = row.processors.join(", ");
    let exporter_name = if row.gateways == 1 { "otlp" } else { "loadbalancing" };
    format!(
        "receivers:\n  otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{port}\"{auth}}}}}}}\n{RULES}\n{DETECTORS}exporters:\n{exporter}\
         extensions:\n{extensions}  health_check: {{endpoint: \"127.0.0.1:{health}\"}}\nservice:\n  extensions: [health_check{enabled}]\n  \
         telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    traces: {{receivers: [otlp], processors: \
         [{processors}], exporters: [{exporter_name}]}}\n"
    )
}

fn wait_ready(port: u16) -> Result<()> {
    use std::io::Read;
    for _ in 0..200 {
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("spanwarden was not ready within 10 s; run it by hand with the same configuration to see why")
}

/// A process that is ended when this is dropped.
struct Running {
    child: Child,
    name: PathBuf,
}

impl Running {
    fn start(program: PathBuf, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let child = Command::new(&program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, name: program })
    }

    fn wait_for(&mut self, word: &str) -> Result<()> {
        let stdout = self.child.stdout.take().context("standard output was taken already")?;
        let line = BufReader::new(stdout).lines().next().transpose()?.unwrap_or_default();
        ensure!(line == word, "{} said {line:?} instead of {word:?}", self.name.display());
        Ok(())
    }

    /// User and system time so far, from fields 14 and 15 of `/proc/PID/stat` in ticks of 10 ms (`man 5 proc`).
    fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().context("an odd /proc/PID/stat")?;
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap_or(0)).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    fn peak_rss_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM in /proc/PID/status")?;
        Ok(line.split_whitespace().nth(1).unwrap_or("0").parse()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}
