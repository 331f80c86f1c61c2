//! `spanwarden doctor`: it says that a machine is well when it is, and what is wrong when something is.
#![allow(missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spanwarden_tests::{
    agent::{self, Directory, Start, binary},
    bpf::{self, Empty, Hook, Mode},
    cgroup::CgroupRoot,
    netns::Namespace,
    process::{Place, Process},
    requirements,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// A network and cgroups of the test's own; the processes are in `agent`, below what is watched.
struct World {
    // First, so that processes end before the namespace goes.
    cgroups: CgroupRoot,
    place: Place,
}

impl World {
    fn new() -> Result<Self> {
        requirements::check()?;
        let cgroups = CgroupRoot::new()?;
        let cgroup = Some(cgroups.make("watched/agent")?);
        Ok(Self { place: Place { netns: Some(Namespace::new()?), cgroup }, cgroups })
    }

    fn watched(&self) -> PathBuf {
        self.cgroups.path().join("watched")
    }

    /// The doctor here, for the watched cgroup.
    fn doctor(&self, more: &[&str]) -> Result<Outcome> {
        self.doctor_at(&self.watched(), more)
    }

    fn doctor_at(&self, cgroup: &Path, more: &[&str]) -> Result<Outcome> {
        let mut command = self.place.command(binary()?)?;
        command.args(["doctor", "-o", "json", "--cgroup"]).arg(cgroup).args(more);
        outcome(command)
    }

    /// As [`Self::doctor`], as a container without `securityContext.capabilities.add` has it.
    fn doctor_without_capabilities(&self, more: &[&str]) -> Result<Outcome> {
        let setpriv = requirements::find_program("setpriv").context("setpriv, of util-linux")?;
        let mut command = self.place.command(setpriv)?;
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(binary()?);
        command.args(["doctor", "-o", "json", "--cgroup"]).arg(self.watched()).args(more);
        outcome(command)
    }

    /// Programs attached to what is watched, over all hooks.
    fn attached(&self) -> Result<usize> {
        Hook::ALL.iter().map(|hook| bpf::attached(&self.watched(), *hook)).sum()
    }
}

/// The exit code, and the report.
struct Outcome {
    code: i32,
    report: Value,
}

impl Outcome {
    fn check(&self, name: &str) -> &Value {
        let checks = self.report["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("no check `{name}`: {checks:#?}"))
    }

    #[track_caller]
    fn expect(&self, status: &str, names: &[&str]) {
        for name in names {
            assert_eq!(self.check(name)["status"], status, "{:#}", self.check(name));
        }
    }

    #[track_caller]
    fn said(&self, name: &str, key: &str, words: &[&str]) {
        let text = self.check(name)[key].as_str().unwrap_or_default();
        for word in words {
            assert!(text.contains(word), "`{key}` of `{name}` does not say `{word}`: {text}");
        }
    }
}

fn run(command: Command) -> Result<(i32, String)> {
    let mut process = Process::spawn("spanwarden doctor", command)?;
    let status = process.wait(PATIENCE)?;
    Ok((status.code().context("ended by a signal")?, process.output()))
}

fn outcome(command: Command) -> Result<Outcome> {
    let (code, said) = run(command)?;
    let report = serde_json::from_str(&said).with_context(|| said.clone())?;
    Ok(Outcome { code, report })
}

fn config(origin: &str) -> String {
    format!(
        "extensions:
  origin: {origin}
  health_check: {{endpoint: '127.0.0.1:13133'}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:4317'}}}}}}
exporters:
  file: {{path: spans.jsonl}}
service:
  extensions: [origin, health_check]
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
"
    )
}

#[test]
fn all_is_well_in_a_cgroup_of_one_s_own_and_nothing_is_left() -> Result<()> {
    let world = World::new()?;
    let outcome = world.doctor(&[])?;
    assert_eq!(outcome.code, 0, "{:#}", outcome.report);
    outcome.expect(
        "ok",
        &[
            "capabilities",
            "cgroup",
            "cgroup-membership",
            "maps",
            "hooks",
            "attach",
            "canary",
            "findings-ring",
            "sock-destroy",
        ],
    );
    outcome.expect("skipped", &["pins"]);
    outcome.said("canary", "detail", &["IPv4 and IPv6", "`spanwarden`", "`/agent`"]);
    let programs: Vec<&Value> = outcome.report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["name"].as_str().unwrap().starts_with("program/"))
        .collect();
    assert!(programs.len() >= 4, "{programs:#?}");
    for program in programs {
        assert_eq!(program["status"], "ok", "{program:#}");
        // Every supported kernel that does not tell it is older than 5.16.
        let count = program["verified_instructions"].as_u64();
        assert!(count.is_none_or(|count| count > 10), "{program:#}");
    }
    assert_eq!(world.attached()?, 0, "the doctor's programs stay attached");
    Ok(())
}

#[test]
fn people_get_aligned_lines_and_a_verdict() -> Result<()> {
    let world = World::new()?;
    let mut command = world.place.command(binary()?)?;
    command.args(["doctor", "--cgroup"]).arg(world.watched());
    let (code, said) = run(command)?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ok       canary"), "{said}");
    assert!(said.contains("kernel evidence works here"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 120), "{said}");
    Ok(())
}

#[test]
fn json_has_the_keys_that_scripts_rely_on() -> Result<()> {
    let world = World::new()?;
    let report = world.doctor(&[])?.report;
    assert_eq!(report["schema"], 1);
    for key in ["version", "kernel", "architecture", "cgroup", "outcome"] {
        assert!(report[key].is_string(), "{key}: {report:#}");
    }
    for check in report["checks"].as_array().unwrap() {
        let keys: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        for key in &keys {
            assert!(
                ["name", "status", "detail", "cause", "remedy", "verified_instructions"].contains(key),
                "{key}"
            );
        }
        assert!(check["name"].is_string() && check["detail"].is_string(), "{check:#}");
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "warn", "fail", "skipped"].contains(&status), "{check:#}");
        for key in ["cause", "remedy"] {
            assert!(
                check.get(key).is_some_and(|value| value.is_null() || value.is_string()),
                "{key}: {check:#}"
            );
        }
        assert_eq!(check["cause"].is_null(), status == "ok", "{check:#}");
    }
    Ok(())
}

#[test]
fn without_capabilities_it_names_them_and_what_could_not_be_checked() -> Result<()> {
    let world = World::new()?;
    let outcome = world.doctor_without_capabilities(&[])?;
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.report["outcome"], "fail");
    outcome.expect("fail", &["capabilities", "maps", "hooks", "attach", "canary", "findings-ring"]);
    outcome.said("capabilities", "detail", &["BPF", "NET_ADMIN", "PERFMON"]);
    outcome.said("capabilities", "remedy", &["securityContext.capabilities.add: [BPF, NET_ADMIN, PERFMON]"]);
    for name in ["maps", "hooks", "attach", "canary", "findings-ring"] {
        outcome.said(name, "detail", &["could not be checked"]);
    }
    // What needs no privilege is still said.
    outcome.expect("ok", &["cgroup", "cgroup-membership", "btf"]);
    outcome.said("sock-destroy", "cause", &["NET_ADMIN"]);
    Ok(())
}

#[test]
fn a_wrong_directory_is_named_with_the_right_one() -> Result<()> {
    let world = World::new()?;
    let outcome = world.doctor_at(Path::new("/nonexistent/cgroup"), &[])?;
    assert_eq!(outcome.code, 1);
    outcome.expect("fail", &["cgroup", "cgroup-membership", "hooks", "attach", "canary", "findings-ring"]);
    outcome.said("cgroup", "detail", &["/nonexistent/cgroup", "No such file"]);
    outcome.said("cgroup", "remedy", &["extensions.origin.cgroup", "hostPath"]);

    let directory = Directory::new()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let version_1 =
        mounts.lines().find(|line| line.contains(" - cgroup ")).and_then(|line| line.split(' ').nth(4));
    for other in [Some(directory.path()), version_1.map(Path::new)].into_iter().flatten() {
        let outcome = world.doctor_at(other, &[])?;
        assert_eq!(outcome.code, 1);
        outcome.expect("fail", &["cgroup"]);
        outcome.said("cgroup", "detail", &["is not in a cgroup v2 hierarchy"]);
        let mount = spanwarden_tests::cgroup::mount()?;
        outcome.said("cgroup", "remedy", &[&format!("extensions.origin.cgroup: {}", mount.display())]);
        // What the directory has nothing to do with is still checked.
        outcome.expect("ok", &["maps", "program/origin_connect4", "sock-destroy"]);
    }
    Ok(())
}

#[test]
fn outside_of_the_watched_cgroup_nothing_is_seen_and_it_says_so() -> Result<()> {
    let world = World::new()?;
    let other = world.cgroups.make("watched-not")?;
    let outcome = world.doctor_at(&other, &[])?;
    assert_eq!(outcome.code, 1);
    outcome.expect("fail", &["cgroup-membership", "canary", "findings-ring"]);
    outcome.expect("ok", &["cgroup", "attach"]);
    outcome.said("cgroup-membership", "cause", &["outside of the watched cgroup"]);
    outcome.said("canary", "cause", &["outside of the cgroup"]);
    Ok(())
}

#[test]
fn without_attaching_the_rest_is_checked() -> Result<()> {
    let world = World::new()?;
    let outcome = world.doctor(&["--no-attach"])?;
    assert_eq!(outcome.code, 0, "{:#}", outcome.report);
    outcome.expect("skipped", &["attach", "canary", "findings-ring"]);
    outcome.expect("ok", &["maps", "program/origin_connect4", "hooks", "sock-destroy"]);
    Ok(())
}

#[test]
fn an_exclusive_program_in_the_way_is_named() -> Result<()> {
    for (below, mode, status) in [
        ("", Mode::Exclusive, "fail"),
        ("watched", Mode::Exclusive, "fail"),
        // In the cgroup itself it does not let others in beside it either.
        ("watched", Mode::Override, "fail"),
        ("", Mode::Override, "warn"),
        ("", Mode::Multi, "ok"),
        ("watched", Mode::Multi, "ok"),
    ] {
        let world = World::new()?;
        // Without the slash that an empty `below` leaves.
        let cgroup: PathBuf = world.cgroups.path().join(below).components().collect();
        let _foreign = Empty::load(Hook::Connect4, "stranger")?.attach(&cgroup, mode)?;
        let careful = world.doctor(&["--no-attach"])?;
        careful.expect(status, &["hooks"]);
        let outcome = world.doctor(&[])?;
        outcome.expect(status, &["hooks"]);
        // What is foretold is what happens.
        outcome.expect(if status == "fail" { "fail" } else { "ok" }, &["attach"]);
        assert_eq!(outcome.code, i32::from(status == "fail"), "{below} {mode:?}");
        if status == "ok" {
            outcome.said("hooks", "detail", &["1 programs of others"]);
        } else {
            outcome.said("hooks", "cause", &["`stranger`", "connect4", &format!("`{}`", cgroup.display())]);
        }
    }
    Ok(())
}

#[test]
fn fast_open_on_every_listener_is_a_warning() -> Result<()> {
    let world = World::new()?;
    world.place.netns.as_ref().unwrap().sysctl("ipv4/tcp_fastopen", "1027")?;
    let outcome = world.doctor(&[])?;
    assert_eq!(outcome.code, 0, "a warning is no failure");
    assert_eq!(outcome.report["outcome"], "warn");
    outcome.expect("warn", &["tcp-fast-open"]);
    outcome.said("tcp-fast-open", "remedy", &["sysctl -w net.ipv4.tcp_fastopen=1"]);
    Ok(())
}

#[test]
fn an_agent_that_runs_there_goes_on_undisturbed() -> Result<()> {
    let world = World::new()?;
    let health = "127.0.0.1:13133".parse()?;
    let origin = format!("{{cgroup: {}}}", world.watched().display());
    let agent = Start::new(config(&origin)).place(&world.place).ready_at(health).start()?;
    let before = world.attached()?;
    ensure!(before > 0, "the agent has attached nothing");
    let outcome = world.doctor(&[])?;
    assert_eq!(outcome.code, 0, "{:#}", outcome.report);
    outcome.expect("ok", &["hooks", "attach", "canary", "findings-ring"]);
    outcome.said("hooks", "detail", &["an agent runs here", "0 programs of others"]);
    assert_eq!(world.attached()?, before, "the agent's programs, and they alone");
    assert_eq!(agent::get(&world.place, health, "/readyz")?.0, 200);
    let (status, log) = agent.stop()?;
    ensure!(status.success(), "{log}");
    Ok(())
}

#[test]
fn the_configuration_says_what_is_looked_at() -> Result<()> {
    let world = World::new()?;
    let directory = Directory::new()?;
    let file = directory.path().join("config.yaml");
    fs::write(&file, config(&format!("{{cgroup: {}}}", world.watched().display())))?;
    let mut command = world.place.command(binary()?)?;
    command.args(["doctor", "-o", "json", "--config"]).arg(&file);
    let outcome = outcome(command)?;
    assert_eq!(outcome.code, 0, "{:#}", outcome.report);
    assert_eq!(outcome.report["cgroup"], world.watched().to_str().unwrap());
    Ok(())
}

/// The same with the upper rungs and pins: in a bpffs of the test's own, which goes with its mount namespace.
#[test]
fn pins_and_privileges_are_looked_at_when_the_configuration_wants_them() -> Result<()> {
    let world = World::new()?;
    let directory = Directory::new()?;
    let file = directory.path().join("config.yaml");
    let bpffs = directory.path().join("bpf");
    fs::create_dir(&bpffs)?;
    let (cgroup, pins) =
        (world.watched().display().to_string(), bpffs.join("spanwarden").display().to_string());
    let doctor = |mode: &str, mount: &str, drop: &[&str]| -> Result<Outcome> {
        fs::write(&file, config(&format!("{{cgroup: {cgroup}, pin_path: {pins}, plaintext: {mode}}}")))?;
        let unshare = requirements::find_program("unshare").context("unshare, of util-linux")?;
        let mut command = world.place.command(unshare)?;
        command.args(["--mount", "sh", "-c"]);
        let mounted = if mount.is_empty() {
            String::new()
        } else {
            format!("mount -t {mount} none '{}' && ", bpffs.display())
        };
        command.arg(format!("{mounted}exec setpriv {} \"$@\"", drop.join(" ")));
        command.arg("sh").arg(binary()?).args(["doctor", "-o", "json", "--config"]).arg(&file);
        outcome(command)
    };
    let all = doctor("block", "bpf", &[])?;
    assert_eq!(all.code, 0, "{:#}", all.report);
    all.expect("ok", &["block-privileges", "pins", "sock-destroy", "attach"]);
    all.said("pins", "detail", &["nothing is pinned yet"]);

    let none = doctor("observe", "", &[])?;
    assert_eq!(none.code, 1);
    none.expect("fail", &["pins"]);
    none.said("pins", "detail", &["is not on a bpffs"]);

    // What the deployment has without the component that blocks.
    let base = ["--bounding-set=-all,+bpf,+net_admin,+perfmon", "--inh-caps=-all"];
    let two = doctor("warn", "bpf", &base)?;
    assert_eq!(two.code, 0, "{:#}", two.report);
    two.expect("skipped", &["block-privileges"]);
    two.expect("ok", &["attach", "canary", "findings-ring", "sock-destroy", "pins"]);
    let blocking = doctor("block", "bpf", &base)?;
    assert_eq!(blocking.code, 1);
    blocking.expect("fail", &["block-privileges"]);
    blocking.said("block-privileges", "detail", &["SYS_ADMIN", "SYS_PTRACE"]);
    blocking.said("block-privileges", "remedy", &["components/block"]);
    Ok(())
}

#[test]
fn bad_arguments_and_a_bad_configuration_are_2() -> Result<()> {
    let directory = Directory::new()?;
    let file = directory.path().join("config.yaml");
    fs::write(&file, "receivers: {otlp: {protocols: {grcp: }}}\n")?;
    let file = file.display().to_string();
    for (arguments, named) in [
        (&["doctor", "--no-such"][..], "--no-such"),
        (&["doctor", "-o", "xml"], "json"),
        (&["doctor", "--config", "/nonexistent/config.yaml"], "/nonexistent/config.yaml"),
        (&["doctor", "--config", &file], "`grpc`"),
    ] {
        let mut command = Command::new(binary()?);
        command.args(arguments);
        let (code, said) = run(command)?;
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?} does not name {named}: {said}");
    }
    Ok(())
}

#[test]
fn help_teaches() -> Result<()> {
    let mut command = Command::new(binary()?);
    command.args(["doctor", "--help"]);
    let (code, said) = run(command)?;
    assert_eq!(code, 0);
    for word in
        ["--cgroup", "--config", "--no-attach", "-o", "Exit code", "canary", "kubectl exec", "Examples"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    Ok(())
}
