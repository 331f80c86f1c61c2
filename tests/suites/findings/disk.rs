//! The file of findings when it is rotated, when the disk is full, when the directory refuses.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use spanwarden_tests::{
    agent::{Directory, Start},
    node::{Node, Pod},
    process::Process,
};

use super::world::{PATIENCE, Running, Setup, at, config, post, read, send, sink};

const WRITTEN: &str = "spanwarden_findings_lines{outcome=\"written\"}";
const FAILED: &str = "spanwarden_findings_lines{outcome=\"failed\"}";

struct World {
    node: Node,
    agent: Pod,
    web: Pod,
    _sink: Process,
}

impl World {
    fn new() -> Result<Self> {
        let node = Node::new()?;
        let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
        let sink = sink(web.place(), at(web.ipv4, 9000))?;
        Ok(Self { node, agent, web, _sink: sink })
    }

    fn run(&self, file: Option<PathBuf>) -> Result<Running> {
        let listed = vec![self.web.manifest(), self.agent.manifest()];
        Running::start(&self.node, self.agent.place(), &Setup { file, listed, ..Setup::default() })
    }

    fn send(&self) -> Result<()> {
        send(self.web.place(), at(self.web.ipv4, 9000), &post("/v1/traces"), None).map(drop)
    }
}

#[test]
fn a_rotated_file_is_made_again_for_its_owner_only() -> Result<()> {
    let world = World::new()?;
    let running = world.run(None)?;
    let mode = |path: &Path| Ok::<u32, anyhow::Error>(fs::metadata(path)?.permissions().mode() & 0o777);
    ensure!(mode(&running.file)? == 0o600, "made at start");
    world.send()?;
    running.lines(1)?;
    let rotated = running.file.with_extension("1");
    fs::rename(&running.file, &rotated)?;
    world.send()?;
    running.wait_for(WRITTEN, 2)?;
    ensure!(read(&rotated)?.len() == 1 && read(&running.file)?.len() == 1);
    ensure!(mode(&running.file)? == 0o600);
    fs::remove_file(&running.file)?;
    world.send()?;
    running.wait_for(WRITTEN, 3)?;
    let last = read(&running.file)?;
    ensure!(last.len() == 1 && last[0]["count"] == 3, "{last:#?}");
    Ok(())
}

/// The agent runs as root here, but without the capability that lets root write anywhere.
#[test]
fn a_directory_that_refuses_costs_lines_and_nothing_else() -> Result<()> {
    let world = World::new()?;
    let directory = Directory::new()?;
    let path = directory.path().join("out");
    fs::create_dir(&path)?;
    let running = world.run(Some(path.join("findings.jsonl")))?;
    fs::remove_file(&running.file)?;
    fs::set_permissions(&path, Permissions::from_mode(0o555))?;
    for _ in 0..3 {
        world.send()?;
    }
    running.wait_for(FAILED, 3)?;
    ensure!(!running.file.exists());
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    world.send()?;
    running.wait_for(WRITTEN, 1)?;
    ensure!(read(&running.file)?[0]["count"] == 4, "found all the same");
    let logs = running.agent.logs();
    let said = |part: &str| logs.lines().filter(|line| line.contains(part)).count();
    ensure!(said("findings cannot be written") == 1 && said("findings are written again") == 1, "{logs}");
    ensure!(said("telemetry leaves in plaintext") == 4, "{logs}");
    Ok(())
}

/// A file system of a few pages.
struct Small(PathBuf);

impl Small {
    fn new(on: &Path) -> Result<Self> {
        let path = on.join("small");
        fs::create_dir(&path)?;
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=16k"))
            .context("mounting a tmpfs")?;
        Ok(Self(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_leaves_whole_lines_and_is_got_over() -> Result<()> {
    let world = World::new()?;
    let directory = Directory::new()?;
    let disk = Small::new(directory.path())?;
    let running = world.run(Some(disk.0.join("findings.jsonl")))?;
    for _ in 0..30 {
        world.send()?;
    }
    running.wait_for(FAILED, 1)?;
    // Every line is whole: `read` says so.
    let lines = read(&running.file)?;
    ensure!((5..30).contains(&lines.len()), "{}", lines.len());
    ensure!(running.agent.get("127.0.0.1:13133".parse()?, "/").is_ok(), "ready all the while");
    fs::remove_file(&running.file)?;
    world.send()?;
    running.wait_for("spanwarden_bpf_events{outcome=\"read\"}", 31)?;
    running.wait_for(WRITTEN, lines.len() as u64 + 1)?;
    ensure!(read(&running.file)?.len() == 1);
    let (status, logs) = running.agent.stop()?;
    ensure!(status.success(), "{logs}");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_start() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    for (file, part) in
        [("/nowhere/findings.jsonl", "its directory must exist"), ("/dev/null", "is no regular file")]
    {
        let setup = Setup { file: Some(file.into()), ..Setup::default() };
        let pods = "{\"items\": []}";
        let start = Start::new(config(&node, &setup)).place(agent.place()).file("pods.json", pods);
        let mut started = start.start()?;
        let status = started.process().wait(PATIENCE)?;
        let said = started.logs();
        ensure!(!status.success() && said.contains("extensions::origin::findings::file"), "{said}");
        ensure!(said.contains(file) && said.contains(part), "{said}");
    }
    Ok(())
}
