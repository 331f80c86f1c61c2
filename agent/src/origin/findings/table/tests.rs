use super::*;
use crate::origin::findings::examples::finding;
use std::time::{Duration, UNIX_EPOCH};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The connection `cookie` of a pod to a port.
fn connection(pod: &str, port: u16, cookie: u64) -> Finding {
    let mut finding = finding();
    let mut origin = (*finding.origin).clone();
    origin.pod_uid = Some(pod.to_owned());
    finding.origin = Arc::new(origin);
    finding.destination.set_port(port);
    finding.socket_cookie = cookie;
    finding.time = at(cookie);
    finding
}

fn revision(of: &Finding) -> Finding {
    Finding { revised: true, ..of.clone() }
}

#[test]
fn connections_to_one_destination_are_one_row() {
    let table = Table::default();
    for cookie in 1..=3 {
        let noted = table.note(&connection("a", 4317, cookie));
        assert_eq!(noted, Noted { since: at(1), count: cookie, new_connection: true });
    }
    table.note(&connection("a", 4318, 4));
    table.note(&connection("b", 4317, 5));
    let mut metrics = connection("b", 4317, 6);
    metrics.signal = Signal::Metrics;
    table.note(&metrics);
    let rows = table.rows();
    assert_eq!(rows.iter().map(|row| row.count).collect::<Vec<_>>(), [1, 1, 1, 3], "newest first");
    assert_eq!((rows[3].first_seen, rows[3].last_seen), (at(1), at(3)));
    assert_eq!(rows[3].last.socket_cookie, 3);
}

#[test]
fn better_evidence_updates_its_row_and_counts_no_connection() {
    let table = Table::default();
    let (first, mut second) = (connection("a", 4317, 1), connection("a", 4317, 2));
    second.proof = Proof::Port;
    second.signal = Signal::Unknown;
    table.note(&first);
    table.note(&second);
    assert_eq!(table.rows().len(), 2);
    let mut better = revision(&second);
    (better.proof, better.signal, better.time) = (Proof::Path, Signal::Traces, at(9));
    assert_eq!(table.note(&better), Noted { since: at(1), count: 2, new_connection: false });
    let rows = table.rows();
    assert_eq!(
        (rows.len(), rows[0].count, rows[0].proof),
        (1, 2, Proof::Path),
        "moved to the row of the path"
    );
    assert_eq!((rows[0].first_seen, rows[0].last_seen), (at(1), at(9)));
    // The same row again; then one whose first finding was throttled in the kernel.
    assert_eq!(table.note(&revision(&better)).count, 2);
    let stranger = revision(&connection("a", 4317, 77));
    assert_eq!(table.note(&stranger), Noted { since: at(1), count: 3, new_connection: true });
}

#[test]
fn what_was_blocked_is_counted_once() {
    let table = Table::default();
    let blocked = Finding { blocked: true, ..connection("a", 4317, 1) };
    table.note(&blocked);
    table.note(&revision(&blocked));
    table.note(&Finding { blocked: true, ..connection("a", 4317, 2) });
    assert_eq!((table.rows()[0].count, table.rows()[0].blocked), (2, 2));
}

#[test]
fn a_sender_that_tries_every_port_pushes_out_only_itself() {
    let table = Table::default();
    table.note(&connection("victim", 4317, 1));
    for port in 1..=60_000 {
        table.note(&connection("flood", port, 1 + u64::from(port)));
    }
    let rows = table.rows();
    assert_eq!(rows.len(), 1 + ROWS_PER_SENDER);
    assert!(rows.iter().any(|row| row.last.origin.pod_uid.as_deref() == Some("victim")));
    assert_eq!(rows[0].last.destination.port(), 60_000, "the newest stay");
    let inner = table.lock();
    assert!(inner.connections.len() <= CONNECTIONS && inner.order.len() <= CONNECTIONS);
}

#[test]
fn many_senders_share_the_table() {
    let table = Table::default();
    let mut cookie = 0;
    for pod in 0..100 {
        for port in 1..=50 {
            cookie += 1;
            table.note(&connection(&format!("pod-{pod}"), port, cookie));
        }
    }
    let rows = table.rows();
    assert_eq!(rows.len(), ROWS);
    let mut senders: HashMap<&str, usize> = HashMap::new();
    for row in &rows {
        *senders.entry(row.last.origin.pod_uid.as_deref().unwrap()).or_default() += 1;
    }
    // The share of those that came first shrinks to that of the last, and nobody is gone.
    assert_eq!(senders.len(), 100);
    assert!(senders.values().all(|rows| (15..=50).contains(rows)), "{senders:?}");
    let inner = table.lock();
    assert_eq!(inner.per_sender.values().sum::<usize>(), ROWS);
}
