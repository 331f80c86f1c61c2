//! OTLP as prost reads it, to hold the walker against: generated requests, the same requests in the many ways
//! in which the wire can write them, and a naive model of rewriting by decoding and encoding again.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::proto::{self, v1::ExportTraceServiceRequest};

pub mod canary;
pub mod model;
pub mod strategies;
pub mod wire;

/// The descriptors of the protos in `fixtures/proto`.
pub static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("the build script wrote descriptors"));

/// `ExportTraceServiceRequest`
///
/// # Panics
/// When the protos do not have it.
pub fn request_descriptor() -> MessageDescriptor {
    POOL.get_message_by_name("opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest")
        .expect("the protos have the request")
}

/// Decodes a request.
///
/// # Panics
/// When prost refuses it.
pub fn decode(data: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(data).expect("what the walker passes, prost reads")
}

/// A small generator of numbers that are the same for the same seed (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    /// A number that depends on a seed and on what is asked about, and not on the order of asking.
    pub fn about(seed: u64, what: &[&[u8]]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
        for part in what {
            for &byte in *part {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            hash = (hash ^ 0x1ff).wrapping_mul(0x0100_0000_01b3);
        }
        let mut dice = Self(hash);
        dice.roll();
        dice
    }
}
