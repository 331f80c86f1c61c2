//! Network namespaces of the tests' own.

use std::{fs::File, panic::resume_unwind, path::PathBuf, process::Command, sync::Arc, thread};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::cleanup::{self, Made};

/// What the names of all our namespaces begin with; the maker's pid follows.
pub(crate) const PREFIX: &str = "sw-";

/// Where iproute2 keeps named namespaces.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A named network namespace, removed when the last holder drops it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace with its loopback up. `ip netns exec <name>` works on it as long as it lives.
    pub fn new() -> Result<Arc<Self>> {
        let name = cleanup::name(PREFIX);
        cleanup::note(Made::Namespace(name.clone()));
        run(Command::new("ip").args(["netns", "add", &name]), "")?;
        let path = PathBuf::from(DIRECTORY).join(&name);
        let file = File::open(&path).with_context(|| format!("namespace {}", path.display()))?;
        let namespace = Arc::new(Self { name, file });
        // Duplicate address detection would make addresses unusable for a second.
        namespace.sysctl("ipv6/conf/all/accept_dad", "0")?;
        namespace.sysctl("ipv6/conf/default/accept_dad", "0")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The handle for `setns`.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Runs `ip` commands in the namespace, one a line.
    pub fn ip(&self, commands: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), commands)
    }

    /// As [`Self::ip`] with `-6`, for what does not tell the family from the address (`rule`).
    pub fn ip6(&self, commands: &str) -> Result<()> {
        run(Command::new("ip").args(["-6", "-n", &self.name, "-batch", "-"]), commands)
    }

    /// Adds an nftables ruleset in the namespace.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        self.within(|| run(Command::new("nft").args(["-f", "-"]), ruleset))?
    }

    /// Writes a value below `/proc/sys/net` of the namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.within(|| std::fs::write(&path, value))?.with_context(|| path.clone())
    }

    /// Runs `work` on a thread that is in the namespace. Sockets and processes made there stay in it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<T> {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("entering the network namespace {}", self.name))?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        cleanup::remove(&Made::Namespace(self.name.clone()));
    }
}

pub(crate) fn delete(name: &str) -> Result<()> {
    if !PathBuf::from(DIRECTORY).join(name).exists() {
        return Ok(());
    }
    run(Command::new("ip").args(["netns", "delete", name]), "")
}

/// Runs a program with `input`; its complaints are the error.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<()> {
    use std::{io::Write as _, process::Stdio};
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}", command.get_program().display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that complains before it has read all closes the pipe; its complaint says more.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{}\n{input}", output.status, said.trim_end());
    }
    Ok(())
}
