//! Where the names, labels and owners of this node's pods come from: a file, the kubelet, or a watch of the API.
//!
//! All three fill the same index: pods by uid, by the hash of a static pod's configuration, and by address; a pod that
//! has gone is found for [`TOMBSTONE`]. Nothing waits for a source: as long as it has not answered, a pod is known by
//! the uid in its cgroup's path, and by nothing else.

#![forbid(unsafe_code)]

mod api;
mod file;
mod index;
mod kubelet;
mod raw;
mod read;
mod remote;
mod tree;

pub use file::{FilePods, MAX_BYTES, PodsError};
pub use index::TOMBSTONE;
pub use remote::{RemoteError, RemotePods};
