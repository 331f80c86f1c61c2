//! gzip and zstd, unpacked into memory that is admitted as it is needed and never allocated by a claimed size.

#![forbid(unsafe_code)]

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_frame_content_size};

use super::{admission::Permit, body::admission_failure, status::Failure};

/// How a request's bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// From `grpc-encoding` or `Content-Encoding`.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        match value.trim_ascii() {
            v if v.is_empty() || v.eq_ignore_ascii_case(b"identity") => Some(Self::Identity),
            v if v.eq_ignore_ascii_case(b"gzip") || v.eq_ignore_ascii_case(b"x-gzip") => Some(Self::Gzip),
            v if v.eq_ignore_ascii_case(b"zstd") => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Up to this many bytes any ratio is fine: little memory, and short repetitive requests pack very well.
const FREE_OUTPUT: usize = 1 << 20;
/// Above that, output may be this many times the input. Spans pack 5 to 50 times; a zip bomb's gzip about 1,030
/// times and its zstd more than 10,000 times.
const MAX_RATIO: usize = 200;
/// zstd's largest window, 32 MiB: what encoders in use ask for at their highest ordinary levels. A larger one
/// would make us hold up to 2 GiB by a claim in the frame's header.
const WINDOW_LOG_MAX: u32 = 25;

thread_local! {
    /// Contexts are some 100 KiB each, so they are kept; a worker unpacks one request at a time.
    static GZIP: RefCell<Decompress> = RefCell::new(Decompress::new_gzip(15));
    static ZSTD: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// Unpacks `input` to at most `max` bytes, admitting the output in `permit`.
pub(super) fn decompress(
    encoding: Encoding,
    input: Bytes,
    max: usize,
    permit: &mut Permit,
) -> Result<Bytes, Failure> {
    let mut out = Output::new(input.len(), max, permit);
    match encoding {
        Encoding::Identity => return Ok(input),
        Encoding::Gzip => GZIP.with_borrow_mut(|context| gunzip(context, &input, &mut out))?,
        Encoding::Zstd => ZSTD.with_borrow_mut(|context| {
            // Without memory for a context there is none for the request either.
            let context = match context {
                Some(context) => context,
                None => context.insert(new_zstd_context()?),
            };
            unzstd(context, &input, &mut out)
        })?,
    }
    Ok(Bytes::from(out.buffer))
}

/// The unpacked bytes, with the limits they must keep.
struct Output<'a> {
    buffer: Vec<u8>,
    /// What the size limit and the ratio allow.
    cap: usize,
    /// Whether `cap` is the ratio's and not the configured size.
    by_ratio: bool,
    max: usize,
    permit: &'a mut Permit,
}

impl<'a> Output<'a> {
    fn new(input: usize, max: usize, permit: &'a mut Permit) -> Self {
        let ratio = input.saturating_mul(MAX_RATIO).max(FREE_OUTPUT);
        Self { buffer: Vec::new(), cap: max.min(ratio), by_ratio: ratio < max, max, permit }
    }

    /// Makes room for at least one byte beyond what is there: doubling, admitted first, with one byte beyond the
    /// cap so that a request of exactly that size is told from a longer one.
    fn grow(&mut self, at_least: usize) -> Result<(), Failure> {
        let now = self.buffer.capacity();
        if self.buffer.len() > self.cap {
            return Err(self.too_large());
        }
        let want = now.saturating_mul(2).max(at_least).clamp(1, self.cap + 1);
        if want > now {
            self.permit.grow((want - now) as u64).map_err(admission_failure)?;
            self.buffer.reserve_exact(want - self.buffer.len());
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.buffer.len() == self.buffer.capacity()
    }

    fn finish(&self) -> Result<(), Failure> {
        if self.buffer.len() > self.cap { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Failure {
        if self.by_ratio {
            Failure::too_large(
                "decompression_ratio",
                format!(
                    "request unpacks to more than {MAX_RATIO} times its size; send smaller batches or less compression"
                ),
            )
        } else {
            Failure::too_large(
                "decompressed_too_large",
                format!("request unpacks to more than {} bytes; send smaller batches", self.max),
            )
        }
    }
}

fn corrupt(cause: &'static str, message: &'static str) -> Failure {
    Failure::malformed(cause, message)
}

/// RFC 1952; several members after one another are one stream.
fn gunzip(context: &mut Decompress, input: &[u8], out: &mut Output<'_>) -> Result<(), Failure> {
    context.reset(true);
    let mut rest = input;
    out.grow(input.len().saturating_mul(4))?;
    loop {
        let (read, written) = (context.total_in(), out.buffer.len());
        let status = context
            .decompress_vec(rest, &mut out.buffer, FlushDecompress::None)
            .map_err(|_| corrupt("corrupt_gzip", "request is no valid gzip stream"))?;
        let consumed = (context.total_in() - read) as usize;
        rest = &rest[consumed..];
        match status {
            Status::StreamEnd if rest.is_empty() => return out.finish(),
            Status::StreamEnd => context.reset(true),
            Status::Ok | Status::BufError if out.is_full() => out.grow(0)?,
            Status::Ok | Status::BufError if rest.is_empty() => {
                return Err(corrupt("corrupt_gzip", "request's gzip stream is cut short"));
            }
            Status::Ok | Status::BufError if consumed == 0 && out.buffer.len() == written => {
                return Err(corrupt("corrupt_gzip", "request is no valid gzip stream"));
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

fn new_zstd_context() -> Result<DCtx<'static>, Failure> {
    let exhausted = || Failure::new(super::status::Code::Internal, 500, "out_of_memory", "out of memory");
    let mut context = DCtx::try_create().ok_or_else(exhausted)?;
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|_| exhausted())?;
    Ok(context)
}

/// RFC 8878; several frames after one another are one stream.
fn unzstd(context: &mut DCtx<'static>, input: &[u8], out: &mut Output<'_>) -> Result<(), Failure> {
    let _ = context.reset(ResetDirective::SessionOnly);
    // A believable size lets zstd write straight into the output, without a window of its own. What is
    // believed is in proportion to what was sent.
    if let Ok(Some(size)) = get_frame_content_size(input) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size <= out.cap && size <= input.len().saturating_mul(32).saturating_add(64 << 10) {
            out.grow(size)?;
            if context.decompress(&mut out.buffer, input).is_ok() {
                return out.finish();
            }
            // Several frames, or corrupt: the slow path knows.
            out.buffer.clear();
            let _ = context.reset(ResetDirective::SessionOnly);
        }
    }
    let mut source = InBuffer::around(input);
    out.grow(input.len().saturating_mul(4))?;
    loop {
        let (read, written) = (source.pos(), out.buffer.len());
        let mut target = OutBuffer::around_pos(&mut out.buffer, written);
        let hint = context.decompress_stream(&mut target, &mut source).map_err(|code| {
            if zstd::zstd_safe::get_error_name(code).contains("requires too much memory") {
                corrupt("zstd_window", "request's zstd window is larger than 32 MiB; use an ordinary level")
            } else {
                corrupt("corrupt_zstd", "request is no valid zstd stream")
            }
        })?;
        let consumed_all = source.pos() == input.len();
        if hint == 0 && consumed_all {
            return out.finish();
        }
        if out.is_full() {
            out.grow(0)?;
        } else if consumed_all {
            return Err(corrupt("corrupt_zstd", "request's zstd stream is cut short"));
        } else if source.pos() == read && out.buffer.len() == written {
            return Err(corrupt("corrupt_zstd", "request is no valid zstd stream"));
        }
    }
}

#[cfg(test)]
mod tests;
