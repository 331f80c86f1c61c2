//! A node with pods: network namespaces joined by veth pairs, and the kubelet's cgroups.
//!
//! ```text
//!   pod netns            node netns                          pod netns (agent)
//!   eth0 10.244.1.2 ──── v1   routes, DNAT, masquerade   v2 ──── eth0 10.244.1.3
//!        fd00:10:244:1::2     10.244.1.1, fd00:10:244:1::1
//! ```
//!
//! Pods are routed, not bridged, so that Services are translated in the node's namespace both ways.

#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::{Context, Result};

use crate::{
    cgroup::{self, CgroupRoot},
    cleanup,
    netns::Namespace,
    process::{Place, Process},
    requirements,
};

/// A node. Dropping it ends everything in its cgroups.
#[derive(Debug)]
pub struct Node {
    // First, so that processes end before the namespaces go.
    cgroups: CgroupRoot,
    netns: Arc<Namespace>,
    pods: AtomicU8,
}

/// A pod of a [`Node`]. Its processes must end before the node is dropped, or are ended then.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// The only container.
    pub container_id: String,
    /// Its IPv4 address; the node's for a host-network pod.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address; the node's for a host-network pod.
    pub ipv6: Ipv6Addr,
    host_network: bool,
    place: Place,
}

impl Node {
    /// Makes a node, after checking that the machine can.
    pub fn new() -> Result<Self> {
        requirements::check()?;
        let cgroups = CgroupRoot::new()?;
        let netns = Namespace::new()?;
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ] {
            netns.sysctl(key, value)?;
        }
        // A node has a default route, or it could not even try to reach a Service. This one leads nowhere.
        netns.ip("link add uplink type veth peer name nowhere\nlink set uplink up\nlink set nowhere up
             addr add 10.244.1.1/32 dev uplink\naddr add fd00:10:244:1::1/128 dev uplink nodad
             route add default dev uplink\nroute add ::/0 dev uplink")?;
        netns.nft(
            "table inet spanwarden {
               chain prerouting { type nat hook prerouting priority -100; }
               chain output { type nat hook output priority -100; }
               chain postrouting { type nat hook postrouting priority 100; }
             }",
        )?;
        Ok(Self { cgroups, netns, pods: AtomicU8::new(2) })
    }

    /// The root of its cgroups: `extensions.origin.cgroup`.
    pub fn cgroups(&self) -> &CgroupRoot {
        &self.cgroups
    }

    /// The node's own network namespace.
    pub fn netns(&self) -> &Arc<Namespace> {
        &self.netns
    }

    /// The node's IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, 1, 1)
    }

    /// The node's IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        pod_ipv6(1)
    }

    /// Where a service of the node itself runs: its namespace, `system.slice/<name>.service`.
    pub fn service_place(&self, name: &str) -> Result<Place> {
        let cgroup = self.cgroups.make(format!("system.slice/{name}.service"))?;
        Ok(Place { netns: Some(Arc::clone(&self.netns)), cgroup: Some(cgroup) })
    }

    /// A pod with a network namespace and addresses of its own.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let (ipv4, ipv6) = (pod_ipv4(number), pod_ipv6(number));
        let netns = Namespace::new()?;
        self.connect(&netns, &format!("v{number}"))?;
        netns.ip(&format!(
            "addr add {ipv4}/32 dev eth0\naddr add {ipv6}/128 dev eth0 nodad\n{DEFAULT_ROUTES}"
        ))?;
        self.netns.ip(&format!("route add {ipv4}/32 dev v{number}\nroute add {ipv6}/128 dev v{number}"))?;
        self.make_pod(namespace, name, netns, (ipv4, ipv6), false)
    }

    /// A pod in the node's own network (`hostNetwork: true`).
    pub fn host_network_pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        let addresses = (self.ipv4(), self.ipv6());
        self.make_pod(namespace, name, Arc::clone(&self.netns), addresses, true)
    }

    /// A pod with a cgroup of its own that shares the network of `other`: what reaches that over loopback.
    pub fn pod_in_network_of(&self, other: &Pod, namespace: &str, name: &str) -> Result<Pod> {
        let netns = other.place.netns.clone().context("the other pod has no network namespace")?;
        self.make_pod(namespace, name, netns, (other.ipv4, other.ipv6), other.host_network)
    }

    /// A pod whose namespace is connected as `device` of the node and has the given addresses; routes to it
    /// are the caller's business. For addresses that overlap.
    pub fn unrouted_pod(&self, name: &str, device: &str, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Result<Pod> {
        let netns = Namespace::new()?;
        self.connect(&netns, device)?;
        netns.ip(&format!(
            "addr add {ipv4}/32 dev eth0\naddr add {ipv6}/128 dev eth0 nodad\n{DEFAULT_ROUTES}"
        ))?;
        self.make_pod("overlap", name, netns, (ipv4, ipv6), false)
    }

    /// A Service: connections from pods and from the node to `address` (both families) go to `backend`.
    /// With `masquerade` they also get a random source port and the node's address.
    pub fn service(&self, ipv4: Ipv4Addr, ipv6: Ipv6Addr, backend: &Pod, masquerade: bool) -> Result<()> {
        let mut rules = String::new();
        for (family, address, target) in
            [("ip", IpAddr::V4(ipv4), IpAddr::V4(backend.ipv4)), ("ip6", ipv6.into(), backend.ipv6.into())]
        {
            for chain in ["prerouting", "output"] {
                let _ = writeln!(
                    rules,
                    "add rule inet spanwarden {chain} {family} daddr {address} dnat {family} to {target}"
                );
            }
            if masquerade {
                let _ = writeln!(
                    rules,
                    "add rule inet spanwarden postrouting ct original {family} daddr {address} masquerade fully-random"
                );
            }
        }
        self.netns.nft(&rules)
    }

    /// Joins `netns` (its `eth0`) to the node (`device`). The gateway has the same address for every pod.
    fn connect(&self, netns: &Namespace, device: &str) -> Result<()> {
        netns.ip(&format!("link add eth0 type veth peer name {device} netns {}", self.netns.name()))?;
        self.netns.ip(&format!(
            "link set {device} up\naddr add {}/32 dev {device}\naddr add 169.254.1.1/32 dev {device}\n\
             addr add fe80::1/64 dev {device} nodad",
            // First, because masquerade takes the first address of the device.
            self.ipv4()
        ))?;
        netns.ip("link set eth0 up")
    }

    fn make_pod(
        &self,
        namespace: &str,
        name: &str,
        netns: Arc<Namespace>,
        (ipv4, ipv6): (Ipv4Addr, Ipv6Addr),
        host_network: bool,
    ) -> Result<Pod> {
        // Unlike any other pod's of this run, and alike in every run that makes the same pods.
        let number = cleanup::number();
        let uid = format!("5aa0{number:04x}-7e57-4e57-8e57-{:012x}", u64::from(number) * 0x0010_0001);
        let container_id = format!("{number:08x}").repeat(8);
        let cgroup = self.cgroups.make(cgroup::kubelet_path(&uid, &container_id))?;
        Ok(Pod {
            uid,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            container_id,
            ipv4,
            ipv6,
            host_network,
            place: Place { netns: Some(netns), cgroup: Some(cgroup) },
        })
    }
}

/// Through the gateway that every pod sees under the same addresses.
const DEFAULT_ROUTES: &str = "route add 169.254.1.1 dev eth0 scope link
route add default via 169.254.1.1 dev eth0
route add default via fe80::1 dev eth0";

fn pod_ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, number)
}

fn pod_ipv6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, number.into())
}

impl Pod {
    /// Its network namespace and container cgroup.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A cgroup below the container's own, as a process in the container may make it.
    pub fn sub_cgroup(&self, below: &str) -> Result<Place> {
        let own = self.place.cgroup.as_ref().context("the pod has no cgroup")?;
        let cgroup: PathBuf = own.join(below);
        std::fs::create_dir_all(&cgroup).with_context(|| format!("cgroup {}", cgroup.display()))?;
        Ok(Place { netns: self.place.netns.clone(), cgroup: Some(cgroup) })
    }

    /// A command that will run in the pod.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        self.place.command(program)
    }

    /// Starts a program in the pod.
    pub fn spawn(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<Process> {
        let mut command = self.command(program)?;
        command.args(arguments);
        Process::spawn(&self.name, command)
    }

    /// The pod as `kubectl get pod -o json` shows it.
    pub fn manifest(&self) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "uid": self.uid, "name": self.name, "namespace": self.namespace, "labels": { "app": self.name },
            },
            "spec": { "hostNetwork": self.host_network, "nodeName": "node-1" },
            "status": {
                "phase": "Running",
                "podIPs": [{ "ip": self.ipv4 }, { "ip": self.ipv6 }],
                "containerStatuses": [
                    { "name": "main", "containerID": format!("containerd://{}", self.container_id) },
                ],
            },
        })
    }
}

/// The pods as a file for `extensions.origin.pods.file`.
pub fn pod_list<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    let items: Vec<_> = pods.into_iter().map(Pod::manifest).collect();
    serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}
