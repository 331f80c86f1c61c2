//! Real exports over TLS, by the libraries that SDKs use, however the network cuts their records: nothing is found.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spanwarden_tests::{
    agent::Directory,
    certificates,
    clients::{self, Client},
    detector::Expected,
    payload::{self, Signal, http1},
    process::Process,
    requirements,
};

use super::world::{CLIENT, PATIENCE, World};

/// OTLP's own port, where plaintext would be noticed first, and one for HTTP/1.
const PORTS: [u16; 2] = [4_317, 4_318];

struct Tls {
    world: World,
    // Ends before the files go.
    collector: Process,
    certificates: Directory,
}

impl Tls {
    fn new() -> Result<Self> {
        let world = World::new()?;
        let certificates = certificates::authority(&[world.receiver.ipv4.to_string()])?;
        let directory = certificates.path().to_str().context("a path in UTF-8")?;
        let ports = PORTS.map(|port| format!("{port}=tls"));
        let mut collector = world.receiver.spawn(CLIENT, &["collect", directory, &ports[0], &ports[1]])?;
        collector.wait_for_line("ready", PATIENCE)?;
        Ok(Self { world, collector, certificates })
    }

    /// Runs `steps` over gRPC and HTTP; all must succeed. The process's id and its connections, as the server saw them.
    fn run(
        &mut self,
        client: &Client,
        steps: &[&str],
        environment: &[(&str, String)],
    ) -> Result<(u32, String)> {
        let cases: Vec<Value> = ["grpc", "http"]
            .iter()
            .zip(PORTS)
            .map(|(protocol, port)| {
                let target = self.world.at(port);
                json!({ "name": protocol, "protocol": protocol, "target": target, "steps": steps })
            })
            .collect();
        let file = self.certificates.path().join("cases.json");
        fs::write(&file, Value::from(cases).to_string())?;
        let mut command = self.world.sender.place().command(&client.program)?;
        command.args(&client.arguments).arg(self.certificates.path()).arg(file);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::spawn("the client", command)?;
        let pid = process.wait_for_line("pid ", PATIENCE)?;
        process.wait_success(PATIENCE)?;
        let said = process.output();
        let ok = said.lines().filter(|line| line.ends_with(" ok")).count();
        ensure!(ok == 2 * steps.len(), "not all of {steps:?} have succeeded:\n{said}");
        Ok((pid.trim_start_matches("pid ").parse()?, self.collector.output()))
    }

    /// Notes that each connection without TLS that the server has `seen` is found, and that there is one to each port.
    fn expect_plaintext(&mut self, pid: u32, seen: &str) -> Result<()> {
        for (port, protocol) in PORTS.into_iter().zip(["h2c", "http/1.1"]) {
            let start = format!("{port} plain ");
            for peer in seen.lines().filter_map(|line| line.strip_prefix(&start)) {
                let (pod, target) = (&self.world.sender, self.world.at(port));
                let expected =
                    Expected::new(format!("{protocol} in plaintext"), pod, pid, peer.parse()?, target)
                        .with("finding", "plaintext")
                        .with("protocol", protocol)
                        .with("signal", "traces")
                        .with("proof", "path");
                self.world.expected.push(expected);
            }
        }
        ensure!(self.world.expected.len() == 2, "{:#?}\n{seen}", self.world.expected);
        Ok(())
    }

    /// From now on packets of 300 bytes, so that records of TLS begin and end anywhere.
    fn small_packets(&self) -> Result<()> {
        let netns = self.world.sender.place().netns.as_ref().context("a namespace")?;
        netns.ip("link set dev eth0 mtu 300 gso_max_segs 1")
    }
}

fn nothing_of(client: &Client, steps: &[&str]) -> Result<()> {
    let mut tls = Tls::new()?;
    tls.run(client, steps, &[])?;
    tls.small_packets()?;
    tls.run(client, steps, &[])?;
    tls.world.check()
}

#[test]
fn nothing_of_rustls_nor_of_a_resumed_session() -> Result<()> {
    let client = Client { program: CLIENT.into(), arguments: vec!["cases".to_owned()] };
    nothing_of(&client, &["tls12", "tls13", "tls12/resumed", "tls13/resumed"])
}

#[test]
fn nothing_of_go() -> Result<()> {
    nothing_of(&clients::go()?, &["tls12", "tls13"])
}

/// OpenSSL, and `BoringSSL` in gRPC's C-core.
#[test]
fn nothing_of_python() -> Result<()> {
    nothing_of(&clients::python()?, &["tls12", "tls13"])
}

#[test]
fn nothing_of_node() -> Result<()> {
    nothing_of(&clients::node()?, &["tls12", "tls13"])
}

/// The SDK for Node in plaintext, as its default URL has it: one finding a connection.
#[test]
fn plaintext_of_node() -> Result<()> {
    let mut tls = Tls::new()?;
    let (pid, seen) = tls.run(&clients::node()?, &["plain"], &[])?;
    tls.expect_plaintext(pid, &seen)?;
    tls.world.check()
}

fn openssl() -> Result<PathBuf> {
    requirements::find_program("openssl")
        .context("the program `openssl` is missing: install it (Debian: apt-get install openssl)")
}

/// The program `openssl`, writing an export of HTTP/1 into the connection.
#[test]
fn nothing_of_openssl() -> Result<()> {
    let mut tls = Tls::new()?;
    let export = tls.certificates.path().join("export");
    let body = payload::message(50_000);
    fs::write(&export, http1::export(Signal::Traces, &body))?;
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command: Command = tls.world.sender.place().command(openssl()?)?;
        command.args(["s_client", "-quiet", "-ign_eof", "-verify_return_error", version, "-CAfile"]);
        command.arg(tls.certificates.path().join("ca.crt"));
        command.args(["-connect", &tls.world.at(PORTS[1]).to_string()]);
        let mut client = Process::spawn("openssl", command)?;
        client.feed(&fs::read(&export)?)?;
        client.wait_for_line("HTTP/1.1 200", PATIENCE).context("an answer to openssl")?;
    }
    tls.world.check()
}

/// TLS 1.3 with data in the first flight, before the server has said a word.
#[test]
fn nothing_of_early_data() -> Result<()> {
    let mut tls = Tls::new()?;
    let file = |name: &str| tls.certificates.path().join(name).display().to_string();
    let (export, session) = (file("export"), file("session"));
    let body = payload::message(1_000);
    fs::write(&export, http1::export(Signal::Traces, &body))?;
    let mut server: Command = tls.world.receiver.place().command(openssl()?)?;
    let (certificate, key) = (file("tls.crt"), file("tls.key"));
    server.args([
        "s_server",
        "-accept",
        "9443",
        "-cert",
        &certificate,
        "-key",
        &key,
        "-tls1_3",
        "-early_data",
    ]);
    let mut server = Process::spawn("openssl s_server", server)?;
    server.wait_for_line("ACCEPT", PATIENCE)?;
    let target = tls.world.at(9_443).to_string();
    let client = |options: &[&str]| -> Result<Process> {
        let mut command: Command = tls.world.sender.place().command(openssl()?)?;
        command.args(["s_client", "-connect", &target, "-tls1_3"]).args(options);
        Process::spawn("openssl s_client", command)
    };
    let mut first = client(&["-sess_out", &session])?;
    // It is written when the server's ticket comes.
    first.wait_until("a session", PATIENCE, |_| {
        Ok(fs::metadata(&session).is_ok_and(|file| file.len() > 0).then_some(()))
    })?;
    // The command that ends it.
    first.say("Q")?;
    first.wait(PATIENCE)?;
    let mut second = client(&["-sess_in", &session, "-early_data", &export])?;
    second.wait_for_line("Early data was accepted", PATIENCE)?;
    second.say("Q")?;
    second.wait(PATIENCE)?;
    tls.world.check()
}

/// The SDK for Python behind a proxy: TLS in a tunnel is nothing, and a request in absolute form is found.
#[test]
fn a_proxy_between() -> Result<()> {
    let mut tls = Tls::new()?;
    let proxy = format!("http://{}", tls.world.at(PORTS[1]));
    let environment = [
        ("HTTPS_PROXY", proxy.clone()),
        ("HTTP_PROXY", proxy),
        ("no_grpc_proxy", "10.244.1.0/24".to_owned()),
    ];
    let (pid, seen) = tls.run(&clients::python()?, &["tls13", "plain"], &environment)?;
    let tunnel = format!("{} tunnel ", PORTS[1]);
    ensure!(seen.contains(&tunnel), "the SDK did not ask for a tunnel:\n{seen}");
    tls.expect_plaintext(pid, &seen)?;
    tls.world.check()
}
