//! What takes values out of statements and URLs: any bytes, in linear space, and once is enough.

use spanwarden::scrub::{
    nosql::{
        command::{self, Server},
        json,
    },
    sql::{self, Dialect},
    url::{self, Part, Rules},
};

/// Runs a pass twice; what it says of itself must be true. Returns what it writes.
fn stable(text: &[u8], growth: usize, pass: impl Fn(&[u8], &mut Vec<u8>) -> bool) -> Vec<u8> {
    let mut out = b"what was there before".to_vec();
    let changed = pass(text, &mut out);
    let result = if changed { out } else { text.to_vec() };
    assert_eq!(changed, result != text, "it says what it did");
    assert!(result.len() <= growth * text.len() + 8, "{} bytes of {}", result.len(), text.len());
    let mut again = Vec::new();
    let shown = String::from_utf8_lossy(&result);
    assert!(!pass(&result, &mut again), "{shown:?} becomes {:?}", String::from_utf8_lossy(&again));
    result
}

/// A statement in a dialect, which the first byte says.
///
/// # Panics
/// When a promise is broken.
pub fn sql(data: &[u8]) {
    let Some((&dialect, text)) = data.split_first() else { return };
    let dialect = Dialect::ALL[usize::from(dialect) % Dialect::ALL.len()];
    stable(text, 2, |text, out| sql::sanitize(text, dialect, out));
    // A literal around it hides all of it, whatever it is.
    let hidden = String::from_utf8_lossy(text).replace(['\'', '\\'], "");
    let out = stable(format!("a = 'S{hidden}E' AND b").as_bytes(), 2, |text, out| {
        sql::sanitize(text, dialect, out)
    });
    assert_eq!(String::from_utf8_lossy(&out), "a = ? AND b");
}

/// A URL or a part of one; the first byte says what, and by which rules.
///
/// # Panics
/// When a promise is broken.
pub fn url(data: &[u8]) {
    let Some((&kind, text)) = data.split_first() else { return };
    let rules = Rules { all_values: kind & 1 == 1, identifiers: kind & 2 == 2 };
    let part = [Part::Url, Part::Query, Part::Fragment][usize::from(kind >> 2) % 3];
    stable(text, 2, |text, out| url::sanitize(text, part, rules, out));
    stable(text, 2, |text, out| url::sanitize_name(text, rules, out));
}

/// JSON or commands; the first byte says which.
///
/// # Panics
/// When a promise is broken.
pub fn nosql(data: &[u8]) {
    let Some((&kind, text)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let out = stable(text, 3, json::sanitize);
            let documents = serde_json::Deserializer::from_slice(&out).into_iter::<serde_json::Value>();
            for document in documents.flatten() {
                masked(&document);
            }
        }
        1 => drop(stable(text, 1, |text, out| command::sanitize(text, Server::Redis, out))),
        _ => drop(stable(text, 1, |text, out| command::sanitize(text, Server::Memcached, out))),
    }
}

fn masked(value: &serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(masked),
        serde_json::Value::Object(members) => members.values().for_each(masked),
        value => assert_eq!(value, "?"),
    }
}
