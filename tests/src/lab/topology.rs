//! The fixed part of every lab: a node with kernel defaults, and an outside host behind its uplink.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::host::Host;
use super::names::LabId;
use super::netns::Ns;
use super::node::{DaemonOptions, Node};
use super::{cgroup, process};

/// The node's uplink.
pub const UPLINK: &str = "up0";
/// The outside host's device.
pub const OUTSIDE_DEVICE: &str = "eth0";
const NODE: [&str; 2] = ["192.0.2.2", "2001:db8:1::2"];
const OUTSIDE: [&str; 2] = ["192.0.2.100", "2001:db8:1::100"];

pub(super) fn build(id: &LabId, daemon: DaemonOptions) -> Result<(Node, Host)> {
    let node_ns = Ns::create(&id.ns("node"))?;
    let outside_ns = Ns::create(&id.ns("outside"))?;
    let [node4, node6] = NODE;
    let [out4, out6] = OUTSIDE;
    node_ns.enter(kernel_defaults)?;
    node_ns.ip(&format!(
        "link set lo up\n\
         link add {UPLINK} type veth peer name {OUTSIDE_DEVICE} netns {outside}\n\
         addr add {node4}/24 brd + dev {UPLINK}\n\
         addr add {node6}/64 dev {UPLINK} nodad\n\
         link set {UPLINK} up\n",
        outside = outside_ns.name(),
    ))?;
    outside_ns.ip(&format!(
        "link set lo up\n\
         addr add {out4}/24 brd + dev {OUTSIDE_DEVICE}\n\
         addr add {out6}/64 dev {OUTSIDE_DEVICE} nodad\n\
         link set {OUTSIDE_DEVICE} up\n"
    ))?;
    node_ns.ip(&format!(
        "route add default via {out4} dev {UPLINK}\nroute add default via {out6} dev {UPLINK}\n"
    ))?;
    drop_forwarded(&node_ns);
    let parse = |texts: [&str; 2]| {
        texts
            .iter()
            .filter_map(|t| t.parse().ok())
            .collect::<Vec<IpAddr>>()
    };
    let mut host = Host::new("node", node_ns, UPLINK, &parse(NODE));
    host.cgroup = cgroup::create(&id.cgroup())?;
    let outside = Host::new("outside", outside_ns, OUTSIDE_DEVICE, &parse(OUTSIDE));
    Ok((Node::new(host, id, daemon), outside))
}

/// A new namespace inherits the machine's IPv4 settings: a router's or a distribution's.
fn kernel_defaults() -> Result<()> {
    for name in [
        "ipv4/ip_forward",
        "ipv4/conf/all/rp_filter",
        "ipv4/conf/default/rp_filter",
    ] {
        let path = format!("/proc/sys/net/{name}");
        let now = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        if now.trim() != "0" {
            fs::write(&path, "0").with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok(())
}

/// `iptables -P FORWARD DROP`, as Docker does: netd's traffic must not care. Where there is no
/// iptables there is nothing to drop it.
fn drop_forwarded(node: &Ns) {
    for tool in ["iptables", "ip6tables"] {
        let _ = process::run(node.command(tool).args(["-w", "-P", "FORWARD", "DROP"]));
    }
}

/// Whether the node drops what its kernel would forward; None: no iptables to tell.
pub fn forward_policy(node: &Host) -> Option<String> {
    let rules = node.ok("iptables", &["-w", "-S", "FORWARD"]).ok()?;
    rules
        .lines()
        .find_map(|l| l.strip_prefix("-P FORWARD ").map(str::to_owned))
}
