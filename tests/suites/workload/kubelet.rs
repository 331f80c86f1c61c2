use std::{thread, time::Duration};

use serde_json::json;
use spanwarden::origin::PodSource as _;
use spanwarden_tests::kubernetes::api::{ApiServer, Fault, pod, wait_until};

use super::common::{NODE, asked, known};

/// Longer than any test.
const NEVER: Duration = Duration::from_mins(10);
const OFTEN: Duration = Duration::from_secs(1);

#[test]
fn a_pod_that_is_not_known_is_asked_for_at_once_and_once() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = asked(&server, NEVER);
    known(&pods, "a");
    assert!(pods.answered() && !pods.lists_all(), "a new pod is known only when it is asked for");
    server.put(pod("b", NODE, "10.0.0.2"));
    assert!(pods.by_ip("10.0.0.2".parse().unwrap()).is_none());
    known(&pods, "b");
    let before = server.asked().len();
    // A uid that the kubelet does not know either: many askers are one request.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    assert!(pods.by_uid("nobody").is_none());
                }
            });
        }
    });
    wait_until("the request for it", || (server.asked().len() > before).then_some(())).unwrap();
    thread::sleep(Duration::from_secs(2));
    assert!(pods.by_uid("nobody").is_none());
    let asked = server.asked();
    assert_eq!(asked.len(), before + 1, "{asked:?}");
    assert!(asked.iter().all(|asked| asked.path == "/pods"), "{asked:?}");
}

#[test]
fn a_flood_of_unknown_pods_is_a_trickle_of_requests() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = asked(&server, NEVER);
    known(&pods, "a");
    let (before, start) = (server.asked().len(), std::time::Instant::now());
    for number in 0..5_000 {
        assert!(pods.by_uid(&format!("forged-{number}")).is_none());
        if number % 100 == 0 {
            thread::sleep(Duration::from_millis(40));
        }
    }
    let (count, seconds) = (server.asked().len() - before, start.elapsed().as_secs_f64());
    assert!(count as f64 <= seconds * 2.0 + 2.0, "{count} requests in {seconds} s");
}

#[test]
fn a_pod_that_goes_is_known_for_a_while_and_its_address_is_free() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = asked(&server, OFTEN);
    known(&pods, "a");
    server.delete("a");
    server.put(pod("b", NODE, "10.0.0.1"));
    known(&pods, "b");
    assert!(pods.by_uid("a").is_some());
    assert_eq!(pods.by_ip("10.0.0.1".parse().unwrap()).unwrap().uid, "b");
}

#[test]
fn a_static_pod_has_its_hash_as_uid() {
    let server = ApiServer::start().unwrap();
    // As the kubelet lists it: what the API shows is only a mirror with another uid.
    let mut own = pod("e039200acb850c82bb901653cc38ff6e", NODE, "192.168.1.10");
    own["metadata"]["annotations"]["kubernetes.io/config.hash"] = json!("e039200acb850c82bb901653cc38ff6e");
    own["spec"]["hostNetwork"] = json!(true);
    own["status"] = json!({});
    server.put(own);
    let pods = asked(&server, OFTEN);
    assert_eq!(known(&pods, "e039200acb850c82bb901653cc38ff6e").name, "pod-e039200acb850c82bb901653cc38ff6e");
}

#[test]
fn whatever_the_kubelet_answers_what_was_known_stays_known() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = asked(&server, OFTEN);
    known(&pods, "a");
    for fault in
        [Fault::Status(500), Fault::Status(401), Fault::Closed, Fault::Garbage, Fault::OtherKind, Fault::Huge]
    {
        server.fail(fault);
        let before = server.asked().len();
        if fault == Fault::Closed {
            thread::sleep(Duration::from_secs(2));
        } else {
            wait_until("a request", || (server.asked().len() > before).then_some(())).unwrap();
        }
        assert!(pods.by_uid("a").is_some() && pods.by_ip("10.0.0.1".parse().unwrap()).is_some(), "{fault:?}");
    }
    server.fail(Fault::None);
    server.put(pod("b", NODE, "10.0.0.2"));
    known(&pods, "b");
}

#[test]
fn a_list_that_no_node_can_have_is_not_taken() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = asked(&server, OFTEN);
    known(&pods, "a");
    for number in 0..2_100 {
        server.put(pod(&format!("p{number}"), NODE, "10.1.0.1"));
    }
    let before = server.asked().len();
    wait_until("two more requests", || (server.asked().len() > before + 1).then_some(())).unwrap();
    assert!(pods.by_uid("a").is_some() && pods.by_uid("p7").is_none());
}
