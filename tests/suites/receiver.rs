//! The receiver, bound for real and driven over loopback.

mod receiver {
    pub(crate) mod harness;

    mod bad;
    mod drain;
    mod good;
    mod overload;
    mod raw;
    mod tls;
}
