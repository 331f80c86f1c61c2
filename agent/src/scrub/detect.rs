//! `scrub`: detectors of secrets and personal data that are built in, and keys whose values are masked whole.
//!
//! It looks everywhere, as `redaction` does. A detector is a scan of its own over a text, linear in its length, and
//! runs only where the gate has found what all its findings contain. A text that holds escapes or look-alikes is
//! looked at twice: as it stands, and as it reads ([`view`]).

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::{
    config::{Location, detectors, processors::Scrub},
    otlp::walk::ValueKind,
};

use super::{
    budget::{Budget, DROPPED},
    builder::Builder,
    list::{Item, Piece, State},
    pattern::{
        self,
        gate::{Gate, Hits},
        window,
    },
    rule::{Did, Place, RuleId},
    run::Run,
    value::{self, Leaf},
    verdicts::Verdicts,
};

mod bytes;
mod calls;
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
use calls::{Callers, Calls};
use finds::Finds;
use table::Detector;
use view::View;
use words::BlockedKeys;

/// Fewest characters of base64 that are looked into: 12 bytes.
const BASE64: usize = 16;

/// How much less a look of a detector costs than one of a pattern: most only search for a few bytes.
const CHEAPER: usize = 4;

/// A detector that is on.
#[derive(Debug)]
struct Enabled {
    detector: Detector,
    rule: RuleId,
    mask: Box<[u8]>,
}

/// A compiled `scrub` processor.
#[derive(Debug)]
pub(super) struct Detect {
    /// The most specific first.
    detectors: Vec<Enabled>,
    /// What calls for them, and for looking twice.
    callers: Callers,
    base64: bool,
    keys: Option<BlockedKeys>,
    keys_rule: RuleId,
    keys_mask: Box<[u8]>,
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
        let mut callers = Callers::default();
        let mut on = Vec::new();
        for (name, _) in detectors::all().filter(|(name, _)| config.detectors.contains(name)) {
            let detector = table::detector(name, config.ip).expect("every name has its detector");
            let rule = builder.rule(processor, name, &format!("version {}", config.version), at);
            for gate in detector.gates {
                callers.add(Calls::detector(on.len()), &pattern::windows(gate), &mut builder.gate);
            }
            on.push(Enabled { detector, rule, mask: mask(name) });
        }
        let keys = BlockedKeys::new(&config.blocked_keys);
        let keys_rule = builder.rule(processor, "blocked_keys", &format!("{:?}", config.blocked_keys), at);
        let mut call = |calls, windows: &[window::Window]| callers.add(calls, windows, &mut builder.gate);
        for gate in view::GATES {
            call(Calls::ENCODED, &pattern::windows(gate));
        }
        for hir in view::unseen() {
            call(Calls::ENCODED, &window::required(&hir).windows);
        }
        if config.decode_base64 {
            call(Calls::BASE64, &pattern::windows(&format!("[\\w+/-]{{{BASE64}}}")));
        }
        for gate in keys.iter().flat_map(BlockedKeys::patterns) {
            call(Calls::NAMED, &pattern::windows(&gate));
        }
        Self {
            detectors: on,
            callers,
            base64: config.decode_base64,
            keys,
            keys_rule,
            keys_mask: mask("blocked_keys"),
            all_types: config.redact_all_types,
            processor,
        }
    }

    /// What the gate finds in each message that there may be something to do in; `None` where that does not say.
    pub(super) fn windows(&self) -> Option<Hits> {
        self.is_gated().then(|| *self.callers.windows())
    }

    /// Whether a text in which the gate finds nothing need not be looked at.
    fn is_gated(&self) -> bool {
        self.callers.always().is_none() && !self.all_types
    }

    /// Works on one message.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        let gated = self.is_gated();
        let clean = gated && !run.hits.meet(self.callers.windows());
        if clean && !run.list.touched {
            return;
        }
        let mut work = Work { budget: std::mem::take(&mut run.caches.budget), ..Work::default() };
        let first = run.list.items.iter().find_map(Item::in_request);
        let mut cursor = first.map_or(0, |first| run.found.cursor(first.start));
        for index in 0..run.list.items.len() {
            let item = &run.list.items[index];
            let mut called = || item.in_request().is_some_and(|part| run.found.has(&mut cursor, &part));
            let skip = match item.state {
                State::Deleted => true,
                State::Changed => false,
                State::Kept => clean || gated && !called(),
            };
            if !skip {
                self.attribute(run, index, &mut work);
            }
        }
        for index in 0..run.list.texts.len() {
            let text = run.list.texts[index];
            if text.state == State::Deleted || clean && text.state == State::Kept {
                continue;
            }
            let calls = self.calls(run, text.value);
            let content = run.list.bytes(run.buf, text.value);
            let masked = self.masked(run.gate, &mut run.caches.clean, content, calls, &mut work)
                && run.list.set_text(run.buf, index, &work.out);
            self.count(run, masked, Place::Text(index), &mut work);
        }
        run.caches.budget = work.budget;
    }

    /// What a piece calls for: in the request, what the gate found there.
    fn calls(&self, run: &Run<'_>, piece: Piece) -> Calls {
        match piece.in_request() {
            None => self.callers.of(run.gate, run.list.bytes(run.buf, piece)),
            part => self.calls_in(run, part),
        }
    }

    /// What a part of the request calls for; what is not of it calls for nothing.
    #[inline]
    fn calls_in(&self, run: &Run<'_>, part: Option<Range<usize>>) -> Calls {
        let mut calls = self.callers.always();
        if let Some(part) = part {
            let add = |window| calls.join(self.callers.of_window(window));
            run.gate.each_within(run.buf, run.found, part, add);
        }
        calls
    }

    fn attribute(&self, run: &mut Run<'_>, index: usize, work: &mut Work) {
        let item = run.list.items[index];
        let calls = self.calls(run, item.key);
        let key = run.list.bytes(run.buf, item.key);
        let masked = if self.is_blocked(calls, key, item.kind) {
            work.matched.push(self.keys_rule);
            run.list.set(run.buf, index, ValueKind::String, &self.keys_mask)
        } else if words::is_trace_id(key, run.list.bytes(run.buf, item.value)) {
            false
        } else {
            self.value(run, index, work)
        };
        let key = run.list.bytes(run.buf, item.key);
        let key = self.masked(run.gate, &mut run.caches.clean, key, calls, work);
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
    fn is_blocked(&self, calls: Calls, key: &[u8], kind: ValueKind) -> bool {
        let Some(keys) = self.keys.as_ref().filter(|_| calls.any_of(Calls::NAMED)) else { return false };
        let measure = matches!(kind, ValueKind::Int | ValueKind::Double) && BlockedKeys::is_count(key);
        !matches!(kind, ValueKind::Empty | ValueKind::Bool) && !measure && keys.has(key)
    }

    fn value(&self, run: &mut Run<'_>, index: usize, work: &mut Work) -> bool {
        let item = run.list.items[index];
        let calls = if is_text(item.kind) { self.calls(run, item.value) } else { Calls::default() };
        let content = run.list.bytes(run.buf, item.value);
        let clean = &mut run.caches.clean;
        match item.kind {
            ValueKind::Array | ValueKind::KvList => {
                let new = self.nested(run.gate, clean, item.kind, content, calls, work);
                new.is_some_and(|new| run.list.set(run.buf, index, item.kind, &new))
            }
            kind => {
                let new = self.leaf(run.gate, clean, kind, content, calls, work);
                new.is_some_and(|kind| run.list.set(run.buf, index, kind, &work.out))
            }
        }
    }

    /// Writes a scalar's text masked; the kind of value that it is then, or `None` where nothing was found. `calls` is
    /// what its bytes call for, where they are text.
    fn leaf(
        &self,
        gate: &Gate,
        clean: &mut Verdicts,
        kind: ValueKind,
        content: &[u8],
        calls: Calls,
        work: &mut Work,
    ) -> Option<ValueKind> {
        match kind {
            ValueKind::String | ValueKind::Bytes => {
                self.masked(gate, clean, content, calls, work).then_some(kind)
            }
            _ if self.all_types => {
                let text = value::number_text(kind, content)?;
                let calls = self.callers.of(gate, text.as_bytes());
                self.masked(gate, clean, text.as_bytes(), calls, work).then_some(ValueKind::String)
            }
            _ => None,
        }
    }

    fn nested(
        &self,
        gate: &Gate,
        clean: &mut Verdicts,
        kind: ValueKind,
        content: &[u8],
        calls: Calls,
        work: &mut Work,
    ) -> Option<Vec<u8>> {
        // The raw message holds every text inside it, so a gate that finds nothing there is enough.
        work.budget.look(content.len());
        if !self.all_types && calls.is_none() {
            return None;
        }
        let blocked = if calls.any_of(Calls::NAMED) {
            let is_blocked = |key: &[u8], kind| self.is_blocked(self.callers.of(gate, key), key, kind);
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
            let calls = if is_text(kind) { self.callers.of(gate, content) } else { Calls::default() };
            let kind = self.leaf(gate, clean, kind, content, calls, work)?;
            (work.out != content).then(|| (kind, work.out.clone()))
        });
        rewritten.or(blocked)
    }

    /// Writes the text to `work.out` with everything masked that is found in it. `false` where nothing is. `calls` is
    /// what it calls for.
    fn masked(&self, gate: &Gate, clean: &mut Verdicts, text: &[u8], calls: Calls, work: &mut Work) -> bool {
        // What only names a secret is no key here.
        if calls.is_none() || calls == Calls::NAMED {
            return false;
        }
        // The sanitizers of this processor have its number.
        let name = clean.name(!self.processor, text);
        if name.is_some_and(|name| clean.is_clean(name)) {
            return false;
        }
        work.finds.clear();
        if !self.look(gate, text, calls, self.base64, &mut work.finds, &mut work.budget) {
            work.budget.dropped(1);
            work.out.clear();
            work.out.extend_from_slice(DROPPED);
            return true;
        }
        if work.finds.is_empty() {
            if let Some(name) = name {
                clean.note_clean(name);
            }
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
    fn look(
        &self,
        gate: &Gate,
        text: &[u8],
        calls: Calls,
        base64: bool,
        finds: &mut Finds,
        budget: &mut Budget,
    ) -> bool {
        budget.look(text.len());
        let mut afforded = self.detect(calls, text, finds, budget);
        let view = if calls.any_of(Calls::ENCODED) { View::of(text) } else { None };
        if let Some(view) = view.as_ref().filter(|_| afforded) {
            let from = finds.len();
            budget.look(text.len() + view.text.len());
            afforded = self.detect(self.callers.of(gate, &view.text), &view.text, finds, budget);
            finds.moved(from, |range| view.original(range));
        }
        if afforded && base64 && calls.any_of(Calls::BASE64) {
            afforded = self.look_into(gate, text, finds, budget);
        }
        afforded
    }

    fn detect(&self, calls: Calls, text: &[u8], finds: &mut Finds, budget: &mut Budget) -> bool {
        for number in calls.detectors() {
            if !budget.spend(text.len() / CHEAPER) {
                return false;
            }
            finds.by(number);
            self.detectors[number].detector.find(text, finds);
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
        run: Range<usize>,
        padding: usize,
        (finds, budget): (&mut Finds, &mut Budget),
    ) -> Option<bool> {
        if run.len() < BASE64 {
            return Some(false);
        }
        let mut plain = Vec::with_capacity(run.len() / 4 * 3);
        bytes::base64(&text[run.clone()], &mut plain);
        let mut inside = Finds::default();
        if !self.look(gate, &plain, self.callers.of(gate, &plain), false, &mut inside, budget) {
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

/// Whether a value's bytes are what is searched.
fn is_text(kind: ValueKind) -> bool {
    matches!(kind, ValueKind::String | ValueKind::Bytes | ValueKind::Array | ValueKind::KvList)
}

#[cfg(test)]
mod tests;
