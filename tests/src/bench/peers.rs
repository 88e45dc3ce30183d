//! What netd is measured against: a bare veth pair, the kernel bridge, and routing with iptables NAT,
//! with and without a bridge in front. Each lives in namespaces of its own; all are built before the
//! first cell and idle unless measured. Many published ports are as many rules.
//!
//! The peers get the benefit of the doubt: no filter rules, no bridge netfilter on the plain bridge,
//! warm neighbours. Device MTU and offloads are veth's defaults everywhere, as on netd's side.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};

use super::load::PORT;
use super::scale;
use crate::lab::names::LabId;
use crate::lab::netns::Ns;
use crate::lab::process;

/// A path a load can take.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where the client runs.
    pub client: Ns,
    /// Where the server runs.
    pub server: Ns,
    /// What the client connects to.
    pub to: SocketAddr,
}

/// IP version the load uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IpVersion {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl IpVersion {
    /// The address of this version among some.
    pub fn pick(self, addresses: &[IpAddr]) -> Option<IpAddr> {
        addresses
            .iter()
            .copied()
            .find(|a| a.is_ipv4() == (self == Self::V4))
    }

    fn of(self, v4: &str, v6: &str) -> Result<IpAddr> {
        Ok(if self == Self::V4 {
            v4.parse()?
        } else {
            v6.parse()?
        })
    }
}

/// Published port of the peers and of netd.
pub const PUBLISHED: u16 = 8080;

/// A bare veth pair: the ceiling.
pub fn veth(id: &LabId, ip: IpVersion) -> Result<Route> {
    let client = Ns::create(&id.ns("va"))?;
    let server = Ns::create(&id.ns("vb"))?;
    client.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}\n",
        server.name()
    ))?;
    client.ip(&host("10.209.0.2/24", "fd09::2/64", None))?;
    server.ip(&host("10.209.0.3/24", "fd09::3/64", None))?;
    Ok(Route {
        client,
        server,
        to: SocketAddr::new(ip.of("10.209.0.3", "fd09::3")?, PORT),
    })
}

/// Whether a bridge shows the frames it switches to netfilter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeNetfilter {
    /// No: the plain bridge.
    Off,
    /// Yes, as Docker and Kubernetes demand it. No rule is there to match.
    On,
}

/// Whether this kernel has it; as a module it appears when somebody loads it.
pub fn has_bridge_netfilter() -> bool {
    fs::metadata("/proc/sys/net/bridge").is_ok()
}

/// The kernel bridge with two veths: what `docker network` and CNI's bridge make of a node.
pub fn bridge(id: &LabId, ip: IpVersion, netfilter: BridgeNetfilter) -> Result<Route> {
    let (letter, flag) = match netfilter {
        BridgeNetfilter::Off => ('b', "0"),
        BridgeNetfilter::On => ('f', "1"),
    };
    let node = Ns::create(&id.ns(&format!("{letter}n")))?;
    let client = Ns::create(&id.ns(&format!("{letter}a")))?;
    let server = Ns::create(&id.ns(&format!("{letter}b")))?;
    node.ip("link add br0 type bridge\nlink set br0 up\n")?;
    if has_bridge_netfilter() {
        for tables in ["iptables", "ip6tables", "arptables"] {
            sysctl(&node, &format!("bridge/bridge-nf-call-{tables}"), flag)?;
        }
    }
    for (end, port) in [(&client, "p0"), (&server, "p1")] {
        node.ip(&format!(
            "link add {port} type veth peer name eth0 netns {}\nlink set {port} master br0 up\n",
            end.name()
        ))?;
    }
    client.ip(&host("10.209.0.2/24", "fd09::2/64", None))?;
    server.ip(&host("10.209.0.3/24", "fd09::3/64", None))?;
    Ok(Route {
        client,
        server,
        to: SocketAddr::new(ip.of("10.209.0.3", "fd09::3")?, PORT),
    })
}

/// How the endpoint of an iptables node is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Its veth carries the gateway address: the kernel only routes and translates.
    Routed,
    /// Its veth is a port of a bridge that has the gateway address, as Docker and CNI do it.
    Bridged,
}

/// The two ways through a node with iptables NAT.
pub struct Nat {
    /// Endpoint to outside, masqueraded.
    pub outward: Route,
    /// Outside to the published port.
    pub inward: Route,
}

/// An endpoint, a node that masquerades and publishes with iptables, and an outside host.
pub fn iptables(id: &LabId, ip: IpVersion, attached: Attached) -> Result<Nat> {
    let letter = if attached == Attached::Routed {
        "r"
    } else {
        "d"
    };
    let hosts = masquerading(id, letter, attached)?;
    publish(&hosts.node, ip, &[(PUBLISHED, PORT)])?;
    Ok(Nat {
        outward: Route {
            client: hosts.endpoint.clone(),
            server: hosts.outside.clone(),
            to: SocketAddr::new(ip.of("192.0.2.100", "2001:db8:1::100")?, PORT),
        },
        inward: hosts.inward(ip, PUBLISHED)?,
    })
}

/// The way from outside to the last of `level` ports that iptables publishes, each by a rule of its own.
pub fn iptables_ports(id: &LabId, ip: IpVersion, level: u32) -> Result<Route> {
    let hosts = masquerading(id, &format!("p{level}"), Attached::Routed)?;
    let ports: Vec<(u16, u16)> = scale::published(level)
        .map(|port| (port, scale::behind(port)))
        .collect();
    publish(&hosts.node, ip, &ports)?;
    hosts.inward(ip, scale::ASKED)
}

/// A node with iptables and what is on its two sides.
struct Hosts {
    node: Ns,
    endpoint: Ns,
    outside: Ns,
}

impl Hosts {
    /// From outside to a published port.
    fn inward(&self, ip: IpVersion, port: u16) -> Result<Route> {
        Ok(Route {
            client: self.outside.clone(),
            server: self.endpoint.clone(),
            to: SocketAddr::new(ip.of("192.0.2.2", "2001:db8:1::2")?, port),
        })
    }
}

/// An endpoint, a node that masquerades with iptables, and an outside host; `letter` begins their names.
fn masquerading(id: &LabId, letter: &str, attached: Attached) -> Result<Hosts> {
    let node = Ns::create(&id.ns(&format!("{letter}n")))?;
    let endpoint = Ns::create(&id.ns(&format!("{letter}e")))?;
    let outside = Ns::create(&id.ns(&format!("{letter}o")))?;
    let gateway = match attached {
        Attached::Routed => "p0",
        Attached::Bridged => "br0",
    };
    node.ip(&format!(
        "link add p0 type veth peer name eth0 netns {}\nlink add up0 type veth peer name eth0 netns {}\n",
        endpoint.name(),
        outside.name()
    ))?;
    if attached == Attached::Bridged {
        node.ip("link add br0 type bridge\nlink set p0 master br0\nlink set br0 up\n")?;
    }
    node.ip(&format!(
        "link set lo up\nlink set p0 up\nlink set up0 up\n\
         addr add 10.209.0.1/24 dev {gateway}\naddr add fd09::1/64 dev {gateway} nodad\n\
         addr add 192.0.2.2/24 dev up0\naddr add 2001:db8:1::2/64 dev up0 nodad\n"
    ))?;
    sysctl(&node, "ipv4/ip_forward", "1")?;
    sysctl(&node, "ipv6/conf/all/forwarding", "1")?;
    node.ip("route add default via 192.0.2.100\nroute add default via 2001:db8:1::100\n")?;
    endpoint.ip(&host(
        "10.209.0.2/24",
        "fd09::2/64",
        Some(["10.209.0.1", "fd09::1"]),
    ))?;
    outside.ip(&host("192.0.2.100/24", "2001:db8:1::100/64", None))?;
    for (program, subnet) in [("iptables", "10.209.0.0/24"), ("ip6tables", "fd09::/64")] {
        let rule = [
            "-w",
            "-t",
            "nat",
            "-A",
            "POSTROUTING",
            "-s",
            subnet,
            "-o",
            "up0",
            "-j",
            "MASQUERADE",
        ];
        process::run(node.command(program).args(rule))?.success()?;
    }
    Ok(Hosts {
        node,
        endpoint,
        outside,
    })
}

/// Publishes ports of the endpoint (outside, inside) in this order, all in one go.
fn publish(node: &Ns, ip: IpVersion, ports: &[(u16, u16)]) -> Result<()> {
    let (program, inside) = match ip {
        IpVersion::V4 => ("iptables-restore", "10.209.0.2"),
        IpVersion::V6 => ("ip6tables-restore", "[fd09::2]"),
    };
    let mut rules = "*nat\n".to_owned();
    for (port, behind) in ports {
        writeln!(
            rules,
            "-A PREROUTING -i up0 -p tcp --dport {port} -j DNAT --to-destination {inside}:{behind}"
        )?;
    }
    rules += "COMMIT\n";
    process::feed(node.command(program).args(["-w", "--noflush"]), &rules)
}

/// `ip` commands that set up the only device of a host.
fn host(v4: &str, v6: &str, gateways: Option<[&str; 2]>) -> String {
    let device = format!(
        "link set lo up\nlink set eth0 up\naddr add {v4} dev eth0\naddr add {v6} dev eth0 nodad\n"
    );
    let routes = gateways
        .into_iter()
        .flatten()
        .map(|g| format!("route add default via {g}\n"));
    device + &routes.collect::<String>()
}

/// Writes a value below `/proc/sys/net` as the namespace sees it.
fn sysctl(ns: &Ns, key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    ns.enter(|| {
        fs::write(&path, value).with_context(|| format!("cannot write {path} in {}", ns.name()))?;
        let now = fs::read_to_string(&path)?;
        ensure!(
            now.trim() == value,
            "{path} in {} stayed at {}",
            ns.name(),
            now.trim()
        );
        Ok(())
    })
}
