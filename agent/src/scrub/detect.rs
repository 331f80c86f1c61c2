//! `scrub`: detectors of secrets and personal data that are built in, and keys whose values are masked whole.
//!
//! It looks everywhere, as `redaction` does. A detector is a scan of its own over a text, linear in its length, and
//! runs only where the gate has found what all its findings contain. A text that holds escapes or look-alikes is
//! looked at twice: as it stands, and as it reads ([`view`]).

#![forbid(unsafe_code)]

use crate::{
    config::{Location, detectors, processors::Scrub},
    otlp::walk::ValueKind,
};

use super::{
    budget::{Budget, DROPPED},
    builder::Builder,
    list::State,
    pattern::{
        self,
        gate::{Gate, Hits},
        window,
    },
    rule::{Did, Place, RuleId},
    run::Run,
    value::{self, Leaf},
};

mod bytes;
mod digits;
mod finds;
mod ip;
mod mail;
mod nested;
mod phone;
mod secret;
mod table;
mod token;
mod view;
mod words;

use bytes::Class;
use finds::Finds;
use table::Detector;
use view::View;
use words::BlockedKeys;

/// Fewest characters of base64 that are looked into: 12 bytes.
const BASE64: usize = 16;

/// How much less a look of a detector costs than one of a pattern: most only search for a few bytes.
const CHEAPER: usize = 4;

/// What a text must hold.
#[derive(Clone, Copy, Debug)]
enum When {
    /// Anything.
    Always,
    /// One of these.
    Hits(Hits),
}

impl When {
    fn new<'a>(gate: &mut Gate, patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self::windows(gate, patterns.into_iter().map(pattern::windows))
    }

    fn windows(gate: &mut Gate, windows: impl IntoIterator<Item = Vec<window::Window>>) -> Self {
        let mut all = Hits::default();
        for windows in windows {
            match gate.add_windows(&windows) {
                Some(hits) => all.join(&hits),
                None => return Self::Always,
            }
        }
        Self::Hits(all)
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Hits(mut all), Self::Hits(other)) => {
                all.join(&other);
                Self::Hits(all)
            }
            _ => Self::Always,
        }
    }

    fn calls(&self, hits: &Hits) -> bool {
        match self {
            Self::Always => true,
            Self::Hits(mine) => hits.meet(mine),
        }
    }
}

/// A detector that is on.
#[derive(Debug)]
struct Enabled {
    detector: Detector,
    when: When,
    rule: RuleId,
    mask: Box<[u8]>,
}

/// A compiled `scrub` processor.
#[derive(Debug)]
pub(super) struct Detect {
    /// The most specific first.
    detectors: Vec<Enabled>,
    /// A text has a view of its own.
    encoded: When,
    /// A text may hold base64, where that is asked for.
    base64: Option<When>,
    keys: Option<BlockedKeys>,
    /// A key may be blocked.
    named: When,
    keys_rule: RuleId,
    keys_mask: Box<[u8]>,
    /// Any of the above.
    any: When,
    all_types: bool,
    processor: usize,
}

/// What a message is worked on with.
#[derive(Default)]
struct Work {
    finds: Finds,
    out: Vec<u8>,
    /// Rules that matched in the value at hand.
    matched: Vec<RuleId>,
    /// The request's, while this works.
    budget: Budget,
}

impl Detect {
    /// Compiles the processor.
    pub(super) fn new(config: &Scrub, at: &Location, builder: &mut Builder, processor: usize) -> Self {
        let mask = |name: &str| config.mask.replace("{name}", name).into_bytes().into_boxed_slice();
        let mut on = Vec::new();
        for (name, _) in detectors::all().filter(|(name, _)| config.detectors.contains(name)) {
            let detector = table::detector(name, config.ip).expect("every name has its detector");
            let rule = builder.rule(processor, name, &format!("version {}", config.version), at);
            let when = When::new(&mut builder.gate, detector.gates.iter().copied());
            on.push(Enabled { detector, when, rule, mask: mask(name) });
        }
        let keys = BlockedKeys::new(&config.blocked_keys);
        let keys_rule = builder.rule(processor, "blocked_keys", &format!("{:?}", config.blocked_keys), at);
        let gate = &mut builder.gate;
        let escapes = When::new(gate, view::GATES);
        let unseen = When::windows(gate, view::unseen().iter().map(|hir| window::required(hir).windows));
        let encoded = escapes.and(unseen);
        let base64 =
            config.decode_base64.then(|| When::new(gate, [format!("[\\w+/-]{{{BASE64}}}").as_str()]));
        let mut named = When::Hits(Hits::default());
        if let Some(keys) = &keys {
            let patterns = keys.patterns();
            named = When::new(gate, patterns.iter().map(String::as_str));
        }
        let any = on.iter().map(|on| on.when).chain(base64).fold(encoded.and(named), When::and);
        Self {
            detectors: on,
            encoded,
            base64,
            keys,
            named,
            keys_rule,
            keys_mask: mask("blocked_keys"),
            any,
            all_types: config.redact_all_types,
            processor,
        }
    }

    /// What the gate finds in each message that there may be something to do in; `None` where that does not say.
    pub(super) fn windows(&self) -> Option<Hits> {
        match self.any {
            When::Hits(windows) if !self.all_types => Some(windows),
            _ => None,
        }
    }

    /// Works on one message.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        let gated = matches!(self.any, When::Hits(_)) && !self.all_types;
        let clean = gated && !self.any.calls(&run.hits);
        if clean && !run.list.touched {
            return;
        }
        let mut work = Work { budget: std::mem::take(&mut run.caches.budget), ..Work::default() };
        for index in 0..run.list.items.len() {
            let state = run.list.items[index].state;
            let clean = clean || gated && !self.any.calls(&run.hits_in(index));
            if state != State::Deleted && !(clean && state == State::Kept) {
                self.attribute(run, index, &mut work);
            }
        }
        for index in 0..run.list.texts.len() {
            let text = run.list.texts[index];
            let clean = clean || gated && !self.any.calls(&run.hits_in_text(index));
            if text.state == State::Deleted || clean && text.state == State::Kept {
                continue;
            }
            let content = run.list.bytes(run.buf, text.value);
            let masked =
                self.masked(run.gate, content, &mut work) && run.list.set_text(run.buf, index, &work.out);
            self.count(run, masked, Place::Text(index), &mut work);
        }
        run.caches.budget = work.budget;
    }

    fn attribute(&self, run: &mut Run<'_>, index: usize, work: &mut Work) {
        let item = run.list.items[index];
        let key = run.list.bytes(run.buf, item.key);
        let masked = if self.is_blocked(run.gate, key, item.kind) {
            work.matched.push(self.keys_rule);
            run.list.set(run.buf, index, ValueKind::String, &self.keys_mask)
        } else if words::is_trace_id(key, run.list.bytes(run.buf, item.value)) {
            false
        } else {
            self.value(run, index, work)
        };
        let key = run.list.bytes(run.buf, item.key);
        let key = self.masked(run.gate, key, work);
        if key {
            run.list.set_key(run.keys, index, &work.out);
        }
        self.count(run, masked || key, Place::Attribute(index), work);
    }

    /// Counts one value or text with what matched in it.
    fn count(&self, run: &mut Run<'_>, masked: bool, place: Place, work: &mut Work) {
        if masked {
            run.tally[self.processor].masked += 1;
            work.matched.sort_unstable_by_key(|rule| rule.index());
            work.matched.dedup();
            for rule in &work.matched {
                run.matched(*rule, Did::Masked, place);
            }
        }
        work.matched.clear();
    }

    /// Whether a value goes by its key alone. A flag is no secret, and a number of tokens is a measure.
    fn is_blocked(&self, gate: &Gate, key: &[u8], kind: ValueKind) -> bool {
        let Some(keys) = &self.keys else { return false };
        let measure = matches!(kind, ValueKind::Int | ValueKind::Double) && BlockedKeys::is_count(key);
        !matches!(kind, ValueKind::Empty | ValueKind::Bool)
            && !measure
            && self.named.calls(&gate.hits(key))
            && keys.has(key)
    }

    fn value(&self, run: &mut Run<'_>, index: usize, work: &mut Work) -> bool {
        let item = run.list.items[index];
        let content = run.list.bytes(run.buf, item.value);
        match item.kind {
            ValueKind::Array | ValueKind::KvList => {
                let new = self.nested(run.gate, item.kind, content, work);
                new.is_some_and(|new| run.list.set(run.buf, index, item.kind, &new))
            }
            kind => {
                let new = self.leaf(run.gate, kind, content, work);
                new.is_some_and(|kind| run.list.set(run.buf, index, kind, &work.out))
            }
        }
    }

    /// Writes a scalar's text masked; the kind of value that it is then, or `None` where nothing was found.
    fn leaf(&self, gate: &Gate, kind: ValueKind, content: &[u8], work: &mut Work) -> Option<ValueKind> {
        match kind {
            ValueKind::String | ValueKind::Bytes => self.masked(gate, content, work).then_some(kind),
            _ if self.all_types => {
                let text = value::number_text(kind, content)?;
                self.masked(gate, text.as_bytes(), work).then_some(ValueKind::String)
            }
            _ => None,
        }
    }

    fn nested(&self, gate: &Gate, kind: ValueKind, content: &[u8], work: &mut Work) -> Option<Vec<u8>> {
        // The raw message holds every text inside it, so a gate that finds nothing there is enough.
        let hits = gate.hits(content);
        work.budget.look(content.len());
        if !self.all_types && !self.any.calls(&hits) {
            return None;
        }
        let blocked = if self.named.calls(&hits) {
            let is_blocked = |key: &[u8], kind| self.is_blocked(gate, key, kind);
            nested::block(kind, content, &is_blocked, &self.keys_mask, 0)
        } else {
            None
        };
        if blocked.is_some() {
            work.matched.push(self.keys_rule);
        }
        let content = blocked.as_deref().unwrap_or(content);
        let rewritten = value::rewrite(kind, content, &mut |leaf, content| {
            let kind = match leaf {
                Leaf::Key => ValueKind::String,
                Leaf::Value(kind) => kind,
            };
            let kind = self.leaf(gate, kind, content, work)?;
            (work.out != content).then(|| (kind, work.out.clone()))
        });
        rewritten.or(blocked)
    }

    /// Writes the text to `work.out` with everything masked that is found in it. `false` where nothing is.
    fn masked(&self, gate: &Gate, text: &[u8], work: &mut Work) -> bool {
        work.finds = Finds::default();
        let afforded = self.look(gate, text, self.base64.is_some(), &mut work.finds, &mut work.budget);
        if !afforded {
            work.budget.dropped(1);
            work.out.clear();
            work.out.extend_from_slice(DROPPED);
            return true;
        }
        if work.finds.is_empty() {
            return false;
        }
        work.out.clear();
        let mut copied = 0;
        for part in work.finds.resolve() {
            let by = &self.detectors[part.detector];
            work.out.extend_from_slice(&text[copied..part.start]);
            work.out.extend_from_slice(&by.mask);
            work.matched.push(by.rule);
            copied = part.end;
        }
        work.out.extend_from_slice(&text[copied..]);
        true
    }

    /// Adds what is found in a text: as it stands, as it reads, and in base64. `false` where that costs too much.
    fn look(&self, gate: &Gate, text: &[u8], base64: bool, finds: &mut Finds, budget: &mut Budget) -> bool {
        let hits = gate.hits(text);
        budget.look(text.len());
        if hits.none() && matches!(self.any, When::Hits(_)) {
            return true;
        }
        let mut afforded = self.detect(&hits, text, finds, budget);
        let view = if self.encoded.calls(&hits) { View::of(text) } else { None };
        if let Some(view) = view.as_ref().filter(|_| afforded) {
            let from = finds.len();
            budget.look(text.len() + view.text.len());
            afforded = self.detect(&gate.hits(&view.text), &view.text, finds, budget);
            finds.moved(from, |range| view.original(range));
        }
        if afforded && base64 && self.base64.is_some_and(|when| when.calls(&hits)) {
            afforded = self.look_into(gate, text, finds, budget);
        }
        afforded
    }

    fn detect(&self, hits: &Hits, text: &[u8], finds: &mut Finds, budget: &mut Budget) -> bool {
        for (number, on) in self.detectors.iter().enumerate() {
            if on.when.calls(hits) {
                if !budget.spend(text.len() / CHEAPER) {
                    return false;
                }
                finds.by(number);
                on.detector.find(text, finds);
            }
        }
        true
    }

    /// Looks into runs of base64, and into their parts between slashes, which may be a path's. `false` where that costs
    /// too much.
    fn look_into(&self, gate: &Gate, text: &[u8], finds: &mut Finds, budget: &mut Budget) -> bool {
        let part = |byte: u8| Class::Word.has(byte) || Class::Base64.has(byte);
        // Each run is decoded as a whole, and again in parts.
        budget.look(2 * text.len());
        let mut at = 0;
        while let Some(found) = text[at..].iter().position(|byte| part(*byte)) {
            let start = at + found;
            let end = text[start..].iter().position(|byte| !part(*byte)).map_or(text.len(), |to| start + to);
            let padding = text[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
            at = end;
            match self.look_into_run(gate, text, start..end, padding, (finds, budget)) {
                None => return false,
                Some(true) => continue,
                Some(false) => {}
            }
            let mut from = start;
            for piece in text[start..end].split(|byte| *byte == b'/') {
                let to = from + piece.len();
                let padding = if to == end { padding } else { 0 };
                let whole = piece.len() == end - start;
                if !whole && self.look_into_run(gate, text, from..to, padding, (finds, budget)).is_none() {
                    return false;
                }
                from = to + 1;
            }
        }
        true
    }

    /// Whether something was found in a run; `None` where that costs too much.
    fn look_into_run(
        &self,
        gate: &Gate,
        text: &[u8],
        run: std::ops::Range<usize>,
        padding: usize,
        (finds, budget): (&mut Finds, &mut Budget),
    ) -> Option<bool> {
        if run.len() < BASE64 {
            return Some(false);
        }
        let mut plain = Vec::with_capacity(run.len() / 4 * 3);
        bytes::base64(&text[run.clone()], &mut plain);
        let mut inside = Finds::default();
        if !self.look(gate, &plain, false, &mut inside, budget) {
            return None;
        }
        let found = inside.resolve().iter().max_by_key(|part| part.end - part.start).copied();
        if let Some(part) = found {
            finds.by(part.detector);
            finds.push(run.start..run.end + padding);
        }
        Some(found.is_some())
    }
}

#[cfg(test)]
mod tests;
