//! How many spans a request holds, for the counters: it hops from span to span and looks into none.

#![forbid(unsafe_code)]

/// Spans in a serialised `ExportTraceServiceRequest`, or `None` where the bytes are no such message as far as
/// this looks (the walker looks further).
pub(super) fn spans(request: &[u8]) -> Option<u32> {
    // ExportTraceServiceRequest.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2
    let mut count = 0u32;
    for_each(request, 1, &mut |resource_spans| {
        for_each(resource_spans, 2, &mut |scope_spans| {
            for_each(scope_spans, 2, &mut |_| {
                count += 1;
                Some(())
            })
        })
    })?;
    Some(count)
}

/// Calls `visit` with each length-delimited field `number` of a message.
fn for_each(message: &[u8], number: u64, visit: &mut dyn FnMut(&[u8]) -> Option<()>) -> Option<()> {
    let mut rest = message;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                varint(&mut rest)?;
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (field, after) = rest.split_at_checked(length)?;
                rest = after;
                if tag >> 3 == number {
                    visit(field)?;
                }
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(content);
        out
    }

    fn request(shape: &[&[usize]]) -> Vec<u8> {
        let mut request = Vec::new();
        for scopes in shape {
            let mut resource_spans = field(1, b"\x0a\x00");
            for &spans in *scopes {
                let scope_spans: Vec<u8> = (0..spans).flat_map(|i| field(2, &vec![b'x'; i * 50])).collect();
                resource_spans.extend(field(2, &scope_spans));
            }
            resource_spans.extend(field(3, b"https://schema"));
            request.extend(field(1, &resource_spans));
        }
        request
    }

    #[test]
    fn counts_over_all_resources_and_scopes() {
        assert_eq!(spans(&request(&[])), Some(0));
        assert_eq!(spans(&request(&[&[3, 0, 4], &[], &[5]])), Some(12));
    }

    #[test]
    fn any_cut_is_a_smaller_count_or_none() {
        let whole = request(&[&[3, 4], &[5]]);
        for cut in 0..whole.len() {
            assert!(spans(&whole[..cut]).is_none_or(|n| n < 12));
        }
        assert_eq!(spans(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(spans(&[0x0b]), None);
    }
}
