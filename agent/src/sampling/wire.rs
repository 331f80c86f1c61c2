//! Reads protobuf fields of a request that the walker has already checked.

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Value<'a> {
    /// The content of a length-delimited field; empty for others.
    pub(super) fn bytes(self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }
}

/// The fields of a message. Ends early where the message is malformed, which the walker has excluded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let message = self.0;
        let (tag, mut rest) = varint(message)?;
        let value = match tag & 7 {
            0 => {
                let (value, after) = varint(rest)?;
                rest = after;
                Value::Varint(value)
            }
            1 => {
                let (value, after) = rest.split_first_chunk()?;
                rest = after;
                Value::Fixed64(u64::from_le_bytes(*value))
            }
            2 => {
                let (length, after) = varint(rest)?;
                let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                rest = after;
                Value::Bytes(value)
            }
            5 => {
                rest = rest.get(4..)?;
                Value::Fixed32
            }
            _ => return None,
        };
        self.0 = rest;
        Some(Field {
            number: u32::try_from(tag >> 3).ok()?,
            value,
            whole: &message[..message.len() - rest.len()],
        })
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a length-delimited field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_header(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the tag and the length of a length-delimited field.
pub(super) fn put_header(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, length as u64);
}

/// How many bytes a length-delimited field takes whose number is below 16.
pub(super) fn field_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}
