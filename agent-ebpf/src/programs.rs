//! Programs by hook, and what they share.

mod ancestry;
mod attempts;
mod clients;
mod connect;
mod decided;
mod egress;
mod endings;
mod established;
mod ingress;
mod maps;
mod packet;
mod place;
mod policy;
mod report;
mod throttle;
mod tls;

/// The first port that a kernel gives to clients, unless it is told otherwise (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: u32 = 32_768;

/// Whether a socket without storage is a server's beyond doubt, by its own port and its peer's. What is accepted
/// while the programs run has storage where the ports do not say it; so has every client's socket.
#[inline(always)]
fn is_server(local: u32, remote: u32) -> bool {
    local < EPHEMERAL && local < remote
}
