//! Pods from the kubelet and the API, and Events on them, against servers that speak the real protocols and fail in
//! every way.
#![allow(missing_docs)]

#[path = "workload/api.rs"]
mod api;
#[path = "workload/common.rs"]
mod common;
#[path = "workload/events.rs"]
mod events;
#[path = "workload/kubelet.rs"]
mod kubelet;
