//! What the API server demands of an Event (Kubernetes' `pkg/apis/core/validation/events.go`).

use serde_json::Value;

/// The Event, or why it is refused.
pub(super) fn event(namespace: &str, body: &[u8]) -> Result<Value, String> {
    let event: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: Invalid value")) };
    must(text("/apiVersion") == "events.k8s.io/v1" && text("/kind") == "Event", "kind")?;
    must(is_subdomain(text("/metadata/name")), "metadata.name")?;
    must(text("/metadata/namespace") == namespace, "metadata.namespace")?;
    must(text("/regarding/namespace") == namespace, "involvedObject.namespace")?;
    must(is_micro_time(text("/eventTime")), "eventTime")?;
    must(!text("/reportingController").is_empty(), "reportingController")?;
    must((1..=128).contains(&text("/reportingInstance").len()), "reportingInstance")?;
    must((1..=128).contains(&text("/action").len()), "action")?;
    must((1..=128).contains(&text("/reason").len()), "reason")?;
    must(text("/note").len() <= 1024, "note")?;
    must(matches!(text("/type"), "Normal" | "Warning"), "type")?;
    Ok(event)
}

fn is_subdomain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            label.starts_with(good) && label.ends_with(good) && label.chars().all(|c| good(c) || c == '-')
        })
}

/// `2006-01-02T15:04:05.000000Z`
fn is_micro_time(time: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    time.len() == shape.len()
        && time.bytes().zip(shape.bytes()).all(|(is, shape)| match shape {
            b'd' => is.is_ascii_digit(),
            other => is == other,
        })
}
