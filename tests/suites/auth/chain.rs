//! An agent and a gateway with shared tokens, both the real program, and tokens that are replaced under them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use spanwarden_tests::{
    agent::{Agent, Start, binary},
    client::{Answer, Protocol, send_from},
    netns::Namespace,
    process::{Place, Process},
    requirements,
};

use super::harness::request;

const PATIENCE: Duration = Duration::from_mins(2);
const AGENT: SocketAddr = local(4318);
const AGENT_HEALTH: SocketAddr = local(13133);
const GATEWAY_HEALTH: SocketAddr = local(13134);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

const GATEWAY_CONFIG: &str = "
extensions:
  bearertokenauth/agents: {filename: tokens}
  health_check: {endpoint: '127.0.0.1:13134'}
receivers:
  otlp: {protocols: {grpc: {endpoint: '127.0.0.1:14317', auth: {authenticator: bearertokenauth/agents}}}}
exporters:
  file: {path: spans.json}
service:
  extensions: [bearertokenauth/agents, health_check]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
";

const AGENT_CONFIG: &str = "
extensions:
  bearertokenauth: {filename: own-token}
  health_check: {endpoint: '127.0.0.1:13133'}
receivers:
  otlp: {protocols: {http: {endpoint: '127.0.0.1:4318'}}}
exporters:
  otlp:
    endpoint: 127.0.0.1:14317
    tls: {insecure: true}
    auth: {authenticator: bearertokenauth}
    retry_on_failure: {enabled: false}
service:
  extensions: [bearertokenauth, health_check]
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp]}
";

fn replace(agent: &Agent, file: &str, text: &str) -> Result<()> {
    let next = agent.directory().join("next");
    fs::write(&next, text)?;
    fs::rename(next, agent.directory().join(file))?;
    Ok(())
}

fn wait(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn an_agent_shows_its_token_of_now_to_the_gateway() -> Result<()> {
    requirements::check()?;
    let place = Place { netns: Some(Namespace::new()?), cgroup: None };
    let start = |config: &str, file: &str, token: &str, health| {
        Start::new(config).place(&place).file(file, format!("{token}\n")).ready_at(health).start()
    };
    let gateway = start(GATEWAY_CONFIG, "tokens", "first-secret-token-1 agent", GATEWAY_HEALTH)?;
    let agent = start(AGENT_CONFIG, "own-token", "first-secret-token-1", AGENT_HEALTH)?;
    let send =
        || -> Result<Answer> { send_from(&place, AGENT, Protocol::Protobuf, Bytes::from(request(1, 20))) };
    let mut passed = 0;
    let answer = send()?;
    ensure!(answer.is_accepted(), "{answer:?}\n{}\n{}", agent.logs(), gateway.logs());
    passed += 1;
    replace(&gateway, "tokens", "second-secret-token-2 agent\n")?;
    wait("the first token is taken back", || {
        let accepted = send()?.is_accepted();
        passed += u32::from(accepted);
        Ok(!accepted)
    })?;
    replace(&agent, "own-token", "second-secret-token-2\n")?;
    wait("the second token is sent", || {
        let accepted = send()?.is_accepted();
        passed += u32::from(accepted);
        Ok(accepted)
    })?;
    let (status, log) = agent.stop()?;
    ensure!(status.success() && !log.contains("secret"), "{status}\n{log}");
    let spans = gateway.directory().join("spans.json");
    let (status, log, file) = gateway.stop_and(|| fs::read_to_string(&spans))?;
    ensure!(status.success() && !log.contains("secret"), "{status}\n{log}");
    let arrived = file.context("spans")?.matches("\"spanId\"").count();
    ensure!(arrived as u32 == passed, "{arrived} of {passed}");
    Ok(())
}

/// `validate` reads the file, as the start does.
#[test]
fn tokens_that_are_not_there_are_found_before_the_start() -> Result<()> {
    let directory = spanwarden_tests::agent::Directory::new()?;
    let config = directory.path().join("config.yaml");
    fs::write(&config, GATEWAY_CONFIG)?;
    let validate = |at: &Path| -> Result<(Option<i32>, String)> {
        let mut command = Place::default().command(binary()?)?;
        command.arg("validate").arg("--config").arg(&config).current_dir(at);
        let mut process = Process::spawn("validate", command)?;
        let code = process.wait(PATIENCE)?.code();
        Ok((code, process.output()))
    };
    let (code, output) = validate(directory.path())?;
    ensure!(
        code != Some(0) && output.contains("tokens: ") && output.contains("one token a line"),
        "{output}"
    );
    fs::write(directory.path().join("tokens"), "a-secret b c\n")?;
    let (code, output) = validate(directory.path())?;
    ensure!(
        code != Some(0) && output.contains("line 1 has more than") && !output.contains("secret"),
        "{output}"
    );
    fs::write(directory.path().join("tokens"), "some-secret-token-1 shop\n")?;
    let (code, output) = validate(directory.path())?;
    ensure!(code == Some(0), "{output}");
    Ok(())
}
