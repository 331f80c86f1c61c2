//! A request as a tree, for the steps that one walk can't do: those that read or change several messages at once, or
//! drop some. What nobody changes stays the bytes that it was.
//!
//! The request has passed the walker: it is well-formed, and has no unknown fields.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::otlp::{
    encode,
    walk::{Kind, ValueKind},
};

use super::{list::attributes_number, ottl::program::Context, value};

mod access;

pub(super) use access::Seen;

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
    /// As it came.
    body: &'a [u8],
    /// In wire order, added ones last.
    attributes: Vec<Attribute<'a>>,
    fields: Vec<Plain<'a>>,
    /// A `ResourceSpans`' resource, a `ScopeSpans`' scope, a span's status.
    part: Option<NodeId>,
    /// Its other messages, in wire order.
    children: Vec<NodeId>,
    /// How many of those are not dropped.
    left: usize,
    /// Written anew.
    dirty: bool,
    /// Left out.
    dropped: bool,
}

/// A request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    buf: &'a [u8],
    nodes: Vec<Node<'a>>,
    roots: Vec<NodeId>,
    /// How many messages were read; those after have been made.
    read: usize,
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
    /// Reads a request; `None` where it has too many messages.
    pub(super) fn read(buf: &'a [u8]) -> Option<Self> {
        let mut request = Self { buf, nodes: Vec::new(), roots: Vec::new(), read: 0 };
        let mut rest = buf;
        while let Some((tag, body)) = value::next_field(&mut rest) {
            if tag == 0x0a {
                let own = request.nodes.len();
                let root = request.node(Kind::ResourceSpans, own, body);
                request.roots.push(root);
            }
        }
        request.read = request.nodes.len();
        (request.read <= MAX_NODES).then_some(request)
    }

    fn node(&mut self, kind: Kind, parent: NodeId, body: &'a [u8]) -> NodeId {
        let id = self.nodes.len();
        let mut node = Node {
            kind,
            parent,
            body,
            attributes: Vec::new(),
            fields: Vec::new(),
            part: None,
            children: Vec::new(),
            left: 0,
            dirty: false,
            dropped: false,
        };
        let mut inner = Vec::new();
        let mut rest = body;
        while let Some((tag, content)) = value::next_field(&mut rest) {
            let (number, wire) = ((tag >> 3) as u32, (tag & 7) as u8);
            if number == attributes_number(kind) {
                let (key, kind, content) = value::attribute(content);
                let (key, content) = (Cow::Borrowed(key), Cow::Borrowed(content));
                node.attributes.push(Attribute { key, kind, content });
            } else if let Some(kind) = message_at(kind, number) {
                inner.push((kind, content));
            } else {
                node.fields.push(Plain { number, wire, content: Cow::Borrowed(content) });
            }
        }
        self.nodes.push(node);
        for (kind, body) in inner {
            // It is refused as a whole; there is no use in reading on.
            if self.nodes.len() > MAX_NODES {
                break;
            }
            let child = self.node(kind, id, body);
            if matches!(kind, Kind::Resource | Kind::Scope | Kind::Status) {
                self.nodes[id].part = Some(child);
            } else {
                self.nodes[id].children.push(child);
                self.nodes[id].left += 1;
            }
        }
        id
    }

    /// The spans that are not dropped.
    pub(super) fn spans(&self) -> u32 {
        let here = |id: &NodeId| !self.nodes[*id].dropped;
        let scopes = self.roots.iter().filter(|id| here(id)).flat_map(|id| &self.nodes[*id].children);
        let spans = scopes.filter(|id| here(id)).flat_map(|id| &self.nodes[*id].children);
        spans.filter(|id| here(id)).count() as u32
    }

    /// Whether anything differs from what was read.
    pub(super) fn is_changed(&self) -> bool {
        self.roots.iter().any(|root| self.nodes[*root].dirty)
    }

    /// Calls `work` for every message of a kind that is not dropped; for a resource or a scope, for what it stands
    /// in, be it there or not.
    pub(super) fn each(&mut self, kind: Kind, work: &mut dyn FnMut(&mut Self, Cursor)) {
        for root in self.roots.clone() {
            let here = Cursor { resource: root, ..Cursor::default() };
            if self.nodes[root].dropped {
                continue;
            }
            if kind == Kind::Resource {
                work(self, here);
                continue;
            }
            for scope in self.nodes[root].children.clone() {
                let here = Cursor { scope: Some(scope), ..here };
                match kind {
                    _ if self.nodes[scope].dropped => {}
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
        for place in 0..self.nodes[scope].children.len() {
            let span = self.nodes[scope].children[place];
            let here = Cursor { span: Some(span), ..here };
            if self.nodes[span].dropped {
                continue;
            }
            if kind == Kind::Span {
                work(self, here);
                continue;
            }
            let mut number = 0;
            for place in 0..self.nodes[span].children.len() {
                let item = self.nodes[span].children[place];
                if self.nodes[item].kind != kind || self.nodes[item].dropped {
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
        self.nodes[parent].left -= 1;
        let holds_spans = matches!(self.nodes[parent].kind, Kind::ScopeSpans | Kind::ResourceSpans);
        if holds_spans && self.nodes[parent].left == 0 {
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
        let mut out = Vec::new();
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
        if !node.dirty {
            out.extend_from_slice(node.body);
            return;
        }
        for number in 1..=LAST_FIELD {
            for field in node.fields.iter().filter(|field| field.number == number) {
                encode::tag(out, number, field.wire);
                if field.wire == LEN {
                    encode::varint(out, field.content.len() as u64);
                }
                out.extend_from_slice(&field.content);
            }
            if number == attributes_number(node.kind) {
                for attribute in &node.attributes {
                    value::put_attribute(out, number, &attribute.key, attribute.kind, &attribute.content);
                }
            }
            if let Some(kind) = message_at(node.kind, number) {
                let inner = node.part.iter().chain(&node.children);
                for child in inner.filter(|child| self.nodes[**child].kind == kind) {
                    let unused = *child >= self.read && !self.nodes[*child].dirty;
                    if !self.nodes[*child].dropped && !unused {
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
