//! How long tests wait: every bounded wait of the harness, the suites and their clients is so many times as long as
//! it says itself.
//!
//! Nothing that is checked depends on it. Where a test needs one time to be shorter than another (a window and the
//! pause after which it must be over) both are scaled.

#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsStr,
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// The variable that has the factor, a whole number from 1 (which it is without) to 100; `cargo xtask kernels` sets it
/// for an emulated processor. Programs that tests start inherit it.
pub const VARIABLE: &str = "SPANWARDEN_TEST_PATIENCE";

static FACTOR: LazyLock<u32> = LazyLock::new(|| match factor(env::var_os(VARIABLE).as_deref()) {
    Ok(factor) => factor,
    Err(error) => panic!("{error}"),
});

/// A wait of this length, on a machine like this one.
///
/// # Panics
///
/// When the variable is no such number: a run with a mistyped factor must not look like one with it.
pub fn patience(own: Duration) -> Duration {
    own * *FACTOR
}

/// When such a wait that begins now is over.
pub fn deadline(own: Duration) -> Instant {
    Instant::now() + patience(own)
}

fn factor(text: Option<&OsStr>) -> Result<u32> {
    let Some(text) = text else { return Ok(1) };
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(factor @ 1..=100) => Ok(factor),
        _ => bail!("{VARIABLE}={}: give a whole number from 1 to 100", text.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_a_whole_number_from_1_to_100() -> Result<()> {
        assert_eq!(factor(None)?, 1);
        for (text, wanted) in [("1", 1), ("4", 4), ("100", 100)] {
            assert_eq!(factor(Some(OsStr::new(text)))?, wanted);
        }
        for text in ["", "0", "101", "1.5", "-2", "two"] {
            let error = factor(Some(OsStr::new(text))).expect_err(text).to_string();
            assert!(error.contains(VARIABLE) && error.contains("1 to 100"), "{error}");
        }
        Ok(())
    }
}
