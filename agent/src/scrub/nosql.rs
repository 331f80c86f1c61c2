//! Statements of databases that do not speak SQL, without their values.

#![forbid(unsafe_code)]

pub mod command;
pub mod json;
