//! The edit list: what is to change in a message, written out in one pass.
//!
//! Edits are ranges of the original buffer with their replacement. Length prefixes of the messages around an
//! edit are edits too; the walker adds them as it leaves each message.

#![forbid(unsafe_code)]

use bytes::Bytes;

use super::{encode, walk::Slice};

/// Edits of one request, and the bytes they insert. Reused from request to request.
#[derive(Debug, Default)]
pub struct Edits {
    pub(super) list: Vec<Edit>,
    pub(super) arena: Vec<u8>,
    /// Bytes inserted less bytes deleted, over the whole list.
    pub(super) delta: i64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    /// What is replaced, in the request.
    pub(super) at: Slice,
    /// The replacement, in the arena.
    pub(super) with: Slice,
}

impl Edit {
    pub(super) fn delta(self) -> i64 {
        i64::from(self.with.len()) - i64::from(self.at.len())
    }
}

impl Edits {
    /// Replaces a range by `with`; an empty range inserts, an empty `with` deletes.
    ///
    /// An empty range that is the end of an inner value (an empty string's text, say) belongs to that value.
    pub fn replace(&mut self, at: Slice, with: &[u8]) {
        self.replace_with(at, |arena| arena.extend_from_slice(with));
    }

    /// Replaces a range by what `write` appends to the buffer it is given.
    pub fn replace_with(&mut self, at: Slice, write: impl FnOnce(&mut Vec<u8>)) {
        let edit = self.make(at, write);
        self.delta += edit.delta();
        self.list.push(edit);
    }

    /// Deletes a range.
    pub fn delete(&mut self, at: Slice) {
        self.replace(at, &[]);
    }

    /// Whether nothing is to change, so that the request may be forwarded as the same bytes.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many ranges are to change, length prefixes included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets all edits and keeps the memory, but for what only an unusual request needs.
    pub fn clear(&mut self) {
        const USUAL: usize = 1 << 20;
        self.list.clear();
        self.list.shrink_to(USUAL / size_of::<Edit>());
        self.arena.clear();
        self.arena.shrink_to(USUAL);
        self.delta = 0;
    }

    /// Writes the request with all edits made. Without edits it is the same `Bytes`, not a copy.
    ///
    /// `buf` must be what was walked.
    pub fn apply(&self, buf: &Bytes) -> Bytes {
        if self.is_empty() {
            return buf.clone();
        }
        let mut out =
            Vec::with_capacity(buf.len().saturating_add_signed(self.delta as isize) + encode::CHUNK);
        let mut done = 0;
        for edit in &self.list {
            debug_assert!(done <= edit.at.start as usize, "edits overlap or are not in order");
            encode::piece(&mut out, buf, done..edit.at.start as usize);
            encode::piece(&mut out, &self.arena, edit.with.range());
            done = edit.at.end as usize;
        }
        out.extend_from_slice(&buf[done..]);
        Bytes::from(out)
    }

    /// An edit that is not in the list yet; its replacement already is in the arena.
    pub(super) fn make(&mut self, at: Slice, write: impl FnOnce(&mut Vec<u8>)) -> Edit {
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        Edit { at, with: Slice { start, end: self.arena.len() as u32 } }
    }

    /// Replaces the length prefix at `prefix` by `len`, as edit number `index`.
    pub(super) fn insert_length(&mut self, index: usize, prefix: Slice, len: u64) {
        let edit = self.make(prefix, |arena| encode::varint(arena, len));
        self.delta += edit.delta();
        self.list.insert(index, edit);
    }

    /// Brings the edits from `from` on into wire order. Insertions come before what else happens at their
    /// offset, and stay in the order in which they were made.
    pub(super) fn sort_from(&mut self, from: usize) {
        let order = |edit: &Edit| (edit.at.start, edit.at.end);
        let list = &mut self.list[from..];
        if !list.is_sorted_by_key(order) {
            list.sort_by_key(order);
        }
    }
}
