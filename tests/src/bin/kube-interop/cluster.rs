//! etcd and kube-apiserver on loopback, without nodes, and an administrator's client.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};
use spanwarden::{
    config::extensions::ApiClient,
    transport::http::{Client, ClientOptions},
};
use spanwarden_tests::{agent::Directory, certificates, process::Process};
use tokio::runtime::{Builder, Runtime};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// The agent's account, as `deploy/` makes it.
pub(crate) const AGENT: (&str, &str) = ("spanwarden-system", "spanwarden-agent");

/// The control plane. It ends when it is dropped, and leaves nothing.
pub(crate) struct Cluster {
    url: String,
    files: Directory,
    admin: Client,
    runtime: Runtime,
    api: Process,
    etcd: Process,
}

impl Cluster {
    pub(crate) fn start(programs: &Path) -> Result<Self> {
        let files = certificates::authority(&[])?;
        let at = |name: &str| files.path().join(name);
        for arguments in [
            vec!["genrsa", "-out", "sa.key", "2048"],
            vec!["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"],
        ] {
            let output = Command::new("openssl").args(&arguments).current_dir(files.path()).output()?;
            ensure!(output.status.success(), "openssl {arguments:?}");
        }
        fs::write(at("admin-token"), "the-administrator")?;
        fs::write(at("tokens.csv"), "the-administrator,admin,admin,system:masters\n")?;
        let [client, peer, secure] = free_ports()?;
        let etcd = start_etcd(&programs.join("etcd"), &at("etcd"), client, peer)?;
        let url = format!("https://127.0.0.1:{secure}");
        let api = start_api(&programs.join("kube-apiserver"), files.path(), &url, client, secure)?;
        let admin = Client::new(ClientOptions {
            ca_file: Some(at("ca.crt")),
            token_file: Some(at("admin-token")),
            body_limit: 8 << 20,
            ..ClientOptions::default()
        })?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut cluster = Self { url, files, admin, runtime, api, etcd };
        cluster.wait_ready()?;
        cluster.nodes_and_namespaces()?;
        Ok(cluster)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.runtime.block_on(self.admin.get(&format!("{}/readyz", self.url)));
            if answer.is_ok_and(|answer| answer.body == "ok") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the API server is not ready within {PATIENCE:?}\n{}", self.said());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn nodes_and_namespaces(&self) -> Result<()> {
        for node in ["node-a", "node-b"] {
            self.create(
                "/api/v1/nodes",
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}),
            )?;
        }
        self.create(
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        )?;
        self.create(
            "/api/v1/namespaces/shop/serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}),
        )?;
        Ok(())
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.crt")
    }

    /// The last words of both programs.
    pub(crate) fn said(&self) -> String {
        let last = |process: &Process| {
            let said = process.output();
            let lines: Vec<&str> = said.lines().rev().take(8).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!("kube-apiserver:\n{}\netcd:\n{}", last(&self.api), last(&self.etcd))
    }

    /// Waits for something that takes a tokio runtime.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Any request as the administrator: status and answer.
    pub(crate) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Value)>,
    ) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.url);
        let body = body.map(|(kind, value)| (kind, value.to_string().into_bytes()));
        let answer = self.runtime.block_on(self.admin.send(method, &url, body))?;
        Ok((answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    /// Creates an object; anything but success is an error.
    pub(crate) fn create(&self, path: &str, object: Value) -> Result<Value> {
        let (status, answer) = self.ask(Method::POST, path, Some(("application/json", object)))?;
        ensure!(status == 201, "POST {path}: {status} {answer}");
        Ok(answer)
    }

    /// A running pod on this node: made, and given a status in the kubelet's place.
    pub(crate) fn pod(&self, name: &str, node: &str, ip: &str) -> Result<String> {
        let pods = "/api/v1/namespaces/shop/pods";
        let made = self.create(
            pods,
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": "web"}, "annotations": {"team": "blue"}},
                "spec": {"nodeName": node, "serviceAccountName": "web", "automountServiceAccountToken": false,
                         "containers": [{"name": "main", "image": "shop/web:1.2"}]}}),
        )?;
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "containerStatuses": [{"name": "main", "image": "shop/web:1.2", "imageID": "x", "ready": true, "restartCount": 0,
                "containerID": format!("containerd://c-{name}"), "state": {"running": {}}}]}});
        let patch = Some(("application/merge-patch+json", status));
        let (code, answer) = self.ask(Method::PATCH, &format!("{pods}/{name}/status"), patch)?;
        ensure!(code == 200, "status of {name}: {code} {answer}");
        made["metadata"]["uid"].as_str().map(str::to_owned).context("a uid")
    }

    /// Removes a pod at once: there is no kubelet to end it.
    pub(crate) fn delete_pod(&self, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/shop/pods/{name}?gracePeriodSeconds=0");
        let (code, answer) = self.ask(Method::DELETE, &path, None)?;
        ensure!(code == 200, "{code} {answer}");
        Ok(())
    }

    /// A token of an account; without an audience it is for the API server, with a pod it is bound to that.
    pub(crate) fn token(
        &self,
        (namespace, account): (&str, &str),
        audiences: &[&str],
        pod: Option<(&str, &str)>,
    ) -> Result<String> {
        let mut spec = json!({"expirationSeconds": 600, "audiences": audiences});
        if let Some((name, uid)) = pod {
            spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        }
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.create(&path, request)?;
        answer["status"]["token"].as_str().map(str::to_owned).context("a token")
    }

    /// How the agent reaches the API server: as its account, which [`crate::access`] has made.
    pub(crate) fn as_agent(&self) -> Result<ApiClient> {
        let file = self.files.path().join("agent-token");
        fs::write(&file, self.token(AGENT, &[], None)?)?;
        Ok(ApiClient {
            endpoint: Some(self.url.clone()),
            ca_file: Some(self.ca_file()),
            token_file: Some(file),
            insecure_skip_verify: false,
        })
    }
}

fn free_ports() -> Result<[u16; 3]> {
    // Held together, so that they differ.
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn start_etcd(program: &Path, data: &Path, client: u16, peer: u16) -> Result<Process> {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(data).args([
        "--unsafe-no-fsync",
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &format!("default={peer}"),
    ]);
    Process::spawn("etcd", command)
}

fn start_api(program: &Path, files: &Path, url: &str, etcd: u16, secure: u16) -> Result<Process> {
    let mut command = Command::new(program);
    for (flag, file) in [
        ("tls-cert-file", "tls.crt"),
        ("tls-private-key-file", "tls.key"),
        ("client-ca-file", "ca.crt"),
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
        ("token-auth-file", "tokens.csv"),
        ("cert-dir", "made"),
    ] {
        command.arg(format!("--{flag}={}", files.join(file).display()));
    }
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--secure-port={secure}"),
        format!("--service-account-issuer={url}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--api-audiences=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--profiling=false".to_owned(),
    ]);
    Process::spawn("kube-apiserver", command)
}
