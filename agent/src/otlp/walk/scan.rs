//! The one pass: messages by their tables, parts shown as they end, length prefixes fixed on the way out.

use super::super::edit::Edits;
use super::super::wire::{self, LEN, Tag, What, Wire};
use super::schema::{self, Action};
use super::value::{Values, wrong_type};
use super::{Kind, Limits, Part, Rewrite, Scratch, Slice, Summary, Text};

pub(super) struct Walker<'a, R> {
    pub(super) buf: &'a [u8],
    pub(super) limits: &'a Limits,
    pub(super) scratch: &'a mut Scratch,
    pub(super) rewrite: &'a mut R,
    pub(super) edits: &'a mut Edits,
    pub(super) summary: Summary,
}

/// Where the lists stood when a message was entered.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) edits: usize,
    pub(super) attributes: usize,
    pub(super) texts: usize,
    pub(super) strips: usize,
}

/// A length-delimited field: its length prefix and its content.
#[derive(Clone, Copy)]
struct Framed {
    prefix: Slice,
    body: Slice,
}

/// A field that was shown before its turn.
const NOT_MOVED: usize = usize::MAX;

impl<R: Rewrite> Walker<'_, R> {
    /// `ExportTraceServiceRequest`: `repeated ResourceSpans resource_spans = 1`.
    pub(super) fn request(mut self) -> Wire<Summary> {
        let buf = self.buf;
        let mut pos = 0;
        while pos < buf.len() {
            let start = pos;
            let (tag, after) = wire::tag(buf, pos)?;
            match (tag.number, tag.wire) {
                (1, LEN) => pos = self.nested(buf, after, Kind::ResourceSpans, 2)?,
                (1, wire) => return Err(wrong_type(wire, start)),
                (_, wire) => {
                    pos = wire::skip(buf, after, wire)?;
                    self.count_unknown(start)?;
                    self.edits.delete(Slice::new(start, pos));
                }
            }
        }
        debug_assert!(self.edits.list.is_sorted_by_key(|edit| (edit.at.start, edit.at.end)));
        Ok(self.summary)
    }

    /// A message in a field whose length begins at `pos`: walks it, and corrects its length if edits inside
    /// changed it. Returns the offset after it.
    fn nested(&mut self, buf: &[u8], pos: usize, kind: Kind, depth: u32) -> Wire<usize> {
        let (start, end) = wire::length(buf, pos)?;
        let framed = Framed { prefix: Slice::new(pos, start), body: Slice::new(start, end) };
        let (first_edit, delta) = (self.edits.list.len(), self.edits.delta);
        self.message(kind, framed.body, depth)?;
        if self.edits.delta != delta {
            let len = i64::from(framed.body.len()) + self.edits.delta - delta;
            self.edits.insert_length(first_edit, framed.prefix, len.cast_unsigned());
        }
        Ok(end)
    }

    fn message(&mut self, kind: Kind, body: Slice, depth: u32) -> Wire<()> {
        if depth > self.limits.depth {
            return Err(What::Depth.at(body.start as usize));
        }
        let mark = self.mark();
        let moved = match kind {
            Kind::ResourceSpans | Kind::ScopeSpans => self.first_things_first(kind, body, depth)?,
            _ => NOT_MOVED,
        };
        let fields = schema::of(kind);
        let buf = &self.buf[..body.end as usize];
        let mut seen = 0u32;
        let mut pos = body.start as usize;
        if kind == Kind::Span {
            pos = self.usual_head(buf, pos, &mut seen, mark.texts)?;
        }
        while pos < buf.len() {
            let start = pos;
            let (tag, after) = wire::tag(buf, pos)?;
            let field = match fields.get(tag.number as usize) {
                Some(field) if field.action != Action::Unknown => field,
                _ => {
                    pos = self.unknown(buf, start, after, tag)?;
                    continue;
                }
            };
            if field.wire != tag.wire {
                return Err(wrong_type(tag.wire, start));
            }
            if !field.repeated {
                let bit = 1 << tag.number;
                if seen & bit != 0 {
                    return Err(What::Duplicate.at(start));
                }
                seen |= bit;
            }
            pos = match field.action {
                Action::Number | Action::Unknown => wire::skip(buf, after, tag.wire)?,
                Action::Attribute => self.attributes(buf, start, after, depth + 1, mark.attributes)?,
                Action::Text => self.text(buf, start, after, tag.number, mark.texts)?,
                Action::Message(_) if start == moved => wire::skip(buf, after, LEN)?,
                Action::Message(inner) => self.nested(buf, after, inner, depth + 1)?,
                Action::TraceId => id::<16>(buf, after, What::TraceId, false)?,
                Action::SpanId => id::<8>(buf, after, What::SpanId, false)?,
                Action::OptionalTraceId => id::<16>(buf, after, What::TraceId, true)?,
                Action::OptionalSpanId => id::<8>(buf, after, What::SpanId, true)?,
            };
        }
        if kind == Kind::Span {
            self.count_span(seen, body)?;
        }
        self.show(kind, body, mark)?;
        if moved != NOT_MOVED {
            self.edits.sort_from(mark.edits);
        }
        Ok(())
    }

    fn count_span(&mut self, seen: u32, body: Slice) -> Wire<()> {
        let at = body.start as usize;
        if seen & 1 << 1 == 0 {
            return Err(What::TraceId.at(at));
        }
        if seen & 1 << 2 == 0 {
            return Err(What::SpanId.at(at));
        }
        self.summary.spans += 1;
        if self.summary.spans > self.limits.spans { Err(What::Spans.at(at)) } else { Ok(()) }
    }

    /// The fields that nearly every span begins with, in the order that SDKs write: ids, name, kind, times. Asking
    /// for what is expected costs less than a jump by the table, which the processor seldom guesses. It stops
    /// before whatever is different; the table has the rest. Returns the offset after what it took.
    #[inline]
    fn usual_head(&mut self, buf: &[u8], mut pos: usize, seen: &mut u32, base: usize) -> Wire<usize> {
        let Some(ids) = buf[pos..].first_chunk::<28>() else { return Ok(pos) };
        let &[0x0a, 16, ref trace @ .., 0x12, 8, _, _, _, _, _, _, _, _] = ids else { return Ok(pos) };
        if *trace == [0; 16] || ids[20..] == [0; 8] {
            return Ok(pos);
        }
        (pos, *seen) = (pos + 28, 1 << 1 | 1 << 2);
        if let Some([0x22, 8, ..]) = buf[pos..].first_chunk::<10>() {
            (pos, *seen) = (pos + 10, *seen | 1 << 4);
        }
        if buf.get(pos) == Some(&0x2a) {
            (pos, *seen) = (self.text(buf, pos, pos + 1, 5, base)?, *seen | 1 << 5);
        }
        if let Some([0x30, 0..0x80]) = buf[pos..].first_chunk::<2>() {
            (pos, *seen) = (pos + 2, *seen | 1 << 6);
        }
        if let Some([0x39, _, _, _, _, _, _, _, _, 0x41, ..]) = buf[pos..].first_chunk::<18>() {
            (pos, *seen) = (pos + 18, *seen | 1 << 7 | 1 << 8);
        }
        Ok(pos)
    }

    /// An attribute and those right after it, which usually are all that a message has.
    #[inline]
    fn attributes(
        &mut self,
        buf: &[u8],
        mut start: usize,
        mut pos: usize,
        depth: u32,
        base: usize,
    ) -> Wire<usize> {
        let tag = buf[start];
        loop {
            let end = self.attribute(buf, start, pos, depth, base)?;
            // The field numbers of attributes are small: another tag of one byte is another such field.
            if tag >= 0x80 || buf.get(end) != Some(&tag) {
                return Ok(end);
            }
            (start, pos) = (end, end + 1);
        }
    }

    #[inline]
    fn attribute(&mut self, buf: &[u8], start: usize, pos: usize, depth: u32, base: usize) -> Wire<usize> {
        if self.scratch.attributes.len() - base >= self.limits.attributes as usize {
            return Err(What::Attributes.at(start));
        }
        let (from, end) = wire::length(buf, pos)?;
        let mut values = Values { buf: self.buf, limits: self.limits, strips: &mut self.scratch.strips };
        let field = Slice::new(start, end);
        values.attribute(field, Slice::new(from, end), depth, &mut self.scratch.attributes)?;
        Ok(end)
    }

    #[inline]
    fn text(&mut self, buf: &[u8], start: usize, pos: usize, number: u32, base: usize) -> Wire<usize> {
        if self.scratch.texts.len() - base >= self.limits.attributes as usize {
            return Err(What::Attributes.at(start));
        }
        let (from, end) = wire::length(buf, pos)?;
        let value = Slice::new(from, end);
        wire::utf8(buf, value)?;
        self.scratch.texts.push(Text { number, field: Slice::new(start, end), value });
        Ok(end)
    }

    #[cold]
    fn unknown(&mut self, buf: &[u8], start: usize, after: usize, tag: Tag) -> Wire<usize> {
        let end = wire::skip(buf, after, tag.wire)?;
        if self.scratch.strips.len() >= self.limits.unknown_fields as usize {
            return Err(What::UnknownFields.at(start));
        }
        self.scratch.strips.push(Slice::new(start, end));
        Ok(end)
    }

    /// Counts an unknown field that will be gone.
    pub(super) fn count_unknown(&mut self, at: usize) -> Wire<()> {
        self.summary.unknown_fields += 1;
        let many = self.summary.unknown_fields > self.limits.unknown_fields;
        if many { Err(What::UnknownFields.at(at)) } else { Ok(()) }
    }

    /// The resource of a `ResourceSpans` and the scope of a `ScopeSpans` are shown before what follows from
    /// them. Usually they are the first field (tag 0x0a), and nothing is to be done. Else this looks for them,
    /// walks them now, and returns where they are; a missing resource is shown too.
    fn first_things_first(&mut self, kind: Kind, body: Slice, depth: u32) -> Wire<usize> {
        let buf = &self.buf[..body.end as usize];
        let mut pos = body.start as usize;
        if buf.get(pos) == Some(&0x0a) {
            return Ok(NOT_MOVED);
        }
        while pos < buf.len() {
            let start = pos;
            let (tag, after) = wire::tag(buf, pos)?;
            if (tag.number, tag.wire) == (1, LEN) {
                let inner = if kind == Kind::ResourceSpans { Kind::Resource } else { Kind::Scope };
                self.nested(buf, after, inner, depth + 1)?;
                return Ok(start);
            }
            pos = wire::skip(buf, after, tag.wire)?;
        }
        if kind == Kind::ResourceSpans {
            self.show_missing_resource(body)?;
        }
        Ok(NOT_MOVED)
    }

    /// Shows an absent resource. What is inserted into it becomes its content: tag and length go before it.
    fn show_missing_resource(&mut self, parent: Slice) -> Wire<()> {
        let (mark, delta) = (self.mark(), self.edits.delta);
        let nowhere = Slice { start: parent.start, end: parent.start };
        self.show(Kind::Resource, nowhere, mark)?;
        let inserted = self.edits.delta - delta;
        if inserted != 0 {
            let edit = self.edits.make(nowhere, |arena| {
                arena.push(0x0a);
                super::super::encode::varint(arena, inserted.cast_unsigned());
            });
            self.edits.delta += edit.delta();
            self.edits.list.insert(mark.edits, edit);
        }
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark {
            edits: self.edits.list.len(),
            attributes: self.scratch.attributes.len(),
            texts: self.scratch.texts.len(),
            strips: self.scratch.strips.len(),
        }
    }

    /// Shows a message to the rewrite, and settles what it edited.
    #[inline]
    fn show(&mut self, kind: Kind, body: Slice, mark: Mark) -> Wire<()> {
        let attributes = &self.scratch.attributes[mark.attributes..];
        let texts = &self.scratch.texts[mark.texts..];
        let part = Part { kind, buf: self.buf, attributes, texts, insert_at: body.start };
        let first = self.edits.list.len();
        self.rewrite.part(&part, self.edits);
        if self.edits.list.len() != first || self.scratch.strips.len() != mark.strips {
            self.settle(body, mark, first)?;
        }
        self.scratch.attributes.truncate(mark.attributes);
        self.scratch.texts.truncate(mark.texts);
        Ok(())
    }
}

/// Checks an id field whose length begins at `pos`; returns the offset after it.
#[inline]
fn id<const N: usize>(buf: &[u8], pos: usize, what: What, optional: bool) -> Wire<usize> {
    let (start, end) = wire::length(buf, pos)?;
    match buf[start..end].first_chunk::<N>() {
        Some(id) if end - start == N => {
            if !optional && *id == [0; N] {
                Err(What::ZeroId.at(pos))
            } else {
                Ok(end)
            }
        }
        _ if optional && start == end => Ok(end),
        _ => Err(what.at(pos)),
    }
}
