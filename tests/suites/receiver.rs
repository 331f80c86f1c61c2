//! The receiver, bound for real and driven over loopback.

mod receiver {
    pub(crate) mod harness;

    mod bad;
    mod drain;
    mod good;
    mod live;
    mod mtls;
    mod overload;
    mod pki;
    mod raw;
    mod rotation;
    mod spiffe;
    mod tls;
}
