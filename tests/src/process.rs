//! Processes in a namespace and a cgroup, ended when they are dropped.

use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{netns::Namespace, patience};

/// Lines kept of what a process says.
const KEPT_LINES: usize = 10_000;
/// Lines of them in an error message, and characters of each.
const SAID_LINES: usize = 60;
const SAID_WIDTH: usize = 1_000;

/// Where a process runs; `None` is where the harness itself runs.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The network namespace.
    pub netns: Option<Arc<Namespace>>,
    /// The cgroup's directory.
    pub cgroup: Option<PathBuf>,
}

impl Place {
    /// A command that will run here. The process is in its cgroup and namespace before the program starts, as
    /// a container's is.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        let cgroup = self.cgroup.as_ref().map(|path| {
            let procs = path.join("cgroup.procs");
            OpenOptions::new().write(true).open(&procs).with_context(|| procs.display().to_string())
        });
        let cgroup = cgroup.transpose()?;
        let netns = self.netns.clone();
        // SAFETY: between fork and exec only write(2) and setns(2) are called, which are async-signal-safe
        // (signal-safety(7)); nothing is allocated and no lock is taken. Both descriptors stay open as long as
        // the command, which owns them.
        unsafe {
            command.pre_exec(move || {
                if let Some(procs) = &cgroup {
                    // "0" is the writer itself.
                    (&*procs).write_all(b"0")?;
                }
                if let Some(netns) = &netns {
                    setns(netns.file(), CloneFlags::CLONE_NEWNET)?;
                }
                Ok(())
            });
        }
        Ok(command)
    }
}

/// A running process whose output is kept. Dropping it ends the process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

/// Lines of standard output and error, as they come.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(self: &Arc<Self>, from: impl Read + Send + 'static) -> io::Result<()> {
        let output = Arc::clone(self);
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let Ok(line) = line else { return };
                let mut lines = output.lines();
                if lines.len() == KEPT_LINES {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        })?;
        Ok(())
    }
}

impl Process {
    /// Starts `command`; `name` is for messages.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name} ({})", command.get_program().display()))?;
        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            output.collect(stdout)?;
        }
        if let Some(stderr) = child.stderr.take() {
            output.collect(stderr)?;
        }
        let stdin = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, stdin, output })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn output(&self) -> String {
        let lines: Vec<String> = self.output.lines().iter().cloned().collect();
        lines.join("\n")
    }

    /// The end of its output, for an error message.
    fn said(&self) -> String {
        let lines = self.output.lines();
        let last = lines.iter().skip(lines.len().saturating_sub(SAID_LINES));
        last.map(|line| line.chars().take(SAID_WIDTH).chain(['\n']).collect::<String>()).collect()
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { bail!("{}: its standard input is closed", self.name) };
        writeln!(stdin, "{line}").with_context(|| format!("{} has closed its standard input", self.name))
    }

    /// Writes to its standard input.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { bail!("{}: its standard input is closed", self.name) };
        stdin.write_all(bytes).with_context(|| format!("{} has closed its standard input", self.name))
    }

    /// Waits for a line that begins with `start` among what has not been taken yet, and takes it; what came
    /// before it stays.
    pub fn wait_for_line(&mut self, start: &str, patience: Duration) -> Result<String> {
        self.wait_until(&format!("line `{start}…`"), patience, |process| {
            let mut lines = process.output.lines();
            let at = lines.iter().position(|line| line.starts_with(start));
            Ok(at.and_then(|at| lines.remove(at)))
        })
    }

    /// Waits until `found` has something; fails when the process ends first or patience does.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut found: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let patience = patience::patience(patience);
        let deadline = Instant::now() + patience;
        loop {
            // Asked before, so that what a process said last is still seen.
            let ended = self.child.try_wait()?;
            if ended.is_some() {
                self.settle();
            }
            if let Some(found) = found(self)? {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) without {what}; it said:\n{}", self.name, self.said());
            }
            if Instant::now() > deadline {
                bail!("{}: no {what} within {patience:?}; it said:\n{}", self.name, self.said());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let patience = patience::patience(patience);
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.settle();
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {patience:?}; it said:\n{}", self.name, self.said());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end, which must be a success.
    pub fn wait_success(&mut self, patience: Duration) -> Result<()> {
        let status = self.wait(patience)?;
        if !status.success() {
            bail!("{} failed ({status}):\n{}", self.name, self.said());
        }
        Ok(())
    }

    /// Waits until all that an ended process has said is there, unless a child of it keeps the pipes open.
    fn settle(&self) {
        for _ in 0..1000 {
            if Arc::strong_count(&self.output) == 1 {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks it to end (SIGTERM), and makes it after `patience` (SIGKILL, an error).
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        if let Ok(status) = self.wait(patience) {
            return Ok(status);
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("{} did not end within {patience:?} of SIGTERM; it said:\n{}", self.name, self.said())
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            let pid = Pid::from_raw(self.child.id().try_into()?);
            kill(pid, signal).with_context(|| format!("{signal} to {}", self.name))?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
