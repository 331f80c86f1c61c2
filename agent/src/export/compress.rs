//! Request compression with contexts that are made once a thread.
//!
//! Levels are the fastest ones: CPU is what an agent takes away from its node's applications.

use std::{cell::RefCell, io};

use bytes::Bytes;
use flate2::{Compress, Compression as Level, FlushCompress, Status};

use crate::config::exporters::Compression;

const ZSTD_LEVEL: i32 = 1;

thread_local! {
    static GZIP: RefCell<Compress> = RefCell::new(Compress::new_gzip(Level::fast(), 15));
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// The name in `grpc-encoding` and `content-encoding`; `None` for no compression.
pub(crate) fn name(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

/// The compressed bytes, or `None` when the data is to go as it is: that was asked for, or compressing would not
/// make it smaller.
pub(crate) fn compress(compression: Compression, data: &Bytes) -> io::Result<Option<Bytes>> {
    let out = match compression {
        Compression::None => return Ok(None),
        Compression::Gzip => gzip(data)?,
        Compression::Zstd => zstd(data)?,
    };
    Ok(out.filter(|out| out.len() < data.len()).map(Bytes::from))
}

/// `None` when the result would be larger than the data.
fn gzip(data: &[u8]) -> io::Result<Option<Vec<u8>>> {
    GZIP.with_borrow_mut(|context| {
        context.reset();
        let mut out = Vec::with_capacity(data.len());
        match context.compress_vec(data, &mut out, FlushCompress::Finish)? {
            Status::StreamEnd => Ok(Some(out)),
            // The room is as large as the data, so this one does not shrink.
            Status::Ok | Status::BufError => Ok(None),
        }
    })
}

fn zstd(data: &[u8]) -> io::Result<Option<Vec<u8>>> {
    ZSTD.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        context.compress(data).map(Some)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn round_trips_with_a_context_used_again() {
        for round in 0..3_u8 {
            let data = Bytes::from((0..50_000_u32).map(|n| (n / 97) as u8 ^ round).collect::<Vec<_>>());
            let zipped = compress(Compression::Gzip, &data).unwrap().unwrap();
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut back).unwrap();
            assert_eq!(back, data);
            let packed = compress(Compression::Zstd, &data).unwrap().unwrap();
            assert_eq!(zstd::decode_all(&packed[..]).unwrap(), data);
        }
    }

    #[test]
    fn what_does_not_shrink_goes_as_it_is() {
        let mut noise = 1_u64;
        let data: Bytes = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (noise >> 56) as u8
        })
        .take(3000)
        .collect();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            assert_eq!(compress(compression, &data).unwrap(), None);
        }
    }
}
