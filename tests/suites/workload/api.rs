use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use spanwarden::origin::PodSource as _;
use spanwarden_tests::kubernetes::api::{ApiServer, Fault, pod, wait_until};

use super::common::{NODE, known, labelled, watched};

fn watches(server: &ApiServer) -> Vec<String> {
    let asked = server.asked().into_iter().map(|asked| asked.path);
    asked.filter(|path| path.contains("watch=true")).collect()
}

fn lists(server: &ApiServer) -> usize {
    server.asked().iter().filter(|asked| !asked.path.contains("watch=true")).count()
}

#[test]
fn a_watch_tells_what_is_there_and_what_changes_on_this_node_only() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    server.put(pod("b", "node-b", "10.0.0.2"));
    let pods = watched(&server);
    let a = known(&pods, "a");
    assert!(pods.answered() && pods.lists_all());
    assert_eq!((a.name.as_str(), a.deployment.as_deref()), ("pod-a", Some("web")));
    assert_eq!(a.service_account.as_deref(), Some("web"));
    assert_eq!(a.owners[0].kind, "ReplicaSet");
    assert_eq!(a.container("c-a").unwrap().image, "registry:5000/shop/web:1.2@sha256:0123");
    assert_eq!(a.annotations, [("team".to_owned(), "blue".to_owned())], "whole objects are left out");
    assert_eq!(pods.by_ip("10.0.0.1".parse().unwrap()).unwrap().uid, "a");
    let asked = watches(&server);
    assert_eq!(asked.len(), 1, "{asked:?}");
    for part in [
        "fieldSelector=spec.nodeName%3Dnode-a",
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "allowWatchBookmarks=true",
    ] {
        assert!(asked[0].contains(part), "{part}: {asked:?}");
    }
    server.put(pod("c", NODE, "10.0.0.3"));
    let mut changed = pod("a", NODE, "10.0.0.1");
    changed["metadata"]["labels"]["app"] = json!("shop");
    server.put(changed);
    labelled(&pods, "a", "app", "shop");
    known(&pods, "c");
    server.delete("c");
    // A later change shows that the deletion has been told.
    server.put(pod("d", NODE, "10.0.0.3"));
    known(&pods, "d");
    assert!(pods.by_uid("c").is_some(), "its last spans come after it");
    assert_eq!(
        pods.by_ip("10.0.0.3".parse().unwrap()).unwrap().uid,
        "d",
        "the address has a new owner at once"
    );
    assert!(pods.by_uid("b").is_none() && pods.by_ip("10.0.0.2".parse().unwrap()).is_none());
    assert_eq!(lists(&server), 0);
}

#[test]
fn a_server_without_the_selector_is_not_believed() {
    let server = ApiServer::start().unwrap();
    server.fail(Fault::NoSelector);
    server.put(pod("foreign", "node-b", "10.0.0.2"));
    server.put(pod("own", NODE, "10.0.0.1"));
    let pods = watched(&server);
    known(&pods, "own");
    assert!(pods.by_uid("foreign").is_none());
}

#[test]
fn static_pods_are_found_by_the_hash_that_their_cgroup_bears() {
    let server = ApiServer::start().unwrap();
    let mut mirror = pod("mirror", NODE, "192.168.1.10");
    mirror["metadata"]["annotations"]["kubernetes.io/config.hash"] =
        json!("e039200acb850c82bb901653cc38ff6e");
    mirror["spec"]["hostNetwork"] = json!(true);
    server.put(mirror);
    let pods = watched(&server);
    assert_eq!(known(&pods, "e039200acb850c82bb901653cc38ff6e").uid, "mirror");
    assert!(pods.by_ip("192.168.1.10".parse().unwrap()).is_none(), "the node's address is nobody's");
}

#[test]
fn without_initial_events_it_lists_and_watches_from_there() {
    for fault in [Fault::NoInitialEvents, Fault::NoProgress] {
        let server = ApiServer::start().unwrap();
        server.fail(fault);
        server.put(pod("a", NODE, "10.0.0.1"));
        server.put(pod("b", "node-b", "10.0.0.2"));
        let pods = watched(&server);
        known(&pods, "a");
        server.put(pod("c", NODE, "10.0.0.3"));
        known(&pods, "c");
        assert!(pods.lists_all() && pods.by_uid("b").is_none(), "{fault:?}");
        assert_eq!(lists(&server), 1, "{fault:?}");
        let last = watches(&server).pop().unwrap();
        assert!(last.contains("resourceVersion=1002") && !last.contains("sendInitialEvents"), "{last}");
        // Not tried again when the watch is.
        server.cut();
        server.put(pod("d", NODE, "10.0.0.4"));
        known(&pods, "d");
        assert_eq!(watches(&server).iter().filter(|path| path.contains("sendInitialEvents")).count(), 1);
        assert_eq!(lists(&server), 1, "{fault:?}");
    }
}

#[test]
fn a_watch_that_breaks_goes_on_where_it_was() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = watched(&server);
    known(&pods, "a");
    for round in 0..3 {
        let uid = format!("n{round}");
        server.put(pod(&uid, NODE, &format!("10.0.1.{round}")));
        known(&pods, &uid);
        let before = watches(&server).len();
        server.cut();
        wait_until("another watch", || (watches(&server).len() > before).then_some(())).unwrap();
        let uid = format!("m{round}");
        server.put(pod(&uid, NODE, &format!("10.0.2.{round}")));
        known(&pods, &uid);
    }
    let asked = watches(&server);
    assert!(asked.len() > 3 && asked[0].contains("sendInitialEvents"), "{asked:?}");
    assert!(asked[1..].iter().all(|path| path.contains("resourceVersion=10")), "{asked:?}");
    assert_eq!(lists(&server), 0);
}

#[test]
fn bookmarks_move_the_place() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = watched(&server);
    known(&pods, "a");
    for _ in 0..100 {
        server.bookmark();
    }
    server.put(pod("b", NODE, "10.0.0.2"));
    known(&pods, "b");
    server.bookmark(); // 1103
    server.bookmark(); // 1104
    wait_until("a watch from the bookmark", || {
        server.cut();
        thread::sleep(Duration::from_millis(50));
        watches(&server).last().is_some_and(|path| path.ends_with("resourceVersion=1104")).then_some(())
    })
    .unwrap();
}

#[test]
fn a_place_that_is_forgotten_begins_anew_and_what_went_meanwhile_is_gone() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    server.put(pod("b", NODE, "10.0.0.2"));
    let pods = watched(&server);
    known(&pods, "b");
    server.delete("b");
    server.compact();
    server.cut();
    server.put(pod("c", NODE, "10.0.0.2"));
    known(&pods, "c");
    assert_eq!(pods.by_ip("10.0.0.2".parse().unwrap()).unwrap().uid, "c");
    known(&pods, "a");
    let anew = watches(&server).iter().filter(|path| path.contains("sendInitialEvents")).count();
    assert!(anew >= 2, "{:?}", watches(&server));
    wait_until("that it is up to date", || pods.lists_all().then_some(())).unwrap();
}

/// Whatever the server does, nobody waits for it, and when it recovers everything is known.
#[test]
fn a_server_that_fails_is_asked_again_and_holds_up_nobody() {
    for fault in [
        Fault::Status(500),
        Fault::Status(403),
        Fault::Status(429),
        Fault::Closed,
        Fault::Silent,
        Fault::Garbage,
        Fault::OtherKind,
        Fault::Huge,
    ] {
        let server = ApiServer::start().unwrap();
        server.fail(fault);
        server.put(pod("a", NODE, "10.0.0.1"));
        let pods = watched(&server);
        if fault != Fault::Closed {
            server.wait_for("a request", |path| path.contains("/api/v1/pods")).unwrap();
        }
        let before = Instant::now();
        for _ in 0..1_000 {
            assert!(pods.by_uid("a").is_none() && pods.by_ip("10.0.0.1".parse().unwrap()).is_none());
        }
        assert!(before.elapsed() < Duration::from_secs(5), "{fault:?}: a look-up waited");
        assert!(!pods.answered() && !pods.lists_all(), "{fault:?}");
        if matches!(fault, Fault::Silent | Fault::Huge) {
            // Given up after half a minute or more; that it recovers is told by the others.
            continue;
        }
        server.fail(Fault::None);
        known(&pods, "a");
        assert!(pods.answered(), "{fault:?}");
        // And once more, from a watch that was good.
        server.fail(fault);
        server.cut();
        server.put(pod("b", NODE, "10.0.0.2"));
        thread::sleep(Duration::from_millis(1_500));
        assert!(pods.by_uid("a").is_some(), "{fault:?}: what was known stays known");
        assert!(!pods.lists_all(), "{fault:?}: but is not said to be all");
        server.fail(Fault::None);
        known(&pods, "b");
    }
}

/// A part of the pods is not all of them: nobody is to be told that a pod is not on this node.
#[test]
fn initial_events_that_break_off_are_nothing() {
    let server = ApiServer::start().unwrap();
    server.fail(Fault::HalfInitial);
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = watched(&server);
    wait_until("three watches", || (watches(&server).len() >= 3).then_some(())).unwrap();
    assert!(!pods.lists_all() && !pods.answered() && pods.by_uid("a").is_none());
    server.fail(Fault::None);
    known(&pods, "a");
    assert!(pods.lists_all());
}

#[test]
fn an_event_that_is_too_large_costs_only_itself() {
    let server = ApiServer::start().unwrap();
    server.fail(Fault::HugeEvent);
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = watched(&server);
    known(&pods, "a");
    assert!(pods.by_uid("huge").is_none());
    assert_eq!(watches(&server).len(), 1, "the watch goes on");
}

#[test]
fn no_more_pods_are_taken_than_a_node_can_have() {
    let server = ApiServer::start().unwrap();
    for number in 0..2_100 {
        server.put(pod(&format!("p{number:04}"), NODE, &format!("10.1.{}.{}", number / 250, number % 250)));
    }
    let pods = watched(&server);
    known(&pods, "p0000");
    let found = (0..2_100).filter(|number| pods.by_uid(&format!("p{number:04}")).is_some()).count();
    assert_eq!(found, 2_000);
}

#[test]
fn nonsense_in_a_watch_begins_it_anew() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = watched(&server);
    known(&pods, "a");
    for (number, object) in [
        json!({"spec": {"nodeName": NODE}, "metadata": {"uid": ["x"]}}),
        json!({"spec": {"nodeName": NODE}, "metadata": {"uid": "x", "resourceVersion": "1&watch=false"}}),
        json!({"spec": {"nodeName": NODE}, "metadata": {"uid": "x"}}),
    ]
    .into_iter()
    .enumerate()
    {
        server.say("ADDED", object);
        server.compact();
        let uid = format!("after-{number}");
        server.put(pod(&uid, NODE, "10.0.0.9"));
        known(&pods, &uid);
        assert!(pods.by_uid("x").is_none());
    }
    // A kind of event that nobody has heard of is no reason to.
    let before = watches(&server).len();
    server.say("HELLO", json!({"spec": {"nodeName": NODE}}));
    server.put(pod("z", NODE, "10.0.0.8"));
    known(&pods, "z");
    assert_eq!(watches(&server).len(), before);
}

#[test]
fn a_token_that_is_rotated_is_read_again() {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "10.0.0.1"));
    let pods = watched(&server);
    known(&pods, "a");
    server.rotate_token("token-2").unwrap();
    server.cut();
    server.put(pod("b", NODE, "10.0.0.2"));
    known(&pods, "b");
}
