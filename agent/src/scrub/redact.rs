//! `redaction`: keys that are deleted, kept or masked, patterns that no text may match, and what is taken out of URLs
//! and statements.
//!
//! Unlike the Collector's, it looks everywhere: at values of every type and inside nested ones, at the keys
//! themselves, at names, status messages, trace state and schema URLs, on every owner of attributes. A blocked key
//! beats an allowed value. `deploy/docs/scrubbing.md` lists all differences.

#![forbid(unsafe_code)]

use crate::{
    config::{ConfigError, Location, processors::Redaction},
    otlp::walk::{Kind, ValueKind},
};

use super::{
    builder::Builder,
    hash::Hasher,
    keys::KeyId,
    list::State,
    pattern::{
        Caches, PatternId, Patterns, Template,
        gate::{Gate, Gated, Hits},
    },
    rule::{Did, Place, RuleId},
    run::Run,
    value::{self, Leaf},
};

mod members;
mod rules;
mod sanitize;
mod summary;

use members::Member;
use rules::Rules;
use sanitize::{Sanitizer, Told, Treatment};
use summary::{Done, Outcome, Summary};

/// What stands where something was masked.
const MASK: &str = "[REDACTED]";

/// What the configuration says of one exact key.
#[derive(Clone, Copy, Debug, Default)]
struct KeyRule {
    blocked: bool,
    allowed: bool,
    ignored: bool,
    treatment: Treatment,
}

/// What is put in place of what must not be seen.
#[derive(Debug)]
enum StandIn {
    /// [`MASK`]
    Mask(Template),
    /// Its hash.
    Hash(Hasher),
}

impl StandIn {
    /// What putting it in place is called.
    fn did(&self) -> Did {
        match self {
            Self::Mask(_) => Did::Masked,
            Self::Hash(_) => Did::Hashed,
        }
    }

    /// Appends what stands for a whole value. A hash is of a text or bytes as they are, of a number's decimal text, and
    /// of the encoding of a nested value.
    fn put_value(&self, kind: ValueKind, content: &[u8], out: &mut Vec<u8>) {
        match (self, value::number_text(kind, content)) {
            (Self::Mask(_), _) => out.extend_from_slice(MASK.as_bytes()),
            (Self::Hash(hasher), Some(text)) => hasher.put(text.as_bytes(), out),
            (Self::Hash(hasher), None) => hasher.put(content, out),
        }
    }

    /// Appends the text with each match replaced. `false`, and nothing appended, where nothing matches.
    fn replace(
        &self,
        patterns: &Patterns,
        caches: &mut Caches,
        pattern: PatternId,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        match self {
            Self::Mask(mask) => patterns.replace(pattern, caches, text, mask, out),
            Self::Hash(hasher) => patterns.replace_each(pattern, caches, text, true, out, |captures, out| {
                if let Some(found) = captures.get_match() {
                    hasher.put(&text[found.range()], out);
                }
            }),
        }
    }
}

/// A compiled `redaction` processor.
#[derive(Debug)]
pub(super) struct Redactor {
    /// By [`KeyId::index`].
    rules: Vec<KeyRule>,
    /// Bits of the keys with a rule.
    ruled: u64,
    ignored_keys: Vec<PatternId>,
    masked_keys: Vec<PatternId>,
    blocked_values: Vec<Gated>,
    named: Rules,
    /// What the gate says of them.
    windows: Hits,
    /// A pattern that must be tried on every text.
    ungated: bool,
    allowed_values: Vec<PatternId>,
    all_types: bool,
    sanitizer: Option<Sanitizer>,
    summary: Summary,
    /// It leaves some messages as they are.
    conditional: bool,
    stand_in: StandIn,
    processor: usize,
}

/// What a redactor does that does nothing unusual.
pub(super) struct Plain {
    /// Where the gate finds one of these, a text may have to be masked.
    pub(super) windows: Hits,
    /// Keys whose attributes are deleted.
    pub(super) blocked: Vec<KeyId>,
    /// The rule that deletes them, where there are any.
    pub(super) rule: Option<RuleId>,
}

/// A rule that changed what is at hand, and how.
type Match = (RuleId, Did);

/// What a scan found in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scanned {
    Clean,
    Masked,
    Allowed,
}

impl Redactor {
    /// Compiles the processor.
    pub(super) fn new(
        config: &Redaction,
        at: &Location,
        builder: &mut Builder,
        processor: usize,
    ) -> Result<Self, ConfigError> {
        let by_name = Rules::new(config, at, builder, processor);
        let mut named: Vec<(KeyId, KeyRule)> = Vec::new();
        for (list, rule) in [
            (&config.blocked_keys, KeyRule { blocked: true, ..KeyRule::default() }),
            (&config.allowed_keys, KeyRule { allowed: true, ..KeyRule::default() }),
            (&config.ignored_keys, KeyRule { ignored: true, ..KeyRule::default() }),
        ] {
            named.extend(list.iter().map(|key| (builder.keys.add(key), rule)));
        }
        let sanitizer = Sanitizer::new(config, builder).map(|(sanitizer, treated)| {
            named.extend(
                treated.into_iter().map(|(id, treatment)| (id, KeyRule { treatment, ..KeyRule::default() })),
            );
            sanitizer
        });
        let summary = Summary::new(config.summary, &mut builder.keys);
        let mut table = vec![KeyRule::default(); builder.keys.count()];
        let mut ruled = 0;
        for (id, rule) in named {
            let entry = &mut table[id.index()];
            entry.blocked |= rule.blocked;
            entry.allowed |= rule.allowed;
            entry.ignored |= rule.ignored;
            if !rule.treatment.is_none() {
                entry.treatment = rule.treatment;
            }
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
            ignored_keys,
            masked_keys,
            windows: Hits::all(&blocked_values),
            ungated: blocked_values.iter().any(|gated| gated.windows.is_none()),
            blocked_values,
            named: by_name,
            allowed_values,
            all_types: config.redact_all_types,
            sanitizer,
            summary,
            conditional: !config.skip_conditions.is_empty(),
            stand_in: match &config.hash {
                None => StandIn::Mask(Template::literal(MASK)),
                Some(hash) => StandIn::Hash(Hasher::new(hash)?),
            },
            processor,
        })
    }

    /// What it does, where that is only to delete attributes by their keys and to mask what the gate finds.
    pub(super) fn plain(&self) -> Option<Plain> {
        let blocked = self.rules.iter().enumerate().filter(|(_, rule)| rule.blocked);
        let plain = self.is_gated()
            && self.named.allowed_keys.is_none()
            && !self.conditional
            && self.masked_keys.is_empty()
            && self.sanitizer.is_none()
            && self.summary.is_silent();
        plain.then(|| Plain {
            windows: self.windows,
            blocked: blocked.map(|(index, _)| KeyId::at(index)).collect(),
            rule: self.named.blocked_keys,
        })
    }

    /// Works on one message.
    pub(super) fn run(&self, kind: Kind, run: &mut Run<'_>) {
        let mut done = Done::default();
        // What is deleted on the way still says what the statements beside it are.
        let told = self.sanitizer.as_ref().map_or_else(Told::default, |sanitizer| sanitizer.told(run));
        let clean = self.is_gated() && !run.hits.meet(&self.windows);
        let scan = !self.blocked_values.is_empty() && (!clean || run.list.touched);
        let every = scan
            || self.named.allowed_keys.is_some()
            || !self.masked_keys.is_empty()
            || self.named.blocked_keys.is_some() && run.list.nested
            || !self.ignored_keys.is_empty() && !self.summary.is_silent();
        if every {
            for index in 0..run.list.items.len() {
                self.attribute(run, index, clean, told, &mut done);
            }
        } else if run.list.present & self.ruled != 0 {
            // Nothing is scanned, so no key becomes known or unknown meanwhile.
            for place in 0..run.list.known().len() {
                let index = run.list.known()[place] as usize;
                if run.list.items[index].id.bit() & self.ruled != 0 {
                    self.attribute(run, index, clean, told, &mut done);
                }
            }
        }
        if scan {
            self.texts(run, clean, &mut done);
        }
        let named =
            self.sanitizer.as_ref().is_some_and(|sanitizer| sanitizer.name(&self.named, kind, run, told));
        let tally = &mut run.tally[self.processor];
        tally.deleted += done.counted(Outcome::Redacted);
        tally.masked += done.counted(Outcome::Masked) + u64::from(named);
        let owner = matches!(kind, Kind::Resource | Kind::Scope | Kind::Span | Kind::Event | Kind::Link);
        if !self.summary.is_silent() && owner {
            self.summary.write(run, done);
        }
    }

    /// Whether what the gate finds nothing in needs no search.
    fn is_gated(&self) -> bool {
        !self.ungated && !self.all_types
    }

    fn attribute(&self, run: &mut Run<'_>, index: usize, clean: bool, told: Told, done: &mut Done) {
        let item = run.list.items[index];
        if item.state == State::Deleted {
            return;
        }
        let rule = self.rules.get(item.id.index()).copied().unwrap_or_default();
        let name = run.list.bytes(run.buf, item.key);
        if let Some(by) = self.named.blocked_keys.filter(|_| rule.blocked) {
            self.note(run, index, Outcome::Redacted, done);
            run.list.delete(index);
            run.matched(by, Did::Removed, Place::Attribute(index));
            return;
        }
        if rule.ignored
            || self.ignored_keys.iter().any(|pattern| run.patterns.is_match(*pattern, run.caches, name))
        {
            self.note(run, index, Outcome::Ignored, done);
            return;
        }
        if let Some(by) = self.named.allowed_keys.filter(|_| !rule.allowed && !item.stamped) {
            self.note(run, index, Outcome::Redacted, done);
            run.list.delete(index);
            run.matched(by, Did::Removed, Place::Attribute(index));
            return;
        }
        let clean = clean || self.is_gated() && !run.hits_in(index).meet(&self.windows);
        let dirty = !(clean && item.state == State::Kept);
        let by_key = |pattern: &PatternId| run.patterns.is_match(*pattern, run.caches, name);
        let mut masked = false;
        if let Some(which) = self.masked_keys.iter().position(by_key) {
            masked = self.mask_value(run, index);
            if masked {
                done.matched.push((self.named.masked_keys[which], self.stand_in.did()));
            }
        } else {
            if matches!(item.kind, ValueKind::Array | ValueKind::KvList) {
                masked |= self.members(run, index, &mut done.matched);
            }
            // What was written here is new text, whatever the gate has said of what came.
            let new = dirty || masked;
            let scanned = if new { self.scan_value(run, index, &mut done.matched) } else { Scanned::Clean };
            masked |= scanned == Scanned::Masked;
            if scanned == Scanned::Allowed {
                self.note(run, index, Outcome::Allowed, done);
            }
            if let Some(sanitizer) = self.sanitizer.as_ref().filter(|_| !rule.treatment.is_none()) {
                masked |=
                    sanitizer.attribute(&self.named, run, index, rule.treatment, told, &mut done.matched);
            }
        }
        masked |= dirty && self.scan_key(run, index, &mut done.matched);
        if masked {
            self.note(run, index, Outcome::Masked, done);
        }
        for (rule, did) in done.matched.drain(..) {
            run.matched(rule, did, Place::Attribute(index));
        }
    }

    /// Deletes and masks members of nested maps by their keys.
    fn members(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<Match>) -> bool {
        if self.named.blocked_keys.is_none() && self.masked_keys.is_empty() {
            return false;
        }
        let item = run.list.items[index];
        let (key, content) = (run.list.bytes(run.buf, item.key), run.list.bytes(run.buf, item.value));
        let (keys, patterns, caches) = (run.keys, run.patterns, &mut *run.caches);
        let new = members::rewrite(key, item.kind, content, &mut |path, own, kind, content| {
            let names = [&path[own..], path];
            let blocked =
                |name: &&[u8]| self.rules.get(keys.find(name).index()).is_some_and(|rule| rule.blocked);
            if let Some(by) = self.named.blocked_keys.filter(|_| names.iter().any(blocked)) {
                matched.push((by, Did::Removed));
                return Member::Delete;
            }
            let by_key =
                |pattern: &PatternId| names.iter().any(|name| patterns.is_match(*pattern, caches, name));
            let Some(which) = self.masked_keys.iter().position(by_key) else { return Member::Keep };
            let mut out = Vec::new();
            self.stand_in.put_value(kind, content, &mut out);
            if kind != ValueKind::String || out != content {
                matched.push((self.named.masked_keys[which], self.stand_in.did()));
            }
            Member::Replace(out)
        });
        new.is_some_and(|new| run.list.set(run.buf, index, item.kind, &new))
    }

    /// Masks a value whatever it is.
    fn mask_value(&self, run: &mut Run<'_>, index: usize) -> bool {
        let item = run.list.items[index];
        run.out.clear();
        self.stand_in.put_value(item.kind, run.list.bytes(run.buf, item.value), run.out);
        run.list.set(run.buf, index, ValueKind::String, run.out)
    }

    /// Counts, and for the debug summary remembers the key with what it may not show masked.
    fn note(&self, run: &mut Run<'_>, index: usize, outcome: Outcome, done: &mut Done) {
        done.count(outcome);
        if self.summary.names_keys() {
            let name = run.list.bytes(run.buf, run.list.items[index].key);
            let mut text = Vec::new();
            if !self.masked_text(run.gate, run.patterns, run.caches, name, &mut text, &mut Vec::new()) {
                text = name.to_vec();
            }
            done.remember(outcome, text);
        }
    }

    fn scan_key(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<Match>) -> bool {
        let name = run.list.bytes(run.buf, run.list.items[index].key);
        let found = self.masked_text(run.gate, run.patterns, run.caches, name, run.out, matched);
        if found {
            run.list.set_key(run.keys, index, run.out);
        }
        found
    }

    fn scan_value(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<Match>) -> Scanned {
        let before = matched.len();
        let scanned = self.scan_content(run, index, matched);
        if scanned != Scanned::Masked {
            // An allowed value, or one that is masked already.
            matched.truncate(before);
        }
        scanned
    }

    fn scan_content(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<Match>) -> Scanned {
        let item = run.list.items[index];
        let content = run.list.bytes(run.buf, item.value);
        let (kind, text) = match item.kind {
            ValueKind::Empty => return Scanned::Clean,
            ValueKind::String | ValueKind::Bytes => (item.kind, None),
            ValueKind::Int | ValueKind::Double | ValueKind::Bool => {
                let Some(text) = value::number_text(item.kind, content).filter(|_| self.all_types) else {
                    return Scanned::Clean;
                };
                (ValueKind::String, Some(text))
            }
            ValueKind::Array | ValueKind::KvList => return self.scan_nested(run, index, matched),
        };
        let content = text.as_deref().map_or(content, str::as_bytes);
        if !self.masked_text(run.gate, run.patterns, run.caches, content, run.out, matched) {
            return Scanned::Clean;
        }
        if self.value_allowed(run.patterns, run.caches, content) {
            return Scanned::Allowed;
        }
        if run.list.set(run.buf, index, kind, run.out) { Scanned::Masked } else { Scanned::Clean }
    }

    fn scan_nested(&self, run: &mut Run<'_>, index: usize, matched: &mut Vec<Match>) -> Scanned {
        let item = run.list.items[index];
        let content = run.list.bytes(run.buf, item.value);
        // The raw message holds every text inside it, so a gate that finds nothing there is enough.
        if !self.ungated && !self.all_types && !self.may_match(run, content) {
            return Scanned::Clean;
        }
        let (gate, patterns, caches) = (run.gate, run.patterns, &mut *run.caches);
        let new = value::rewrite(item.kind, content, &mut |leaf, content| {
            self.leaf(gate, patterns, caches, leaf, content, matched)
        });
        if new.is_some_and(|new| run.list.set(run.buf, index, item.kind, &new)) {
            Scanned::Masked
        } else {
            Scanned::Clean
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
        matched: &mut Vec<Match>,
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
            let clean = clean || self.is_gated() && !run.hits_in_text(index).meet(&self.windows);
            if text.state == State::Deleted || clean && text.state == State::Kept {
                continue;
            }
            let content = run.list.bytes(run.buf, text.value);
            if self.masked_text(run.gate, run.patterns, run.caches, content, run.out, &mut done.matched)
                && run.list.set_text(run.buf, index, run.out)
            {
                run.tally[self.processor].masked += 1;
                for (rule, did) in &done.matched {
                    run.matched(*rule, *did, Place::Text(index));
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
        matched: &mut Vec<Match>,
    ) -> bool {
        let hits = gate.hits(text);
        caches.budget.look(text.len());
        if !self.ungated && !hits.meet(&self.windows) {
            return false;
        }
        let name = caches.clean.name(self.processor, text);
        if name.is_some_and(|name| caches.clean.is_clean(name)) {
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
            let before = current.as_deref().unwrap_or(text);
            if self.stand_in.replace(patterns, caches, gated.pattern, before, out) {
                current = Some(std::mem::take(out));
                matched.push((*rule, self.stand_in.did()));
            }
        }
        let Some(masked) = current else {
            if let Some(name) = name {
                caches.clean.note_clean(name);
            }
            return false;
        };
        *out = masked;
        true
    }
}
