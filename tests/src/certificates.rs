//! Certificates for tests, made anew each time.

#![forbid(unsafe_code)]

use std::fs;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

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

/// An authority and what it has signed, as files:
///
/// | file | is |
/// |---|---|
/// | `ca.crt` | the authority's certificate |
/// | `tls.crt`, `tls.key` | a server's, for loopback and `names` |
/// | `other.crt`, `other.key` | a server's, for a name that nobody asks for |
/// | `client.crt`, `client.key` | a client's |
/// | `foreign-ca.crt` | another authority's certificate |
pub fn authority(names: &[String]) -> Result<Directory> {
    let directory = Directory::new()?;
    let write = |name: &str, text: String| fs::write(directory.path().join(name), text);
    let issuer = self_signed("test authority")?;
    write("ca.crt", issuer.0)?;
    write("foreign-ca.crt", self_signed("another authority")?.0)?;
    let own: Vec<String> =
        names.iter().cloned().chain(["localhost".to_owned(), "127.0.0.1".to_owned()]).collect();
    for (file, names, usage) in [
        ("tls", own, ExtendedKeyUsagePurpose::ServerAuth),
        ("other", vec!["elsewhere.example".to_owned()], ExtendedKeyUsagePurpose::ServerAuth),
        ("client", vec!["shop".to_owned()], ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![usage];
        write(&format!("{file}.crt"), params.signed_by(&key, &issuer.1)?.pem())?;
        write(&format!("{file}.key"), key.serialize_pem())?;
    }
    Ok(directory)
}

fn self_signed(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}
