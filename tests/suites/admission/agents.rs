//! An agent, a gateway behind it and a backend behind that: whose spans they are is said once, by the agent, and stays so.

#[path = "agents/backend.rs"]
mod backend;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use spanwarden_tests::{
    agent::{Agent, Start},
    kubernetes::api::{ApiServer, wait_until},
    node::Node,
};

use super::{
    pki::Pki,
    spans::{request, text, traced},
    world::{self, HEALTH, Sender, Shown, Workload, local},
};
use backend::Backend;

const GATEWAY_HEALTH: std::net::SocketAddr = local(13134);
const TENANT: &str = "X-Scope-OrgID";
const AGENT: &str = "spiffe://cluster.local/ns/spanwarden/sa/agent";
/// Traces that two tenants have both.
const TRACES: u64 = 20;

struct World {
    // First, so that processes end before the node goes.
    agent: Agent,
    gateway: Agent,
    backend: Backend,
    pki: Pki,
    cart: Workload,
    report: Workload,
    lab: Workload,
    stray: Workload,
    _api: ApiServer,
    node: Node,
}

const TENANTS: &str = "tenants: {rules: [{namespaces: [shop, batch, lab], tenant: '{namespace}'}]}";

impl World {
    /// `processors` of the gateway.
    fn new(processors: &str, names: &str) -> Result<Self> {
        let node = Node::new()?;
        let cart = Workload::new(node.pod("shop", "cart-0")?, "cart");
        let report = Workload::new(node.pod("batch", "report-0")?, "report");
        let lab = Workload::new(node.pod("lab", "trial-0")?, "trial");
        let stray = Workload::new(node.pod("dev", "sandbox-0")?, "sandbox");
        let api = world::api_server(&node, &[&cart, &report, &lab, &stray], &[])?;
        let pki = Pki::new(&[node.ipv4().to_string()])?;
        pki.workload("agent", &[AGENT])?;
        let backend = node.netns().within(Backend::start)??;
        let tls = |name: &str| {
            format!(
                "cert_file: '{}', key_file: '{}'",
                pki.path(&format!("{name}.crt")),
                pki.path(&format!("{name}.key"))
            )
        };
        let gateway = format!(
            "
extensions:
  health_check: {{endpoint: '{GATEWAY_HEALTH}'}}
  identity:
    trust_domains: [cluster.local]
    agents: ['{AGENT}']
    {TENANTS}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '0.0.0.0:5317', tls: {{{server}, client_ca_file: '{ca}'}}}}
      http: {{endpoint: '0.0.0.0:5318', tls: {{{server}, client_ca_file: '{ca}'}}}}
processors:
{processors}
exporters:
  otlphttp: {{endpoint: 'http://{to}', compression: none}}
service:
  extensions: [health_check, identity]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [{names}], exporters: [otlphttp]}}
",
            server = tls("server"),
            ca = pki.path("ca.crt"),
            to = backend.address,
        );
        let gateway = world::start(&node, "gateway", Start::new(gateway), GATEWAY_HEALTH)?;
        let agent = format!(
            "
extensions:
  {origin}
  health_check: {{endpoint: '{HEALTH}'}}
  identity:
    evidence: kernel
    rules: [{{namespaces: [lab], mode: quarantine, claims: {{service.name: 'trial*'}}}}]
    {TENANTS}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '0.0.0.0:4317'}}, http: {{endpoint: '0.0.0.0:4318'}}}}}}
processors:
  batch: {{timeout: 200ms}}
exporters:
  otlp: {{endpoint: '{gateway}:5317', tls: {{ca_file: '{ca}', {own}}}}}
service:
  extensions: [origin, health_check, identity]
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [otlp]}}
",
            origin = world::origin(&node, &api),
            gateway = node.ipv4(),
            ca = pki.path("ca.crt"),
            own = tls("agent"),
        );
        let agent = world::start(&node, "spanwarden", Start::new(agent), HEALTH)?;
        world::knows_pods(&agent)?;
        Ok(Self { agent, gateway, backend, pki, cart, report, lab, stray, _api: api, node })
    }

    /// Stops agent and gateway, in that order, so that everything arrives.
    fn stop(self) -> Result<Backend> {
        for process in [self.agent, self.gateway] {
            let (status, log) = process.stop()?;
            ensure!(status.success(), "{status}\n{log}");
        }
        Ok(self.backend)
    }
}

/// Each tenant's part of a trace that both have is decided by itself, and arrives under its own name.
#[test]
fn the_same_trace_of_two_tenants_stays_two_traces() -> Result<()> {
    let processors = "  tail_sampling:
    decision_wait: 6s
    policies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}]
  batch: {timeout: 200ms}";
    let world = World::new(processors, "tail_sampling, batch")?;
    let mut senders =
        [Sender::start(world.cart.pod.place(), "cart")?, Sender::start(world.report.pod.place(), "report")?];
    let mut due = BTreeMap::<String, BTreeSet<u64>>::new();
    for trace in 0..TRACES {
        for (which, sender) in (0u64..).zip(&mut senders) {
            // Of each trace one tenant's part has an error, and the other's has none.
            let failed = trace % 2 == which;
            let first = 1 + trace * 8 + which * 4;
            let resources = [vec![text("service.name", "a")], vec![text("service.name", "b")]];
            let body = traced(&resources, trace, first, failed);
            let forged = Shown::header(TENANT, if which == 0 { "batch" } else { "shop" });
            let grpc = trace % 3 == 0;
            let to = (world.node.ipv4(), if grpc { 4317 } else { 4318 }).into();
            let reply = sender.send(to, grpc, &forged, &world.pki, &body)?;
            ensure!(matches!(reply.status, Some(0 | 200)), "{reply:?}");
            if failed {
                let tenant = if which == 0 { "shop" } else { "batch" };
                due.entry(tenant.to_owned()).or_default().extend([first, first + 1]);
            }
        }
    }
    let all: usize = due.values().map(BTreeSet::len).sum();
    wait_until("the spans", || (world.backend.count() >= all).then_some(()))?;
    let uids =
        BTreeMap::from([("shop", world.cart.pod.uid.clone()), ("batch", world.report.pod.uid.clone())]);
    let backend = world.stop()?;
    let mut found = BTreeMap::<String, BTreeSet<u64>>::new();
    for span in backend.spans() {
        let tenant = span.tenants.join("|");
        let fresh = found.entry(tenant.clone()).or_default().insert(span.number);
        ensure!(fresh, "span {} twice", span.number);
        ensure!(
            span.pod_uid.as_ref() == uids.get(tenant.as_str()),
            "span {} of {tenant} is said to be of {:?}",
            span.number,
            span.pod_uid
        );
    }
    ensure!(found == due, "{found:?}\nbut due are\n{due:?}");
    Ok(())
}

/// Who may say what to a gateway.
#[test]
fn only_an_agent_says_whose_spans_they_are() -> Result<()> {
    let world = World::new("  batch: {timeout: 200ms}", "batch")?;
    let pki = &world.pki;
    for workload in [&world.cart, &world.stray] {
        pki.workload(&workload.account, &[&workload.spiffe()])?;
    }
    pki.workload("agent-of-others", &["spiffe://elsewhere.example/ns/spanwarden/sa/agent"])?;
    pki.workload("agent-like", &["spiffe://cluster.local/ns/spanwarden/sa/agent2"])?;
    pki.workload("agent-below", &["spiffe://cluster.local/ns/spanwarden/sa/agent/x"])?;
    pki.sign("agent-by-name", |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, AGENT);
        Ok(())
    })?;
    let victim = world.cart.pod.uid.clone();
    let own = Shown::certificate;
    let shown = |name, tenant: &str| own(name).and(TENANT, tenant);
    let long = "t".repeat(151);
    // Name, sender's certificate and headers, and the tenant that comes of it or the words of the refusal.
    let rows: Vec<(&str, Shown, Result<&str, &str>)> = vec![
        ("an agent", shown("agent", "shop"), Ok("shop")),
        ("an agent for a tenant without a rule", shown("agent", "elsewhere"), Ok("elsewhere")),
        ("an agent without a tenant", own("agent"), Err("names no tenant")),
        ("an agent with two tenants in one", shown("agent", "shop|batch"), Err("names no tenant")),
        ("an agent with a path", shown("agent", "../shop"), Err("names no tenant")),
        ("an agent with a parent", shown("agent", ".."), Err("names no tenant")),
        ("an agent with nothing", shown("agent", ""), Err("names no tenant")),
        ("an agent with a blank", shown("agent", "shop batch"), Err("names no tenant")),
        ("an agent with a comma", shown("agent", "shop,batch"), Err("names no tenant")),
        ("an agent with a long name", shown("agent", &long), Err("names no tenant")),
        ("a pod", own("cart"), Ok("shop")),
        ("a pod for another tenant", shown("cart", "batch"), Ok("shop")),
        ("a pod for two", shown("cart", "shop|batch"), Ok("shop")),
        ("a pod for the quarantine", shown("cart", "quarantine"), Ok("shop")),
        ("a pod without a tenant", own("sandbox"), Err("no tenant is configured")),
        ("a pod without a tenant for one", shown("sandbox", "shop"), Err("no tenant is configured")),
        ("an agent of another trust domain", shown("agent-of-others", "shop"), Err("trust domain")),
        ("a name that begins like the agent's", shown("agent-like", "shop"), Err("no tenant is configured")),
        ("a name below the agent's", shown("agent-below", "shop"), Err("no tenant is configured")),
        ("the agent's name as a common name", shown("agent-by-name", "shop"), Err("names nobody")),
    ];
    let mut sender = Sender::start(world.stray.pod.place(), "stray")?;
    let (mut faults, mut due) = (Vec::new(), BTreeMap::new());
    for (number, (name, shown, then)) in (0..).zip(&rows) {
        for grpc in [true, false] {
            let number = 1 + number * 2 + u64::from(grpc);
            let body = request(&[vec![text("k8s.pod.uid", &victim)]], number);
            let to = (world.node.ipv4(), if grpc { 5317 } else { 5318 }).into();
            let reply = sender.send(to, grpc, shown, pki, &body)?;
            let fits = match then {
                Ok(tenant) => {
                    due.insert(number, ((*tenant).to_owned(), name.starts_with("an agent")));
                    matches!(reply.status, Some(0 | 200))
                }
                Err(words) => matches!(reply.status, Some(7 | 403)) && reply.text.contains(words),
            };
            if !fits {
                faults.push(format!("{name}: {reply:?}"));
            }
        }
    }
    // And one that the agent keeps apart, whatever it calls itself.
    let mut lab = Sender::start(world.lab.pod.place(), "lab")?;
    let body = request(&[vec![text("service.name", "cart")]], 1001);
    let reply =
        lab.send((world.node.ipv4(), 4317).into(), true, &Shown::header(TENANT, "shop"), pki, &body)?;
    ensure!(reply.status == Some(0), "{reply:?}");
    due.insert(1001, ("quarantine".to_owned(), false));
    let stray =
        sender.send((world.node.ipv4(), 4317).into(), true, &Shown::header(TENANT, "shop"), pki, &body)?;
    ensure!(stray.status == Some(7) && stray.text.contains("no tenant is configured"), "{stray:?}");
    wait_until("the spans", || (world.backend.count() >= due.len()).then_some(()))?;
    let lab_uid = world.lab.pod.uid.clone();
    let backend = world.stop()?;
    for span in backend.spans() {
        let Some((tenant, of_agent)) = due.remove(&span.number) else {
            faults.push(format!("span {} was not to arrive, or twice", span.number));
            continue;
        };
        // What is said of the origin holds only of agents.
        let uid = if span.number == 1001 { Some(&lab_uid) } else { of_agent.then_some(&victim) };
        if span.tenants != [tenant.as_str()] || span.pod_uid.as_ref() != uid {
            faults.push(format!(
                "span {}: {:?} of {:?}, not {tenant} of {uid:?}",
                span.number, span.tenants, span.pod_uid
            ));
        }
    }
    faults.extend(due.keys().map(|number| format!("span {number} did not arrive")));
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{} rows, over gRPC and HTTP", rows.len());
    Ok(())
}
