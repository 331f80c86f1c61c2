use std::{fs, io::Write as _, time::SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

/// A directory with a server's files; removed when dropped.
struct Files {
    dir: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("spanwarden-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Self { dir, ca };
        let (cert, key) = files.signed(0, 3600);
        files.write("tls.crt", &cert);
        files.write("tls.key", &key);
        files.write("ca.crt", &files.ca.pem());
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::File::create(self.dir.join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn signed(&self, from: i64, to: i64) -> (String, String) {
        let at = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
        };
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (at(from - 60).into(), at(to).into());
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }

    fn tls(&self) -> ServerTls {
        ServerTls {
            cert_file: self.dir.join("tls.crt"),
            key_file: self.dir.join("tls.key"),
            client_ca_file: Some(self.dir.join("ca.crt")),
            client_auth: ClientAuth::Required,
            ..ServerTls::default()
        }
    }
}

/// What the reloader does once a change has settled.
fn reload(source: &ServerSource) -> Result<(), TlsError> {
    source.reload(&Snapshot::read(source.files())?)
}

#[test]
fn what_can_not_be_used_keeps_the_old_and_is_named() {
    let files = Files::new("tls-server-bad");
    let source = ServerSource::new(&files.tls(), &[b"h2"]).unwrap();
    let (cert, key) = files.signed(0, 3600);
    let (expired, expired_key) = files.signed(-7200, -3600);
    let (early, early_key) = files.signed(3600, 7200);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let ca = files.ca.pem();
    for (what, (cert, key, ca), wanted) in [
        ("another key", (cert.as_str(), expired_key.as_str(), ca.as_str()), "belong together"),
        ("half a certificate", (&cert[..cert.len() / 2], &key, &ca), "tls.crt"),
        ("no certificate", ("", &key, &ca), "no certificate"),
        ("no key", (&cert, "", &ca), "no private key"),
        ("garbage", (garbage, &key, &ca), "tls.crt"),
        ("expired", (&expired, &expired_key, &ca), "expired 60 min 0 s ago"),
        ("not yet valid", (&early, &early_key, &ca), "not valid for"),
        ("no CA", (&cert, &key, ""), "ca.crt: no certificate"),
        ("garbage for a CA", (&cert, &key, garbage), "ca.crt"),
        ("an expired CA", (&cert, &key, &expired), "every CA in it is expired"),
    ] {
        let before = Arc::clone(&source.current.borrow());
        for (name, text) in [("tls.crt", cert), ("tls.key", key), ("ca.crt", ca)] {
            files.write(name, text);
        }
        let fingerprint = source.fingerprint();
        let message = reload(&source).expect_err(what).to_string();
        assert!(message.contains(wanted), "{what}: {message}");
        assert!(Arc::ptr_eq(&before, &source.current.borrow()), "{what}: the old one stays");
        assert_eq!(fingerprint, source.fingerprint(), "{what}: it is tried again");
    }
    files.write("tls.crt", &cert);
    files.write("tls.key", &key);
    files.write("ca.crt", &ca);
    reload(&source).unwrap();
}

#[test]
fn trust_stays_the_same_as_long_as_its_files_do() {
    let files = Files::new("tls-server-trust");
    let source = ServerSource::new(&files.tls(), &[b"h2"]).unwrap();
    let first = Arc::clone(&source.current.borrow());
    let (cert, key) = files.signed(0, 3600);
    files.write("tls.crt", &cert);
    files.write("tls.key", &key);
    reload(&source).unwrap();
    let second = Arc::clone(&source.current.borrow());
    assert!(!Arc::ptr_eq(&first.config, &second.config));
    assert!(Arc::ptr_eq(first.trust.as_ref().unwrap(), second.trust.as_ref().unwrap()));
    // No session of the old configuration is known to the new one.
    assert!(!Arc::ptr_eq(&first.config.session_storage, &second.config.session_storage));
    assert!(!second.config.ticketer.enabled());
    let other = Files::new("tls-server-trust-other");
    files.write("ca.crt", &format!("{}{}", files.ca.pem(), other.ca.pem()));
    reload(&source).unwrap();
    let third = Arc::clone(&source.current.borrow());
    assert!(!Arc::ptr_eq(second.trust.as_ref().unwrap(), third.trust.as_ref().unwrap()));
    assert_eq!(third.trust.as_ref().unwrap().authorities.len(), 2);
}

#[test]
fn a_ca_is_needed_where_certificates_are_asked_for() {
    let files = Files::new("tls-server-ca");
    for client_auth in [ClientAuth::Optional, ClientAuth::Required] {
        let tls = ServerTls { client_ca_file: None, client_auth, ..files.tls() };
        assert!(matches!(ServerSource::new(&tls, &[]), Err(TlsError::NoClientCa)));
    }
    // A file that nobody asks for is not read.
    let tls = ServerTls {
        client_ca_file: Some("/nowhere/ca.crt".into()),
        client_auth: ClientAuth::Off,
        ..files.tls()
    };
    assert!(ServerSource::new(&tls, &[]).unwrap().current.borrow().trust.is_none());
}
