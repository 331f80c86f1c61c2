//! Settles the edits of one part: unknown fields go, and the lengths between an edit and its part are corrected.

use super::super::edit::{Edit, Edits};
use super::super::wire::{self, LEN, What, Wire};
use super::scan::{Mark, Walker};
use super::{Attribute, Rewrite, Scratch, Slice, Text, ValueKind};

/// The messages inside an attribute.
#[derive(Clone, Copy)]
enum Level {
    KeyValue,
    AnyValue,
    Array,
    KvList,
    /// A string or bytes.
    Leaf,
}

impl Level {
    /// What field `number` holds, where it is length-delimited.
    fn inner(self, number: u32) -> Self {
        match (self, number) {
            (Self::KeyValue, 2) | (Self::Array, 1) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::Array,
            (Self::AnyValue, 6) => Self::KvList,
            (Self::KvList, 1) => Self::KeyValue,
            _ => Self::Leaf,
        }
    }
}

impl<R: Rewrite> Walker<'_, R> {
    /// Takes over the edits from number `first` on, which the rewrite has just made in a part with the given
    /// body, and the unknown fields found in it.
    pub(super) fn settle(&mut self, body: Slice, mark: Mark, first: usize) -> Wire<()> {
        self.edits.sort_from(first);
        check(&self.edits.list[first..], body)?;
        if R::WHOLE_FIELDS && self.scratch.strips.len() == mark.strips {
            debug_assert!(self.edits.list[first..].iter().all(|edit| self.is_whole(edit, body, mark)));
            self.edits.sort_from(mark.edits);
            return Ok(());
        }
        self.strip(mark, first)?;
        self.scratch.lengths.clear();
        let Scratch { attributes, texts, lengths, .. } = &mut *self.scratch;
        let mut fixer = Fixer { buf: self.buf, edits: self.edits, lengths };
        fixer.attributes(&attributes[mark.attributes..], first)?;
        fixer.texts(&texts[mark.texts..], first)?;
        self.edits.list.append(&mut self.scratch.lengths);
        // Also what came before this part's edits: the events of a span are shown before it.
        self.edits.sort_from(mark.edits);
        Ok(())
    }

    /// Whether an edit is what [`Rewrite::WHOLE_FIELDS`] promises.
    fn is_whole(&self, edit: &Edit, body: Slice, mark: Mark) -> bool {
        let attributes = self.scratch.attributes[mark.attributes..].iter().map(|attribute| attribute.field);
        let texts = self.scratch.texts[mark.texts..].iter().map(|text| text.field);
        let beginning = Slice { start: body.start, end: body.start };
        edit.at == beginning || attributes.chain(texts).any(|field| field == edit.at)
    }

    /// Deletes the unknown fields that the rewrite has not deleted or replaced together with what is around.
    fn strip(&mut self, mark: Mark, first: usize) -> Wire<()> {
        if self.scratch.strips.len() == mark.strips {
            return Ok(());
        }
        let made = self.edits.list.len();
        for number in mark.strips..self.scratch.strips.len() {
            let strip = self.scratch.strips[number];
            self.count_unknown(strip.start as usize)?;
            // In wire order and without overlaps: only the last edit that begins before it can cover it.
            let mine = &self.edits.list[first..made];
            let before = mine.partition_point(|edit| edit.at.start <= strip.start);
            let covered = before > 0 && mine[before - 1].at.end >= strip.end;
            if !covered {
                self.edits.delete(strip);
            }
        }
        self.scratch.strips.truncate(mark.strips);
        self.edits.sort_from(first);
        Ok(())
    }
}

/// Edits in wire order must not overlap nor leave their part.
fn check(edits: &[Edit], body: Slice) -> Wire<()> {
    let mut done = body.start;
    for edit in edits {
        if edit.at.start < done || edit.at.end > body.end || edit.at.end < edit.at.start {
            return wrong(edit);
        }
        done = edit.at.end;
    }
    Ok(())
}

#[cold]
fn wrong<T>(edit: &Edit) -> Wire<T> {
    debug_assert!(false, "a rewrite's edits overlap or leave their part");
    Err(What::Edits.at(edit.at.start as usize))
}

struct Fixer<'a> {
    buf: &'a [u8],
    edits: &'a mut Edits,
    /// Edits of length prefixes; they join the list at the end, so that its numbers stay.
    lengths: &'a mut Vec<Edit>,
}

impl Fixer<'_> {
    /// Corrects the lengths inside those attributes that have edits inside.
    fn attributes(&mut self, attributes: &[Attribute], first: usize) -> Wire<()> {
        let mut next = first;
        for attribute in attributes {
            let inside = self.inside(&mut next, attribute.field)?;
            if let [edit] = self.edits.list[inside.clone()]
                && edit.at == attribute.value
                && self.replace_whole(attribute, inside.start)
            {
                continue;
            }
            if !inside.is_empty() {
                let (_, body_at) = wire::tag(self.buf, attribute.field.start as usize)?;
                self.framed(body_at, inside, Level::KeyValue)?;
            }
            if next == self.edits.list.len() {
                break;
            }
        }
        Ok(())
    }

    fn texts(&mut self, texts: &[Text], first: usize) -> Wire<()> {
        let mut next = first;
        for text in texts {
            let inside = self.inside(&mut next, text.field)?;
            if !inside.is_empty() {
                let (_, value_at) = wire::tag(self.buf, text.field.start as usize)?;
                self.framed(value_at, inside, Level::Leaf)?;
            }
            if next == self.edits.list.len() {
                break;
            }
        }
        Ok(())
    }

    /// The edits inside a field but not of the field as a whole, from number `next` on.
    fn inside(&self, next: &mut usize, field: Slice) -> Wire<std::ops::Range<usize>> {
        let list = &self.edits.list;
        // What lies before the field, or begins with it, is the parent's.
        while list.get(*next).is_some_and(|edit| edit.at.start <= field.start) {
            if list[*next].at.end > field.start && list[*next].at.end < field.end {
                return wrong(&list[*next]);
            }
            *next += 1;
        }
        let from = *next;
        while let Some(edit) = list.get(*next) {
            let inside = edit.at.end <= field.end && (edit.at.start < field.end || edit.at.is_empty());
            if !inside {
                if edit.at.start < field.end {
                    return wrong(edit);
                }
                break;
            }
            *next += 1;
        }
        Ok(from..*next)
    }

    /// The usual case, a new text for a whole string value in an attribute of the usual shape: one edit of the
    /// whole field costs less than one of the text and three of the lengths before it.
    fn replace_whole(&mut self, attribute: &Attribute, number: usize) -> bool {
        let Attribute { field, key, kind, value } = *attribute;
        // tag, length, 0x0a, length, key, 0x12, length, 0x0a, length, value
        let usual = kind == ValueKind::String
            && key.start == field.start + 4
            && value.start == key.end + 4
            && value.end == field.end;
        let old = self.edits.list[number];
        let (key_len, value_len) = (key.len() as usize, old.with.len() as usize);
        let body_len = key_len + value_len + 6;
        if !usual || body_len >= 0x80 {
            return false;
        }
        let arena = &mut self.edits.arena;
        let start = arena.len();
        arena.extend_from_slice(&[self.buf[field.start as usize], body_len as u8, 0x0a, key_len as u8]);
        arena.extend_from_slice(&self.buf[key.range()]);
        arena.extend_from_slice(&[0x12, value_len as u8 + 2, 0x0a, value_len as u8]);
        arena.extend_from_within(old.with.range());
        let new = Edit { at: field, with: Slice::new(start, arena.len()) };
        self.edits.delta += new.delta() - old.delta();
        self.edits.list[number] = new;
        true
    }

    /// Corrects the length prefix at `pos` for the edits `inside` its content, and the prefixes in there.
    /// Returns by how much the whole grows.
    fn framed(&mut self, pos: usize, inside: std::ops::Range<usize>, level: Level) -> Wire<i64> {
        let (start, end) = wire::length(self.buf, pos)?;
        let mut delta: i64 = self.edits.list[inside.clone()].iter().map(|edit| edit.delta()).sum();
        if self.edits.list[inside.clone()].iter().any(|edit| (edit.at.start as usize) < start) {
            return wrong(&self.edits.list[inside.start]);
        }
        if !matches!(level, Level::Leaf) {
            delta += self.children(start, end, inside, level)?;
        }
        if delta == 0 {
            return Ok(0);
        }
        let len = ((end - start) as u64).wrapping_add_signed(delta);
        let edit = self.edits.make(Slice::new(pos, start), |arena| super::super::encode::varint(arena, len));
        self.edits.delta += edit.delta();
        self.lengths.push(edit);
        Ok(delta + edit.delta())
    }

    /// Finds the fields that hold edits of `inside` and corrects their lengths; returns by how much the length
    /// prefixes in there grow.
    fn children(
        &mut self,
        start: usize,
        end: usize,
        inside: std::ops::Range<usize>,
        level: Level,
    ) -> Wire<i64> {
        let buf = &self.buf[..end];
        let (mut pos, mut next, mut grown) = (start, inside.start, 0);
        while pos < end && next < inside.end {
            let (tag, after) = wire::tag(buf, pos)?;
            let field_end = wire::skip(buf, after, tag.wire)?;
            let field = Slice::new(pos, field_end);
            let within = self.inside(&mut next, field)?;
            let within = within.start..within.end.min(inside.end);
            if !within.is_empty() && tag.wire == LEN {
                let own: i64 = self.edits.list[within.clone()].iter().map(|edit| edit.delta()).sum();
                grown += self.framed(after, within, level.inner(tag.number))? - own;
            }
            pos = field_end;
        }
        Ok(grown)
    }
}
