use std::{fs, net::IpAddr, path::PathBuf};

use super::*;

const KUBECTL: &str = include_str!("../../../../../tests/fixtures/pods.yaml");
const WEB: &str = "7c6fb7c2-3e6b-4c57-9a1e-5b2f0c9d1e11";

/// A directory that is removed with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanwarden-pods-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Replaces the file as an operator should: by renaming.
    fn write(&self, text: &str) -> PathBuf {
        let (new, path) = (self.0.join("new"), self.0.join("pods.yaml"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(name: &str, text: &str) -> Result<FilePods, PodsError> {
    let dir = Dir::new(name);
    FilePods::open(&dir.write(text))
}

/// Looks at the file without waiting until it is time.
fn reload(pods: &FilePods) {
    pods.reload(&mut pods.seen.lock().unwrap());
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn what_kubectl_prints_loads() {
    let pods = open("kubectl", KUBECTL).unwrap();
    let web = pods.by_uid(WEB).unwrap();
    assert_eq!((web.name.as_str(), web.namespace.as_str()), ("web-6d4cf56db6-x2x7q", "shop"));
    assert_eq!(web.deployment.as_deref(), Some("web"));
    assert_eq!(web.node.as_deref(), Some("node-1"));
    assert_eq!(web.ips, [ip("10.244.1.7"), ip("fd00:10:244:1::7")]);
    let container = &web.containers[0];
    assert_eq!((container.id.as_str(), container.name.as_str()), (&*"0123456789abcdef".repeat(4), "web"));
    assert!(web.labels.contains(&("app".to_owned(), "web".to_owned())));
    assert!(web.labels.is_sorted());
    assert!(web.annotations.iter().any(|(key, value)| key == "note" && value == "two\nlines\n"));
    for address in ["10.244.1.7", "::ffff:10.244.1.7", "fd00:10:244:1::7"] {
        assert_eq!(pods.by_ip(ip(address)).unwrap().uid, WEB, "{address}");
    }
}

#[test]
fn static_pods_are_found_by_their_hash_and_share_the_hosts_address() {
    let pods = open("static", KUBECTL).unwrap();
    let pod = pods.by_uid("e039200acb850c82bb901653cc38ff6e").unwrap();
    assert_eq!(pod.name, "kube-apiserver-node-1");
    assert_eq!(pods.by_uid(&pod.uid).unwrap(), pod);
    assert_eq!(pods.by_ip(ip("192.168.1.10")), None);
}

#[test]
fn a_finished_pod_has_lost_its_address_and_a_bare_replica_set_is_no_deployment() {
    let pods = open("finished", KUBECTL).unwrap();
    let job = pods.by_uid("11111111-2222-3333-4444-555555555555").unwrap();
    assert_eq!(job.ips, [ip("10.244.1.9")]);
    assert_eq!(pods.by_ip(ip("10.244.1.9")), None);
    let bare = pods.by_uid("22222222-2222-3333-4444-555555555555").unwrap();
    assert_eq!(bare.deployment, None);
}

fn json(uid: &str, address: &str) -> String {
    format!(
        r#"{{"metadata":{{"uid":"{uid}","name":"n-{uid}","namespace":"d"}},
            "spec":{{"hostNetwork":false}},"status":{{"podIPs":[{{"ip":"{address}"}}]}}}}"#
    )
}

#[test]
fn json_lists_and_bare_lists_load() {
    let (a, b) = (json("a", "10.0.0.1"), json("b", "10.0.0.2"));
    for text in [format!(r#"{{"kind":"PodList","items":[{a},{b}]}}"#), format!("[{a},{b}]")] {
        let pods = open("json", &text).unwrap();
        assert_eq!(pods.by_ip(ip("10.0.0.2")).unwrap().uid, "b");
    }
    assert!(open("none", "apiVersion: v1\nkind: List\nitems: []\n").is_ok());
}

#[test]
fn an_address_of_two_pods_identifies_neither() {
    let pods = open("twice", &format!("[{},{}]", json("a", "10.0.0.1"), json("b", "10.0.0.1"))).unwrap();
    assert_eq!(pods.by_ip(ip("10.0.0.1")), None);
    assert!(pods.by_uid("a").is_some() && pods.by_uid("b").is_some());
}

#[test]
fn a_change_is_read_and_a_bad_one_changes_nothing() {
    let dir = Dir::new("reload");
    let path = dir.write(&format!("[{}]", json("a", "10.0.0.1")));
    let pods = FilePods::open(&path).unwrap();
    dir.write(&format!("[{},{}]", json("a", "10.0.0.1"), json("b", "10.0.0.2")));
    reload(&pods);
    assert!(pods.by_uid("b").is_some());
    for bad in ["items: [", "", "- {metadata: {uid: c}}"] {
        dir.write(bad);
        reload(&pods);
        assert!(pods.by_uid("b").is_some() && pods.by_uid("c").is_none(), "{bad}");
    }
    fs::remove_file(&path).unwrap();
    reload(&pods);
    assert!(pods.by_uid("a").is_some());
    dir.write(&format!("[{}]", json("c", "10.0.0.3")));
    reload(&pods);
    assert!(pods.by_uid("c").is_some());
}

#[test]
fn faults_are_named() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let twice = format!("[{},{}]", json("a", "10.0.0.1"), json("a", "10.0.0.1"));
    for (text, expected) in [
        ("", "is empty"),
        ("a: b", "neither a list"),
        ("items: {a: b}", "`items` is no list"),
        ("[{metadata: {name: n}}]", "items[0] has no metadata.uid"),
        ("[{kind: Node}]", "items[0] is a Node"),
        ("[{kind: Service, metadata: {name: n}}]", "items[0] has no metadata.namespace"),
        ("a: &x 1\nb: *x", "line 2: aliases"),
        ("items: []\n---\nitems: []", "second document"),
        ("{\"items\":", "is not JSON"),
        ("a: [", "is not YAML"),
        ("a: 1\na: 2", "`a` is there twice"),
        (deep.as_str(), "deeper than 64"),
        (twice.as_str(), "listed twice"),
    ] {
        let message = open("faults", text).err().expect(text).to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn services_are_found_by_their_addresses() {
    let text = r#"
- {kind: Service, metadata: {name: otel, namespace: observe}, spec: {clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, "fd00::7"], externalIPs: [192.0.2.1]}, status: {loadBalancer: {ingress: [{ip: 203.0.113.9}, {hostname: a}]}}}
- {kind: Service, metadata: {name: headless, namespace: observe}, spec: {clusterIP: None, clusterIPs: [None]}}
- {kind: Pod, metadata: {uid: a, name: n, namespace: d}, status: {podIP: 10.0.0.1}}
"#;
    let pods = open("services", text).unwrap();
    for address in ["10.96.0.7", "::ffff:10.96.0.7", "fd00::7", "192.0.2.1", "203.0.113.9"] {
        let service = pods.service_by_ip(ip(address)).expect(address);
        assert_eq!((service.namespace.as_str(), service.name.as_str()), ("observe", "otel"));
    }
    assert!(pods.service_by_ip(ip("10.0.0.1")).is_none() && pods.by_ip(ip("10.0.0.1")).is_some());
}

#[test]
fn a_workload_is_what_outlives_its_pods() {
    let pod = |owner: &str| {
        let text = format!(
            "[{{metadata: {{uid: a, name: db-0, namespace: d, labels: {{pod-template-hash: x1}}, ownerReferences: [{owner}]}}}}]"
        );
        open("workload", &text).unwrap().by_uid("a").unwrap().workload().to_owned()
    };
    for (owner, workload) in [
        ("{kind: ReplicaSet, apiVersion: apps/v1, name: web-x1, controller: true}", "web"),
        ("{kind: StatefulSet, name: db, controller: true}", "db"),
        ("{kind: Job, name: backup-29123456, controller: true}", "backup"),
        ("{kind: Job, name: migrate-2, controller: true}", "migrate-2"),
        ("{kind: Node, name: node-1, controller: true}", "db-0"),
        ("{kind: StatefulSet, name: db}", "db-0"),
        ("", "db-0"),
    ] {
        assert_eq!(pod(owner), workload, "{owner}");
    }
}
