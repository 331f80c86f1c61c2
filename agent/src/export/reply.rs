//! The few protobuf messages that a backend answers with, read field by field.

use std::time::Duration;

use crate::otlp::Accepted;

/// One field of a message.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message, as far as they are well-formed. A backend's answer is advice: what can't be read is
/// left out.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// What an `ExportTraceServiceResponse` says: field 1 is `ExportTracePartialSuccess` {1: `rejected_spans`,
/// 2: `error_message`}. The text stays here; it may quote other senders' spans.
pub(crate) fn accepted(response: &[u8], spans: u32) -> Accepted {
    let mut rejected = 0;
    for (number, value) in Fields(response) {
        if let (1, Value::Bytes(partial)) = (number, value) {
            for (number, value) in Fields(partial) {
                if let (1, Value::Varint(n)) = (number, value) {
                    // int64: a negative count is nonsense and means none.
                    rejected = i64::try_from(n).unwrap_or(0);
                }
            }
        }
    }
    partial(rejected, spans)
}

/// An [`Accepted`] with so many spans rejected, at most all.
pub(crate) fn partial(rejected: i64, spans: u32) -> Accepted {
    let rejected_spans = u32::try_from(rejected.max(0)).unwrap_or(u32::MAX).min(spans);
    let message = match rejected_spans {
        0 => String::new(),
        n => format!("the backend rejected {n} spans; its own log or metrics say why"),
    };
    Accepted { rejected_spans, message }
}

/// The delay of a `google.rpc.RetryInfo` in a `google.rpc.Status`: `details` (3) are `Any` {1: `type_url`,
/// 2: `value`}, `RetryInfo` is {1: `Duration` {1: seconds, 2: nanos}}.
pub(crate) fn retry_info(status: &[u8]) -> Option<Duration> {
    for (number, value) in Fields(status) {
        let (3, Value::Bytes(any)) = (number, value) else { continue };
        let (mut ours, mut content) = (false, &[][..]);
        for (number, value) in Fields(any) {
            match (number, value) {
                (1, Value::Bytes(url)) => ours = url.ends_with(b"/google.rpc.RetryInfo"),
                (2, Value::Bytes(bytes)) => content = bytes,
                _ => {}
            }
        }
        if ours {
            return Some(retry_delay(content));
        }
    }
    None
}

fn retry_delay(retry_info: &[u8]) -> Duration {
    let mut delay = Duration::ZERO;
    for (number, value) in Fields(retry_info) {
        let (1, Value::Bytes(duration)) = (number, value) else { continue };
        for (number, value) in Fields(duration) {
            match (number, value) {
                (1, Value::Varint(seconds)) if i64::try_from(seconds).is_ok() => {
                    delay = delay.saturating_add(Duration::from_secs(seconds));
                }
                (2, Value::Varint(nanos)) if nanos < 1_000_000_000 => {
                    delay = delay.saturating_add(Duration::from_nanos(nanos));
                }
                _ => {}
            }
        }
    }
    delay
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn partial_success_is_read_and_bounded() {
        let response = [&[0x0a, 10, 0x08, 3, 0x12, 6][..], b"secret"].concat();
        let accepted = accepted(&response, 10);
        assert_eq!(accepted.rejected_spans, 3);
        assert!(!accepted.message.contains("secret"));
        assert_eq!(super::accepted(&response, 2).rejected_spans, 2);
        assert_eq!(super::accepted(&[], 2), Accepted::default());
        // -1
        let negative = [0x0a, 11, 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(super::accepted(&negative, 2), Accepted::default());
    }

    #[test]
    fn retry_info_is_found_among_details() {
        let any = |url: &[u8], value: &[u8]| {
            let mut any = vec![0x0a, url.len() as u8];
            any.extend(url);
            any.extend([0x12, value.len() as u8]);
            any.extend(value);
            [&[0x1a, any.len() as u8][..], &any].concat()
        };
        let retry = any(b"type.googleapis.com/google.rpc.RetryInfo", &[0x0a, 5, 0x08, 2, 0x10, 0x80, 1]);
        let other = any(b"type.googleapis.com/google.rpc.Help", &[0x0a, 2, 0x08, 9]);
        let status = [&[0x08, 8][..], &other, &retry].concat();
        assert_eq!(retry_info(&status), Some(Duration::new(2, 128)));
        assert_eq!(retry_info(&other), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(accepted(&bytes, 5).rejected_spans <= 5);
            let _ = retry_info(&bytes);
        }
    }
}
