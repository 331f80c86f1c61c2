//! The Collector's YAML as typed components.
//!
//! This module knows every key and nothing of what the components do: a stage takes its struct from here and
//! builds itself. Patterns and OTTL statements stay text with their [`Location`]; the stage that compiles them
//! reports errors at that place.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub mod auth;
pub mod detectors;
pub mod exporters;
pub mod extensions;
pub mod processors;
pub mod receivers;
pub mod service;
pub mod tls;

pub mod fields;
mod read;
pub mod shape;
pub mod yaml;

use exporters::Exporter;
use extensions::Extension;
use processors::Processor;
use receivers::Receiver;
use service::Service;
use shape::Shape;

/// A place in a configuration: what every error names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as it was given on the command line, or `<default>`.
    pub file: Arc<str>,
    /// 1-based; 0 where an error is about the file as a whole.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// `processors::redaction/pii::blocked_values[2]`, the Collector's way of writing it.
    pub path: Arc<str>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
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

/// All that is wrong with a configuration: one error a line, in the file's order, then how many there are.
#[derive(Debug)]
pub struct Errors(pub Vec<ConfigError>);

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(f, "{error}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 error"),
            count => write!(f, "{count} errors"),
        }
    }
}

impl From<ConfigError> for Errors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
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

impl Config {
    /// The receiver that a pipeline names.
    pub fn receiver(&self, id: &ComponentId) -> Option<&Component<Receiver>> {
        find(&self.receivers, id)
    }

    /// The processor that a pipeline names.
    pub fn processor(&self, id: &ComponentId) -> Option<&Component<Processor>> {
        find(&self.processors, id)
    }

    /// The exporter that a pipeline names.
    pub fn exporter(&self, id: &ComponentId) -> Option<&Component<Exporter>> {
        find(&self.exporters, id)
    }

    /// The extensions that the service enables, in its order.
    pub fn enabled_extensions(&self) -> impl Iterator<Item = &Component<Extension>> {
        self.service.extensions.iter().filter_map(|id| find(&self.extensions, id))
    }

    /// The `identity` extension, where it is enabled.
    pub fn identity(&self) -> Option<&auth::IdentityExtension> {
        self.enabled_extensions().find_map(|extension| match &extension.config {
            Extension::Identity(identity) => Some(identity.as_ref()),
            _ => None,
        })
    }

    /// The `origin` extension, where it is enabled.
    pub fn origin(&self) -> Option<&extensions::OriginExtension> {
        self.enabled_extensions().find_map(|extension| match &extension.config {
            Extension::Origin(origin) => Some(origin.as_ref()),
            _ => None,
        })
    }
}

fn find<'a, T>(components: &'a [Component<T>], id: &ComponentId) -> Option<&'a Component<T>> {
    components.iter().find(|component| component.id == *id)
}

/// A path of a file as configured.
pub type FilePath = PathBuf;

/// What `spanwarden run` runs without a file, and `--print-config` prints.
pub const DEFAULT: &str = include_str!("config/default.yaml");

/// The name that errors give to [`DEFAULT`].
const DEFAULT_NAME: &str = "<default>";

/// Reads the configuration in a file, with the process's environment.
pub fn load(path: &Path) -> Result<Config, Errors> {
    load_shaped(path).map(|(config, _)| config)
}

/// [`load`], with what tells a changed file from an unchanged one.
pub fn load_shaped(path: &Path) -> Result<(Config, Shape), Errors> {
    let name = path.display().to_string();
    let text = read_file(path).map_err(|why| {
        let at = Location { file: name.as_str().into(), line: 0, column: 0, path: "".into() };
        Errors::from(ConfigError { at, message: format!("can't be read: {why}") })
    })?;
    parse_shaped(&text, &name, &yaml::expand::Environment { variable: &process_variable, file: &read_file })
}

/// Reads a configuration from text, with the process's environment; `name` is the file in errors.
pub fn parse(text: &str, name: &str) -> Result<Config, Errors> {
    parse_with(text, name, &yaml::expand::Environment { variable: &process_variable, file: &read_file })
}

/// [`parse`] with an environment of the caller's.
pub fn parse_with(text: &str, name: &str, env: &yaml::expand::Environment<'_>) -> Result<Config, Errors> {
    parse_shaped(text, name, env).map(|(config, _)| config)
}

fn parse_shaped(
    text: &str,
    name: &str,
    env: &yaml::expand::Environment<'_>,
) -> Result<(Config, Shape), Errors> {
    let root = yaml::parse(text, &name.into(), env).map_err(Errors)?;
    Ok((read::config(&root)?, Shape::from(&root)))
}

fn process_variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The configuration in [`DEFAULT`], with the process's environment.
pub fn default_config() -> Result<Config, Errors> {
    default_shaped().map(|(config, _)| config)
}

/// [`default_config`], with what tells a changed file from an unchanged one.
pub fn default_shaped() -> Result<(Config, Shape), Errors> {
    let env = yaml::expand::Environment { variable: &process_variable, file: &read_file };
    parse_shaped(DEFAULT, DEFAULT_NAME, &env)
}

/// A file's text, at most [`yaml::MAX_BYTES`] of it.
fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let limit = yaml::MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > yaml::MAX_BYTES {
        return Err(format!("more than {} bytes", yaml::MAX_BYTES));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_loads_without_a_warning() {
        let config = default_config().unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.warnings, Vec::<String>::new());
        assert!(config.origin().is_some_and(|origin| !origin.required));
        let pipeline = &config.service.pipelines[0];
        assert!(pipeline.receivers.iter().all(|id| config.receiver(id).is_some()));
        assert!(pipeline.processors.iter().all(|id| config.processor(id).is_some()));
        assert!(pipeline.exporters.iter().all(|id| config.exporter(id).is_some()));
    }
}
