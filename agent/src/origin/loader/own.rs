//! The agent's own addresses: a joined connection counts as evidence only if its opener wanted to reach one of
//! them. Loopback is not in the list; it counts from the agent's own network namespace.

#![forbid(unsafe_code)]

use super::OriginError;
use nix::ifaddrs::getifaddrs;
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr},
};

/// Comma-separated addresses: those of Services (`clusterIP`) in front of the agent, node addresses by the downward API.
pub const VARIABLE: &str = "SPANWARDEN_OWN_ADDRESSES";

/// Addresses from [`VARIABLE`], and from every variable `SPANWARDEN…_SERVICE_HOST`, which Kubernetes sets for
/// Services whose name starts so. The headless ones are `None`.
pub fn from_env(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeSet<IpAddr>, OriginError> {
    let mut found = BTreeSet::new();
    for (variable, list) in variables {
        let service = variable.starts_with("SPANWARDEN") && variable.ends_with("_SERVICE_HOST");
        if variable != VARIABLE && !service {
            continue;
        }
        for value in list.split(',').map(str::trim).filter(|value| !value.is_empty() && *value != "None") {
            let address = value.parse::<IpAddr>().map_err(|_| OriginError::OwnAddress {
                variable: variable.clone(),
                value: value.to_owned(),
            })?;
            found.insert(address.to_canonical());
        }
    }
    Ok(found)
}

/// Addresses of all interfaces of this network namespace.
pub(in crate::origin) fn of_interfaces() -> io::Result<BTreeSet<IpAddr>> {
    let mut found = BTreeSet::new();
    for interface in getifaddrs()? {
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            found.insert(IpAddr::V4(v4.ip()));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            found.insert(IpAddr::V6(v6.ip()).to_canonical());
        }
    }
    Ok(found)
}

/// As the kernel side has addresses: 16 bytes, IPv4 v4-mapped.
pub(in crate::origin) fn to_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The reverse of [`to_bytes`].
pub(in crate::origin) fn from_bytes(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<BTreeSet<IpAddr>, OriginError> {
        from_env(pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())))
    }

    #[test]
    fn addresses_come_from_our_variables_only() {
        let found = env(&[
            ("SPANWARDEN_OWN_ADDRESSES", " 10.96.0.7, fd00::7 ,::ffff:10.0.0.1,"),
            ("SPANWARDEN_AGENT_SERVICE_HOST", "10.96.0.8"),
            ("SPANWARDEN_GATEWAY_SERVICE_HOST", "None"),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("SPANWARDEN_AGENT_SERVICE_PORT", "4317"),
        ])
        .unwrap();
        let expected = ["10.96.0.7", "fd00::7", "10.0.0.1", "10.96.0.8"];
        assert_eq!(found, expected.iter().map(|a| a.parse().unwrap()).collect());
    }

    #[test]
    fn a_host_name_is_refused_with_the_variable_s_name() {
        let error = env(&[("SPANWARDEN_OWN_ADDRESSES", "10.0.0.1,agent.local")]).unwrap_err().to_string();
        assert!(error.contains("SPANWARDEN_OWN_ADDRESSES") && error.contains("agent.local"), "{error}");
    }

    #[test]
    fn bytes_and_back() {
        for text in ["10.1.2.3", "fd00::1", "::1", "0.0.0.0"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(from_bytes(to_bytes(address)), address);
        }
    }
}
