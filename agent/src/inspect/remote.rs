//! Spans read back from a backend's HTTP API, trace by trace, as OTLP requests.

#![forbid(unsafe_code)]

mod jaeger;
mod tempo;
mod window;

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;

use crate::{
    otlp::{json, split::Splitter, walk::Limits},
    transport::http::{Client, ClientOptions, HttpError},
};

pub use window::Window;

/// The largest answer: a trace, or what a search finds. Tempo's own limit of a trace is 5 MB by default.
pub const MAX_ANSWER: usize = 256 << 20;
/// Longest that one answer may take.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// A backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Grafana Tempo: `/api/search`, `/api/traces/{id}`.
    Tempo,
    /// Jaeger: `/api/v3/traces`; where that is missing, `/api/traces`.
    Jaeger,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which API.
    pub backend: Backend,
    /// `http://tempo:3200`; a path before the API's own is kept.
    pub url: String,
    /// From when to when.
    pub window: Window,
    /// At most so many traces; 0 = no limit.
    pub limit: usize,
    /// Only this service; else all of them.
    pub service: Option<String>,
    /// Tempo only: `TraceQL`.
    pub traceql: Option<String>,
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No answer, or a refusal.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that is not what the API says.
    #[error("{url} answers {what}; is this the right address, and {api}?")]
    Answer {
        /// What was asked, without the query.
        url: String,
        /// What is wrong with it.
        what: String,
        /// Whose API it should be.
        api: &'static str,
    },
    /// A trace that is not OTLP.
    #[error("trace {id}: {what}")]
    Trace {
        /// Its id, or where it is from.
        id: String,
        /// What is wrong.
        what: String,
    },
}

/// How the reading ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Traces that were read.
    pub traces: usize,
    /// Whether there may be more than were read: the limit was reached, or the backend held some back.
    pub more: bool,
    /// Whether it was Jaeger's older API, which does not tell everything: no links' attributes, no trace state, no scope's
    /// attributes.
    pub lossy: bool,
}

/// Reads the traces of a query, each once, and gives each to `take`: a serialised request.
pub async fn read(
    query: &Query,
    options: ClientOptions,
    take: &mut dyn FnMut(Bytes) -> anyhow::Result<()>,
) -> anyhow::Result<Read> {
    let options = ClientOptions { body_limit: MAX_ANSWER, timeout: TIMEOUT, ..options };
    let mut reader = Reader { query, seen: HashSet::new(), read: Read::default(), take };
    match query.backend {
        Backend::Tempo => tempo::read(&mut reader, options).await?,
        Backend::Jaeger => jaeger::read(&mut reader, &Client::new(options)?).await?,
    }
    Ok(reader.read)
}

/// What both backends' readers share.
struct Reader<'a> {
    query: &'a Query,
    seen: HashSet<[u8; 16]>,
    read: Read,
    take: &'a mut dyn FnMut(Bytes) -> anyhow::Result<()>,
}

impl Reader<'_> {
    /// How many traces may still be read.
    fn left(&self) -> usize {
        match self.query.limit {
            0 => usize::MAX,
            limit => limit.saturating_sub(self.read.traces),
        }
    }

    /// Whether a trace is to be read: it was not yet, and the limit is not reached.
    fn wants(&mut self, id: [u8; 16]) -> bool {
        if self.seen.contains(&id) {
            return false;
        }
        if self.left() == 0 {
            self.read.more = true;
            return false;
        }
        self.seen.insert(id);
        self.read.traces += 1;
        true
    }

    /// Hands on the traces of a request that were not seen yet.
    fn hand_on(&mut self, request: Vec<u8>, from: &str) -> anyhow::Result<()> {
        let traces = Splitter::default().group(&request.into());
        let traces =
            traces.map_err(|error| RemoteError::Trace { id: from.to_owned(), what: error.to_string() })?;
        for trace in traces {
            if self.wants(trace.id) {
                (self.take)(trace.data)?;
            }
        }
        Ok(())
    }
}

/// A URL under the backend's.
fn url(query: &Query, path: &str, parameters: &[(&str, String)]) -> String {
    let mut url = format!("{}{path}", query.url.trim_end_matches('/'));
    for (number, (name, value)) in parameters.iter().enumerate() {
        url.push(if number == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        percent_encode(value, &mut url);
    }
    url
}

/// RFC 3986: everything but the unreserved characters.
fn percent_encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// A trace id as backends write it: hex, of which some leave out leading zeros.
fn trace_id(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() <= 32)?;
    Some(number.to_be_bytes())
}

/// An OTLP JSON answer as a request. Backends write ids in hex or, as protobuf's own JSON mapping has it, in base64, and
/// Tempo calls its `resourceSpans` `batches`.
fn otlp_json(mut answer: serde_json::Value, from: &str) -> Result<Vec<u8>, RemoteError> {
    use serde_json::Value;
    if let Value::Object(object) = &mut answer {
        if let Some(batches) = object.remove("batches") {
            object.insert("resourceSpans".to_owned(), batches);
        }
        object.retain(|key, _| key == "resourceSpans" || key == "resource_spans");
    }
    hex_ids(&mut answer);
    let read = json::to_protobuf(answer.to_string().as_bytes(), &Limits::default());
    Ok(read.map_err(|error| RemoteError::Trace { id: from.to_owned(), what: error.to_string() })?.data)
}

/// Rewrites ids that are base64 as hex, wherever messages have ids.
fn hex_ids(value: &mut serde_json::Value) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::Value;
    const IDS: [&str; 6] = ["traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id"];
    match value {
        Value::Array(items) => items.iter_mut().for_each(hex_ids),
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    // 8 and 16 bytes are 12 and 24 characters of base64, 16 and 32 of hex.
                    Value::String(text) if IDS.contains(&key.as_str()) && matches!(text.len(), 12 | 24) => {
                        if let Ok(id) = STANDARD.decode(&*text) {
                            *text = super::places::hex(&id);
                        }
                    }
                    // A value's text may have such a key, but not as an object's member: values are `stringValue`.
                    value => hex_ids(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_both_kinds_are_read() {
        let answer = serde_json::json!({"batches": [{"scopeSpans": [{"spans": [
            {"traceId": "AQEBAQEBAQEBAQEBAQEBAQ==", "spanId": "AgICAgICAgI=", "name": "a"},
            {"traceId": "01010101010101010101010101010101", "spanId": "0303030303030303", "name": "b"}
        ]}]}], "metrics": {}});
        let request = otlp_json(answer, "test").expect("it is OTLP");
        let spans: Vec<_> =
            crate::otlp::view::spans(&request).map(|(_, _, span)| (span.trace_id, span.span_id)).collect();
        assert_eq!(spans, [([1; 16], [2; 8]), ([1; 16], [3; 8])]);
    }

    #[test]
    fn trace_ids_may_lack_leading_zeros() {
        assert_eq!(
            trace_id("1f"),
            Some([[0; 15].as_slice(), &[0x1f]].concat().try_into().expect("16 bytes"))
        );
        assert_eq!(trace_id(&"ff".repeat(16)), Some([0xff; 16]));
        for bad in ["", "xyz", &"0".repeat(33)] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_are_encoded() {
        let query = Query {
            backend: Backend::Tempo,
            url: "http://localhost:3200/tempo/".into(),
            window: Window { start: 0, end: 1 },
            limit: 0,
            service: None,
            traceql: None,
        };
        let url = url(&query, "/api/search", &[("q", "{ .a = \"é\" }".into()), ("limit", "5".into())]);
        assert_eq!(
            url,
            "http://localhost:3200/tempo/api/search?q=%7B%20.a%20%3D%20%22%C3%A9%22%20%7D&limit=5"
        );
    }
}
