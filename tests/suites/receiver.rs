//! The receiver, bound for real and driven over loopback.

mod receiver {
    pub(crate) mod harness;

    mod good;
}
