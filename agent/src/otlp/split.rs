//! Splitting a checked request by trace id, without decoding it.
//!
//! Spans stay the bytes they are: each output gets the fields of a resource and a scope that it has spans of,
//! once, and then those spans; consecutive spans of one output are copied as one run.

#![forbid(unsafe_code)]
#![expect(clippy::inline_always, reason = "measured: results in registers, as in the walker")]

use std::collections::HashMap;

use bytes::Bytes;

use super::encode;
use super::walk::{Malformed, Slice, What};
use super::wire::{self, LEN, Wire};

/// The part of a request that goes to one target.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The number that `assign` gave.
    pub target: usize,
    /// A request of its own.
    pub data: Bytes,
    /// Spans in it; at least one.
    pub spans: u32,
}

/// The part of a request that belongs to one trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// `Span.trace_id`
    pub id: [u8; 16],
    /// A request of its own.
    pub data: Bytes,
    /// Spans in it; at least one.
    pub spans: u32,
}

/// Consecutive span fields of one scope that have the same target.
#[derive(Clone, Copy, Debug)]
struct Run {
    scope: u32,
    at: Slice,
}

/// Targets whose memory is kept for the next request: a flood of trace ids must not hold it for good.
const KEPT: usize = 4096;

/// The runs of one target, in wire order.
#[derive(Debug, Default)]
struct Target {
    runs: Vec<Run>,
    spans: u32,
}

/// Splits requests; keeps its memory from one to the next.
#[derive(Debug, Default)]
pub struct Splitter {
    /// For each `ScopeSpans`, the number of its `ResourceSpans`.
    scopes: Vec<u32>,
    resources: u32,
    /// Everything of a `ResourceSpans` but its scopes, and of a `ScopeSpans` but its spans; with the number of
    /// the message, ascending.
    resource_heads: Vec<(u32, Slice)>,
    scope_heads: Vec<(u32, Slice)>,
    targets: Vec<Target>,
    /// Targets that have spans of this request, in the order of their first span.
    used: Vec<usize>,
    traces: HashMap<[u8; 16], usize, foldhash::fast::RandomState>,
    /// Lengths of the messages of the output that is being written: a resource, its scopes, the next resource.
    lengths: Vec<usize>,
}

impl Splitter {
    /// Splits a checked request among the targets that `assign` names for each trace id.
    ///
    /// Targets come in the order of their first span. A request whose spans all go to one target is returned
    /// as the same `Bytes`; one without spans gives no output.
    pub fn route(
        &mut self,
        buf: &Bytes,
        mut assign: impl FnMut(&[u8; 16]) -> usize,
    ) -> Result<Vec<Routed>, Malformed> {
        self.request(buf, |_, id| assign(id))?;
        let used = std::mem::take(&mut self.used);
        let out = used
            .iter()
            .map(|&target| Routed {
                target,
                data: self.output(buf, target, used.len() == 1),
                spans: self.targets[target].spans,
            })
            .collect();
        self.used = used;
        Ok(out)
    }

    /// Splits a checked request into its traces, in the order of their first span.
    ///
    /// Each trace is memory of its own, so that keeping one does not keep its neighbours; a request of a single
    /// trace is returned as the same `Bytes`.
    pub fn group(&mut self, buf: &Bytes) -> Result<Vec<Trace>, Malformed> {
        self.traces.clear();
        let mut last = ([0; 16], usize::MAX);
        let mut ids = Vec::new();
        self.request(buf, |splitter, id| {
            if last.1 == usize::MAX || last.0 != *id {
                let next = ids.len();
                let number = *splitter.traces.entry(*id).or_insert(next);
                if number == next {
                    ids.push(*id);
                }
                last = (*id, number);
            }
            last.1
        })?;
        Ok(ids
            .iter()
            .enumerate()
            .map(|(number, &id)| Trace {
                id,
                data: self.output(buf, number, ids.len() == 1),
                spans: self.targets[number].spans,
            })
            .collect())
    }

    /// Finds every span, asks for its target, and notes the runs.
    fn request(&mut self, buf: &[u8], mut assign: impl FnMut(&mut Self, &[u8; 16]) -> usize) -> Wire<()> {
        for target in self.used.drain(..) {
            self.targets[target].runs.clear();
            self.targets[target].spans = 0;
        }
        self.targets.truncate(KEPT);
        self.scopes.clear();
        self.resources = 0;
        self.resource_heads.clear();
        self.scope_heads.clear();
        let mut pos = 0;
        while pos < buf.len() {
            let (number, content, after) = next_field(buf, pos)?;
            if number == 1 {
                self.resource_spans(buf, content, &mut assign)?;
                self.resources += 1;
            }
            pos = after;
        }
        Ok(())
    }

    fn resource_spans(
        &mut self,
        buf: &[u8],
        body: Slice,
        assign: &mut impl FnMut(&mut Self, &[u8; 16]) -> usize,
    ) -> Wire<()> {
        let buf = &buf[..body.end as usize];
        let mut pos = body.start as usize;
        while pos < buf.len() {
            let (number, content, after) = next_field(buf, pos)?;
            if number == 2 {
                self.scope_spans(buf, content, assign)?;
            } else {
                add_head(&mut self.resource_heads, self.resources, Slice::new(pos, after));
            }
            pos = after;
        }
        Ok(())
    }

    fn scope_spans(
        &mut self,
        buf: &[u8],
        body: Slice,
        assign: &mut impl FnMut(&mut Self, &[u8; 16]) -> usize,
    ) -> Wire<()> {
        let scope = self.scopes.len() as u32;
        self.scopes.push(self.resources);
        let buf = &buf[..body.end as usize];
        let mut pos = body.start as usize;
        while pos < buf.len() {
            let (number, content, after) = next_field(buf, pos)?;
            let at = Slice::new(pos, after);
            if number == 2 {
                let id = trace_id(buf, content)?;
                let target = assign(self, id);
                self.add_span(target, Run { scope, at });
            } else {
                add_head(&mut self.scope_heads, scope, at);
            }
            pos = after;
        }
        Ok(())
    }

    fn add_span(&mut self, number: usize, span: Run) {
        if number >= self.targets.len() {
            self.targets.resize_with(number + 1, Target::default);
        }
        let target = &mut self.targets[number];
        if target.spans == 0 {
            self.used.push(number);
        }
        target.spans += 1;
        match target.runs.last_mut() {
            Some(run) if run.at.end == span.at.start && run.scope == span.scope => run.at.end = span.at.end,
            _ => target.runs.push(span),
        }
    }

    fn output(&mut self, buf: &Bytes, target: usize, alone: bool) -> Bytes {
        if alone {
            return buf.clone();
        }
        let mut lengths = std::mem::take(&mut self.lengths);
        let runs = &self.targets[target].runs;
        let mut out = Vec::with_capacity(self.measure(runs, &mut lengths));
        self.write(buf, runs, &lengths, &mut out);
        self.lengths = lengths;
        Bytes::from(out)
    }

    /// Computes the lengths of the messages around the runs, in the order in which [`Self::write`] needs them,
    /// and returns that of the whole.
    fn measure(&self, mut runs: &[Run], lengths: &mut Vec<usize>) -> usize {
        let framed = |len: usize| 1 + encode::varint_len(len as u64) + len;
        lengths.clear();
        let mut all = 0;
        while let Some(first) = runs.first() {
            let resource = self.scopes[first.scope as usize];
            let place = lengths.len();
            lengths.push(0);
            let mut len = size(heads(&self.resource_heads, resource).iter().map(|(_, head)| *head));
            while let Some(first) = runs.first().filter(|run| self.scopes[run.scope as usize] == resource) {
                let (mine, rest) = split_while(runs, |run| run.scope == first.scope);
                let heads = heads(&self.scope_heads, first.scope).iter().map(|(_, head)| *head);
                lengths.push(size(heads) + size(mine.iter().map(|run| run.at)));
                len += framed(lengths[lengths.len() - 1]);
                runs = rest;
            }
            lengths[place] = len;
            all += framed(len);
        }
        all
    }

    fn write(&self, buf: &[u8], mut runs: &[Run], lengths: &[usize], out: &mut Vec<u8>) {
        let mut lengths = lengths.iter();
        let mut open = |out: &mut Vec<u8>, number, heads: &[(u32, Slice)]| {
            encode::tag(out, number, LEN);
            encode::varint(out, lengths.next().map_or(0, |len| *len as u64));
            for (_, head) in heads {
                out.extend_from_slice(&buf[head.range()]);
            }
        };
        let mut in_resource = None;
        while let Some(first) = runs.first() {
            let resource = self.scopes[first.scope as usize];
            if in_resource != Some(resource) {
                open(out, 1, heads(&self.resource_heads, resource));
                in_resource = Some(resource);
            }
            open(out, 2, heads(&self.scope_heads, first.scope));
            let (mine, rest) = split_while(runs, |run| run.scope == first.scope);
            for run in mine {
                out.extend_from_slice(&buf[run.at.range()]);
            }
            runs = rest;
        }
    }
}

/// Notes bytes that are shared by the spans of message `number`; neighbours become one piece.
fn add_head(heads: &mut Vec<(u32, Slice)>, number: u32, at: Slice) {
    match heads.last_mut() {
        Some((last, piece)) if *last == number && piece.end == at.start => piece.end = at.end,
        _ => heads.push((number, at)),
    }
}

/// The pieces of message `number`.
fn heads(heads: &[(u32, Slice)], number: u32) -> &[(u32, Slice)] {
    let from = heads.partition_point(|(other, _)| *other < number);
    split_while(&heads[from..], |(other, _)| *other == number).0
}

fn size(pieces: impl Iterator<Item = Slice>) -> usize {
    pieces.map(|piece| piece.len() as usize).sum()
}

fn split_while<T>(items: &[T], belongs: impl Fn(&T) -> bool) -> (&[T], &[T]) {
    items.split_at(items.iter().position(|item| !belongs(item)).unwrap_or(items.len()))
}

/// The field at `pos`: its number, its content if it is length-delimited (else its bytes), the offset after it.
#[inline(always)]
fn next_field(buf: &[u8], pos: usize) -> Wire<(u32, Slice, usize)> {
    let (tag, after) = wire::tag(buf, pos)?;
    if tag.wire == LEN {
        let (start, end) = wire::length(buf, after)?;
        Ok((tag.number, Slice::new(start, end), end))
    } else {
        let end = wire::skip(buf, after, tag.wire)?;
        // No field of interest has another wire type; 0 is no field's number.
        Ok((0, Slice::new(after, end), end))
    }
}

/// The trace id of a span; usually its first field.
#[inline]
fn trace_id(buf: &[u8], span: Slice) -> Wire<&[u8; 16]> {
    let body = &buf[span.range()];
    if let Some((&[0x0a, 0x10], rest)) = body.split_first_chunk()
        && let Some(id) = rest.first_chunk()
    {
        return Ok(id);
    }
    let buf = &buf[..span.end as usize];
    let mut pos = span.start as usize;
    while pos < buf.len() {
        let (number, content, after) = next_field(buf, pos)?;
        if number == 1 {
            return buf[content.range()].try_into().map_err(|_| What::TraceId.at(pos));
        }
        pos = after;
    }
    Err(What::TraceId.at(span.start as usize))
}

#[cfg(test)]
mod tests;
