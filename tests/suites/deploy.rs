//! What an operator applies: it builds, Kubernetes accepts it, and the real program loads the configurations in it.
#![allow(missing_docs)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use spanwarden_tests::{agent::Directory, kubernetes::Schemas, node::Node, process::Process, requirements};

const PATIENCE: Duration = Duration::from_mins(1);

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

/// The built base.
fn manifests() -> Vec<Value> {
    build(&deploy())
}

/// The base with the components, as its users name them in a kustomization of their own.
fn blocking() -> Vec<Value> {
    let copy = Directory::new().unwrap();
    copy_all(&deploy(), copy.path());
    let file = copy.path().join("kustomization.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let with =
        text.replace("# components:\n#   - agent", "components:\n  - agent").replace("\n#   - ", "\n  - ");
    assert_ne!(with, text, "kustomization.yaml says how to add the component");
    std::fs::write(&file, with).unwrap();
    build(copy.path())
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// By `kubectl kustomize` or by `kustomize build`.
fn build(directory: &Path) -> Vec<Value> {
    let build = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).arg(directory).output().ok().filter(|o| o.status.success())
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
    for manifests in [manifests(), blocking()] {
        assert!(manifests.len() >= 13, "only {} manifests", manifests.len());
        let errors: Vec<String> = manifests.iter().flat_map(|m| schemas.check(m)).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
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
fn the_agent_has_three_capabilities_and_no_more() {
    let manifests = manifests();
    let pod = &find(&manifests, "DaemonSet", "spanwarden-agent")["spec"]["template"]["spec"];
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"]}));
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    for host in ["hostPID", "hostNetwork", "hostIPC"] {
        assert!(pod[host].is_null() || pod[host] == false, "{host}");
    }
    assert!(context["privileged"].is_null());
    let written = host_paths(pod, false);
    assert_eq!(written, ["/sys/fs/bpf/spanwarden"], "its own pins; all else of the host is read only");
    assert_eq!(host_paths(pod, true), ["/sys/fs/cgroup"]);
}

/// The host's paths that the agent may write to, or only read.
fn host_paths(pod: &Value, read_only: bool) -> Vec<&str> {
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let volumes = pod["volumes"].as_array().unwrap().iter().filter(|volume| !volume["hostPath"].is_null());
    volumes
        .filter(|volume| {
            let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
            (mount["readOnly"] == true) == read_only
        })
        .map(|volume| volume["hostPath"]["path"].as_str().unwrap())
        .collect()
}

/// Two agents on a node would wait for each other's pins for ever.
#[test]
fn one_agent_a_node_also_while_it_is_rolled() {
    let manifests = manifests();
    let update =
        &find(&manifests, "DaemonSet", "spanwarden-agent")["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(*update, json!({"maxSurge": 0, "maxUnavailable": 1}));
}

/// What the agent may ask of the API is what it asks, and comes from where it is.
#[test]
fn the_agent_may_see_pods_and_write_events_and_no_more() {
    let manifests = manifests();
    let role = find(&manifests, "ClusterRole", "spanwarden-agent");
    assert_eq!(
        role["rules"],
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        ])
    );
    let of_kind = |all: &[Value], kind: &str| all.iter().filter(|m| m["kind"] == kind).count();
    assert_eq!((of_kind(&manifests, "ClusterRole"), of_kind(&manifests, "Role")), (1, 0));
    let binding = find(&manifests, "ClusterRoleBinding", "spanwarden-agent");
    assert_eq!(binding["roleRef"]["name"], "spanwarden-agent");
    let account =
        json!([{"kind": "ServiceAccount", "name": "spanwarden-agent", "namespace": "spanwarden-system"}]);
    assert_eq!(binding["subjects"], account);
    let pod = &find(&manifests, "DaemonSet", "spanwarden-agent")["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["automountServiceAccountToken"], &pod["serviceAccountName"]),
        (&json!(true), &json!("spanwarden-agent"))
    );
    let environment = pod["containers"][0]["env"].as_array().unwrap();
    let node = json!({"name": "K8S_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}});
    assert!(environment.contains(&node), "{environment:?}");
    let review = blocking();
    let review = find(&review, "ClusterRole", "spanwarden-agent-token-review");
    let reviews =
        json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]);
    assert_eq!(review["rules"], reviews);
}

#[test]
fn blocking_adds_what_ending_connections_needs_and_no_more() {
    let (manifests, blocking) = (manifests(), blocking());
    let pod = |all| find(all, "DaemonSet", "spanwarden-agent")["spec"]["template"]["spec"].clone();
    let (plain, blocking) = (pod(&manifests), pod(&blocking));
    assert_eq!(blocking["hostPID"], true);
    let context = &blocking["containers"][0]["securityContext"];
    let capabilities =
        json!({"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON", "SYS_ADMIN", "SYS_PTRACE"]});
    assert_eq!(context["capabilities"], capabilities);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert!(context["privileged"].is_null() && blocking["hostNetwork"].is_null());
    let environment = blocking["containers"][0]["env"].as_array().unwrap();
    assert!(
        environment.contains(&json!({"name": "SPANWARDEN_PLAINTEXT", "value": "block"})),
        "{environment:?}"
    );
    // Nothing of the base is lost by the patch.
    for list in ["/volumes", "/containers/0/env", "/containers/0/volumeMounts"] {
        let of = |pod: &Value| pod.pointer(list).unwrap().as_array().unwrap().clone();
        for item in of(&plain) {
            assert!(of(&blocking).contains(&item), "{list}: {item}");
        }
    }
    assert_eq!(host_paths(&plain, false), host_paths(&blocking, false));
}

/// Paths that the configuration and the manifest must agree on.
#[test]
fn what_the_configuration_names_is_mounted() {
    let manifests = blocking();
    let pod = &find(&manifests, "DaemonSet", "spanwarden-agent")["spec"]["template"]["spec"];
    let config = find(&manifests, "ConfigMap", "spanwarden-agent")["data"]["config.yaml"].as_str().unwrap();
    let config: Value = serde_saphyr::from_str(config).unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let origin = &config["extensions"]["origin"];
    for (path, read_only) in
        [(&origin["cgroup"], true), (&origin["pin_path"], false), (&origin["plaintext"]["kill_switch"], true)]
    {
        let path = path.as_str().unwrap();
        let mount = mounts.iter().find(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()));
        let mount = mount.unwrap_or_else(|| panic!("{path} is not mounted"));
        assert_eq!(mount["readOnly"] == true, read_only, "{mount}");
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
        for mode in [None, Some("warn"), Some("block")] {
            let output = Command::new(spanwarden_tests::agent::binary().unwrap())
                .args(["validate", "--config"])
                .arg(&path)
                .env("SPANWARDEN_TLS_DIR", tls.path())
                .envs(mode.map(|mode| ("SPANWARDEN_PLAINTEXT", mode)))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{file} {mode:?}: {said}");
        }
    }
}

/// The real program with exactly the manifest's capabilities and configuration of `origin`, in a bpffs that goes
/// with its mount namespace: it starts, and after a kill -9 takes up what is pinned.
#[test]
fn the_capabilities_of_the_manifest_are_enough_to_start_and_to_start_again() {
    for (manifests, mode) in [(manifests(), "observe"), (blocking(), "block")] {
        let pod = &find(&manifests, "DaemonSet", "spanwarden-agent")["spec"]["template"]["spec"];
        let capabilities = pod["containers"][0]["securityContext"]["capabilities"]["add"].as_array().unwrap();
        let bounding = capabilities.iter().fold("--bounding-set=-all".to_owned(), |set, capability| {
            format!("{set},+{}", capability.as_str().unwrap().to_lowercase())
        });
        requirements::check().unwrap();
        let node = Node::new().unwrap();
        let place = node.service_place("spanwarden").unwrap();
        let directory = Directory::new().unwrap();
        let bpffs = directory.path().join("bpf");
        std::fs::create_dir(&bpffs).unwrap();
        let config = directory.path().join("config.yaml");
        let origin = format!(
            "{{cgroup: {}, pin_path: {}/spanwarden, plaintext: {mode}}}",
            node.cgroups().path().display(),
            bpffs.display()
        );
        std::fs::write(&config, origin_only(&origin)).unwrap();
        let mut holder = Command::new("unshare");
        holder
            .args(["--mount", "sh", "-c"])
            .arg(format!("mount -t bpf none '{}' && echo mounted && cat", bpffs.display()));
        let mut holder = Process::spawn("unshare", holder).unwrap();
        holder.wait_for_line("mounted", PATIENCE).unwrap();
        for (start, result) in ["created", "reused"].into_iter().enumerate() {
            let mut command = place.command("nsenter").unwrap();
            command.arg(format!("--mount=/proc/{}/ns/mnt", holder.id()));
            command.args(["setpriv", &bounding, "--inh-caps=-all"]);
            command.arg(spanwarden_tests::agent::binary().unwrap()).args(["run", "--config"]).arg(&config);
            let mut agent = Process::spawn("spanwarden", command).unwrap();
            let ready = agent.wait_until("the line `ready`", PATIENCE, |process| {
                Ok(process.output().contains(": ready ").then_some(()))
            });
            ready.unwrap_or_else(|error| panic!("{mode}, start {start}: {error:#}"));
            let log = agent.output();
            assert!(
                log.lines().any(|line| line.contains("are pinned") && line.contains(result)),
                "{mode}: {log}"
            );
            // Dropped: killed, as by kill -9.
        }
    }
}

fn origin_only(origin: &str) -> String {
    format!(
        "extensions:
  origin: {origin}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:4317'}}}}}}
exporters:
  debug: {{}}
service:
  extensions: [origin]
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
"
    )
}
