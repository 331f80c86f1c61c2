//! What both ends of a connection share: TLS from files or from SPIFFE's Workload API; and a small HTTP client for
//! keys, reviews and pods.

pub mod http;
pub mod spiffe;
pub mod tls;
