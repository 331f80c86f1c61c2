//! The node, the senders and the agent of the table.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use spanwarden_tests::{
    agent::{Agent, Start},
    cgroup::kubelet_path,
    kubernetes::api::ApiServer,
    node::Node,
    process::Place,
};

use super::{
    super::{
        pki::Pki,
        tokens::Signer,
        world::{self, HEALTH, Sender, Workload},
    },
    Row, To, Who,
};

/// A shared token, and whom it names.
pub(crate) const SHARED: (&str, &str) = ("Shared-0123456789abcdef", "team-a");
/// An address that leads to the agent and is not known as its own.
pub(crate) const RELAY: [u8; 4] = [10, 96, 0, 99];

pub(crate) struct Scene {
    // First, so that processes end before the node goes.
    senders: BTreeMap<Who, Sender>,
    pub(crate) agent: Agent,
    pub(crate) api: ApiServer,
    pub(crate) pki: Pki,
    pub(crate) key: Signer,
    pub(crate) rsa: Signer,
    pub(crate) cart: Workload,
    pub(crate) web: Workload,
    pub(crate) thief: Workload,
    pub(crate) twin: Workload,
    pub(crate) fresh: Workload,
    pub(crate) lab: Workload,
    pub(crate) dev: Workload,
    pub(crate) node: Node,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        let node = Node::new()?;
        let cart = Workload::new(node.pod("shop", "cart-0")?, "cart");
        let web = Workload::new(node.pod("shop", "web-0")?, "web");
        let thief = Workload::new(node.pod("batch", "report-0")?, "report");
        let twin = Workload::new(node.pod_in_network_of(&cart.pod, "batch", "twin-0")?, "twin");
        let fresh = Workload::new(node.pod("batch", "fresh-0")?, "fresh");
        let lab = Workload::new(node.pod("lab", "trial-0")?, "trial");
        let dev = Workload::new(node.pod("dev", "sandbox-0")?, "sandbox");
        // Whoever is behind this address, it is not the one that the kernel saw being asked for.
        let [a, b, c, d] = RELAY;
        node.netns().nft(&format!(
            "add rule inet spanwarden prerouting ip daddr {a}.{b}.{c}.{d} dnat ip to {}",
            node.ipv4()
        ))?;
        let (key, rsa) = (Signer::ec("key-1"), Signer::rsa("key-2"));
        let workloads = [&cart, &web, &thief, &twin, &lab, &dev];
        let api = world::api_server(&node, &workloads, &[&key, &rsa])?;
        let pki = Pki::new(&[node.ipv4().to_string()])?;
        let start = Start::new(config(&node, &api, &pki)?)
            .file("tokens", format!("{} {}\nanother-0123456789abcdef team-b\n", SHARED.0, SHARED.1));
        let agent = world::start(&node, "spanwarden", start, HEALTH)?;
        world::knows_pods(&agent)?;
        let mut scene = Self {
            senders: BTreeMap::new(),
            agent,
            api,
            pki,
            key,
            rsa,
            cart,
            web,
            thief,
            twin,
            fresh,
            lab,
            dev,
            node,
        };
        for who in [
            Who::Cart,
            Who::Web,
            Who::Thief,
            Who::Twin,
            Who::Nested,
            Who::Unseen,
            Who::Host,
            Who::Fresh,
            Who::Lab,
            Who::Dev,
        ] {
            let sender = Sender::start(&scene.place(who)?, &format!("{who:?}"))?;
            scene.senders.insert(who, sender);
        }
        Ok(scene)
    }

    fn place(&self, who: Who) -> Result<Place> {
        Ok(match who {
            Who::Nested => {
                let victim = kubelet_path(&self.cart.pod.uid, &self.cart.pod.container_id);
                self.thief.pod.sub_cgroup(victim.to_str().context("a path")?)?
            }
            Who::Unseen => Place { netns: self.thief.pod.place().netns.clone(), cgroup: None },
            Who::Host => self.node.service_place("cron")?,
            who => self.workload(who).context("a pod")?.pod.place().clone(),
        })
    }

    /// The pod that the sender is in.
    pub(crate) fn workload(&self, who: Who) -> Option<&Workload> {
        match who {
            Who::Cart => Some(&self.cart),
            Who::Web => Some(&self.web),
            Who::Thief | Who::Nested | Who::Unseen => Some(&self.thief),
            Who::Twin => Some(&self.twin),
            Who::Fresh => Some(&self.fresh),
            Who::Lab => Some(&self.lab),
            Who::Dev => Some(&self.dev),
            Who::Host => None,
        }
    }

    pub(crate) fn sender(&mut self, who: Who) -> Result<(&mut Sender, &Pki)> {
        Ok((self.senders.get_mut(&who).context("a sender")?, &self.pki))
    }

    pub(crate) fn address(&self, row: &Row, grpc: bool) -> SocketAddr {
        let ip = if row.relayed { Ipv4Addr::from(RELAY) } else { self.node.ipv4() };
        (ip, row.to.port(grpc)).into()
    }

    /// What the workload's own token says.
    pub(crate) fn claims(&self, of: &Workload) -> Value {
        of.claims(&self.api.url())
    }

    /// The workload's own token.
    pub(crate) fn token(&self, of: &Workload) -> String {
        self.key.sign(&self.claims(of))
    }
}

fn config(node: &Node, api: &ApiServer, pki: &Pki) -> Result<String> {
    let mut receivers = String::new();
    let mut names = Vec::new();
    for to in To::ALL {
        let auth = match to {
            To::Mtls | To::Open => "",
            To::Bearer => ", auth: {authenticator: bearertokenauth}",
            _ => ", auth: {authenticator: oidc}",
        };
        let tls = match to {
            To::Mtls => tls(pki, "required"),
            To::Both => tls(pki, "optional"),
            _ => String::new(),
        };
        let side = |grpc| format!("{{endpoint: '0.0.0.0:{}'{auth}{tls}}}", to.port(grpc));
        writeln!(
            receivers,
            "  {}: {{protocols: {{grpc: {}, http: {}}}}}",
            to.name(),
            side(true),
            side(false)
        )?;
        names.push(to.name());
    }
    Ok(format!(
        "
extensions:
  {origin}
  health_check: {{endpoint: '{HEALTH}'}}
  {oidc}
  bearertokenauth: {{filename: tokens}}
  identity:
    evidence: kernel
    trust_domains: [cluster.local]
    receivers:
      otlp/bound: {{pod_bound: true}}
      otlp/annotate: {{mode: annotate}}
      otlp/quarantine: {{mode: quarantine}}
      otlp/address: {{evidence: address}}
    rules:
      - namespaces: [shop]
        service_accounts: [cart]
        claims: {{service.name: [cart, 'cart-*'], service.namespace: shop}}
      - {{namespaces: [lab], mode: quarantine, claims: {{service.name: 'trial*'}}}}
      - {{namespaces: [dev], mode: annotate, claims: {{service.name: 'sandbox*'}}}}
receivers:
{receivers}
exporters:
  file: {{path: spans.jsonl}}
service:
  extensions: [origin, health_check, oidc, bearertokenauth, identity]
  pipelines:
    traces: {{receivers: [{names}], exporters: [file]}}
",
        origin = world::origin(node, api),
        oidc = world::oidc(api),
        names = names.join(", "),
    ))
}

fn tls(pki: &Pki, client_auth: &str) -> String {
    format!(
        ", tls: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}', client_auth: {client_auth}}}",
        pki.path("server.crt"),
        pki.path("server.key"),
        pki.path("ca.crt")
    )
}
