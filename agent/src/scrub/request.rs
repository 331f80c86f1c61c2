//! A request as a tree, for the steps that one walk can't do: those that read or change several messages at once, or
//! drop some. What nobody changes stays the bytes that it was, and a message below the scopes is read into its node
//! when somebody changes it or asks for what is inside: until then conditions look at its [bytes](raw).
//!
//! The request has passed the walker: it is well-formed, and has no unknown fields.

#![forbid(unsafe_code)]

use std::{borrow::Cow, cell::Cell};

use crate::otlp::{
    encode,
    walk::{Kind, ValueKind},
};

use super::{list::attributes_number, ottl::program::Context, value};

mod access;
mod raw;
mod told;

pub(super) use access::Seen;
use raw::Raw;

/// A message's number in its tree.
pub(super) type NodeId = usize;

/// One attribute.
#[derive(Clone, Debug)]
pub(super) struct Attribute<'a> {
    pub(super) key: Cow<'a, [u8]>,
    pub(super) kind: ValueKind,
    pub(super) content: Cow<'a, [u8]>,
}

/// A field that is neither an attribute nor a message with texts.
#[derive(Clone, Debug)]
struct Plain<'a> {
    number: u32,
    wire: u8,
    content: Cow<'a, [u8]>,
}

/// One message.
#[derive(Debug)]
struct Node<'a> {
    kind: Kind,
    parent: NodeId,
    /// As it came; empty where it was made here.
    body: &'a [u8],
    /// What is in it, where somebody has asked.
    opened: Option<Box<Opened<'a>>>,
    /// How many fields it came with, once they were counted.
    fields: Cell<u32>,
    /// Not of the wire: only written where it was changed.
    made: bool,
    /// Written anew.
    dirty: bool,
    /// Left out.
    dropped: bool,
}

/// What is in a message.
#[derive(Debug, Default)]
struct Opened<'a> {
    /// In wire order, added ones last.
    attributes: Vec<Attribute<'a>>,
    fields: Vec<Plain<'a>>,
    /// A `ResourceSpans`' resource, a `ScopeSpans`' scope, a span's status.
    part: Option<NodeId>,
    /// Its other messages, in wire order.
    children: Vec<NodeId>,
    /// How many of those are not dropped.
    left: usize,
}

/// How many bytes steps may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Looks that they have at any request of this size.
    pub(super) own: u64,
    /// And what the request may cost beyond.
    pub(super) spare: u64,
}

/// A request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    buf: &'a [u8],
    nodes: Vec<Node<'a>>,
    roots: Vec<NodeId>,
    /// Bytes that may be looked at, and how many were.
    allowance: Allowance,
    looked: Cell<u64>,
}

/// Where a step works: a message and those around it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// The `ResourceSpans`.
    pub(super) resource: NodeId,
    /// The `ScopeSpans`.
    pub(super) scope: Option<NodeId>,
    /// The span.
    pub(super) span: Option<NodeId>,
    /// The event or the link, and its number in its span.
    pub(super) item: Option<(NodeId, usize)>,
}

/// Messages that a tree takes: a sender needs two bytes for one, this program some hundred.
const MAX_NODES: usize = 1 << 18;

impl<'a> Request<'a> {
    /// Reads a request, down to where its spans are. Steps may look at so many bytes of it.
    pub(super) fn read(buf: &'a [u8], allowance: Allowance) -> Self {
        // Spans are usually about as long.
        let nodes = Vec::with_capacity(buf.len() / 512 + 8);
        let mut request = Self { buf, nodes, roots: Vec::new(), allowance, looked: Cell::default() };
        let mut rest = buf;
        while let Some((tag, body)) = value::next_field(&mut rest) {
            if tag == 0x0a {
                let own = request.nodes.len();
                let root = request.add(Kind::ResourceSpans, own, body);
                request.roots.push(root);
                for scope in request.open(root).children.clone() {
                    request.open(scope);
                }
            }
        }
        request
    }

    /// Whether it has more messages than a tree takes. Some were left out then, so that it must be refused.
    pub(super) fn is_too_large(&self) -> bool {
        self.nodes.len() > MAX_NODES
    }

    fn add(&mut self, kind: Kind, parent: NodeId, body: &'a [u8]) -> NodeId {
        let node = Node {
            kind,
            parent,
            body,
            opened: None,
            fields: Cell::default(),
            made: false,
            dirty: false,
            dropped: false,
        };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// What is in a message.
    fn open(&mut self, id: NodeId) -> &mut Opened<'a> {
        if self.nodes[id].opened.is_none() {
            let opened = self.opened(id);
            self.nodes[id].opened = Some(Box::new(opened));
        }
        self.nodes[id].opened.as_mut().expect("it was just opened")
    }

    fn opened(&mut self, id: NodeId) -> Opened<'a> {
        let raw = self.nodes[id].raw();
        let mut opened = Opened::default();
        for (number, wire, content) in raw.fields() {
            if number == attributes_number(raw.kind) {
                let (key, kind, content) = value::attribute(content);
                let (key, content) = (Cow::Borrowed(key), Cow::Borrowed(content));
                opened.attributes.push(Attribute { key, kind, content });
            } else if let Some(kind) = message_at(raw.kind, number) {
                // It is refused as a whole; there is no use in reading on.
                if self.is_too_large() {
                    break;
                }
                let child = self.add(kind, id, content);
                if matches!(kind, Kind::Resource | Kind::Scope | Kind::Status) {
                    opened.part = Some(child);
                } else {
                    opened.children.push(child);
                }
            } else {
                opened.fields.push(Plain { number, wire, content: Cow::Borrowed(content) });
            }
        }
        opened.left = opened.children.len();
        opened
    }

    /// The messages in a message that was opened.
    fn children(&self, id: NodeId) -> &[NodeId] {
        self.nodes[id].opened.as_ref().map_or(&[], |opened| &opened.children)
    }

    /// Counts bytes that are looked at.
    fn look(&self, bytes: usize) {
        self.looked.set(self.looked.get().saturating_add(bytes as u64));
    }

    /// Counts a look at a message for the name of an attribute or a field.
    fn look_over(&self, id: NodeId) {
        self.look(self.nodes[id].weight());
    }

    /// How many bytes were looked at: of the steps' own, and beyond.
    pub(super) fn looked(&self) -> (u64, u64) {
        let own = self.looked.get().min(self.allowance.own);
        (own, self.looked.get() - own)
    }

    /// Whether steps have looked at more than they may: what they have not seen is to be dropped.
    pub(super) fn is_exhausted(&self) -> bool {
        self.looked.get() > self.allowance.own.saturating_add(self.allowance.spare)
    }

    /// The spans that are not dropped.
    pub(super) fn spans(&self) -> u32 {
        let here = |id: &NodeId| !self.nodes[*id].dropped;
        let scopes = self.roots.iter().filter(|id| here(id)).flat_map(|id| self.children(*id));
        let spans = scopes.filter(|id| here(id)).flat_map(|id| self.children(*id));
        spans.filter(|id| here(id)).count() as u32
    }

    /// Whether anything differs from what was read.
    pub(super) fn is_changed(&self) -> bool {
        self.roots.iter().any(|root| self.nodes[*root].dirty)
    }

    /// Calls `work` for every message of a kind that is not dropped; for a resource or a scope, for what it stands
    /// in, be it there or not. Ends where too much was looked at.
    pub(super) fn each(&mut self, kind: Kind, work: &mut dyn FnMut(&mut Self, Cursor)) {
        for root in self.roots.clone() {
            let here = Cursor { resource: root, ..Cursor::default() };
            if self.nodes[root].dropped || self.is_exhausted() {
                continue;
            }
            if kind == Kind::Resource {
                work(self, here);
                continue;
            }
            for scope in self.children(root).to_vec() {
                let here = Cursor { scope: Some(scope), ..here };
                match kind {
                    _ if self.nodes[scope].dropped || self.is_exhausted() => {}
                    Kind::Scope => work(self, here),
                    _ => self.each_below(kind, here, scope, work),
                }
            }
        }
    }

    fn each_below(
        &mut self,
        kind: Kind,
        here: Cursor,
        scope: NodeId,
        work: &mut dyn FnMut(&mut Self, Cursor),
    ) {
        for place in 0..self.children(scope).len() {
            let span = self.children(scope)[place];
            let here = Cursor { span: Some(span), ..here };
            if self.nodes[span].dropped || self.is_exhausted() {
                continue;
            }
            if kind == Kind::Span {
                work(self, here);
                continue;
            }
            if !self.nodes[span].may_hold(kind) {
                continue;
            }
            self.open(span);
            let mut number = 0;
            for place in 0..self.children(span).len() {
                let item = self.children(span)[place];
                if self.nodes[item].kind != kind || self.nodes[item].dropped || self.is_exhausted() {
                    continue;
                }
                work(self, Cursor { item: Some((item, number)), ..here });
                number += 1;
            }
        }
    }

    /// Leaves out the message of a context that a cursor is at: for a resource or a scope all that is under it.
    pub(super) fn drop_at(&mut self, context: Context, cursor: Cursor) {
        let id = match context {
            Context::Resource => Some(cursor.resource),
            Context::Scope => cursor.scope,
            Context::Span => cursor.span,
            Context::SpanEvent | Context::SpanLink => cursor.item.map(|(item, _)| item),
        };
        if let Some(id) = id {
            self.drop_message(id);
        }
    }

    /// Leaves a message out, and what it leaves empty above it.
    fn drop_message(&mut self, id: NodeId) {
        if self.nodes[id].dropped {
            return;
        }
        self.touch(id);
        self.nodes[id].dropped = true;
        let parent = self.nodes[id].parent;
        if parent == id {
            return;
        }
        let around = self.open(parent);
        around.left -= 1;
        let empty = around.left == 0;
        if empty && matches!(self.nodes[parent].kind, Kind::ScopeSpans | Kind::ResourceSpans) {
            self.drop_message(parent);
        }
    }

    /// Notes that a message is to be written anew, with all around it.
    fn touch(&mut self, mut id: NodeId) {
        // A root is its own parent.
        while !self.nodes[id].dirty {
            self.nodes[id].dirty = true;
            id = self.nodes[id].parent;
        }
    }

    /// Writes the request.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.buf.len());
        for root in &self.roots {
            if !self.nodes[*root].dropped {
                encode::field_with(&mut out, 1, |out| self.write_node(*root, out));
            }
        }
        out
    }

    /// A message's fields in the order of their numbers.
    fn write_node(&self, id: NodeId, out: &mut Vec<u8>) {
        let node = &self.nodes[id];
        let Some(opened) = node.opened.as_ref().filter(|_| node.dirty) else {
            debug_assert!(!node.dirty, "who changes a message opens it");
            out.extend_from_slice(node.body);
            return;
        };
        for number in 1..=LAST_FIELD {
            for field in opened.fields.iter().filter(|field| field.number == number) {
                encode::tag(out, number, field.wire);
                if field.wire == LEN {
                    encode::varint(out, field.content.len() as u64);
                }
                out.extend_from_slice(&field.content);
            }
            if number == attributes_number(node.kind) {
                for attribute in &opened.attributes {
                    value::put_attribute(out, number, &attribute.key, attribute.kind, &attribute.content);
                }
            }
            if let Some(kind) = message_at(node.kind, number) {
                let inner = opened.part.iter().chain(&opened.children);
                for child in inner.filter(|child| self.nodes[**child].kind == kind) {
                    let node = &self.nodes[*child];
                    if !node.dropped && (node.dirty || !node.made) {
                        encode::field_with(out, number, |out| self.write_node(*child, out));
                    }
                }
            }
        }
    }
}

/// Wire type of strings, bytes and messages.
const LEN: u8 = 2;
/// The highest field number of the trace protos (`Span.flags`).
const LAST_FIELD: u32 = 16;

/// The message that a field holds, of those that are nodes.
fn message_at(kind: Kind, number: u32) -> Option<Kind> {
    Some(match (kind, number) {
        (Kind::ResourceSpans, 1) => Kind::Resource,
        (Kind::ResourceSpans, 2) => Kind::ScopeSpans,
        (Kind::ScopeSpans, 1) => Kind::Scope,
        (Kind::ScopeSpans, 2) => Kind::Span,
        (Kind::Span, 11) => Kind::Event,
        (Kind::Span, 13) => Kind::Link,
        (Kind::Span, 15) => Kind::Status,
        _ => return None,
    })
}

/// The number of the field that holds a span's events or links.
fn number_in_span(kind: Kind) -> u32 {
    if kind == Kind::Event { 11 } else { 13 }
}
