//! Plaintext while a TLS connection to the same place still waits for its server, and connections that the client's own
//! kernel gives up.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use spanwarden_tests::process::Process;

use super::world::{Case, Verdict, World, rust};

const EXPORTER: &str = env!("CARGO_BIN_EXE_plain-exporter");
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than a `ClientHello` may be without an answer before plaintext counts as its consequence.
const LONG: Duration = Duration::from_secs(1);

fn plain(name: &str, target: SocketAddr) -> Case {
    Case { name: name.to_owned(), grpc: false, target, steps: &["plain"] }
}

/// A client whose `ClientHello` to `target` is on its way, and that will export to `plain`.
fn hang(world: &World, target: SocketAddr, plain: SocketAddr) -> Result<Process> {
    let mut client = world.sender.spawn(EXPORTER, &["hang", &target.to_string(), &plain.to_string()])?;
    client.wait_for_line("sent", PATIENCE)?;
    Ok(client)
}

fn go_on(client: &mut Process) -> Result<()> {
    client.say("go")?;
    client.wait_for_line("accepted", PATIENCE)?;
    Ok(())
}

#[test]
fn plaintext_while_tls_waits_is_a_fallback_and_what_was_answered_is_none() -> Result<()> {
    let behaviours = ["silent", "tls", "silent", "silent,tls", "silent,silent"];
    let ports: Vec<String> =
        (5_000..).zip(behaviours).map(|(port, behaviour)| format!("{port}={behaviour}")).collect();
    let mut world = World::new("{mode: observe, fallback_window: 1m}", &ports)?;
    let sender = world.sender.clone();
    let at = |world: &World, port| world.at(port);
    let elsewhere = SocketAddr::new(world.other.ipv4.into(), 5_002);
    // Silent; the server's hello and more, to which the client says nothing; silent, and plaintext to another address.
    let mut silent = hang(&world, at(&world, 5_000), at(&world, 5_000))?;
    let mut answered = hang(&world, at(&world, 5_001), at(&world, 5_001))?;
    let mut other = hang(&world, at(&world, 5_002), elsewhere)?;
    // Silent, while another connection to the same place succeeds.
    let mut beside = hang(&world, at(&world, 5_003), at(&world, 5_003))?;
    let tls = Case { name: "success".to_owned(), grpc: false, target: at(&world, 5_003), steps: &["tls"] };
    let (_, said) = world.run(&rust(), &[tls])?;
    ensure!(said.contains("success tls ok"), "{said}");
    // Two that wait; the younger one is given up, the older is still there.
    let mut older = hang(&world, at(&world, 5_004), at(&world, 5_004))?;
    drop(hang(&world, at(&world, 5_004), at(&world, 5_004))?);
    thread::sleep(LONG);
    for (client, name, target, verdict) in [
        (&mut silent, "silent", at(&world, 5_000), Verdict::Fallback("unanswered", false)),
        (&mut answered, "answered", at(&world, 5_001), Verdict::Plaintext),
        (&mut other, "another address", elsewhere, Verdict::Plaintext),
        (&mut beside, "another that succeeded", at(&world, 5_003), Verdict::Plaintext),
        (&mut older, "one of two given up", at(&world, 5_004), Verdict::Fallback("no-answer", false)),
    ] {
        go_on(client).context(name)?;
        let pid = client.id();
        world.expect(&plain(name, target), &sender, pid, &[verdict]).context(name)?;
    }
    world.check()
}

#[test]
fn a_connection_that_the_kernel_gives_up_has_failed() -> Result<()> {
    let mut world = World::new("{mode: observe, fallback_window: 1m}", &["5000=tls".to_owned()])?;
    let sender = world.sender.clone();
    let target = world.at(5_000);
    let receiver = world.receiver.place().netns.clone().context("the receiver has a network")?;
    // Handshakes pass, and no byte after them.
    receiver.nft(
        "table inet lost {\n chain input {\n type filter hook input priority 0\n tcp dport 5000 meta length > 100 drop\n }\n}\n",
    )?;
    let mut client = world.sender.spawn(EXPORTER, &["lost", &target.to_string()])?;
    let end = client.wait_for_line("ended ", PATIENCE)?;
    ensure!(end == "ended ETIMEDOUT", "{end}");
    client.wait_success(PATIENCE)?;
    receiver.nft("delete table inet lost")?;
    let case = plain("given up by the kernel", target);
    let (pid, said) = world.run(&rust(), std::slice::from_ref(&case))?;
    ensure!(said.contains(" plain ok"), "{said}");
    world.expect(&case, &sender, pid, &[Verdict::Fallback("no-answer", false)])?;
    world.check()
}
