//! Kernel evidence against the truth: over every path by which a pod reaches the agent, whatever processes do.

mod attribution {
    pub(crate) mod agent;
    pub(crate) mod findings;
    pub(crate) mod forgery;
    pub(crate) mod paths;
    pub(crate) mod server;
}
