//! The edit list: what is to change in a message, written out in one pass.
//!
//! Edits are ranges of the original buffer with their replacement. Length prefixes of the messages around an
//! edit are edits too; the walker adds them as it leaves each message.

use super::walk::Slice;

/// Edits of one request, and the bytes they insert. Reused from request to request.
#[derive(Debug, Default)]
pub struct Edits {
    #[expect(dead_code, reason = "written out by the walker, which comes next")]
    list: Vec<Edit>,
    arena: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    at: Slice,
    with: Slice,
}

impl Edits {
    /// Replaces a range by `with`; an empty range inserts, an empty `with` deletes.
    pub fn replace(&mut self, at: Slice, with: &[u8]) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(with);
        self.list.push(Edit { at, with: Slice { start, end: self.arena.len() as u32 } });
    }

    /// Replaces a range by what `write` appends to the buffer it is given.
    pub fn replace_with(&mut self, at: Slice, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        self.list.push(Edit { at, with: Slice { start, end: self.arena.len() as u32 } });
    }

    /// Whether nothing is to change, so that the request may be forwarded as the same bytes.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
