//! Stored OTLP, request by request: JSON (one object, or one after the other, as the Collector's file exporter writes
//! them), protobuf (one request, or each behind its length, as that exporter writes those).

#![forbid(unsafe_code)]

use std::{
    io::{self, BufRead, Read as _, Write},
    path::Path,
};

use clap::ValueEnum;

use crate::otlp::{json, walk::Limits};

/// The largest request that is read, in bytes. A receiver takes far less.
pub const MAX_REQUEST: usize = 1 << 30;

/// How spans are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// OTLP JSON: one object or many
    Json,
    /// One OTLP request in protobuf
    Pb,
    /// Many, each behind its length in four bytes, big-endian: the Collector's `format: proto`
    PbFramed,
}

/// Why stored spans can't be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file system's or the pipe's.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// Not a request.
    #[error("request {number}: {error}")]
    Json {
        /// From 1.
        number: u64,
        /// What is wrong and where; lines are counted in the request.
        error: json::BadJson,
    },
    /// Something else between objects.
    #[error("request {number}: an object (`{{`) is expected here; give --input-format if this is not JSON")]
    NoObject {
        /// From 1.
        number: u64,
    },
    /// The end comes inside a request.
    #[error("request {number} is cut off: the file ends inside it")]
    Cut {
        /// From 1.
        number: u64,
    },
    /// More than [`MAX_REQUEST`].
    #[error("request {number} is larger than {MAX_REQUEST} bytes")]
    TooLarge {
        /// From 1.
        number: u64,
    },
    /// Compressed.
    #[error("this is compressed; decompress it first: `{0} -dc FILE | spanwarden … -`")]
    Compressed(&'static str),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// From 1.
    pub number: u64,
    /// A serialised `ExportTraceServiceRequest`, not checked yet.
    pub data: Vec<u8>,
    /// JSON keys that OTLP does not have; they are not in `data`.
    pub unknown_fields: u32,
}

/// The requests of a file.
pub struct Requests<'r> {
    reader: Box<dyn BufRead + 'r>,
    form: Form,
    number: u64,
    done: bool,
}

impl std::fmt::Debug for Requests<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests")
            .field("form", &self.form)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<'r> Requests<'r> {
    /// Of a reader. Without a form, the content says it, and the name where the content does not.
    pub fn new(
        mut reader: Box<dyn BufRead + 'r>,
        name: &Path,
        form: Option<Form>,
    ) -> Result<Self, InputError> {
        let head = reader.fill_buf()?;
        let form = match form {
            Some(form) => form,
            None => guess(head, name)?,
        };
        if head.starts_with(b"\xef\xbb\xbf") && form == Form::Json {
            reader.consume(3);
        }
        Ok(Self { reader, form, number: 0, done: false })
    }

    /// How they are stored.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The next one; `None` at the end. After an error there is no next one.
    pub fn next_request(&mut self) -> Result<Option<Request>, InputError> {
        if self.done {
            return Ok(None);
        }
        let result = match self.form {
            Form::Json => self.next_json(),
            Form::Pb => self.whole(),
            Form::PbFramed => self.next_framed(),
        };
        self.done = !matches!(result, Ok(Some(_)));
        result
    }

    fn next_json(&mut self) -> Result<Option<Request>, InputError> {
        self.number += 1;
        let number = self.number;
        let Some(text) = self.object()? else { return Ok(None) };
        let read = json::to_protobuf(&text, &Limits::default());
        let json::Transcoded { data, unknown_fields } =
            read.map_err(|error| InputError::Json { number, error })?;
        Ok(Some(Request { number, data, unknown_fields }))
    }

    /// The text of the next JSON object.
    fn object(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        let number = self.number;
        loop {
            let chunk = self.reader.fill_buf()?;
            let blank = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match chunk.get(blank) {
                Some(b'{') => {
                    self.reader.consume(blank);
                    break;
                }
                Some(_) => return Err(InputError::NoObject { number }),
                None if chunk.is_empty() => return Ok(None),
                None => self.reader.consume(blank),
            }
        }
        let (mut text, mut end) = (Vec::new(), ObjectEnd::default());
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Err(InputError::Cut { number });
            }
            let found = chunk.iter().position(|byte| end.is(*byte));
            let used = found.map_or(chunk.len(), |at| at + 1);
            text.extend_from_slice(&chunk[..used]);
            self.reader.consume(used);
            if found.is_some() {
                return Ok(Some(text));
            }
            if text.len() > MAX_REQUEST {
                return Err(InputError::TooLarge { number });
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Request>, InputError> {
        self.number += 1;
        let mut data = Vec::new();
        (&mut self.reader).take(MAX_REQUEST as u64 + 1).read_to_end(&mut data)?;
        if data.len() > MAX_REQUEST {
            return Err(InputError::TooLarge { number: self.number });
        }
        Ok((!data.is_empty() && self.number == 1).then_some(Request { number: 1, data, unknown_fields: 0 }))
    }

    fn next_framed(&mut self) -> Result<Option<Request>, InputError> {
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        let cut = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => InputError::Cut { number },
            _ => InputError::Io(error),
        };
        let mut length = [0; 4];
        self.reader.read_exact(&mut length).map_err(cut)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_REQUEST {
            return Err(InputError::TooLarge { number });
        }
        // Not reserved beforehand: the length is only what the file says.
        let mut data = Vec::new();
        (&mut self.reader).take(length as u64).read_to_end(&mut data)?;
        if data.len() < length {
            return Err(InputError::Cut { number });
        }
        Ok(Some(Request { number, data, unknown_fields: 0 }))
    }
}

/// Finds the byte that ends an object.
#[derive(Default)]
struct ObjectEnd {
    depth: usize,
    string: bool,
    escaped: bool,
}

impl ObjectEnd {
    /// Whether the object ends with this byte.
    fn is(&mut self, byte: u8) -> bool {
        if self.string {
            (self.string, self.escaped) = match byte {
                _ if self.escaped => (true, false),
                b'"' => (false, false),
                byte => (true, byte == b'\\'),
            };
            return false;
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => return false,
        }
        self.depth == 0
    }
}

fn guess(head: &[u8], name: &Path) -> Result<Form, InputError> {
    for (magic, tool) in [(&b"\x28\xb5\x2f\xfd"[..], "zstd"), (b"\x1f\x8b", "gzip")] {
        if head.starts_with(magic) {
            return Err(InputError::Compressed(tool));
        }
    }
    let extension = name.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    Ok(match (head.first(), extension) {
        (_, "json" | "jsonl" | "ndjson") | (None | Some(b'{' | 0xef | b' '), _) => Form::Json,
        // A request begins with the tag of its first field; a length below 16 MiB begins with 0.
        (Some(0), _) => Form::PbFramed,
        (Some(0x0a), "pb" | "bin" | "binpb" | "proto" | "otlp") => Form::Pb,
        // A line's end, as well as that tag.
        (Some(b'\n'), _) if head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') => Form::Json,
        _ => Form::Pb,
    })
}

/// Writes a request in the form in which it was stored.
pub fn write(out: &mut dyn Write, form: Form, data: &[u8]) -> io::Result<()> {
    match form {
        Form::Json => {
            let mut text = Vec::new();
            let written = json::to_json(data, &mut text);
            written.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            text.push(b'\n');
            out.write_all(&text)
        }
        Form::Pb => out.write_all(data),
        Form::PbFramed => {
            let length = u32::try_from(data.len())
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a request of 4 GiB or more"))?;
            out.write_all(&length.to_be_bytes())?;
            out.write_all(data)
        }
    }
}

#[cfg(test)]
mod tests;
