//! The Collector's YAML as typed components.
//!
//! This module knows every key and nothing of what the components do: a stage takes its struct from here and
//! builds itself. Patterns and OTTL statements stay text with their [`Location`]; the stage that compiles them
//! reports errors at that place.

use std::{fmt, path::PathBuf, sync::Arc};

pub mod exporters;
pub mod extensions;
pub mod processors;
pub mod receivers;
pub mod service;
pub mod tls;

use exporters::Exporter;
use extensions::Extension;
use processors::Processor;
use receivers::Receiver;
use service::Service;

/// A place in a configuration: what every error names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as it was given on the command line, or `<default>`.
    pub file: Arc<str>,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// `processors::redaction/pii::blocked_values[2]`, the Collector's way of writing it.
    pub path: Arc<str>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.path)
    }
}

/// A value with its place, for what is compiled later (patterns, statements).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Location,
}

/// An error of the configuration, of the reader's or of a stage that could not build what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {message}")]
pub struct ConfigError {
    /// Where.
    pub at: Location,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// `type` or `type/name`, with the type under its canonical (newest accepted) or older name as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    /// As written: `loadbalancing`, `redaction`, …
    pub kind: String,
    /// What follows the slash.
    pub name: Option<String>,
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

/// One configured component.
#[derive(Clone, Debug)]
pub struct Component<T> {
    /// Its name in pipelines, logs and metrics.
    pub id: ComponentId,
    /// Where it stands.
    pub at: Location,
    /// Its configuration.
    pub config: T,
}

/// A whole configuration. Every id that the service uses is in one of the lists: the reader has checked it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `receivers:`
    pub receivers: Vec<Component<Receiver>>,
    /// `processors:`
    pub processors: Vec<Component<Processor>>,
    /// `exporters:`
    pub exporters: Vec<Component<Exporter>>,
    /// `extensions:`
    pub extensions: Vec<Component<Extension>>,
    /// `service:`
    pub service: Service,
    /// What is accepted but means nothing here (`balancer_name`, …), one line each for the log at start.
    pub warnings: Vec<String>,
}

/// A path of a file as configured.
pub type FilePath = PathBuf;
