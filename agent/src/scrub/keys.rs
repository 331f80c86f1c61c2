//! The keys that a plan knows: exact attribute names, found by length and hash before anything else is asked.

#![forbid(unsafe_code)]

use std::collections::HashMap;

/// A known key's number; [`KeyId::UNKNOWN`] for all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct KeyId(u16);

impl KeyId {
    /// A key that no step names.
    pub(super) const UNKNOWN: Self = Self(0);

    /// Its bit in a set of present keys. Keys beyond the 63rd share bits: a set bit says "perhaps".
    pub(super) fn bit(self) -> u64 {
        if self == Self::UNKNOWN { 0 } else { 1 << (self.0 & 63) }
    }

    /// The key with this place in tables by key.
    pub(super) fn at(index: usize) -> Self {
        Self(u16::try_from(index).expect("a table by key is no longer than there are keys"))
    }

    /// Its place in tables by key.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The table. Filled while a plan is compiled, then only read.
#[derive(Debug, Default)]
pub(super) struct Keys {
    names: Vec<Box<[u8]>>,
    ids: HashMap<Box<[u8]>, KeyId>,
    /// Lengths that occur, those from 63 on in the last bit.
    lengths: u64,
    /// Open addressing; a power of two, at most a quarter full.
    slots: Vec<Slot>,
}

/// A key in the table, with what tells it from nearly all others.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tail: u64,
    length: u32,
    id: KeyId,
}

impl Keys {
    /// The number of a key, a new one if need be.
    pub(super) fn add(&mut self, name: &str) -> KeyId {
        let name = name.as_bytes();
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.names.push(name.into());
        let id =
            KeyId(u16::try_from(self.names.len()).expect("a configuration names fewer than 65,536 keys"));
        self.ids.insert(name.into(), id);
        self.lengths |= length_bit(name.len());
        self.rebuild();
        id
    }

    /// How many numbers there are, `UNKNOWN` included: the length of a table by key.
    pub(super) fn count(&self) -> usize {
        self.names.len() + 1
    }

    /// A known key's text.
    pub(super) fn name(&self, id: KeyId) -> Option<&[u8]> {
        self.names.get(id.index().checked_sub(1)?).map(|name| &**name)
    }

    /// Whether a key of so many bytes is known.
    #[inline]
    pub(super) fn has_length(&self, length: usize) -> bool {
        self.lengths & length_bit(length) != 0
    }

    /// The bit of a known key's length.
    pub(super) fn length(&self, id: KeyId) -> u64 {
        self.name(id).map_or(0, |name| length_bit(name.len()))
    }

    /// The number of a key.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> KeyId {
        if !self.has_length(name.len()) {
            return KeyId::UNKNOWN;
        }
        let tail = tail(name);
        let mask = self.slots.len() - 1;
        let mut at = hash(tail, name.len()) & mask;
        loop {
            let slot = self.slots[at];
            if slot.id == KeyId::UNKNOWN {
                return slot.id;
            }
            // The tail is all there is of a short key.
            if slot.tail == tail
                && slot.length as usize == name.len()
                && (name.len() <= TAIL || *self.names[slot.id.index() - 1] == *name)
            {
                return slot.id;
            }
            at = (at + 1) & mask;
        }
    }

    fn rebuild(&mut self) {
        let size = (self.names.len() * 4).next_power_of_two();
        self.slots = vec![Slot::default(); size];
        for (index, name) in self.names.iter().enumerate() {
            let tail = tail(name);
            let mut at = hash(tail, name.len()) & (size - 1);
            while self.slots[at].id != KeyId::UNKNOWN {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = Slot { tail, length: name.len() as u32, id: KeyId(index as u16 + 1) };
        }
    }
}

/// Bytes of a tail.
const TAIL: usize = 8;

/// A length's bit in a set of lengths; those from 63 on share the last.
#[inline]
pub(super) fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// The last eight bytes, or all.
#[inline]
fn tail(name: &[u8]) -> u64 {
    match name.last_chunk::<TAIL>() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => name.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte)),
    }
}

/// By length and tail. The table is fixed by the configuration, so that nobody can fill it with collisions; a probe
/// ends at the first free slot.
#[inline]
fn hash(tail: u64, length: usize) -> usize {
    ((tail ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_whole_name_only() {
        let mut keys = Keys::default();
        assert_eq!(keys.find(b"user.id"), KeyId::UNKNOWN);
        let names =
            ["user.id", "", "a", "http.url", "xhttp.url", "yhttp.url", "service.name", &"k".repeat(80)];
        let ids = names.map(|name| keys.add(name));
        for (name, id) in names.iter().zip(ids) {
            assert_eq!((keys.find(name.as_bytes()), keys.add(name)), (id, id), "{name}");
        }
        for other in ["user_id", "b", "zhttp.url", "http.uri", "servica.name", &"k".repeat(81)] {
            assert_eq!(keys.find(other.as_bytes()), KeyId::UNKNOWN, "{other}");
        }
    }
}
