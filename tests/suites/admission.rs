//! Who is believed: every way to be taken for somebody else, over real sockets against the real program, from pods that the
//! kernel sees.

#![forbid(unsafe_code)]

#[path = "admission/agents.rs"]
mod agents;
#[path = "admission/documents.rs"]
mod documents;
#[path = "admission/pki.rs"]
mod pki;
#[path = "admission/rotation.rs"]
mod rotation;
#[path = "admission/spans.rs"]
mod spans;
#[path = "admission/table.rs"]
mod table;
#[path = "admission/theft.rs"]
mod theft;
#[path = "admission/tokens.rs"]
mod tokens;
#[path = "admission/world.rs"]
mod world;
