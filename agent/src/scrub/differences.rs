//! Where `redaction` means more here than in the Collector: one line each, for the log at start.
//!
//! `deploy/docs/scrubbing.md` has the same list with reasons.

#![forbid(unsafe_code)]

use crate::config::{
    Config,
    processors::{Hash, Processor, Redaction},
};

/// The lines that apply to the processors which a configuration uses.
pub fn differences(config: &Config) -> Vec<String> {
    let used = |id| config.service.pipelines.iter().any(|pipeline| pipeline.processors.contains(id));
    let redactions =
        config.processors.iter().filter(|component| used(&component.id)).filter_map(|component| {
            match &component.config {
                Processor::Redaction(redaction) => Some((&component.id, redaction)),
                _ => None,
            }
        });
    redactions
        .flat_map(|(id, redaction)| lines(redaction).into_iter().map(move |line| format!("{id}: {line}")))
        .collect()
}

fn lines(redaction: &Redaction) -> Vec<&'static str> {
    let masks = !redaction.blocked_values.is_empty() || !redaction.blocked_key_patterns.is_empty();
    let database = &redaction.db_sanitizer;
    let systems = [
        &database.sql,
        &database.redis,
        &database.valkey,
        &database.memcached,
        &database.mongo,
        &database.opensearch,
        &database.es,
    ];
    let table = [
        (
            !redaction.blocked_values.is_empty(),
            "unlike the Collector, `blocked_values` are looked for in every text: attributes of links too, names, status \
             messages, trace state, scopes, schema URLs, keys, bytes, inside arrays and maps",
        ),
        (true, "unlike the Collector, every attribute of a key that occurs twice is treated"),
        (
            masks && redaction.hash.is_none(),
            "unlike the Collector, what is masked becomes [REDACTED], not ****",
        ),
        (
            !redaction.blocked_keys.is_empty(),
            "`blocked_keys`, which the Collector does not know, deletes the attribute",
        ),
        (
            !redaction.blocked_key_patterns.is_empty(),
            "unlike the Collector, a blocked key's value is masked as a whole, be it a number, a list or several lines",
        ),
        (
            !redaction.blocked_key_patterns.is_empty() && !redaction.allowed_values.is_empty(),
            "unlike the Collector, a blocked key is masked even where its value is allowed",
        ),
        (
            !redaction.blocked_values.is_empty() && redaction.redact_all_types,
            "unlike the Collector, arrays and maps stay what they are: what is blocked is masked inside them",
        ),
        (
            redaction.url_sanitizer.is_some(),
            "unlike the Collector, `url_sanitizer` keeps the names of query values and the fragment, masks user info and \
             e-mail addresses too, finds identifiers by rules of its own, and names of spans of every kind count",
        ),
        (
            systems.iter().any(|system| system.is_some()),
            "unlike the Collector, `db_sanitizer` knows the SQL of all usual systems, masks a statement that it can't \
             read, and acts on attributes of OpenSearch and Elasticsearch",
        ),
        (
            database.allow_fallback_without_system && systems.iter().any(|system| system.is_some()),
            "unlike the Collector, `allow_fallback_without_system` applies the one sanitizer that fits, not all in turn",
        ),
        (
            matches!(redaction.hash, Some(Hash::Md5 | Hash::Sha1 | Hash::Sha3 | Hash::Sha256)),
            "a hash without a key can be guessed where the value can: use `hash_function: hmac-sha256` with \
             `hmac_key_file`",
        ),
        (
            matches!(redaction.hash, Some(Hash::Md5 | Hash::Sha1)),
            "`md5` and `sha1` are broken: a sender can make two values look like one",
        ),
        (
            !redaction.skip_conditions.is_empty(),
            "`skip_conditions`, which the Collector has as a proposal only, redact where they can't be evaluated, and where \
             one of two values of a key does not fit; who may write what they read decides what is redacted: let them read \
             what this program stamps",
        ),
    ];
    table.into_iter().filter_map(|(applies, line)| applies.then_some(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(redaction: &str) -> Vec<String> {
        let text = format!(
            "receivers:\n  otlp: {{protocols: {{grpc: }}}}\nprocessors:\n  redaction: {redaction}\n  redaction/unused: {{}}\n\
             exporters:\n  debug: {{}}\nservice:\n  pipelines:\n    \
             traces: {{receivers: [otlp], processors: [redaction], exporters: [debug]}}\n"
        );
        differences(&crate::config::parse(&text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}")))
    }

    #[test]
    fn only_what_applies_is_said() {
        let count = |redaction: &str, wanted: &[&str]| {
            let said = said(redaction);
            assert_eq!(said.len(), wanted.len(), "{said:#?}");
            for (line, part) in said.iter().zip(wanted) {
                assert!(line.starts_with("redaction: ") && line.contains(part), "{line}");
            }
        };
        count("{allow_all_keys: true}", &["occurs twice"]);
        count(
            "{allow_all_keys: true, blocked_values: [a], hash_function: md5}",
            &["every text", "occurs twice", "guessed", "broken"],
        );
        count(
            "{blocked_keys: [a], blocked_key_patterns: [b], allowed_values: [c]}",
            &["occurs twice", "[REDACTED]", "deletes", "as a whole", "allowed"],
        );
        count(
            "{allow_all_keys: true, url_sanitizer: {enabled: true}, db_sanitizer: {es: {enabled: true}, \
             allow_fallback_without_system: true}}",
            &["occurs twice", "query", "OpenSearch", "fallback"],
        );
    }
}
