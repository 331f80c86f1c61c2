//! spanwarden: the node agent and the gateway, as one library.
//!
//! A folder is a stage, listed below in the order in which a span meets it. Imports run one way: a stage
//! may use the foundations ([`config`], [`telemetry`], [`otlp`], [`transport`]) and the stages before it, never those after;
//! [`pipeline`] alone knows all of them, and [`cli`] knows [`pipeline`]. `ARCHITECTURE.md` draws it.

#![deny(unsafe_code)]

pub mod config;
pub mod telemetry;

pub mod otlp;
pub mod transport;

pub mod origin;
pub mod auth;
pub mod receiver;
pub mod scrub;
pub mod sampling;
pub mod route;
pub mod export;

pub mod inspect;
pub mod pipeline;

pub mod cli;
