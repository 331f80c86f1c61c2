//! The agent goes and comes back, killed, upgraded or with pins that somebody has changed: what the kernel saw
//! meanwhile is there.

mod restart {
    pub(crate) mod killed;
    pub(crate) mod refused;
    pub(crate) mod unpinned;
    pub(crate) mod upgrade;
    pub(crate) mod world;
}
