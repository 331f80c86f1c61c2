//! The kernel programs with a user space made of tables: what they do for every policy, setting and sign of life.

#[path = "attribution/server.rs"]
mod server;

mod kernel_side {
    pub(crate) mod crowd;
    pub(crate) mod deny;
    pub(crate) mod flood;
    pub(crate) mod memory;
    pub(crate) mod policy;
    pub(crate) mod programs;
    pub(crate) mod recycle;
}
