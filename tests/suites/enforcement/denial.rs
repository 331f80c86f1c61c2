//! After a block the pod is refused the same destination for a while, and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::scene::{Export, PATIENCE, Scene, export, once};
use spanwarden_tests::patience::patience;

const DENIED: &str = "{mode: block, exclude: [{match_labels: {app: excluded}}], deny_for: 4s}";

#[test]
fn further_connects_get_eperm_until_the_time_is_over_and_tls_recovers() -> Result<()> {
    let make = |node: &spanwarden_tests::node::Node| {
        Ok([node.pod("shop", "web")?, node.pod("shop", "other")?, node.pod("shop", "excluded")?])
    };
    let (scene, [web, other, excluded]) = Scene::new(DENIED, make, |pods| pods.iter().collect())?;
    let (target, certificates) = (scene.at(4318), scene.certificates());
    let tls = |target: &str| -> Result<Export> {
        Ok(export(web.place(), &["tls", target, &certificates])?.remove(0))
    };
    ensure!(tls(&target)? == Export::Accepted, "TLS was never the problem");
    let blocked = Instant::now();
    let outcome = once(web.place(), "http1", &target)?;
    ensure!(outcome.is_ended(), "{outcome:?}");
    let denied = Export::Connect("EPERM".to_owned());
    let again = (once(web.place(), "http1", &target)?, tls(&target)?, blocked.elapsed());
    // A machine that slept meanwhile tells nothing.
    if again.2 < Duration::from_secs(4) {
        ensure!((&again.0, &again.1) == (&denied, &denied), "{again:?}");
    }
    ensure!(tls(&scene.at(4319))? == Export::Accepted, "another port of the same address");
    let outcome = once(other.place(), "http1", &target)?;
    ensure!(outcome.is_ended(), "another pod is not refused, but blocked by itself: {outcome:?}");
    ensure!(once(excluded.place(), "http1", &target)? == Export::Accepted, "an excluded pod");
    while tls(&target)? != Export::Accepted {
        ensure!(blocked.elapsed() < patience(PATIENCE), "still denied\n{}", scene.agent.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(blocked.elapsed() >= Duration::from_secs(4), "denied for {:?} only", blocked.elapsed());
    ensure!(scene.arrived()? == 1, "only the excluded pod's: {}", scene.arrived()?);
    Ok(())
}
