//! Findings as an operator gets them from a running agent: file, metrics, log; who, what, where to, how often.

mod findings {
    pub(crate) mod disk;
    pub(crate) mod flood;
    pub(crate) mod hostile;
    pub(crate) mod lines;
    pub(crate) mod places;
    pub(crate) mod revised;
    pub(crate) mod world;
}
