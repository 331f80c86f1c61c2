//! Plaintext is stopped where the policy says so: nothing of a span arrives, the application knows at once, and
//! nobody else notices.

mod enforcement {
    pub(crate) mod blocking;
    pub(crate) mod denial;
    pub(crate) mod endings;
    pub(crate) mod fail_open;
    pub(crate) mod flood;
    pub(crate) mod late;
    pub(crate) mod scene;
}
