//! `scrub`: the built-in detectors. An empty mapping is all of what is on by default.

use crate::config::{
    detectors::{self, DetectorSet, SETS, VERSION},
    fields::{Fields, nearest},
    processors::{DbSanitizer, IpRanges, Redaction, Scrub, ScrubKeys, UrlSanitizer},
};

use super::redaction::{STATEMENTS, URLS};

/// Longest `mask`.
const LONGEST_MASK: usize = 64;

pub(in crate::config::read) fn read(mut fields: Fields<'_>) -> Scrub {
    let version = fields.unsigned("version").unwrap_or(VERSION);
    if version == 0 || version > VERSION {
        let message = format!("there is no version {version} of the detectors here; the newest is {VERSION}");
        fields.error_at("version", message);
    }
    let sets = if fields.get("sets").is_some() {
        fields.choices("sets", &SETS).into_iter().map(|set| set.value).collect()
    } else {
        vec![DetectorSet::Secrets, DetectorSet::Personal]
    };
    let mut on: Vec<(&'static str, bool)> =
        detectors::all().map(|(name, set)| (name, sets.contains(&set))).collect();
    let mut ip = IpRanges::default();
    if let Some(table) = fields.table("detectors") {
        each(table, &mut on, &mut ip);
    }
    let decode_base64 = !fields.choices("decode", &[("base64", ())]).is_empty();
    Scrub {
        version,
        detectors: on.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect(),
        ip,
        mask: mask(&mut fields),
        decode_base64,
        sanitizers: sanitizers(&mut fields),
        blocked_keys: fields.table("blocked_keys").map(keys).unwrap_or_default(),
        redact_all_types: fields.boolean("redact_all_types").unwrap_or(false),
    }
}

/// `detectors`: by name, each a mapping.
fn each(mut fields: Fields<'_>, on: &mut [(&'static str, bool)], ip: &mut IpRanges) {
    let report = fields.report();
    for (key, node) in fields.entries() {
        let Some(detector) = on.iter_mut().find(|(name, _)| *name == key.name) else {
            let names: Vec<&str> = on.iter().map(|(name, _)| *name).collect();
            report.error(&key.at, nearest::unknown("detector", &key.name, &names));
            continue;
        };
        let mut fields = Fields::new(report, node);
        detector.1 = fields.boolean("enabled").unwrap_or(true);
        if detector.0 == "ip" {
            let ranges =
                [("all", IpRanges::All), ("public", IpRanges::Public), ("private", IpRanges::Private)];
            *ip = fields.choice("ranges", &ranges).unwrap_or_default();
        }
    }
}

/// `statements` and `urls`, both on by default, where the semantic conventions have them.
fn sanitizers(fields: &mut Fields<'_>) -> Option<Box<Redaction>> {
    let mut enabled = |key| fields.table(key).and_then(|mut table| table.boolean("enabled")).unwrap_or(true);
    let (statements, urls) = (enabled("statements"), enabled("urls"));
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let of = || statements.then(|| keys(&STATEMENTS));
    let sanitizers = || Redaction {
        allow_all_keys: true,
        url_sanitizer: urls.then(|| UrlSanitizer {
            attributes: keys(&URLS),
            sanitize_span_name: true,
            all_values: false,
        }),
        db_sanitizer: DbSanitizer {
            sql: of(),
            redis: of(),
            valkey: of(),
            memcached: of(),
            mongo: of(),
            opensearch: of(),
            es: of(),
            sanitize_span_name: true,
            allow_fallback_without_system: false,
        },
        ..Redaction::default()
    };
    (statements || urls).then(|| Box::new(sanitizers()))
}

fn mask(fields: &mut Fields<'_>) -> String {
    let Some(mask) = fields.located("mask") else { return Scrub::MASK.to_owned() };
    if mask.value.len() > LONGEST_MASK || mask.value.chars().any(char::is_control) {
        let message = format!("must be at most {LONGEST_MASK} bytes without control characters");
        fields.report().error(&mask.at, message);
    }
    mask.value
}

fn keys(mut fields: Fields<'_>) -> ScrubKeys {
    let keys = ScrubKeys {
        enabled: fields.boolean("enabled").unwrap_or(true),
        add: fields.strings("add"),
        except: fields.strings("except"),
    };
    if !keys.enabled && !keys.except.is_empty() {
        fields.warn_at("except", "has no effect with `enabled: false`");
    }
    keys
}
