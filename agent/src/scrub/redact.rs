//! `redaction`: keys that are deleted, kept or masked, and patterns that no text may match.
//!
//! Unlike the Collector's, it looks everywhere: at values of every type and inside nested ones, at the keys
//! themselves, at names, status messages, trace state and schema URLs, on every owner of attributes. A blocked key
//! beats an allowed value.

#![forbid(unsafe_code)]

use crate::{
    config::{
        ConfigError, Located, Location,
        processors::{Redaction, RedactionSummary},
    },
    otlp::{
        encode,
        walk::{Kind, ValueKind},
    },
};

use super::{
    builder::Builder,
    keys::KeyId,
    list::State,
    pattern::{
        Caches, PatternId, Patterns, Template,
        gate::{Gate, Gated},
    },
    rule::{Did, Place, RuleId},
    run::Run,
    value::{self, Leaf},
};

/// What stands where something was masked.
const MASK: &str = "[REDACTED]";

/// What the configuration says of one exact key.
#[derive(Clone, Copy, Debug, Default)]
struct KeyRule {
    blocked: bool,
    allowed: bool,
    ignored: bool,
}

/// A compiled `redaction` processor.
#[derive(Debug)]
pub(super) struct Redactor {
    /// By [`KeyId::index`].
    rules: Vec<KeyRule>,
    /// Bits of the keys with a rule.
    ruled: u64,
    allow_all: bool,
    ignored_keys: Vec<PatternId>,
    masked_keys: Vec<PatternId>,
    blocked_values: Vec<Gated>,
    named: Named,
    /// A pattern that must be tried on every text.
    ungated: bool,
    allowed_values: Vec<PatternId>,
    all_types: bool,
    summary: RedactionSummary,
    summary_keys: [KeyId; 4],
    mask: Template,
    processor: usize,
}

/// The processor's rules.
#[derive(Debug)]
struct Named {
    blocked_keys: RuleId,
    allowed_keys: RuleId,
    /// By pattern.
    masked_keys: Vec<RuleId>,
    /// By pattern.
    blocked_values: Vec<RuleId>,
}

impl Named {
    fn new(config: &Redaction, at: &Location, builder: &mut Builder, processor: usize) -> Self {
        let mut of = |patterns: &[Located<String>]| {
            patterns
                .iter()
                .map(|pattern| builder.rule_at(processor, &pattern.value, &pattern.at))
                .collect::<Vec<_>>()
        };
        let (masked_keys, blocked_values) = (of(&config.blocked_key_patterns), of(&config.blocked_values));
        let allowed = format!("{} {}", config.allow_all_keys, config.allowed_keys.join("\n"));
        Self {
            blocked_keys: builder.rule(processor, "blocked_keys", &config.blocked_keys.join("\n"), at),
            allowed_keys: builder.rule(processor, "allowed_keys", &allowed, at),
            masked_keys,
            blocked_values,
        }
    }
}

/// The summary's attributes.
const SUMMARY: [&str; 4] = [
    "redaction.redacted.count",
    "redaction.redacted.keys",
    "redaction.masked.count",
    "redaction.masked.keys",
];

/// What a redactor did to one attribute list.
#[derive(Default)]
struct Done {
    deleted: Vec<Vec<u8>>,
    masked: Vec<Vec<u8>>,
    deleted_count: i64,
    masked_count: i64,
    /// Rules that have masked something in the attribute or text at hand.
    matched: Vec<RuleId>,
}

impl Redactor {
    /// Compiles the processor.
    pub(super) fn new(
        config: &Redaction,
        at: &Location,
        builder: &mut Builder,
        processor: usize,
    ) -> Result<Self, ConfigError> {
        let named_rules = Named::new(config, at, builder, processor);
        let mut named: Vec<(KeyId, KeyRule)> = Vec::new();
        for (list, set) in [
            (&config.blocked_keys, (|rule| rule.blocked = true) as fn(&mut KeyRule)),
            (&config.allowed_keys, |rule| rule.allowed = true),
            (&config.ignored_keys, |rule| rule.ignored = true),
        ] {
            for key in list {
                let id = builder.keys.add(key);
                let mut rule = KeyRule::default();
                set(&mut rule);
                named.push((id, rule));
            }
        }
        let summary_keys = SUMMARY.map(|key| builder.keys.add(key));
        let mut table = vec![KeyRule::default(); builder.keys.count()];
        let mut ruled = 0;
        for (id, rule) in named {
            let entry = &mut table[id.index()];
            entry.blocked |= rule.blocked;
            entry.allowed |= rule.allowed;
            entry.ignored |= rule.ignored;
            ruled |= id.bit();
        }
        let mut compile = |list: &[crate::config::Located<String>]| {
            list.iter().map(|pattern| builder.patterns.add(pattern)).collect::<Result<Vec<_>, _>>()
        };
        let ignored_keys = compile(&config.ignored_key_patterns)?;
        let masked_keys = compile(&config.blocked_key_patterns)?;
        let allowed_values = compile(&config.allowed_values)?;
        let blocked = compile(&config.blocked_values)?;
        let blocked_values: Vec<Gated> =
            blocked.into_iter().map(|pattern| builder.gate.add(&builder.patterns, pattern)).collect();
        Ok(Self {
            rules: table,
            ruled,
            allow_all: config.allow_all_keys,
            ignored_keys,
            masked_keys,
            ungated: blocked_values.iter().any(|gated| gated.windows.is_none()),
            blocked_values,
            named: named_rules,
            allowed_values,
            all_types: config.redact_all_types,
            summary: config.summary,
            summary_keys,
            mask: Template::literal(MASK),
            processor,
        })
    }

    /// Works on one message.
    pub(super) fn run(&self, kind: Kind, run: &mut Run<'_>) {
        let mut done = Done::default();
        let scan = !self.blocked_values.is_empty();
        let clean = run.clean && !self.ungated && !self.all_types;
        let keys = !self.allow_all
            || !self.masked_keys.is_empty()
            || !self.ignored_keys.is_empty()
            || run.list.present & self.ruled != 0;
        if keys || scan && (!clean || run.list.touched) {
            for index in 0..run.list.items.len() {
                if run.list.items[index].state != State::Deleted {
                    self.attribute(run, index, clean, &mut done);
                }
            }
        }
        if scan && (!clean || run.list.touched) {
            self.texts(run, clean, &mut done);
        }
        let tally = &mut run.tally[self.processor];
        tally.deleted += done.deleted_count.cast_unsigned();
        tally.masked += done.masked_count.cast_unsigned();
        let owner = matches!(kind, Kind::Resource | Kind::Scope | Kind::Span | Kind::Event | Kind::Link);
        if self.summary != RedactionSummary::Silent && owner {
            self.summarise(run, done);
        }
    }

    fn attribute(&self, run: &mut Run<'_>, index: usize, clean: bool, done: &mut Done) {
        let item = run.list.items[index];
        let rule = self.rules.get(item.id.index()).copied().unwrap_or_default();
        let name = run.list.bytes(run.buf, item.key);
        if rule.blocked {
            self.note(run, index, &mut done.deleted, &mut done.deleted_count);
            run.list.delete(index);
            run.matched(self.named.blocked_keys, Did::Removed, Place::Attribute(index));
            return;
        }
        if rule.ignored
            || self.ignored_keys.iter().any(|pattern| run.patterns.is_match(*pattern, run.caches, name))
        {
            return;
        }
        if !self.allow_all && !rule.allowed && !item.stamped {
            self.note(run, index, &mut done.deleted, &mut done.deleted_count);
            run.list.delete(index);
            run.matched(self.named.allowed_keys, Did::Removed, Place::Attribute(index));
            return;
        }
        let mut masked = false;
        let by_key = |pattern: &PatternId| run.patterns.is_match(*pattern, run.caches, name);
        if let Some(which) = self.masked_keys.iter().position(by_key) {
            masked = run.list.set(run.buf, index, ValueKind::String, MASK.as_bytes());
            if masked {
                done.matched.push(self.named.masked_keys[which]);
            }
        }
        if !(clean && item.state == State::Kept) {
            masked |= self.scan_value(run, index, &mut done.matched);
            masked |= self.scan_key(run, index, &mut done.matched);
        }
        if masked {
            for rule in done.matched.drain(..) {
                run.matched(rule, Did::Masked, Place::Attribute(index));
            }
            self.note(run, index, &mut done.masked, &mut done.masked_count);
        }
    }

    /// Counts, and for the debug summary remembers the key with what it may not show masked.
    fn note(&self, run: &mut Run<'_>, index: usize, keys: &mut Vec<Vec<u8>>, count: &mut i64) {
        *count += 1;
        if self.summary == RedactionSummary::Debug {
            let name = run.list.bytes(run.buf, run.list.items[index].key);
            let mut text = Vec::new();
            if !self.masked_text(run.gate, run.patterns, run.caches, name, &mut text, &mut Vec::new()) {
                text = name.to_vec();
            }
            keys.push(text);
        }
    }

    fn scan_key(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<RuleId>) -> bool {
        let name = run.list.bytes(run.buf, run.list.items[index].key);
        let found = self.masked_text(run.gate, run.patterns, run.caches, name, run.out, matched);
        if found {
            run.list.set_key(run.keys, index, run.out);
        }
        found
    }

    fn scan_value(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<RuleId>) -> bool {
        let before = matched.len();
        let masked = self.scan_content(run, index, matched);
        if !masked {
            // An allowed value, or one that is masked already.
            matched.truncate(before);
        }
        masked
    }

    fn scan_content(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<RuleId>) -> bool {
        let item = run.list.items[index];
        let content = run.list.bytes(run.buf, item.value);
        match item.kind {
            ValueKind::Empty => false,
            ValueKind::String | ValueKind::Bytes => {
                self.masked_text(run.gate, run.patterns, run.caches, content, run.out, matched)
                    && !self.value_allowed(run.patterns, run.caches, content)
                    && run.list.set(run.buf, index, item.kind, run.out)
            }
            ValueKind::Int | ValueKind::Double | ValueKind::Bool => {
                let Some(text) = value::number_text(item.kind, content).filter(|_| self.all_types) else {
                    return false;
                };
                self.masked_text(run.gate, run.patterns, run.caches, text.as_bytes(), run.out, matched)
                    && !self.value_allowed(run.patterns, run.caches, text.as_bytes())
                    && run.list.set(run.buf, index, ValueKind::String, run.out)
            }
            ValueKind::Array | ValueKind::KvList => {
                // The raw message holds every text inside it, so a gate that finds nothing there is enough.
                if !self.ungated && !self.all_types && !self.may_match(run, content) {
                    return false;
                }
                let (gate, patterns, caches) = (run.gate, run.patterns, &mut *run.caches);
                let new = value::rewrite(item.kind, content, &mut |leaf, content| {
                    self.leaf(gate, patterns, caches, leaf, content, matched)
                });
                new.is_some_and(|new| run.list.set(run.buf, index, item.kind, &new))
            }
        }
    }

    fn may_match(&self, run: &Run<'_>, content: &[u8]) -> bool {
        let hits = run.gate.hits(content);
        self.blocked_values.iter().any(|gated| gated.windows.is_none_or(|windows| hits.meet(&windows)))
    }

    fn leaf(
        &self,
        gate: &Gate,
        patterns: &Patterns,
        caches: &mut Caches,
        leaf: Leaf,
        content: &[u8],
        matched: &mut Vec<RuleId>,
    ) -> value::Replaced {
        let before = matched.len();
        let mut out = Vec::new();
        let (kind, text) = match leaf {
            Leaf::Key => (ValueKind::String, None),
            Leaf::Value(kind @ (ValueKind::String | ValueKind::Bytes)) => (kind, None),
            Leaf::Value(kind) => {
                (ValueKind::String, Some(value::number_text(kind, content).filter(|_| self.all_types)?))
            }
        };
        let content = text.as_deref().map_or(content, str::as_bytes);
        let masked = self.masked_text(gate, patterns, caches, content, &mut out, matched)
            && (leaf == Leaf::Key || !self.value_allowed(patterns, caches, content))
            && out != content;
        if !masked {
            matched.truncate(before);
        }
        masked.then_some((kind, out))
    }

    fn value_allowed(&self, patterns: &Patterns, caches: &mut Caches, content: &[u8]) -> bool {
        self.allowed_values.iter().any(|pattern| patterns.is_match(*pattern, caches, content))
    }

    fn texts(&self, run: &mut Run<'_>, clean: bool, done: &mut Done) {
        for index in 0..run.list.texts.len() {
            let text = run.list.texts[index];
            if text.state == State::Deleted || clean && text.state == State::Kept {
                continue;
            }
            let content = run.list.bytes(run.buf, text.value);
            if self.masked_text(run.gate, run.patterns, run.caches, content, run.out, &mut done.matched)
                && run.list.set_text(run.buf, index, run.out)
            {
                run.tally[self.processor].masked += 1;
                for rule in &done.matched {
                    run.matched(*rule, Did::Masked, Place::Text(index));
                }
            }
            done.matched.clear();
        }
    }

    /// Writes the text with everything blocked in it masked, pattern after pattern, and the rules that matched. `false`
    /// where none did.
    fn masked_text(
        &self,
        gate: &Gate,
        patterns: &Patterns,
        caches: &mut Caches,
        text: &[u8],
        out: &mut Vec<u8>,
        matched: &mut Vec<RuleId>,
    ) -> bool {
        let hits = gate.hits(text);
        if hits.none() && !self.ungated {
            return false;
        }
        let mut current: Option<Vec<u8>> = None;
        for (gated, rule) in self.blocked_values.iter().zip(&self.named.blocked_values) {
            // Once something was masked the text is another one, of which the gate's finding says nothing.
            let skip = current.is_none() && gated.windows.is_some_and(|windows| !hits.meet(&windows));
            if skip {
                continue;
            }
            out.clear();
            if patterns.replace(gated.pattern, caches, current.as_deref().unwrap_or(text), &self.mask, out) {
                current = Some(std::mem::take(out));
                matched.push(*rule);
            }
        }
        let Some(masked) = current else { return false };
        *out = masked;
        true
    }

    fn summarise(&self, run: &mut Run<'_>, mut done: Done) {
        for (at, count, keys) in
            [(0, done.deleted_count, &mut done.deleted), (2, done.masked_count, &mut done.masked)]
        {
            if count == 0 {
                continue;
            }
            let mut total = count;
            let mut varint = Vec::new();
            let before: Vec<usize> = run.list.with_key(self.summary_keys[at]).collect();
            for index in &before {
                let item = run.list.items[*index];
                if item.kind == ValueKind::Int {
                    let content = run.list.bytes(run.buf, item.value);
                    total = total.saturating_add(value::varint(content).map_or(0, |(n, _)| n.cast_signed()));
                }
            }
            encode::varint(&mut varint, total.cast_unsigned());
            run.upsert(self.summary_keys[at], SUMMARY[at], ValueKind::Int, &varint, true);
            if self.summary == RedactionSummary::Debug {
                keys.sort_unstable();
                keys.dedup();
                let joined = keys.join(&b","[..]);
                run.upsert(self.summary_keys[at + 1], SUMMARY[at + 1], ValueKind::String, &joined, true);
            }
        }
    }
}
