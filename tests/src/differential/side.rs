//! Two nodes with the same networks, hosts and addresses. All devices send with checksums of their own, so
//! that what is on a wire is what was meant.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netd_fuzz::cast;

use crate::lab::capture::RawSocket;
use crate::lab::frames::{Mac, mac};
use crate::lab::host::Host;
use crate::lab::netns::Ns;
use crate::lab::{Lab, process};

/// A host on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// An endpoint of the first network.
    A,
    /// Another one.
    B,
    /// An endpoint of the second network.
    C,
    /// Outside, on the uplink's link.
    Outside,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::C, Self::Outside];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::Outside => "outside",
        }
    }
}

/// Addresses by name. The first network's begin with 10.60.1 and fd60:1.
pub const ADDRESSES: [(&str, &str, &str); 9] = [
    ("a", "10.60.1.10", "fd60:1::10"),
    ("b", "10.60.1.11", "fd60:1::11"),
    ("c", "10.60.2.10", "fd60:2::10"),
    ("gateway1", "10.60.1.1", "fd60:1::1"),
    ("gateway2", "10.60.2.1", "fd60:2::1"),
    ("node", "192.0.2.2", "2001:db8:1::2"),
    ("outside", "192.0.2.100", "2001:db8:1::100"),
    ("far", "198.51.100.7", "2001:db8:51::7"),
    ("unrouted", "198.18.1.9", "2001:db8:1801::9"),
];

const MACS: [(&str, &str); 3] = [
    ("a", "02:00:00:60:01:10"),
    ("b", "02:00:00:60:01:11"),
    ("c", "02:00:00:60:02:10"),
];

/// Published on the node, tcp and udp: where it leads is port 80 of `a`.
pub const PUBLISHED: u16 = 8_080;
/// Every host listens here, tcp and udp.
pub const OPEN: u16 = 80;
/// Nobody listens here.
pub const CLOSED: u16 = 9;

/// An address by name.
pub fn address(name: &str, v6: bool) -> IpAddr {
    let found = ADDRESSES.iter().find(|(n, ..)| *n == name);
    let (_, four, six) = found.expect("an address by this name");
    let text = if v6 { six } else { four };
    text.parse().expect("an address")
}

/// The name of an address.
pub fn name_of(ip: IpAddr) -> String {
    let found = ADDRESSES
        .iter()
        .find(|(name, ..)| [false, true].iter().any(|v6| address(name, *v6) == ip));
    found.map_or_else(|| ip.to_string(), |(name, ..)| (*name).to_owned())
}

/// One side.
pub struct Side {
    /// `kernel` or `netd`.
    pub name: &'static str,
    /// The hosts, as in [`Who::ALL`].
    pub hosts: Vec<Host>,
    /// Where each sends what is not for its own segment.
    pub routers: Vec<Mac>,
    /// The MAC of each.
    pub macs: Vec<Mac>,
    /// A raw socket on the device of each.
    pub wires: Vec<RawSocket>,
}

/// Both sides, for as long as the lab is there.
pub struct Sides {
    /// Kernel bridge, routing, netfilter.
    pub kernel: Side,
    /// netd.
    pub netd: Side,
    lab: Lab,
}

impl Sides {
    /// Builds both.
    pub fn new(name: &str) -> Result<Self> {
        let mut lab = Lab::new(name)?;
        quiet(&lab.node.ns)?;
        lab.settled()?;
        let netd = netd(&lab)?;
        let kernel = kernel(&lab)?;
        Ok(Self { kernel, netd, lab })
    }

    /// The lab both are in.
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }
}

impl Side {
    fn finish(name: &'static str, hosts: Vec<Host>, routers: Vec<Mac>) -> Result<Self> {
        let mut macs = Vec::new();
        for host in &hosts {
            macs.push(device_mac(host, &host.device)?);
            // Nobody may hear from a stack that a test packet was not for it.
            quiet(&host.ns)?;
        }
        let outside = &hosts[3];
        for v6 in [false, true] {
            let bits = if v6 { 128 } else { 32 };
            let nodad = if v6 { " nodad" } else { "" };
            outside.ip(&format!(
                "addr add {}/{bits} dev lo{nodad}\n",
                address("far", v6)
            ))?;
        }
        let wires = hosts
            .iter()
            .map(|h| h.capture(&h.device))
            .collect::<Result<_>>()?;
        let side = Self {
            name,
            hosts,
            routers,
            macs,
            wires,
        };
        side.warm()?;
        Ok(side)
    }

    /// The host.
    pub fn host(&self, who: Who) -> &Host {
        &self.hosts[who as usize]
    }

    /// Neighbours are known before the first probe: a question in between would be an outcome.
    fn warm(&self) -> Result<()> {
        for v6 in [false, true] {
            for from in [Who::A, Who::B, Who::C] {
                for to in ["outside", "node", "far"] {
                    self.host(from).ping(address(to, v6))?;
                }
            }
            self.host(Who::A).ping(address("b", v6))?;
            self.host(Who::B).ping(address("a", v6))?;
            self.host(Who::Outside).ping(address("node", v6))?;
        }
        Ok(())
    }
}

fn device_mac(host: &Host, device: &str) -> Result<Mac> {
    let text = host.ok("ip", &["-o", "link", "show", "dev", device])?;
    let after = text.split("link/ether ").nth(1).context("no MAC")?;
    mac(after.split_whitespace().next().unwrap_or_default())
}

/// Learned neighbours stay, errors are not rationed.
fn quiet(ns: &Ns) -> Result<()> {
    ns.enter(|| {
        for (key, value) in [
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv4/icmp_msgs_per_sec", "1000000"),
            ("ipv4/icmp_msgs_burst", "1000000"),
            ("ipv6/icmp/ratelimit", "0"),
            ("ipv4/neigh/default/base_reachable_time_ms", "3600000"),
            ("ipv6/neigh/default/base_reachable_time_ms", "3600000"),
        ] {
            // Some are the machine's, not the namespace's, and not to be written here.
            let _ = fs::write(format!("/proc/sys/net/{key}"), value);
        }
        Ok(())
    })
}

fn offloads_off(host: &Host) -> Result<()> {
    for device in host.devices()? {
        let mut args = vec!["-K", &device];
        for feature in ["tx", "rx", "tso", "gso", "gro"] {
            args.extend([feature, "off"]);
        }
        let _ = host.run("ethtool", &args)?;
    }
    Ok(())
}

fn netd(lab: &Lab) -> Result<Side> {
    // What the node cannot do with a packet it must say.
    let mut endpoints = Vec::new();
    for (n, names) in [(1, &["a", "b"][..]), (2, &["c"][..])] {
        let network = lab.network_with(
            &format!("n{n}"),
            &[
                "--no-isolation",
                "--subnet",
                &format!("10.60.{n}.0/24"),
                "--subnet",
                &format!("fd60:{n}::/64"),
            ],
        )?;
        for name in names {
            let mac = MACS.iter().find(|(who, _)| who == name).expect("its MAC").1;
            let (four, six) = (
                address(name, false).to_string(),
                address(name, true).to_string(),
            );
            let options = ["--mac", mac, "--ip", &four, "--ip", &six];
            let endpoint = lab.endpoint_with(name, &network, &options)?;
            endpoints.push(Host::clone(&endpoint));
        }
    }
    for proto in ["tcp", "udp"] {
        lab.publish("a", &format!("{PUBLISHED}:{OPEN}/{proto}"))?;
    }
    routes(&lab.node.ns, &lab.node.device)?;
    lab.offloads(endpoints.iter(), false)?;
    let one = device_mac(&lab.node, "nd-n1")?;
    let two = device_mac(&lab.node, "nd-n2")?;
    let up = device_mac(&lab.node, &lab.node.device)?;
    endpoints.push(lab.outside.clone());
    Side::finish("netd", endpoints, vec![one, one, two, up])
}

/// Beyond the default route: a path with a small MTU, and one that is no path.
fn routes(node: &Ns, uplink: &str) -> Result<()> {
    node.ip(&format!(
        "route add 198.51.100.0/24 via 192.0.2.100 dev {uplink} mtu lock 1280\n\
         route add unreachable 198.18.1.0/24\n\
         route add 2001:db8:51::/48 via 2001:db8:1::100 dev {uplink} mtu lock 1280\n\
         route add unreachable 2001:db8:1801::/64\n"
    ))
}

fn kernel(lab: &Lab) -> Result<Side> {
    let node = Ns::create(&lab.id().ns("kn"))?;
    let outside = Ns::create(&lab.id().ns("ko"))?;
    node.ip(&format!(
        "link set lo up\n\
         link add up0 type veth peer name eth0 netns {}\n\
         addr add 192.0.2.2/24 brd + dev up0\naddr add 2001:db8:1::2/64 dev up0 nodad\nlink set up0 up\n",
        outside.name()
    ))?;
    outside.ip("link set lo up\naddr add 192.0.2.100/24 brd + dev eth0\n\
         addr add 2001:db8:1::100/64 dev eth0 nodad\nlink set eth0 up\n")?;
    node.ip("route add default via 192.0.2.100\nroute add default via 2001:db8:1::100 dev up0\n")?;
    let mut hosts = Vec::new();
    for (n, names) in [(1, &["a", "b"][..]), (2, &["c"][..])] {
        node.ip(&format!(
            "link add br{n} address 02:00:00:60:0{n}:01 type bridge\n\
             addr add 10.60.{n}.1/24 dev br{n}\naddr add fd60:{n}::1/64 dev br{n} nodad\nlink set br{n} up\n"
        ))?;
        for name in names {
            let mac = MACS.iter().find(|(who, _)| who == name).expect("its MAC").1;
            let ns = Ns::create(&lab.id().ns(&format!("k{name}")))?;
            node.ip(&format!(
                "link add p{name} type veth peer name eth0 address {mac} netns {}\n\
                 link set p{name} master br{n}\nlink set p{name} up\n",
                ns.name()
            ))?;
            let (four, six) = (address(name, false), address(name, true));
            ns.ip(&format!(
                "link set lo up\nlink set eth0 up\n\
                 addr add {four}/24 dev eth0\naddr add {six}/64 dev eth0 nodad\n\
                 route add default via 10.60.{n}.1\nroute add default via fd60:{n}::1\n"
            ))?;
            hosts.push(Host::new(name, ns, "eth0", &[four, six]));
        }
    }
    node.enter(|| {
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
        ] {
            fs::write(format!("/proc/sys/net/{key}"), value)?;
        }
        for bridge in ["br1", "br2", "up0"] {
            let _ = fs::write(
                format!("/proc/sys/net/ipv4/conf/{bridge}/send_redirects"),
                "0",
            );
        }
        Ok(())
    })?;
    quiet(&node)?;
    routes(&node, "up0")?;
    rules(&node)?;
    hosts.push(Host::new(
        "outside",
        outside,
        "eth0",
        &[address("outside", false), address("outside", true)],
    ));
    let on_node = Host::new("node", node, "up0", &[]);
    offloads_off(&on_node)?;
    for host in &hosts {
        offloads_off(host)?;
    }
    let one = device_mac(&on_node, "br1")?;
    let two = device_mac(&on_node, "br2")?;
    let up = device_mac(&on_node, "up0")?;
    Side::finish("kernel", hosts, vec![one, one, two, up])
}

/// Masquerade to the outside; the published port on every address of the node.
fn rules(node: &Ns) -> Result<()> {
    for v6 in [false, true] {
        let (program, nets) = if v6 {
            ("ip6tables-restore", ["fd60:1::/64", "fd60:2::/64"])
        } else {
            ("iptables-restore", ["10.60.1.0/24", "10.60.2.0/24"])
        };
        let a = address("a", v6);
        let to = if v6 { format!("[{a}]") } else { a.to_string() };
        let mut lines = vec!["*nat".to_owned()];
        for net in nets {
            lines.push(format!("-A POSTROUTING -s {net} -o up0 -j MASQUERADE"));
        }
        for net in nets {
            // The caller of a published port on its own node must be answered through the node.
            lines.push(format!(
                "-A POSTROUTING -s {net} -d {a} -m conntrack --ctstate DNAT -j MASQUERADE"
            ));
        }
        for address in ["node", "gateway1", "gateway2"].map(|n| address(n, v6)) {
            for proto in ["tcp", "udp"] {
                lines.push(format!(
                    "-A PREROUTING -d {address} -p {proto} --dport {PUBLISHED} -j DNAT --to-destination {to}:{OPEN}"
                ));
            }
        }
        lines.push("COMMIT\n".into());
        process::feed(node.command(program).args(["-w"]), &lines.join("\n"))?;
    }
    Ok(())
}

/// For `netd_fuzz`'s builders.
pub fn who(name: &str) -> cast::Who {
    let four = match address(name, false) {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(_) => unreachable!("an IPv4 address"),
    };
    let six = match address(name, true) {
        IpAddr::V6(a) => a.octets(),
        IpAddr::V4(_) => unreachable!("an IPv6 address"),
    };
    cast::Who {
        mac: [0; 6],
        v4: four,
        v6: six,
    }
}
