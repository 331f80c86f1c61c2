//! What both ends of a connection share: TLS from files; and a small HTTP client for keys, reviews and pods.

pub mod http;
pub mod tls;
