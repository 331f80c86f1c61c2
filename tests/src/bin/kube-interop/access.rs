//! RBAC of `deploy/`: what the agent needs it may, and what it does not need it may not.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cluster::{AGENT, Cluster, PATIENCE};

/// Verb, API group, resource (with subresource), namespace.
type Right = (&'static str, &'static str, &'static str, &'static str);

const MAY: [Right; 3] =
    [("list", "", "pods", ""), ("watch", "", "pods", ""), ("create", "events.k8s.io", "events", "shop")];

const MAY_NOT: [Right; 22] = [
    ("get", "", "secrets", "shop"),
    ("list", "", "secrets", ""),
    ("list", "", "configmaps", ""),
    ("create", "", "pods", "shop"),
    ("delete", "", "pods", "shop"),
    ("patch", "", "pods", "shop"),
    ("patch", "", "pods/status", "shop"),
    ("create", "", "pods/exec", "shop"),
    ("get", "", "pods/log", "shop"),
    ("get", "", "nodes", ""),
    ("get", "", "nodes/proxy", ""),
    ("list", "", "namespaces", ""),
    ("list", "", "services", ""),
    ("create", "", "serviceaccounts/token", "shop"),
    ("impersonate", "", "users", ""),
    ("create", "", "events", "shop"),
    ("list", "events.k8s.io", "events", "shop"),
    ("delete", "events.k8s.io", "events", "shop"),
    ("patch", "events.k8s.io", "events", "shop"),
    ("create", "authentication.k8s.io", "tokenreviews", ""),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles", ""),
];

pub(crate) fn check(cluster: &Cluster, deploy: &Path) -> Result<()> {
    apply(cluster, &deploy.join("agent/namespace.yaml"))?;
    apply(cluster, &deploy.join("agent/rbac.yaml"))?;
    for right in MAY {
        wait_for(cluster, right)?;
    }
    for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
        ensure!(allowed(cluster, json!({"nonResourceAttributes": {"path": path, "verb": "get"}}))?, "{path}");
    }
    for right in MAY_NOT {
        ensure!(!may(cluster, right)?, "the agent may {right:?}, which it does not need");
    }
    apply(cluster, &deploy.join("agent/components/token-review/rbac.yaml"))?;
    wait_for(cluster, ("create", "authentication.k8s.io", "tokenreviews", ""))
}

/// Creates what a file of manifests names.
fn apply(cluster: &Cluster, file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let manifests: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    ensure!(!manifests.is_empty(), "{} is empty", file.display());
    for manifest in manifests {
        let path = match manifest["kind"].as_str().unwrap_or_default() {
            "Namespace" => "/api/v1/namespaces".to_owned(),
            "ServiceAccount" => format!("/api/v1/namespaces/{}/serviceaccounts", AGENT.0),
            "ClusterRole" => "/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned(),
            "ClusterRoleBinding" => "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned(),
            other => bail!("{}: a {other} is not expected here", file.display()),
        };
        cluster.create(&path, manifest)?;
    }
    Ok(())
}

/// The authoriser sees a new role a moment later.
fn wait_for(cluster: &Cluster, right: Right) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !may(cluster, right)? {
        ensure!(Instant::now() < deadline, "the agent may not {right:?}, which it needs");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn may(cluster: &Cluster, (verb, group, resource, namespace): Right) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace});
    allowed(cluster, json!({"resourceAttributes": attributes}))
}

fn allowed(cluster: &Cluster, mut spec: Value) -> Result<bool> {
    let (namespace, account) = AGENT;
    spec["user"] = json!(format!("system:serviceaccount:{namespace}:{account}"));
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    spec["groups"] = json!(groups);
    let review =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
    let answer = cluster.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)?;
    answer["status"]["allowed"].as_bool().context("a verdict")
}
