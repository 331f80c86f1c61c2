//! How a blocked connection ends for the application.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::scene::{COLLECTOR, Export, PATIENCE, Scene, export, once, run, start};

const TRIES: usize = 60;

#[test]
fn the_application_gets_an_error_at_once() -> Result<()> {
    let (scene, web) =
        Scene::new("{mode: block, deny_for: 0s}", |node| node.pod("shop", "web"), |web| vec![web])?;
    for (protocol, port) in [("http1", 4318), ("h2c", 4317)] {
        let exports = export(web.place(), &[protocol, &scene.at(port), &TRIES.to_string(), "20"])?;
        let mut times = Vec::new();
        for outcome in &exports {
            ensure!(outcome.is_ended(), "{protocol}: {outcome:?}\n{}", scene.agent.logs());
            let Export::Failed(_, time) = outcome else { continue };
            times.push(*time);
        }
        ensure!(times.len() == TRIES, "{}", times.len());
        times.sort_unstable();
        let (median, most) = (times[TRIES / 2], times.last().copied().unwrap_or(Duration::ZERO));
        // For the report; how fast a machine is is no property of the program.
        println!("{protocol}: {TRIES} blocked exports; error after {median:?} (median), {most:?} (longest)");
    }
    scene.nothing_arrived()
}

#[test]
fn connections_of_every_family_and_shared_ones_are_ended() -> Result<()> {
    let (scene, web) =
        Scene::new("{mode: block, deny_for: 0s}", |node| node.pod("shop", "web"), |web| vec![web])?;
    let (v4, v6) = (scene.collector.ipv4, scene.collector.ipv6);
    for address in [v4.into(), v6.into(), v4.to_ipv6_mapped().into()] {
        let target = SocketAddr::new(address, 4318).to_string();
        let outcome = once(web.place(), "http1", &target)?;
        ensure!(outcome.is_ended(), "{target}: {outcome:?}\n{}", scene.agent.logs());
    }
    let lines = run(web.place(), &["forked", &scene.at(4318)])?;
    let said = |start: &str| lines.iter().find(|line| line.starts_with(start)).context(format!("{lines:?}"));
    said("child failed E")?;
    said("parent failed E")?;
    scene.wait_metric("spanwarden_plaintext_destroyed{result=\"destroyed\"}", |count| count == Some(4))?;
    scene.nothing_arrived()
}

#[test]
fn connections_through_services_are_ended_whatever_their_packets_say() -> Result<()> {
    let services = [
        (Ipv4Addr::new(10, 96, 0, 20), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 20), false),
        (Ipv4Addr::new(10, 96, 0, 21), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 21), true),
    ];
    let make = |node: &spanwarden_tests::node::Node| {
        Ok([node.pod("shop", "web")?, node.host_network_pod("shop", "on-host")?])
    };
    let (scene, pods) = Scene::new("{mode: block, deny_for: 0s}", make, |pods| pods.iter().collect())?;
    for (v4, v6, masquerade) in services {
        scene.node.service(v4, v6, &scene.collector, masquerade)?;
        for pod in &pods {
            for address in [v4.into(), v6.into()] {
                // In the host's namespace the packets that the programs see are translated, source and destination.
                let target = SocketAddr::new(address, 4318).to_string();
                let outcome = once(pod.place(), "http1", &target)?;
                ensure!(outcome.is_ended(), "{} to {target}: {outcome:?}\n{}", pod.name, scene.agent.logs());
            }
        }
    }
    scene.wait_metric("spanwarden_plaintext_destroyed{result=\"destroyed\"}", |count| count == Some(8))?;
    scene.nothing_arrived()
}

#[test]
fn a_connection_that_is_older_than_the_agent_is_ended_too() -> Result<()> {
    let make = |node: &spanwarden_tests::node::Node| {
        let web = node.pod("shop", "web")?;
        let mut exporter = start(web.place(), &["older", COLLECTOR])?;
        exporter.wait_for_line("connected", PATIENCE)?;
        Ok((web, exporter))
    };
    let (scene, (_web, mut exporter)) =
        Scene::new("{mode: block, deny_for: 0s}", make, |(web, _)| vec![web])?;
    exporter.say("go")?;
    let ended = exporter.wait_for_line("failed E", PATIENCE)?;
    ensure!(ended == "failed ECONNABORTED", "{ended}\n{}", scene.agent.logs());
    scene.nothing_arrived()
}
