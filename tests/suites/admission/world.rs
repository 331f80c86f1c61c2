//! A node with pods, its API server, which is the tokens' issuer as well, and an agent with a listener for each way of
//! proving who one is.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use spanwarden_tests::{
    agent::{Agent, Start},
    kubernetes::api::{ApiServer, wait_until},
    node::{Node, Pod},
    process::{Place, Process},
};

use super::{
    pki::Pki,
    tokens::{AUDIENCE, Signer, key_set, now},
};

pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_admission-client");
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const NODE: &str = "node-1";
pub(crate) const HEALTH: SocketAddr = local(13133);
pub(crate) const METRICS: SocketAddr = local(8888);

pub(crate) const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A pod and the service account that it runs as.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) pod: Pod,
    pub(crate) account: String,
}

impl Workload {
    pub(crate) fn new(pod: Pod, account: &str) -> Self {
        Self { pod, account: account.to_owned() }
    }

    /// As the API shows it.
    pub(crate) fn manifest(&self) -> Value {
        let mut manifest = self.pod.manifest();
        manifest["spec"]["serviceAccountName"] = json!(self.account);
        manifest
    }

    /// The name that its tokens prove.
    pub(crate) fn name(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.pod.namespace, self.account)
    }

    /// Its SPIFFE ID.
    pub(crate) fn spiffe(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.pod.namespace, self.account)
    }

    /// What its token says, as the API server of `issuer` writes it.
    pub(crate) fn claims(&self, issuer: &str) -> Value {
        let now = now();
        json!({
            "iss": issuer,
            "aud": [AUDIENCE],
            "sub": self.name(),
            "iat": now - 5,
            "nbf": now - 5,
            "exp": now + 3595,
            "jti": format!("{}-jti", self.pod.uid),
            "kubernetes.io": {
                "namespace": self.pod.namespace,
                "serviceaccount": {"name": self.account, "uid": "5e7f0000-0000-4000-8000-000000000001"},
                "pod": {"name": self.pod.name, "uid": self.pod.uid},
                "node": {"name": NODE, "uid": "d0d00000-0000-4000-8000-000000000001"},
            },
        })
    }
}

/// An API server in the node's network that knows these pods, and publishes these keys.
pub(crate) fn api_server(node: &Node, workloads: &[&Workload], keys: &[&Signer]) -> Result<ApiServer> {
    let api = node.netns().within(ApiServer::start)??;
    for workload in workloads {
        api.put(workload.manifest());
    }
    publish(&api, keys);
    Ok(api)
}

/// Where issuers publish their keys.
pub(crate) const KEYS: &str = "/openid/v1/jwks";

/// Discovery, and these keys.
pub(crate) fn publish(api: &ApiServer, keys: &[&Signer]) {
    let issuer = api.url();
    let document = json!({"issuer": issuer, "jwks_uri": format!("{issuer}{KEYS}")});
    api.answer("/.well-known/openid-configuration", document);
    api.answer(KEYS, key_set(keys));
}

/// `extensions.origin` with pods and Events of the API server.
pub(crate) fn origin(node: &Node, api: &ApiServer) -> String {
    origin_of(node, NODE, api)
}

/// The same of a node with this name.
pub(crate) fn origin_of(node: &Node, name: &str, api: &ApiServer) -> String {
    format!(
        "origin:
    cgroup: {}
    evidence: required
    pods: {{api: {{node: {name}, endpoint: '{}', ca_file: '{}', token_file: '{}'}}}}
    events: true",
        node.cgroups().path().display(),
        api.url(),
        api.ca_file().display(),
        api.token_file().display()
    )
}

/// `extensions.oidc` for the API server's tokens.
pub(crate) fn oidc(api: &ApiServer) -> String {
    format!(
        "oidc: {{providers: [{{issuer_url: '{}', audience: {AUDIENCE}, issuer_ca_path: '{}', bearer_token_file: '{}'}}]}}",
        api.url(),
        api.ca_file().display(),
        api.token_file().display()
    )
}

/// Starts the program in the node's network and waits until it knows the pods.
pub(crate) fn start(node: &Node, service: &str, start: Start, health: SocketAddr) -> Result<Agent> {
    let place = node.service_place(service)?;
    start.place(&place).ready_at(health).start()
}

/// Waits until the agent has all pods of the API.
pub(crate) fn knows_pods(agent: &Agent) -> Result<()> {
    wait_until("pods of the API", || {
        let metrics = agent.get(METRICS, "/metrics").ok()?;
        (sum(&metrics, "spanwarden_pods_current", &[("source", "api")]) == 1).then_some(())
    })
}

/// The sum of a family's series that have these labels.
pub(crate) fn sum(metrics: &str, family: &str, labels: &[(&str, &str)]) -> u64 {
    let fits = |line: &&str| {
        let rest = line.strip_prefix(family);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}\"")))
    };
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
    metrics.lines().filter(fits).filter_map(value).sum()
}

/// How a request shows who sends it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) headers: Vec<(&'static str, String)>,
    /// TLS, with this certificate.
    #[expect(clippy::option_option, reason = "no TLS, TLS, TLS with a certificate")]
    pub(crate) tls: Option<Option<&'static str>>,
}

impl Shown {
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    pub(crate) fn header(name: &'static str, value: impl Into<String>) -> Self {
        Self { headers: vec![(name, value.into())], tls: None }
    }

    pub(crate) fn token(token: impl AsRef<str>) -> Self {
        Self::header("authorization", format!("Bearer {}", token.as_ref()))
    }

    pub(crate) fn certificate(name: &'static str) -> Self {
        Self { headers: Vec::new(), tls: Some(Some(name)) }
    }

    pub(crate) fn anonymous_tls() -> Self {
        Self { headers: Vec::new(), tls: Some(None) }
    }

    pub(crate) fn and(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// gRPC's or HTTP's; `None` where the connection broke.
    pub(crate) status: Option<u16>,
    pub(crate) text: String,
}

/// A process somewhere that sends what it is told to.
pub(crate) struct Sender {
    process: Process,
}

impl Sender {
    pub(crate) fn start(place: &Place, name: &str) -> Result<Self> {
        let mut process = Process::spawn(name, place.command(CLIENT)?)?;
        process.wait_for_line("ready", PATIENCE)?;
        Ok(Self { process })
    }

    pub(crate) fn order(&mut self, order: &Value) -> Result<Value> {
        self.process.say(&order.to_string())?;
        let line = self.process.wait_for_line("answer ", PATIENCE)?;
        Ok(serde_json::from_str(line.trim_start_matches("answer "))?)
    }

    /// One request over a connection of its own.
    pub(crate) fn send(
        &mut self,
        to: SocketAddr,
        grpc: bool,
        shown: &Shown,
        pki: &Pki,
        body: &[u8],
    ) -> Result<Reply> {
        let answer = self.order(&order(to, grpc, shown, pki, body))?;
        let status = match &answer["status"] {
            Value::Null => None,
            status => Some(u16::try_from(status.as_u64().context("a status")?)?),
        };
        let Some(text) = answer["text"].as_str() else { bail!("no text: {answer}") };
        Ok(Reply { status, text: text.to_owned() })
    }
}

/// A request as the client wants to be told of it.
pub(crate) fn order(to: SocketAddr, grpc: bool, shown: &Shown, pki: &Pki, body: &[u8]) -> Value {
    let tls = shown.tls.map(|own| {
        json!({
            "ca": pki.path("ca.crt"),
            "cert": own.map(|name| pki.path(&format!("{name}.crt"))),
            "key": own.map(|name| pki.path(&format!("{name}.key"))),
        })
    });
    let body = body.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let protocol = if grpc { "grpc" } else { "http" };
    json!({"to": to.to_string(), "protocol": protocol, "headers": shown.headers, "tls": tls, "body": body})
}
