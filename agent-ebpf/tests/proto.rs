//! Properties of the byte parsers, against a plain parser of whole requests.

use proptest::prelude::*;
use spanwarden_ebpf::proto::{Verdict, check_split, classify};

/// What the first bytes are, told the slow way: with all of them, splitting lines and paths.
fn oracle(bytes: &[u8]) -> Verdict {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if bytes.len() >= 5 && bytes[0] == 0x16 && bytes[1] == 3 && bytes[2] <= 4 {
        return match bytes.get(5) {
            None => Verdict::Pending,
            Some(1) => Verdict::Tls,
            Some(_) => Verdict::Foreign,
        };
    }
    if bytes.len() < 5 {
        return Verdict::Pending;
    }
    if bytes.starts_with(b"PRI *") {
        return match bytes.get(..24) {
            None => Verdict::Pending,
            Some(first) if first == PREFACE => Verdict::H2c,
            Some(_) => Verdict::Foreign,
        };
    }
    let Some(rest) = bytes.strip_prefix(b"POST ") else { return Verdict::Foreign };
    let Some(end) = rest.iter().position(|b| b" ?#\r\n".contains(b)) else {
        return if bytes.len() >= 256 { Verdict::Foreign } else { Verdict::Pending };
    };
    let target = &rest[..end];
    if end + 5 >= 256 || matches!(rest[end], b'\r' | b'\n') {
        return Verdict::Foreign;
    }
    let path = match target.windows(3).position(|w| w == b"://") {
        Some(scheme) if target[0] != b'/' => {
            let after = &target[scheme + 3..];
            after.iter().position(|&b| b == b'/').map_or(&b""[..], |slash| &after[slash..])
        }
        _ => target,
    };
    if path.ends_with(b"/v1/traces") { Verdict::Http1Traces } else { Verdict::Foreign }
}

#[test]
fn fixtures() {
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
    let table: &[(&[u8], Verdict)] = &[
        (&hello, Verdict::Tls),
        (&hello[..5], Verdict::Pending),
        (&[0x16, 3, 3, 0, 4, 2], Verdict::Foreign),
        (&[0x17, 3, 3, 0, 4, 1], Verdict::Foreign),
        (&[0x16, 2, 0, 0, 4, 1], Verdict::Foreign),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Verdict::H2c),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Verdict::Pending),
        (b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", Verdict::Foreign),
        (b"POST /v1/traces HTTP/1.1\r\n", Verdict::Http1Traces),
        (b"POST /v1/traces", Verdict::Pending),
        (b"POST /v1/traces?x=1 HTTP/1.1\r\n", Verdict::Http1Traces),
        (b"POST /otlp/v1/traces HTTP/1.1\r\n", Verdict::Http1Traces),
        (b"POST http://collector.observability:4318/v1/traces HTTP/1.1\r\n", Verdict::Http1Traces),
        (
            b"POST http://collector.observability.svc.cluster.local:4318/a/long/prefix/of/a/gateway/v1/traces HTTP/1.1\r\n",
            Verdict::Http1Traces,
        ),
        (b"POST http://v1/traces HTTP/1.1\r\n", Verdict::Foreign),
        (b"POST http://v1 HTTP/1.1\r\n", Verdict::Foreign),
        (b"POST /v1/traces/ HTTP/1.1\r\n", Verdict::Foreign),
        (b"POST /v1/metrics HTTP/1.1\r\n", Verdict::Foreign),
        (b"POST /xv1/traces HTTP/1.1\r\n", Verdict::Foreign),
        (b"POST /search?next=/v1/traces HTTP/1.1\r\n", Verdict::Foreign),
        (b"POST /v1/traces\r\n", Verdict::Foreign),
        (b"GET /v1/traces HTTP/1.1\r\n", Verdict::Foreign),
        (b"SSH-2.0-OpenSSH_9.7\r\n", Verdict::Foreign),
        (b"", Verdict::Pending),
    ];
    for (bytes, verdict) in table {
        assert_eq!(classify(bytes), *verdict, "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(oracle(bytes), *verdict, "the oracle: {:?}", String::from_utf8_lossy(bytes));
    }
}

/// Bytes that get past the first comparisons more often than random ones do.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(&b"POST "[..]),
        Just(&b"POST /v1/traces"[..]),
        Just(&b"POST http://"[..]),
        Just(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]),
        Just(&b"PRI * HTT"[..]),
        Just(&[0x16, 3, 1, 0, 5, 1][..]),
        Just(&[0x16, 3][..]),
        Just(&b""[..]),
    ];
    let middle = prop_oneof![
        "[a-z/:.?# 0-9]{0,40}".prop_map(String::into_bytes),
        "[a-z/]{230,260}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..300),
    ];
    let end = prop_oneof![Just(&b"/v1/traces HTTP/1.1\r\n"[..]), Just(&b"/v1/traces"[..]), Just(&b" "[..])];
    (start, middle, end).prop_map(|(a, b, c)| [a, &b, c].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn agrees_with_the_oracle_and_with_itself_however_split(bytes in streams(), at in 0usize..320) {
        check_split(&bytes, at);
        prop_assert_eq!(classify(&bytes), oracle(&bytes));
    }
}
