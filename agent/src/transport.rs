//! What both ends of a connection share: TLS from files.

pub mod tls;
