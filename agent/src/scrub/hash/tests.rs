use super::*;
use crate::config::{Located, Location};

fn hash(hasher: &Hasher, content: &[u8]) -> String {
    let mut out = Vec::new();
    hasher.put(content, &mut out);
    String::from_utf8(out).expect("hex")
}

/// Of RFC 1321, RFC 3174, FIPS 180-4 and FIPS 202: the hash of `abc`.
#[test]
fn digests_are_those_of_their_standards() {
    for (digest, wanted) in [
        (Digest::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        (Digest::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (Digest::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (Digest::Sha3, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
    ] {
        let mut out = b"before ".to_vec();
        digest.put(b"abc", &mut out);
        assert_eq!(out, format!("before {wanted}").as_bytes());
    }
}

/// RFC 4231, test case 2.
#[test]
fn hmacs_are_those_of_their_standard() {
    let inline = |wrap: fn(HmacKey) -> Hash| {
        Hasher::new(&wrap(HmacKey::Inline("Jefe".into()))).expect("a key needs no file")
    };
    let message = b"what do ya want for nothing?";
    assert_eq!(
        hash(&inline(Hash::HmacSha256), message),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(
        hash(&inline(Hash::HmacSha512), message),
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
         9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
    );
}

#[test]
fn a_key_file_that_is_not_there_is_an_error_at_its_place() {
    let at = Location { file: "c.yaml".into(), line: 7, column: 5, path: "processors::redaction".into() };
    let path = Located { value: "/nowhere/keys".into(), at };
    let error = Hasher::new(&Hash::HmacSha256(HmacKey::File(path))).expect_err("no file");
    assert!(
        error.to_string().starts_with("c.yaml:7:5") && error.message.contains("/nowhere/keys"),
        "{error}"
    );
}
