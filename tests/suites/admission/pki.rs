//! Authorities and certificates of one test, as files.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use spanwarden_tests::agent::Directory;

/// The listeners' CA, another one of the same name, and what they have signed: `NAME.crt` and `NAME.key`.
pub(crate) struct Pki {
    files: Directory,
    ca: CertifiedIssuer<'static, KeyPair>,
    foreign: CertifiedIssuer<'static, KeyPair>,
}

/// Seconds from now.
fn at(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

impl Pki {
    /// With `server`, for these names or addresses, and `ca.crt`.
    pub(crate) fn new(names: &[String]) -> Result<Self> {
        let pki = Self {
            files: Directory::new()?,
            ca: authority("spanwarden clients")?,
            foreign: authority("somebody else")?,
        };
        fs::write(pki.files.path().join("ca.crt"), pki.ca.pem())?;
        let names = names.to_vec();
        pki.sign("server", |params| {
            *params = CertificateParams::new(names)?;
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            Ok(())
        })?;
        Ok(pki)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// A certificate of the listeners' CA for an hour, changed as a row wants it.
    pub(crate) fn sign(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams) -> Result<()>,
    ) -> Result<()> {
        self.write(name, &self.ca, change)
    }

    /// The same of an authority that the listeners do not know.
    pub(crate) fn sign_foreign(&self, name: &str, uri: &str) -> Result<()> {
        self.write(name, &self.foreign, |params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
            Ok(())
        })
    }

    /// A workload's, by these URIs.
    pub(crate) fn workload(&self, name: &str, uris: &[&str]) -> Result<()> {
        self.sign(name, |params| {
            for uri in uris {
                params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
            }
            Ok(())
        })
    }

    /// One that was valid until `seconds` from now.
    pub(crate) fn until(&self, name: &str, uri: &str, from: i64, until: i64) -> Result<()> {
        self.sign(name, |params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
            (params.not_before, params.not_after) = (at(from).into(), at(until).into());
            Ok(())
        })
    }

    fn write(
        &self,
        name: &str,
        issuer: &CertifiedIssuer<'static, KeyPair>,
        change: impl FnOnce(&mut CertificateParams) -> Result<()>,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        // rcgen gives everybody the same common name unless told otherwise.
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (at(-60).into(), at(3600).into());
        change(&mut params)?;
        fs::write(self.file(&format!("{name}.crt")), params.signed_by(&key, issuer)?.pem())?;
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}
