//! Plaintext telemetry is found however it is sent, once and with the right sender, and nothing else is.

mod sending {
    pub(crate) mod foreign;
    pub(crate) mod ktls;
    pub(crate) mod network;
    pub(crate) mod shapes;
    pub(crate) mod tls;
    pub(crate) mod ways;
    pub(crate) mod world;
}
