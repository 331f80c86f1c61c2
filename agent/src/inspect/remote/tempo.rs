//! Tempo: a search for ids, then each trace in protobuf. Its message has its `ResourceSpans` under the number that a request
//! has them under.

#![forbid(unsafe_code)]

use http::{HeaderValue, StatusCode, header::ACCEPT};
use serde::Deserialize;

use super::{Reader, RemoteError, Window, otlp_json, trace_id, url};
use crate::transport::http::{Client, ClientOptions, Response};

/// Ids of one search. Tempo's default is 20, and what it allows at most is configured (`max_search_limit`), 0 being no limit.
const PAGE: usize = 500;

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    traces: Vec<FoundTrace>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundTrace {
    #[serde(rename = "traceID")]
    trace_id: String,
}

pub(super) async fn read(reader: &mut Reader<'_>, options: ClientOptions) -> anyhow::Result<()> {
    let search = Client::new(options.clone())?;
    let mut options = options;
    options.headers.insert(ACCEPT, HeaderValue::from_static("application/protobuf"));
    let fetch = Client::new(options)?;
    let mut windows = vec![reader.query.window];
    while let Some(window) = windows.pop() {
        if reader.left() == 0 {
            reader.read.more = true;
            break;
        }
        let (ids, full) = find(reader, &search, window).await?;
        if let Some([later, earlier]) = window.halves().filter(|_| full) {
            windows.extend([earlier, later]);
        } else {
            reader.read.more |= full;
            for id in ids {
                trace(reader, &fetch, id).await?;
            }
        }
    }
    Ok(())
}

/// The ids of a piece of time, and whether there may be more.
async fn find(
    reader: &Reader<'_>,
    client: &Client,
    window: Window,
) -> Result<(Vec<[u8; 16]>, bool), RemoteError> {
    let query = reader.query;
    let traceql = match (&query.traceql, &query.service) {
        (Some(traceql), _) => traceql.clone(),
        (None, Some(service)) => {
            let quoted = serde_json::Value::from(service.as_str());
            format!("{{ resource.service.name = {quoted} }}")
        }
        (None, None) => "{}".to_owned(),
    };
    let page = reader.left().saturating_add(1).min(PAGE);
    let parameters = [
        ("q", traceql),
        // 0 is no time to Tempo, and then it looks at what is newest, whatever the end is.
        ("start", window.start.max(1).to_string()),
        // Tempo's end is exclusive.
        ("end", (window.end + 1).to_string()),
        ("limit", page.to_string()),
        ("spss", "1".to_owned()),
    ];
    let asked = url(query, "/api/search", &parameters);
    let answer = client.get(&asked).await?.success()?;
    let found: Found = serde_json::from_slice(&answer.body).map_err(|error| RemoteError::Answer {
        url: format!("{}/api/search", query.url.trim_end_matches('/')),
        what: format!("with something else than a list of traces ({error})"),
        api: "Tempo's",
    })?;
    let ids: Option<Vec<_>> = found.traces.iter().map(|trace| trace_id(&trace.trace_id)).collect();
    let ids = ids.ok_or_else(|| RemoteError::Answer {
        url: format!("{}/api/search", query.url.trim_end_matches('/')),
        what: "with a trace id that is no hex number".to_owned(),
        api: "Tempo's",
    })?;
    let full = ids.len() >= page;
    Ok((ids, full))
}

async fn trace(reader: &mut Reader<'_>, client: &Client, id: [u8; 16]) -> anyhow::Result<()> {
    if !reader.wants(id) {
        return Ok(());
    }
    let hex = crate::inspect::places::hex(&id);
    let answer = client.get(&url(reader.query, &format!("/api/traces/{hex}"), &[])).await?;
    if answer.status == StatusCode::NOT_FOUND {
        // Found a moment ago: compacted away, or past its retention.
        reader.read.traces -= 1;
        return Ok(());
    }
    let answer = answer.success()?;
    let request = if is_json(&answer) {
        let text = serde_json::from_slice(&answer.body)
            .map_err(|error| RemoteError::Trace { id: hex.clone(), what: error.to_string() })?;
        otlp_json(text, &hex)?
    } else {
        answer.body.to_vec()
    };
    (reader.take)(request.into())
}

fn is_json(answer: &Response) -> bool {
    let kind = answer.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json")) || answer.body.first() == Some(&b'{')
}
