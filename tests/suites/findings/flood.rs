//! One pod floods; what another one does is still found, and everything is accounted for.

use anyhow::{Result, ensure};
use spanwarden_tests::{node::Node, process::Process};

use super::world::{CLIENT, PATIENCE, Running, Setup, at, event, hex, post, read, send, sink};

const CONNECTIONS: u64 = 100_000;
const BURST: u64 = 20;
const VICTIMS: usize = 10;

#[test]
fn a_flood_of_one_pod_hides_nothing_of_another() -> Result<()> {
    let node = Node::new()?;
    let (agent, flooder) = (node.pod("spanwarden", "agent")?, node.pod("batch", "flooder")?);
    let (victim, collector) = (node.pod("shop", "victim")?, node.pod("elsewhere", "collector")?);
    let setup = Setup {
        listed: vec![agent.manifest(), flooder.manifest(), victim.manifest()],
        origin: format!("      per_second: 5\n      burst: {BURST}"),
        ..Setup::default()
    };
    let running = Running::start(&node, agent.place(), &setup)?;
    let _sink = sink(collector.place(), at(collector.ipv4, 4318))?;
    let to = at(collector.ipv4, 4318);
    let mut floods = Vec::new();
    for _ in 0..4 {
        let mut command = flooder.command(CLIENT)?;
        let count = (CONNECTIONS / 4).to_string();
        command.args(["flood", &to.to_string(), &hex(&post("/v1/traces")), &count]);
        floods.push(Process::spawn("flooder", command)?);
    }
    let mut sent = Vec::new();
    for _ in 0..VICTIMS {
        sent.push(send(victim.place(), to, &post("/v1/traces"), None)?);
    }
    for flood in &mut floods {
        flood.wait_success(PATIENCE * 5)?;
    }
    running.wait_for("spanwarden_bpf_events{outcome=\"seen\"}", CONNECTIONS + VICTIMS as u64)?;
    let metrics = running.reconcile()?;
    let (seen, throttled) = (event(&metrics, "seen"), event(&metrics, "throttled"));
    ensure!(seen == CONNECTIONS + VICTIMS as u64, "{metrics:#?}");
    ensure!(event(&metrics, "full") == 0 && throttled > CONNECTIONS * 9 / 10, "{metrics:#?}");
    let lines = read(&running.file)?;
    for sent in &sent {
        ensure!(
            lines.iter().any(|line| line["local"] == sent.local.as_str()),
            "{sent:?} in {} lines",
            lines.len()
        );
    }
    let of_flooder = lines.iter().filter(|line| line["pod_uid"] == flooder.uid.as_str()).count() as u64;
    ensure!(
        of_flooder >= BURST && of_flooder + VICTIMS as u64 + throttled == seen,
        "{of_flooder}: {metrics:#?}"
    );
    Ok(())
}
