//! The harness of the end-to-end suites and of `cargo xtask demo`.
//!
//! [`node::Node`] is a Kubernetes node made of a network namespace and a cgroup tree named as the kubelet
//! names it; [`node::Node::pod`] adds pods, [`process::Process`] runs programs in them, [`agent::Agent`] runs the
//! real binary. All of them are guards: what they made goes when they are dropped, on a panic as well, and on
//! Ctrl-C ([`cleanup`]). Nothing of the machine's own network or cgroups is touched.
//!
//! [`oracle`] and [`proto`] are OTLP as prost reads it, and generated requests: what the walker is held against.

pub mod adversary;
pub mod agent;
pub mod backend;
pub mod bpf;
pub mod bpffs;
pub mod certificates;
pub mod cgroup;
pub mod cleanup;
pub mod client;
pub mod clients;
pub mod detector;
pub mod fuzz;
pub mod kubernetes;
pub mod load;
pub mod netns;
pub mod node;
pub mod oracle;
pub mod patience;
pub mod payload;
pub mod pii;
pub mod process;
pub mod proto;
pub mod requirements;
pub mod tokens;
pub mod workload_api;
