//! Names that senders choose: of threads, of cgroups below their own.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _};

use anyhow::{Context, Result, ensure};
use spanwarden_tests::{node::Node, process::Place};

use super::world::{Running, Setup, at, post, send, sink};

/// A name, and how it is written.
const COMMS: [(&[u8], &str); 5] = [
    (b"\"},{\"pid\":1,", "\"},{\"pid\":1,"),
    (b"a\nb\r\x1b[31mc\x07", "a\\x0ab\\x0d\\x1b[31mc\\x07"),
    (b"\xff\xfe\\", "\\xff\\xfe\\"),
    ("\u{202e}txt.\u{9b}".as_bytes(), "\\u{202e}txt.\\x9b"),
    ("größe ok".as_bytes(), "größe ok"),
];

/// The kernel lets no line break into a cgroup's name.
const CGROUPS: [(&[u8], &str); 4] = [
    (b"\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
    (b"\"},\"pod_uid\":\"x", "\"},\"pod_uid\":\"x"),
    (b"\xff\xc3(", "\\xff\\xc3("),
    (
        b"kubepods-pod00000000_0000_0000_0000_000000000000.slice",
        "kubepods-pod00000000_0000_0000_0000_000000000000.slice",
    ),
];

#[test]
fn hostile_names_are_text_in_their_place() -> Result<()> {
    let node = Node::new()?;
    let (agent, evil) = (node.pod("spanwarden", "agent")?, node.pod("batch", "evil")?);
    let collector = node.pod("elsewhere", "collector")?;
    let listed = vec![evil.manifest(), collector.manifest(), agent.manifest()];
    let running = Running::start(&node, agent.place(), &Setup { listed, ..Setup::default() })?;
    let _sink = sink(collector.place(), at(collector.ipv4, 4318))?;
    let to = at(collector.ipv4, 4318);
    let mut expected = Vec::new();
    for (comm, written) in COMMS {
        let sent = send(evil.place(), to, &post("/v1/traces"), Some(comm))?;
        expected.push((sent, "comm", written.to_owned()));
    }
    let own = evil.place().cgroup.clone().context("a cgroup")?;
    let below_root = own.strip_prefix(node.cgroups().path())?.display().to_string();
    for (name, written) in CGROUPS {
        let cgroup = own.join(OsStr::from_bytes(name));
        fs::create_dir(&cgroup)?;
        let place = Place { cgroup: Some(cgroup), ..evil.place().clone() };
        let sent = send(&place, to, &post("/v1/traces"), None)?;
        expected.push((sent, "cgroup", format!("/{below_root}/{written}")));
    }
    // `lines` refuses what is no JSON, no UTF-8, or has a control character.
    let lines = running.lines(expected.len())?;
    for (sent, key, written) in expected {
        let line = lines.iter().find(|line| line["local"] == sent.local.as_str()).context(written.clone())?;
        ensure!(line[key] == written.as_str(), "{written:?}: {line:#}");
        ensure!(line["pid"] == sent.pid && line["pod_uid"] == evil.uid.as_str(), "{line:#}");
    }
    let logs = running.agent.logs();
    ensure!(!logs.contains('\u{1b}') && !logs.contains('\u{7}') && !logs.contains('\u{9b}'), "{logs:?}");
    Ok(())
}
