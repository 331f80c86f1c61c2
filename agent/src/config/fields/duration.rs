//! Go's duration syntax: `1h2m3.5s`, `200ms`, `0`.

use std::time::Duration;

/// Units, longest name first where one is the start of another.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration; negative ones have no use in any field. Go's range ends at 2^63 ns, about 292 years.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "must be a duration such as `200ms` or `1m30s`, but this is `{}`",
            super::scalars::excerpt(text)
        )
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("must not be negative, but this is `{}`", super::scalars::excerpt(text)));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(bad());
    }
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("a duration needs a unit: `{rest}s`, `{rest}ms`, …"));
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        nanos = nanos.saturating_add(scaled(number, *scale).ok_or_else(bad)?);
        rest = after;
    }
    match i64::try_from(nanos) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Err(_) => Err(format!("`{}` is longer than 292 years", super::scalars::excerpt(text))),
    }
}

/// `number` (with an optional fraction) times `scale`, what is below a nanosecond cut off.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // Anything longer than 20 digits is beyond Go's range; saturate so that the caller says so.
    let whole: u128 = match whole {
        "" => 0,
        digits if digits.len() > 20 => u128::from(u64::MAX),
        digits => digits.parse().ok()?,
    };
    let fraction = &fraction[..fraction.len().min(18)];
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some(whole.saturating_mul(scale).saturating_add(fraction * scale / divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("200ms", 200_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("1ns", 1),
            ("0.1ns", 0),
            ("1m0.000000001s", 60_000_000_001),
        ] {
            assert_eq!(parse(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in ["", "5", "-5s", "s", ".s", "5x", "1.2.3s", "5 s", "1h 2m", "99999999999h", "3d", "1e3s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("30").unwrap_err().contains("`30s`"));
    }
}
