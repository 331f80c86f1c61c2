//! Every way in which TLS fails, with real clients that go on in plaintext.

use anyhow::{Result, ensure};
use spanwarden_tests::clients::{self, Client};

use super::world::{Case, Verdict, World, outcomes, rust};

/// What happens, to whom, and what the failure is called.
struct Failure {
    name: &'static str,
    server: &'static str,
    steps: &'static [&'static str],
    kind: &'static str,
    /// `http`, `grpc` or both.
    over: &'static [&'static str],
}

const BOTH: &[&str] = &["http", "grpc"];
const HTTP: &[&str] = &["http"];
const GRPC: &[&str] = &["grpc"];

const FAILURES: [Failure; 12] = [
    failure("answers-http1", "http1", &["tls", "plain"], "plaintext-answer", HTTP),
    failure("answers-http2", "http2", &["tls", "plain"], "plaintext-answer", GRPC),
    failure("closes", "close", &["tls", "plain"], "closed", BOTH),
    failure("resets", "reset", &["tls", "plain"], "reset", BOTH),
    failure("no-shared-version", "tls13", &["tls12", "plain"], "alert-received", BOTH),
    failure("unknown-authority-tls12", "tls12", &["tls12/foreign", "plain"], "alert-sent", BOTH),
    failure("unknown-authority-tls13", "tls13", &["tls13/foreign", "plain"], "refused", BOTH),
    failure("wants-a-client-certificate-tls12", "mtls12", &["tls12", "plain"], "alert-received", BOTH),
    failure("wants-a-client-certificate-tls13", "mtls13", &["tls13", "plain"], "refused", BOTH),
    failure("wrong-name-seen-late-tls12", "other", &["tls12/late", "plain"], "refused", HTTP),
    failure("wrong-name-seen-late-tls13", "other", &["tls13/late", "plain"], "refused", GRPC),
    failure("silent", "silent", &["tls", "plain"], "no-answer", BOTH),
];

const fn failure(
    name: &'static str,
    server: &'static str,
    steps: &'static [&'static str],
    kind: &'static str,
    over: &'static [&'static str],
) -> Failure {
    Failure { name, server, steps, kind, over }
}

/// Runs all failures with `client`, leaving out what it can't be told to do.
/// `kind` says what the failure is called of this client.
fn with(
    client: &Client,
    can: impl Fn(&Failure, &str) -> bool,
    kind: impl Fn(&Failure, &str) -> &'static str,
) -> Result<()> {
    let first = 5_000;
    let mut ports = Vec::new();
    let mut rows = Vec::new();
    for failure in &FAILURES {
        for protocol in failure.over {
            if can(failure, protocol) {
                let port = first + rows.len() as u16;
                ports.push(format!("{port}={}", failure.server));
                rows.push((failure, *protocol, port));
            }
        }
    }
    let mut world = World::new("observe", &ports)?;
    let cases: Vec<Case> = rows
        .iter()
        .map(|(failure, protocol, port)| Case {
            name: format!("{}-{protocol}", failure.name),
            grpc: *protocol == "grpc",
            target: world.at(*port),
            steps: failure.steps,
        })
        .collect();
    let (pid, said) = world.run(client, &cases)?;
    let outcomes = outcomes(&said);
    for (case, (failure, protocol, _)) in cases.iter().zip(&rows) {
        let ended = outcomes.get(&case.name).map(Vec::as_slice).unwrap_or_default();
        let right = matches!(ended, [tls, plain] if tls.contains(" failed") && plain == "plain ok");
        ensure!(right, "{}: {ended:?}\n{said}", case.name);
        let sender = world.sender.clone();
        world.expect(case, &sender, pid, &[Verdict::Fallback(kind(failure, protocol), false)])?;
    }
    world.check()
}

fn as_listed(failure: &Failure, _: &str) -> &'static str {
    failure.kind
}

#[test]
fn rustls_with_hyper() -> Result<()> {
    with(&rust(), |_, _| true, as_listed)
}

/// OpenSSL by `requests`, and `BoringSSL` in gRPC's C-core.
#[test]
fn the_sdk_for_python() -> Result<()> {
    // gRPC's Python interface has no versions of TLS.
    let can =
        |failure: &Failure, protocol: &str| protocol == "http" || !failure.steps[0].starts_with("tls12");
    with(&clients::python()?, can, |failure, protocol| {
        // OpenSSL has no key to send with before it has accepted the certificate: its alert is in the clear.
        if failure.name == "unknown-authority-tls13" && protocol == "http" {
            "alert-sent"
        } else {
            failure.kind
        }
    })
}

/// crypto/tls.
#[test]
fn the_sdk_for_go() -> Result<()> {
    // net/http goes on waiting for the silent server when its request is given up, for ten seconds: when plaintext
    // follows, no end of that connection was seen yet.
    with(
        &clients::go()?,
        |_, _| true,
        |failure, protocol| {
            if (failure.name, protocol) == ("silent", "http") { "unanswered" } else { failure.kind }
        },
    )
}
