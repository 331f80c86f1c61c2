//! `include` and `exclude`, and the `span` processor.

use super::actions::literal;
use crate::config::{
    Located,
    fields::Fields,
    processors::{AttributeMatch, LibraryMatch, SpanChoice, SpanMatch, SpanRules},
};

pub(super) fn choice(fields: &mut Fields<'_>) -> SpanChoice {
    SpanChoice {
        include: fields.table("include").map(span_match),
        exclude: fields.table("exclude").map(span_match),
    }
}

const KINDS: [(&str, u32); 12] = [
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
    ("Unspecified", 0),
    ("Internal", 1),
    ("Server", 2),
    ("Client", 3),
    ("Producer", 4),
    ("Consumer", 5),
];

fn span_match(mut fields: Fields<'_>) -> SpanMatch {
    let regexp = fields.choice("match_type", &[("strict", false), ("regexp", true)]);
    if fields.get("match_type").is_none() {
        fields.error("`match_type` is required: `strict` or `regexp`");
    }
    let found = SpanMatch {
        regexp: regexp.unwrap_or_default(),
        services: fields.located_strings("services"),
        span_names: fields.located_strings("span_names"),
        attributes: attributes(&mut fields, "attributes"),
        resources: attributes(&mut fields, "resources"),
        libraries: libraries(&mut fields),
        span_kinds: fields.choices("span_kinds", &KINDS).into_iter().map(|kind| kind.value).collect(),
    };
    // A cache of matches is not needed: the patterns run in linear time.
    fields.ignored(&["regexp"], "matches are not cached");
    let nothing = found.services.is_empty()
        && found.span_names.is_empty()
        && found.attributes.is_empty()
        && found.resources.is_empty()
        && found.libraries.is_empty()
        && found.span_kinds.is_empty();
    if nothing {
        fields.error(
            "at least one of `services`, `span_names`, `attributes`, `resources`, `libraries` and `span_kinds` is \
             required",
        );
    }
    found
}

fn attributes(fields: &mut Fields<'_>, key: &'static str) -> Vec<AttributeMatch> {
    let report = fields.report();
    let read = |item| {
        let mut fields = Fields::new(report, item);
        let value = fields.get("value");
        let key = fields.required("key")?.value;
        let value = match value {
            Some(node) => Some(Located { value: literal(&fields, node)?, at: node.at.clone() }),
            None => None,
        };
        Some(AttributeMatch { key, value })
    };
    fields.list(key).iter().filter_map(read).collect()
}

fn libraries(fields: &mut Fields<'_>) -> Vec<LibraryMatch> {
    let report = fields.report();
    let read = |item| {
        let mut fields = Fields::new(report, item);
        let version = fields.located("version");
        Some(LibraryMatch { name: fields.required("name")?, version })
    };
    fields.list("libraries").iter().filter_map(read).collect()
}

pub(in crate::config::read) fn rules(mut fields: Fields<'_>) -> SpanRules {
    let mut rules = SpanRules { spans: choice(&mut fields), ..SpanRules::default() };
    let (name, status) = (fields.table("name"), fields.table("status"));
    if name.is_none() && status.is_none() {
        fields.error(
            "nothing is asked: write `name::from_attributes`, `name::to_attributes::rules` or `status::code`",
        );
    }
    if let Some(mut name) = name {
        rules.from_attributes = name.strings("from_attributes");
        rules.separator = name.string("separator").unwrap_or_default();
        if let Some(mut to) = name.table("to_attributes") {
            rules.to_attributes = to.located_strings("rules");
            rules.break_after_match = to.boolean("break_after_match").unwrap_or_default();
            rules.keep_original_name = to.boolean("keep_original_name").unwrap_or_default();
            if rules.to_attributes.is_empty() {
                to.error("`rules` is required and must not be empty");
            }
        } else if rules.from_attributes.is_empty() {
            name.error("`from_attributes` or `to_attributes` is required");
        }
    }
    if let Some(mut status) = status {
        let code = status.choice("code", &[("Unset", 0), ("Ok", 1), ("Error", 2)]);
        let description = status.string("description").unwrap_or_default();
        if status.get("code").is_none() {
            status.error("`code` is required: `Ok`, `Error` or `Unset`");
        }
        if !description.is_empty() && code.is_some_and(|code| code != 2) {
            status.error_at("description", "belongs to `code: Error`");
        }
        rules.status = code.map(|code| (code, description));
    }
    rules
}
