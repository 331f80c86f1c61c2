//! The real binary, run with a configuration.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::patience::patience;
use crate::{
    cgroup,
    cleanup::{self, Made},
    process::{Place, Process},
};

/// How long a start, an answer and a stop may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `spanwarden`, agent or gateway. Dropping it ends it and removes its directory.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    place: Place,
    directory: Directory,
}

/// How to start one; [`Agent::start`] is the short form.
#[derive(Clone, Debug)]
pub struct Start {
    config: String,
    place: Place,
    variables: Vec<(String, String)>,
    files: Vec<(String, String)>,
    ready: Option<SocketAddr>,
    program: Option<PathBuf>,
}

impl Start {
    /// With this configuration, here, without waiting for readiness.
    pub fn new(config: impl Into<String>) -> Self {
        Self {
            config: config.into(),
            place: Place::default(),
            variables: Vec::new(),
            files: Vec::new(),
            ready: None,
            program: None,
        }
    }

    /// Another program than the one under test: an older or newer version of it.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// In this namespace and cgroup.
    #[must_use]
    pub fn place(mut self, place: &Place) -> Self {
        self.place = place.clone();
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// With a file in its directory.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Waits until `GET /` of the configured `health_check` endpoint answers 200.
    #[must_use]
    pub fn ready_at(mut self, health_check: SocketAddr) -> Self {
        self.ready = Some(health_check);
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Agent> {
        let directory = Directory::new()?;
        let config = directory.path().join("config.yaml");
        fs::write(&config, &self.config).with_context(|| config.display().to_string())?;
        for (name, content) in &self.files {
            fs::write(directory.path().join(name), content).with_context(|| name.clone())?;
        }
        let program = self.program.map_or_else(binary, Ok)?;
        let mut command = self.place.command(program)?;
        command.arg("run").arg("--config").arg(&config).current_dir(directory.path());
        command.envs(self.variables);
        let process = Process::spawn("spanwarden", command)?;
        let mut agent = Agent { process, place: self.place, directory };
        if let Some(address) = self.ready {
            agent.wait_ready(address)?;
        }
        Ok(agent)
    }
}

impl Agent {
    /// Starts one where the harness itself runs, and waits until its `health_check` endpoint says it is ready.
    pub fn start(config: impl Into<String>, health_check: SocketAddr) -> Result<Self> {
        Start::new(config).ready_at(health_check).start()
    }

    /// The directory it runs in, where relative paths of the configuration lead.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    pub fn logs(&self) -> String {
        self.process.output()
    }

    /// The process, for waiting for a log line or a signal.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The body of an HTTP GET from where it runs: `metrics` of `127.0.0.1:8888`, for one.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<String> {
        let (status, body) = get(&self.place, address, path)?;
        if status != 200 {
            bail!("GET http://{address}{path}: {status}\n{body}");
        }
        Ok(body)
    }

    /// Stops it by SIGTERM; it must end by itself.
    pub fn stop(self) -> Result<(ExitStatus, String)> {
        self.stop_and(|| ()).map(|(status, log, ())| (status, log))
    }

    /// As [`Self::stop`]; `then` still finds its directory.
    pub fn stop_and<T>(mut self, then: impl FnOnce() -> T) -> Result<(ExitStatus, String, T)> {
        let status = self.process.stop(PATIENCE)?;
        Ok((status, self.process.output(), then()))
    }

    fn wait_ready(&mut self, address: SocketAddr) -> Result<()> {
        let place = self.place.clone();
        self.process.wait_until(&format!("readiness at {address}"), PATIENCE, |_| {
            Ok(get(&place, address, "/").ok().filter(|(status, _)| *status == 200).map(|_| ()))
        })
    }
}

/// A plain HTTP/1 GET from `place`: status and body.
pub fn get(place: &Place, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let ask = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, patience(PATIENCE))?;
        stream.set_read_timeout(Some(patience(PATIENCE)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = match &place.netns {
        Some(netns) => netns.within(ask)??,
        None => ask()?,
    };
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}

/// The program: `SPANWARDEN_BIN`, or what cargo built beside this one.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SPANWARDEN_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe()?;
    let candidates = own.ancestors().skip(1).take(2).map(|directory| directory.join("spanwarden"));
    candidates.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "no `spanwarden` beside {}: run `cargo build -p spanwarden` first, or set SPANWARDEN_BIN",
            own.display()
        )
    })
}

/// A directory that goes with its owner.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let path = env::temp_dir().join(cleanup::name(cgroup::PREFIX));
        cleanup::note(Made::Directory(path.clone()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        cleanup::remove(&Made::Directory(self.path.clone()));
    }
}
