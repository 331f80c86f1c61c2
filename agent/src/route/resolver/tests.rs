use std::{collections::VecDeque, net::IpAddr, sync::Arc, sync::Mutex, time::Duration};

use super::*;

/// Gives the answers of a script, one a call, and fails where the script has `None` and after its end.
struct Scripted(Mutex<VecDeque<Option<Vec<&'static str>>>>);

impl Resolve for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(5))
    }

    fn resolve(&self) -> Resolving<'_> {
        let answer = self.0.lock().unwrap().pop_front().flatten();
        Box::pin(async move {
            answer
                .map(|list| list.into_iter().map(Arc::from).collect())
                .ok_or(ResolveError::Empty { hostname: "gateways".into() })
        })
    }
}

#[test]
fn members_are_written_as_the_collector_writes_them() {
    let found: Vec<IpAddr> =
        ["10.0.0.10", "fd00::a", "10.0.0.9", "::ffff:10.0.0.3"].iter().map(|a| a.parse().unwrap()).collect();
    let texts = |port| -> Vec<String> {
        members(found.iter().copied(), port).iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(None), ["10.0.0.10", "10.0.0.3", "10.0.0.9", "[fd00::a]"]);
    assert_eq!(texts(Some("")), texts(None));
    // Bytewise order of the texts, not of the addresses.
    assert_eq!(texts(Some("4317")), ["10.0.0.10:4317", "10.0.0.3:4317", "10.0.0.9:4317", "[fd00::a]:4317"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_list_stays() {
    let script = [None, Some(vec!["a", "b"]), None, Some(vec![]), Some(vec!["a", "b"]), Some(vec!["b"])];
    let membership = Membership::new(Box::new(Scripted(Mutex::new(script.into()))));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = membership.subscribe();
    let sink = Arc::clone(&heard);
    membership.start(move |members| sink.lock().unwrap().push(members.join(","))).await;
    assert!(list.borrow().is_empty(), "nothing is known before the first answer");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(*heard.lock().unwrap(), ["a,b", "b"]);
    assert_eq!(list.borrow().join(","), "b");
    assert_eq!(RESOLUTIONS.with_label_values(&["scripted", "true"]).get(), 4);
    assert!(RESOLUTIONS.with_label_values(&["scripted", "false"]).get() >= 8);
    assert_eq!(UPDATES.with_label_values(&["scripted"]).get(), 2);
    assert_eq!(BACKENDS.with_label_values(&["scripted"]).get(), 1);
}

#[tokio::test]
async fn dns_resolves_a_literal_and_names_what_fails() {
    let dns = |hostname: &str| Dns {
        hostname: hostname.into(),
        port: Some("5317".into()),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
    };
    let found = dns("127.0.0.1").resolve().await.unwrap();
    assert_eq!(found.iter().map(|m| &**m).collect::<Vec<_>>(), ["127.0.0.1:5317"]);
    let error = dns("gateways.invalid.").resolve().await.unwrap_err().to_string();
    assert!(error.contains("gateways.invalid") && error.contains("check"), "{error}");
}
