//! TLS that fails and plaintext that follows is one finding, `fallback`, and says how TLS failed; plaintext by
//! configuration is not.

mod fallback {
    pub(crate) mod failures;
    pub(crate) mod keys;
    pub(crate) mod pending;
    pub(crate) mod world;
}
