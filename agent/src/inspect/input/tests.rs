//! Every way in which spans are stored, and what is wrong with files.

use super::*;
use proptest::prelude::*;

const ONE: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101","spanId":"0202020202020202","name":"a \"}{ b"}]}]}]}"#;

fn requests(bytes: &[u8], name: &str, form: Option<Form>) -> Result<(Form, Vec<Request>), InputError> {
    // A small buffer, so that objects cross its end.
    let reader = Box::new(io::BufReader::with_capacity(7, bytes));
    let mut requests = Requests::new(reader, Path::new(name), form)?;
    let mut all = Vec::new();
    while let Some(request) = requests.next_request()? {
        all.push(request);
    }
    Ok((requests.form(), all))
}

fn protobuf() -> Vec<u8> {
    json::to_protobuf(ONE.as_bytes(), &Limits::default()).expect("it is JSON").data
}

fn framed(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        write(&mut bytes, Form::PbFramed, &protobuf()).expect("a vector takes everything");
    }
    bytes
}

#[test]
fn all_forms_are_recognised() {
    let pretty = ONE.replace(',', ",\n  ");
    for (bytes, name, form, count) in [
        (ONE.as_bytes().to_vec(), "-", Form::Json, 1),
        (format!("\u{feff}{ONE}\n").into_bytes(), "spans.json", Form::Json, 1),
        (format!("\n{pretty}\n\n{ONE}\r\n{ONE}").into_bytes(), "-", Form::Json, 3),
        (format!("{ONE}{ONE}").into_bytes(), "spans.jsonl", Form::Json, 2),
        (Vec::new(), "spans.jsonl", Form::Json, 0),
        (protobuf(), "spans.pb", Form::Pb, 1),
        (protobuf(), "-", Form::Pb, 1),
        (framed(3), "spans.pb", Form::PbFramed, 3),
        (framed(2), "-", Form::PbFramed, 2),
    ] {
        let (found, requests) =
            requests(&bytes, name, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((found, requests.len()), (form, count), "{name}");
        assert!(requests.iter().all(|request| request.data == protobuf()), "{name}");
        let numbers: Vec<u64> = requests.iter().map(|request| request.number).collect();
        assert_eq!(numbers, (1..=count as u64).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (bytes, form, says) in [
        (&ONE.as_bytes()[..50], None, "request 1 is cut off"),
        (b"{\"resourceSpans\": 1}", None, "request 1: a field has another type"),
        (b"{} x", None, "request 2: an object"),
        (b"[{}]", Some(Form::Json), "request 1: an object"),
        (&framed(2)[..framed(1).len() + 2], None, "request 2 is cut off"),
        (&framed(2)[..framed(1).len() + 9], None, "request 2 is cut off"),
        (b"\x28\xb5\x2f\xfd....", None, "zstd"),
        (b"\x1f\x8b....", None, "gzip"),
    ] {
        let error = requests(bytes, "-", form).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_length_is_not_believed() {
    let bytes = [&0x3fff_ffff_u32.to_be_bytes()[..], b"short"].concat();
    assert!(matches!(requests(&bytes, "-", Some(Form::PbFramed)), Err(InputError::Cut { number: 1 })));
    let bytes = 0x7fff_ffff_u32.to_be_bytes();
    assert!(matches!(requests(&bytes, "-", Some(Form::PbFramed)), Err(InputError::TooLarge { number: 1 })));
}

proptest! {
    #[test]
    fn any_bytes_end_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), form in 0..4usize) {
        let form = [None, Some(Form::Json), Some(Form::Pb), Some(Form::PbFramed)][form];
        let _ = requests(&bytes, "-", form);
    }
}
