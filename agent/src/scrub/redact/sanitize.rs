//! `url_sanitizer` and `db_sanitizer`: which attributes and names they work on.

#![forbid(unsafe_code)]

use crate::{
    config::processors::{DbSanitizer, Redaction},
    otlp::walk::{Kind, ValueKind},
};

use crate::scrub::{
    budget::{Budget, DROPPED},
    builder::Builder,
    database::{Language, Sanitizers},
    keys::KeyId,
    list::State,
    rule::{Did, Place, RuleId},
    run::Run,
    sql::Dialect,
    url::{self, Part, Rules},
    value::{self, Leaf},
};

use super::{Match, rules};

/// The number of the field `name` of a span.
const SPAN_NAME: u32 = 5;

/// What is to be done with the attribute of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Treatment {
    url: Option<Part>,
    database: Sanitizers,
}

impl Treatment {
    /// Whether there is nothing to do.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What the attributes of a message say of its database. One statement may be in two languages where a sender names
/// two systems; it is then sanitized as both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    sql: Option<Dialect>,
    others: [Option<Language>; 6],
}

impl Told {
    fn add(&mut self, language: Language) {
        if let Language::Sql(dialect) = language {
            let agreed = self.sql.is_none_or(|known| known == dialect);
            self.sql = Some(if agreed { dialect } else { Dialect::Other });
        } else if !self.others.contains(&Some(language)) {
            // There are six other languages, so there is room.
            if let Some(free) = self.others.iter_mut().find(|other| other.is_none()) {
                *free = Some(language);
            }
        }
    }

    fn languages(self) -> impl Iterator<Item = Language> {
        self.sql.map(Language::Sql).into_iter().chain(self.others.into_iter().flatten())
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The two sanitizers, compiled.
#[derive(Debug)]
pub(super) struct Sanitizer {
    url: Option<Rules>,
    url_names: bool,
    enabled: Sanitizers,
    database_names: bool,
    fallback: bool,
    /// `db.system.name`, `db.system`
    systems: [KeyId; 2],
}

impl Sanitizer {
    /// Compiles both, if one of them is enabled, and says which keys they treat how.
    pub(super) fn new(config: &Redaction, builder: &mut Builder) -> Option<(Self, Vec<(KeyId, Treatment)>)> {
        let mut treated = Vec::new();
        for key in config.url_sanitizer.iter().flat_map(|url| &url.attributes) {
            let part = match key.as_str() {
                "url.query" => Part::Query,
                "url.fragment" => Part::Fragment,
                _ => Part::Url,
            };
            treated.push((
                builder.keys.add(key),
                Treatment { url: Some(part), database: Sanitizers::default() },
            ));
        }
        let mut enabled = Sanitizers::default();
        for (sanitizer, _, keys) in systems(&config.db_sanitizer) {
            enabled.add(sanitizer);
            for key in keys {
                treated.push((builder.keys.add(key), Treatment { url: None, database: sanitizer }));
            }
        }
        if config.url_sanitizer.is_none() && enabled.is_empty() {
            return None;
        }
        let url = config.url_sanitizer.as_ref();
        let sanitizer = Self {
            url: url.map(|url| Rules { all_values: url.all_values, identifiers: true }),
            url_names: url.is_some_and(|url| url.sanitize_span_name),
            enabled,
            database_names: config.db_sanitizer.sanitize_span_name && !enabled.is_empty(),
            fallback: config.db_sanitizer.allow_fallback_without_system,
            systems: ["db.system.name", "db.system"].map(|key| builder.keys.add(key)),
        };
        Some((sanitizer, merged(treated)))
    }

    /// What the message says of its database, before anything is deleted from it.
    pub(super) fn told(&self, run: &Run<'_>) -> Told {
        let mut told = Told::default();
        let bits = self.systems.iter().fold(0, |bits, id| bits | id.bit());
        if self.enabled.is_empty() || run.list.present & bits == 0 {
            return told;
        }
        for index in self.systems.iter().flat_map(|id| run.list.with_key(*id)) {
            let item = &run.list.items[index];
            if matches!(item.kind, ValueKind::String | ValueKind::Bytes)
                && let Some(language) = Language::of(run.list.bytes(run.buf, item.value))
            {
                told.add(language);
            }
        }
        told
    }

    /// Works on an attribute. True where it changed; then the rules that changed it are noted.
    pub(super) fn attribute(
        &self,
        rules: &rules::Rules,
        run: &mut Run<'_>,
        index: usize,
        treatment: Treatment,
        told: Told,
        matched: &mut Vec<Match>,
    ) -> bool {
        let item = run.list.items[index];
        let content = run.list.bytes(run.buf, item.value);
        let job = Job { sanitizer: self, rules, treatment, told };
        match item.kind {
            ValueKind::String | ValueKind::Bytes => {
                job.text(content, &mut run.caches.budget, run.out, matched)
                    && run.list.set(run.buf, index, item.kind, run.out)
            }
            ValueKind::Array | ValueKind::KvList => {
                let budget = &mut run.caches.budget;
                let new = value::rewrite(item.kind, content, &mut |leaf, content| {
                    let Leaf::Value(kind @ (ValueKind::String | ValueKind::Bytes)) = leaf else {
                        return None;
                    };
                    let mut out = Vec::new();
                    job.text(content, budget, &mut out, matched).then_some((kind, out))
                });
                new.is_some_and(|new| run.list.set(run.buf, index, item.kind, &new))
            }
            ValueKind::Empty | ValueKind::Int | ValueKind::Double | ValueKind::Bool => false,
        }
    }

    /// Works on a span's name. True where it changed.
    pub(super) fn name(&self, rules: &rules::Rules, kind: Kind, run: &mut Run<'_>, told: Told) -> bool {
        if kind != Kind::Span || !(self.url_names || self.database_names && !told.is_empty()) {
            return false;
        }
        let mut changed = false;
        for index in 0..run.list.texts.len() {
            let text = run.list.texts[index];
            if text.number != SPAN_NAME || text.state == State::Deleted {
                continue;
            }
            let mut set = |run: &mut Run<'_>, rule: Option<RuleId>| {
                if run.list.set_text(run.buf, index, run.out) {
                    changed = true;
                    if let Some(rule) = rule {
                        run.matched(rule, Did::Masked, Place::Text(index));
                    }
                }
            };
            // Looked at once for each of at most eight sanitizers, and only one text of a span.
            run.caches.budget.look(run.list.bytes(run.buf, text.value).len());
            if let Some(which) = self.url.filter(|_| self.url_names)
                && url::sanitize_name(run.list.bytes(run.buf, text.value), which, run.out)
            {
                set(run, rules.url);
            }
            let languages = told.languages().filter(|language| self.enabled.meet(language.sanitizer()));
            for language in languages.filter(|_| self.database_names) {
                let name = run.list.bytes(run.buf, run.list.texts[index].value);
                if language.sanitize_name(name, run.out) {
                    set(run, rules.database(language.sanitizer()));
                }
            }
        }
        changed
    }
}

/// What is to be done with the texts of one attribute.
#[derive(Clone, Copy)]
struct Job<'j> {
    sanitizer: &'j Sanitizer,
    rules: &'j rules::Rules,
    treatment: Treatment,
    told: Told,
}

impl Job<'_> {
    /// Writes the sanitized text, or a mark where it costs too much. `false` where nothing changes.
    fn text(self, text: &[u8], budget: &mut Budget, out: &mut Vec<u8>, matched: &mut Vec<Match>) -> bool {
        let mut current: Option<Vec<u8>> = None;
        if let (Some(part), Some(which)) = (self.treatment.url, self.sanitizer.url) {
            if !budget.spend(text.len()) {
                return drop_text(budget, out);
            }
            if url::sanitize(text, part, which, out) {
                current = Some(std::mem::take(out));
                matched.extend(self.rules.url.map(|rule| (rule, Did::Masked)));
            }
        }
        let database = self.treatment.database;
        let languages = self.told.languages().filter(|language| database.meet(language.sanitizer()));
        let guessed =
            (self.told.is_empty() && self.sanitizer.fallback).then(|| database.guess(text)).flatten();
        for language in languages.chain(guessed) {
            if !budget.spend(text.len()) {
                return drop_text(budget, out);
            }
            if language.sanitize(current.as_deref().unwrap_or(text), out) {
                current = Some(std::mem::take(out));
                // A guess may be another language of the same form than the one that is enabled.
                let rule =
                    self.rules.database(language.sanitizer()).or_else(|| self.rules.database(database));
                matched.extend(rule.map(|rule| (rule, Did::Masked)));
            }
        }
        let Some(new) = current else { return false };
        *out = new;
        true
    }
}

/// Writes the mark of a text that is dropped.
#[cold]
fn drop_text(budget: &mut Budget, out: &mut Vec<u8>) -> bool {
    budget.dropped(1);
    out.clear();
    out.extend_from_slice(DROPPED);
    true
}

/// The sanitizers that are enabled, with their names and their keys.
pub(super) fn systems(
    config: &DbSanitizer,
) -> impl Iterator<Item = (Sanitizers, &'static str, &Vec<String>)> {
    [
        (Sanitizers::SQL, "sql", &config.sql),
        (Sanitizers::REDIS, "redis", &config.redis),
        (Sanitizers::VALKEY, "valkey", &config.valkey),
        (Sanitizers::MEMCACHED, "memcached", &config.memcached),
        (Sanitizers::MONGO, "mongo", &config.mongo),
        (Sanitizers::OPENSEARCH, "opensearch", &config.opensearch),
        (Sanitizers::ES, "es", &config.es),
    ]
    .into_iter()
    .filter_map(|(sanitizer, name, keys)| Some((sanitizer, name, keys.as_ref()?)))
}

/// One treatment a key.
fn merged(treated: Vec<(KeyId, Treatment)>) -> Vec<(KeyId, Treatment)> {
    let mut merged: Vec<(KeyId, Treatment)> = Vec::new();
    for (id, treatment) in treated {
        match merged.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => {
                known.url = known.url.or(treatment.url);
                known.database.add(treatment.database);
            }
            None => merged.push((id, treatment)),
        }
    }
    merged
}
