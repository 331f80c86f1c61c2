//! `redaction`.

use std::path::PathBuf;

use crate::config::{
    Located,
    fields::Fields,
    processors::{DbSanitizer, Hash, HmacKey, Redaction, RedactionSummary, UrlSanitizer},
};

/// Where a URL is, by the semantic conventions, the old ones too.
pub(super) const URLS: [&str; 7] =
    ["url.full", "url.path", "url.query", "url.fragment", "url.original", "http.url", "http.target"];
/// Where a statement is.
pub(super) const STATEMENTS: [&str; 3] = ["db.query.text", "db.statement", "db.query.summary"];

pub(in crate::config::read) fn read(mut fields: Fields<'_>) -> Redaction {
    let summaries = [
        ("silent", RedactionSummary::Silent),
        ("", RedactionSummary::Silent),
        ("info", RedactionSummary::Info),
        ("debug", RedactionSummary::Debug),
    ];
    let redaction = Redaction {
        allow_all_keys: fields.boolean("allow_all_keys").unwrap_or(false),
        allowed_keys: fields.strings("allowed_keys"),
        ignored_keys: fields.strings("ignored_keys"),
        ignored_key_patterns: fields.located_strings("ignored_key_patterns"),
        blocked_keys: fields.strings("blocked_keys"),
        blocked_key_patterns: fields.located_strings("blocked_key_patterns"),
        blocked_values: fields.located_strings("blocked_values"),
        allowed_values: fields.located_strings("allowed_values"),
        redact_all_types: fields.boolean("redact_all_types").unwrap_or(false),
        hash: hash(&mut fields),
        url_sanitizer: url_sanitizer(&mut fields),
        db_sanitizer: db_sanitizer(&mut fields),
        summary: fields.choice("summary", &summaries).unwrap_or_default(),
        skip_conditions: fields.located_strings("skip_conditions"),
    };
    let patterns = [
        &redaction.ignored_key_patterns,
        &redaction.blocked_key_patterns,
        &redaction.blocked_values,
        &redaction.allowed_values,
    ];
    for pattern in patterns.into_iter().flatten().filter(|pattern| pattern.value.is_empty()) {
        fields.report().error(&pattern.at, "an empty pattern matches everything; remove it, or write `.*`");
    }
    if !redaction.allow_all_keys && redaction.allowed_keys.is_empty() {
        fields.warn_at(
            "allow_all_keys",
            "without `allow_all_keys: true` and without `allowed_keys` every attribute is removed",
        );
    }
    redaction
}

/// The functions that `hash_function` may name.
#[derive(Clone, Copy)]
enum Function {
    None,
    Plain(fn() -> Hash),
    /// With the least length of its key, in bytes: that of the hash.
    Keyed(fn(HmacKey) -> Hash, usize),
}

fn hash(fields: &mut Fields<'_>) -> Option<Hash> {
    let functions = [
        ("", Function::None),
        ("md5", Function::Plain(|| Hash::Md5)),
        ("sha1", Function::Plain(|| Hash::Sha1)),
        ("sha3", Function::Plain(|| Hash::Sha3)),
        ("sha256", Function::Plain(|| Hash::Sha256)),
        ("hmac-sha256", Function::Keyed(Hash::HmacSha256, 32)),
        ("hmac-sha512", Function::Keyed(Hash::HmacSha512, 64)),
    ];
    let function = fields.choice("hash_function", &functions).unwrap_or(Function::None);
    let inline = fields.located("hmac_key").filter(|key| !key.value.is_empty());
    let file = fields.located("hmac_key_file").filter(|path| !path.value.is_empty());
    let Function::Keyed(wrap, least) = function else {
        let useless = [("hmac_key", inline.is_some()), ("hmac_key_file", file.is_some())];
        for (key, _) in useless.iter().filter(|(_, given)| *given) {
            fields.error_at(
                key,
                "has no effect without `hash_function: hmac-sha256` or `hmac-sha512`; write that, or remove the key",
            );
        }
        return if let Function::Plain(make) = function { Some(make()) } else { None };
    };
    match (inline, file) {
        (Some(_), Some(file)) => {
            fields.report().error(&file.at, "write either `hmac_key` or `hmac_key_file`");
            None
        }
        (None, None) => {
            fields.error_at(
                "hash_function",
                "needs a key: `hmac_key_file` (recommended: keys can be changed, and destroyed), or `hmac_key`",
            );
            None
        }
        (Some(key), None) if key.value.len() < least => {
            // The key is a secret: it is not shown.
            let message = format!(
                "has {} bytes and must have at least {least}; `openssl rand -hex {least}` makes one",
                key.value.len()
            );
            fields.report().error(&key.at, message);
            None
        }
        (Some(key), None) => Some(wrap(HmacKey::Inline(key.value))),
        (None, Some(file)) => {
            if !file.value.starts_with('/') {
                fields
                    .report()
                    .error(&file.at, "must be an absolute path, such as `/etc/spanwarden/hash-keys`");
            }
            Some(wrap(HmacKey::File(Located { value: PathBuf::from(file.value), at: file.at })))
        }
    }
}

fn url_sanitizer(fields: &mut Fields<'_>) -> Option<UrlSanitizer> {
    let mut fields = fields.table("url_sanitizer")?;
    let enabled = fields.boolean("enabled").unwrap_or(false);
    let sanitizer = UrlSanitizer {
        attributes: attributes(&mut fields, &URLS),
        sanitize_span_name: fields.boolean("sanitize_span_name").unwrap_or(true),
        all_values: fields.choice("query", &[("all", true), ("secrets", false)]).unwrap_or(true),
    };
    enabled.then_some(sanitizer)
}

fn db_sanitizer(fields: &mut Fields<'_>) -> DbSanitizer {
    let Some(mut fields) = fields.table("db_sanitizer") else { return DbSanitizer::default() };
    let mut system = |key| {
        let mut fields = fields.table(key)?;
        let enabled = fields.boolean("enabled").unwrap_or(false);
        let attributes = attributes(&mut fields, &STATEMENTS);
        enabled.then_some(attributes)
    };
    DbSanitizer {
        sql: system("sql"),
        redis: system("redis"),
        valkey: system("valkey"),
        memcached: system("memcached"),
        mongo: system("mongo"),
        opensearch: system("opensearch"),
        es: system("es"),
        sanitize_span_name: fields.boolean("sanitize_span_name").unwrap_or(true),
        allow_fallback_without_system: fields.boolean("allow_fallback_without_system").unwrap_or(false),
    }
}

/// The keys that are named, or the usual ones: a sanitizer that is enabled looks somewhere.
fn attributes(fields: &mut Fields<'_>, usual: &[&str]) -> Vec<String> {
    let named = fields.strings("attributes");
    if named.is_empty() { usual.iter().map(|key| (*key).to_owned()).collect() } else { named }
}
