//! Jaeger: its newer API answers in OTLP; where it is not there, the older one's model is turned into OTLP.

#![forbid(unsafe_code)]

mod model;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Reader, RemoteError, Window, otlp_json, url};
use crate::transport::http::Client;

/// Traces of one search.
const PAGE: usize = 100;

/// Which API.
#[derive(Clone, Copy, PartialEq)]
enum Api {
    /// `/api/v3`
    Otlp,
    /// `/api`
    Old,
}

#[derive(Deserialize)]
struct Services {
    #[serde(alias = "data")]
    services: Option<Vec<String>>,
}

pub(super) async fn read(reader: &mut Reader<'_>, client: &Client) -> anyhow::Result<()> {
    let (api, services) = services(reader, client).await?;
    reader.read.lossy = api == Api::Old;
    // Every search is for one service, and a trace of several services is found by each of them.
    let services = reader.query.service.clone().map_or(services, |service| vec![service]);
    for service in services {
        let mut windows = vec![reader.query.window];
        while let Some(window) = windows.pop() {
            if reader.left() == 0 {
                reader.read.more = true;
                return Ok(());
            }
            let (requests, full) = find(reader, client, api, &service, window).await?;
            if let Some([later, earlier]) = window.halves().filter(|_| full) {
                windows.extend([earlier, later]);
            } else {
                reader.read.more |= full;
                for request in requests {
                    reader.hand_on(request, &service)?;
                }
            }
        }
    }
    Ok(())
}

/// The services that Jaeger knows, and by which API it told them.
async fn services(reader: &Reader<'_>, client: &Client) -> Result<(Api, Vec<String>), RemoteError> {
    let newer = client.get(&url(reader.query, "/api/v3/services", &[])).await?;
    let (api, path, answer) = if newer.status == StatusCode::NOT_FOUND {
        (Api::Old, "/api/services", client.get(&url(reader.query, "/api/services", &[])).await?)
    } else {
        (Api::Otlp, "/api/v3/services", newer)
    };
    let answer = answer.success()?;
    let services: Services = serde_json::from_slice(&answer.body)
        .map_err(|error| no_list(reader, path, "services", &error.to_string()))?;
    Ok((api, services.services.unwrap_or_default()))
}

fn no_list(reader: &Reader<'_>, path: &str, of: &str, why: &str) -> RemoteError {
    RemoteError::Answer {
        url: format!("{}{path}", reader.query.url.trim_end_matches('/')),
        what: format!("with something else than {of} ({why})"),
        api: "Jaeger's",
    }
}

/// The traces of a service and a piece of time, as requests, and whether there may be more.
async fn find(
    reader: &Reader<'_>,
    client: &Client,
    api: Api,
    service: &str,
    window: Window,
) -> Result<(Vec<Vec<u8>>, bool), RemoteError> {
    let page = reader.left().saturating_add(1).min(PAGE);
    let path = if api == Api::Otlp { "/api/v3/traces" } else { "/api/traces" };
    let (service, page_text) = (service.to_owned(), page.to_string());
    let parameters = match api {
        Api::Otlp => vec![
            ("query.service_name", service),
            ("query.start_time_min", rfc3339(window.start)),
            ("query.start_time_max", rfc3339(window.end + 1)),
            ("query.num_traces", page_text.clone()),
            // Its name before Jaeger 2.
            ("query.search_depth", page_text),
        ],
        Api::Old => vec![
            ("service", service),
            ("start", (window.start * 1_000_000).to_string()),
            ("end", ((window.end + 1) * 1_000_000).to_string()),
            ("limit", page_text),
        ],
    };
    let answer = client.get(&url(reader.query, path, &parameters)).await?;
    if api == Api::Otlp && answer.status == StatusCode::NOT_FOUND {
        // Its way of saying that nothing was found.
        return Ok((Vec::new(), false));
    }
    let answer = answer.success()?;
    let mut requests = Vec::new();
    let mut traces = std::collections::HashSet::new();
    // The newer API may send one object after the other.
    for object in serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>() {
        let mut object = object.map_err(|error| no_list(reader, path, "traces", &error.to_string()))?;
        match api {
            Api::Otlp => {
                let Some(result) = object.get_mut("result") else {
                    return Err(no_list(reader, path, "traces", "no `result`"));
                };
                requests.push(otlp_json(result.take(), path)?);
            }
            Api::Old => {
                let Some(data) = object.get_mut("data") else {
                    return Err(no_list(reader, path, "traces", "no `data`"));
                };
                let data = serde_json::from_value(data.take())
                    .map_err(|error| no_list(reader, path, "traces", &error.to_string()))?;
                requests.extend(model::requests(data));
            }
        }
    }
    for request in &requests {
        traces.extend(crate::otlp::view::spans(request).map(|(_, _, span)| span.trace_id));
    }
    Ok((requests, traces.len() >= page))
}

/// `2026-11-21T23:00:00Z`
fn rfc3339(seconds: u64) -> String {
    // Days since 1970 as a date: Howard Hinnant's civil_from_days.
    let (days, rest) = ((seconds / 86_400).cast_signed(), seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
