//! Certificates for tests, made anew each time.

#![forbid(unsafe_code)]

use std::fs;

use anyhow::Result;

use crate::agent::Directory;

/// `tls.crt`, `tls.key` and `ca.crt`, as the deployment's Secrets hold them, for the gateway's name and loopback.
pub fn gateway() -> Result<Directory> {
    let names = ["spanwarden-gateway.spanwarden-gateway.svc", "localhost", "127.0.0.1"];
    let made = rcgen::generate_simple_self_signed(names.map(str::to_owned))?;
    let directory = Directory::new()?;
    for (name, text) in [
        ("tls.crt", made.cert.pem()),
        ("tls.key", made.signing_key.serialize_pem()),
        ("ca.crt", made.cert.pem()),
    ] {
        fs::write(directory.path().join(name), text)?;
    }
    Ok(directory)
}
