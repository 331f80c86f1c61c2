use super::*;
use crate::otlp::encode::{field, field_with};

fn span(out: &mut Vec<u8>, trace: u8, name: &str) {
    field_with(out, 2, |span| {
        if name.len().is_multiple_of(2) {
            field(span, 5, name.as_bytes());
        }
        field(span, 1, &[trace; 16]);
        field(span, 2, &[1; 8]);
        if name.len() % 2 == 1 {
            field(span, 5, name.as_bytes());
        }
    });
}

/// Resources r0, r1, each with scopes s0, s1; every scope has one span of each of the given traces.
fn request(traces: &[u8], resources: &[&str]) -> Bytes {
    let mut out = Vec::new();
    for resource in resources {
        field_with(&mut out, 1, |out| {
            field(out, 1, resource.as_bytes());
            for scope in ["s0", "s1"] {
                field_with(out, 2, |out| {
                    field(out, 1, scope.as_bytes());
                    for &trace in traces {
                        span(out, trace, &"n".repeat(trace.into()));
                    }
                    field(out, 3, b"schema");
                });
            }
            field(out, 3, b"schema of all");
        });
    }
    out.into()
}

/// Every span with what it is under, as text, sorted.
fn flat(data: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    each(data, |_, resource| {
        let mut heads = Vec::new();
        let mut scopes = Vec::new();
        each(resource, |number, content| match number {
            2 => scopes.push(content),
            _ => heads.push(format!("{number}{content:?}")),
        });
        for scope in scopes {
            let (mut heads, mut spans) = (heads.clone(), Vec::new());
            each(scope, |number, content| match number {
                2 => spans.push(content),
                _ => heads.push(format!("{number}{content:?}")),
            });
            out.extend(spans.iter().map(|span| format!("{heads:?} {span:?}")));
        }
    });
    out.sort();
    out
}

fn each<'a>(buf: &'a [u8], mut show: impl FnMut(u32, &'a [u8])) {
    let mut pos = 0;
    while pos < buf.len() {
        let (number, content, after) = next_field(buf, pos).unwrap();
        show(number, &buf[content.range()]);
        pos = after;
    }
}

#[test]
fn every_span_goes_once_to_its_target_with_its_resource() {
    let mut splitter = Splitter::default();
    let buf = request(&[1, 2, 3, 3, 2, 9], &["r0", "r1"]);
    for _ in 0..2 {
        let outputs = splitter.route(&buf, |id| usize::from(id[0] % 2) * 5).unwrap();
        assert_eq!(outputs.iter().map(|out| (out.target, out.spans)).collect::<Vec<_>>(), [(5, 16), (0, 8)]);
        let mut all: Vec<_> = outputs.iter().flat_map(|out| flat(&out.data)).collect();
        all.sort();
        assert_eq!(all, flat(&buf));
        for out in outputs {
            let again = Splitter::default().route(&out.data, |id| usize::from(id[0] % 2) * 5).unwrap();
            assert_eq!((again.len(), again[0].target, again[0].spans), (1, out.target, out.spans));
        }
    }
}

#[test]
fn traces_are_requests_of_their_own() {
    let mut splitter = Splitter::default();
    let buf = request(&[4, 1, 4], &["r0"]);
    let traces = splitter.group(&buf).unwrap();
    assert_eq!(traces.iter().map(|trace| (trace.id[0], trace.spans)).collect::<Vec<_>>(), [(4, 4), (1, 2)]);
    assert_eq!(flat(&traces[1].data), flat(&request(&[1], &["r0"])));
    assert_eq!(splitter.group(&traces[0].data).unwrap()[0].data.as_ptr(), traces[0].data.as_ptr());
}

#[test]
fn one_target_shares_the_bytes_and_none_gives_nothing() {
    let mut splitter = Splitter::default();
    let buf = request(&[1, 2], &["r0", "r1"]);
    let out = splitter.route(&buf, |_| 7).unwrap();
    assert_eq!((out.len(), out[0].data.as_ptr(), out[0].spans), (1, buf.as_ptr(), 8));
    assert!(splitter.route(&request(&[], &["r0"]), |_| 0).unwrap().is_empty());
    assert!(splitter.route(&buf.slice(..20), |_| 0).is_err());
    assert_eq!(splitter.route(&buf, |id| id[0].into()).unwrap().len(), 2);
}
