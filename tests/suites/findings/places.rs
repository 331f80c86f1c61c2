//! Where findings go: pod, agent, node, cluster, outside; and the Service behind an address.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spanwarden_tests::node::Node;

use super::world::{PORT, Running, Setup, at, post, send, sink};

const SERVICE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 96, 0, 9), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 9));
/// RFC 5737: nobody's, and in no private range.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

#[test]
fn a_finding_says_where_it_goes_and_what_is_there() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let (collector, host) =
        (node.pod("observe", "collector")?, node.host_network_pod("kube-system", "proxy")?);
    node.service(SERVICE.0, SERVICE.1, &collector, false)?;
    let outside = node.pod("none", "outside")?;
    let outside_netns = outside.place().netns.as_ref().context("a namespace")?;
    outside_netns.ip(&format!("addr add {PUBLIC}/32 dev eth0"))?;
    node.netns().ip(&format!("route add {PUBLIC}/32 via {}", outside.ipv4))?;
    let daemon = node.service_place("daemon")?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "otel", "namespace": "observe" },
        "spec": { "clusterIP": SERVICE.0, "clusterIPs": [SERVICE.0, SERVICE.1] },
    });
    let setup = Setup {
        listed: vec![agent.manifest(), web.manifest(), collector.manifest(), host.manifest(), service],
        own: format!("{},{}", node.ipv4(), node.ipv6()),
        ..Setup::default()
    };
    let running = Running::start(&node, agent.place(), &setup)?;
    let loopback = at(Ipv4Addr::LOCALHOST, 9000);
    let sinks = [
        sink(web.place(), "[::]:9000".parse()?)?,
        sink(&daemon, "[::]:9000".parse()?)?,
        sink(collector.place(), "[::]:4318".parse()?)?,
        sink(outside.place(), "[::]:4318".parse()?)?,
        sink(agent.place(), "[::]:9000".parse()?)?,
    ];
    let pod = |name: &str| json!({ "kind": "Pod", "namespace": "observe", "name": name });
    let otel = json!({ "kind": "Service", "namespace": "observe", "name": "otel" });
    let agent_pod = json!({ "kind": "Pod", "namespace": "spanwarden", "name": "agent" });
    let (web, host) = (web.place(), host.place());
    let table = [
        ("loopback in the pod", web, loopback, "pod", Value::Null),
        ("loopback in the pod, IPv6", web, at(Ipv6Addr::LOCALHOST, 9000), "pod", Value::Null),
        ("the agent's port", web, at(agent.ipv4, PORT), "agent", agent_pod.clone()),
        ("the agent's port, IPv6", web, at(agent.ipv6, PORT), "agent", agent_pod.clone()),
        ("the agent's loopback", agent.place(), at(Ipv4Addr::LOCALHOST, PORT), "agent", Value::Null),
        ("another port there", web, at(agent.ipv4, 9000), "node", agent_pod),
        ("the node", web, at(node.ipv4(), 9000), "node", Value::Null),
        ("the node, IPv6", web, at(node.ipv6(), 9000), "node", Value::Null),
        ("a host-network pod's loopback", host, loopback, "node", Value::Null),
        ("a host process's loopback", &daemon, loopback, "node", Value::Null),
        ("another pod", web, at(collector.ipv4, 4318), "cluster", pod("collector")),
        ("another pod, IPv6", web, at(collector.ipv6, 4318), "cluster", pod("collector")),
        ("a Service", web, at(SERVICE.0, 4318), "cluster", otel.clone()),
        ("a Service, IPv6", web, at(SERVICE.1, 4318), "cluster", otel),
        ("elsewhere", web, at(PUBLIC, 4318), "outside", Value::Null),
    ];
    let mut sent = Vec::new();
    for (case, from, to, _, _) in &table {
        sent.push(send(from, *to, &post("/v1/traces"), None).with_context(|| (*case).to_owned())?);
    }
    let lines = running.lines(table.len())?;
    for ((case, _, to, place, there), sent) in table.iter().zip(&sent) {
        let line = lines.iter().find(|line| line["pid"] == sent.pid).with_context(|| (*case).to_owned())?;
        ensure!(line["where"] == *place && line["destination_is"] == *there, "{case}: {line:#}");
        ensure!(line["destination"] == to.to_string(), "{case}: {line:#}");
    }
    let found = |pid: u32| lines.iter().find(|line| line["pid"] == pid);
    let process = found(sent[9].pid).context("the host process")?;
    ensure!(
        process["cgroup"] == "/system.slice/daemon.service" && process["pod_uid"].is_null(),
        "{process:#}"
    );
    drop(sinks);
    Ok(())
}

/// With networks of its own the cluster ends where they end.
#[test]
fn the_cluster_is_what_the_configuration_says() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let collector = node.pod("observe", "collector")?;
    let origin = format!("    cluster_cidrs: ['{}/32']", collector.ipv4);
    let listed = vec![web.manifest(), agent.manifest()];
    let running = Running::start(&node, agent.place(), &Setup { origin, listed, ..Setup::default() })?;
    let _sink = sink(collector.place(), "[::]:4318".parse::<SocketAddr>()?)?;
    let near = send(web.place(), at(collector.ipv4, 4318), &post("/v1/traces"), None)?;
    let far = send(web.place(), at(collector.ipv6, 4318), &post("/v1/traces"), None)?;
    for line in running.lines(2)? {
        let expected = if line["pid"] == near.pid { "cluster" } else { "outside" };
        ensure!(line["where"] == expected && (line["pid"] == near.pid || line["pid"] == far.pid), "{line:#}");
    }
    Ok(())
}
