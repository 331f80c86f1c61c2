//! What an operator applies: it builds, Kubernetes accepts it, and the real program loads the configurations in it.
#![allow(missing_docs)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use spanwarden_tests::kubernetes::Schemas;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

/// The built base, by `kubectl kustomize` or by `kustomize build`.
fn manifests() -> Vec<Value> {
    let build = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).arg(deploy()).output().ok().filter(|o| o.status.success())
    };
    let output = build("kubectl", &["kustomize"])
        .or_else(|| build("kustomize", &["build"]))
        .expect("deploy/ builds; this needs kubectl or kustomize (cargo xtask test installs one)");
    let text = String::from_utf8(output.stdout).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn find<'a>(manifests: &'a [Value], kind: &str, name: &str) -> &'a Value {
    manifests
        .iter()
        .find(|m| m["kind"] == kind && m["metadata"]["name"].as_str().is_some_and(|n| n.starts_with(name)))
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn every_manifest_fits_the_kubernetes_schemas() {
    let schemas = Schemas::load();
    let manifests = manifests();
    assert!(manifests.len() >= 13, "only {} manifests", manifests.len());
    let errors: Vec<String> = manifests.iter().flat_map(|m| schemas.check(m)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn the_check_finds_what_kubernetes_would_refuse() {
    let schemas = Schemas::load();
    let good = find(&manifests(), "DaemonSet", "spanwarden-agent").clone();
    let wrong: [(&str, Value, &str); 4] = [
        ("/spec/template/spec/hostPid", json!(true), "hostPid: unknown field"),
        ("/spec/selector", Value::Null, "selector: must be a mapping"),
        ("/spec/template/spec/containers", json!({}), "containers: must be a list"),
        ("/spec/minReadySeconds", json!("5"), "minReadySeconds: must be a whole number"),
    ];
    for (pointer, value, expected) in wrong {
        let mut bad = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[key] = value;
        let errors = schemas.check(&bad);
        assert!(errors.iter().any(|e| e.contains(expected)), "{pointer}: {errors:?}");
    }
    let mut nameless = good;
    let container = nameless.pointer_mut("/spec/template/spec/containers/0").unwrap();
    container.as_object_mut().unwrap().remove("name");
    assert!(schemas.check(&nameless)[0].contains("containers[0].name: is missing"));
}

#[test]
fn the_agent_has_two_capabilities_and_no_more() {
    let manifests = manifests();
    let pod = &find(&manifests, "DaemonSet", "spanwarden-agent")["spec"]["template"]["spec"];
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"], "add": ["BPF", "NET_ADMIN"]}));
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    for host in ["hostPID", "hostNetwork", "hostIPC"] {
        assert!(pod[host].is_null() || pod[host] == false, "{host}");
    }
    assert!(context["privileged"].is_null());
    for volume in pod["volumes"].as_array().unwrap() {
        if !volume["hostPath"].is_null() {
            let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|m| m["name"] == volume["name"]).unwrap();
            assert_eq!(mount["readOnly"], true, "{volume}");
        }
    }
}

#[test]
fn the_gateway_passes_the_restricted_profile() {
    let manifests = manifests();
    let namespace = find(&manifests, "Namespace", "spanwarden-gateway");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let pod = &find(&manifests, "StatefulSet", "spanwarden-gateway")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["allowPrivilegeEscalation"], false);
}

#[test]
fn services_point_at_what_there_is() {
    let manifests = manifests();
    let agent = find(&manifests, "Service", "spanwarden-agent");
    assert_eq!(agent["spec"]["internalTrafficPolicy"], "Local");
    let gateway = find(&manifests, "Service", "spanwarden-gateway");
    assert_eq!(gateway["spec"]["clusterIP"], "None");
    for (service, kind) in [(agent, "DaemonSet"), (gateway, "StatefulSet")] {
        let owner = find(&manifests, kind, service["metadata"]["name"].as_str().unwrap());
        let template = &owner["spec"]["template"];
        for (key, value) in service["spec"]["selector"].as_object().unwrap() {
            assert_eq!(&template["metadata"]["labels"][key], value);
        }
        let ports = template["spec"]["containers"][0]["ports"].as_array().unwrap();
        for port in service["spec"]["ports"].as_array().unwrap() {
            assert!(ports.iter().any(|p| p["name"] == port["targetPort"]), "{port}");
        }
    }
}

#[test]
fn the_real_program_accepts_the_configurations() {
    let tls = spanwarden_tests::certificates::gateway().unwrap();
    let files = [
        ("spanwarden-agent", "agent/config/agent.yaml"),
        ("spanwarden-gateway", "gateway/config/gateway.yaml"),
    ];
    for (manifest, file) in files {
        let path = deploy().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let mounted = find(&manifests(), "ConfigMap", manifest)["data"]["config.yaml"].clone();
        assert_eq!(mounted, text, "the ConfigMap holds the file beside it");
        let output = Command::new(spanwarden_tests::agent::binary().unwrap())
            .args(["validate", "--config"])
            .arg(&path)
            .env("SPANWARDEN_TLS_DIR", tls.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
