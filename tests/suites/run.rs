//! The real program as its users see it: the command line, the embedded default, health, metrics, capabilities,
//! the drain, new rules while it runs, spans that are stored, and agent and gateways together. Each test has a network namespace of its own, so ports are free.

mod run {
    pub(crate) mod cli;
    pub(crate) mod common;
    pub(crate) mod drain;
    pub(crate) mod embedded;
    pub(crate) mod evidence;
    pub(crate) mod gateways;
    pub(crate) mod health;
    pub(crate) mod late;
    pub(crate) mod links;
    pub(crate) mod metrics;
    pub(crate) mod pods;
    pub(crate) mod reload;
    pub(crate) mod stored;
}
