//! A kernel bridge inside an endpoint's namespace, with guests of its own behind it: how a VM host or a
//! nested container host looks to netd.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::host::Host;
use super::netns::Ns;
use super::{Endpoint, Lab, Network};

/// Name of the bridge inside.
pub const BRIDGE: &str = "br0";

impl Endpoint {
    /// Puts the endpoint's device into a bridge, which takes over its MAC and addresses. `stp`: the
    /// bridge speaks the spanning tree protocol.
    pub fn bridge_inside(&self, stp: bool) -> Result<()> {
        let (device, mac) = (&self.device, &self.info.mac);
        let state = u8::from(stp);
        let mut lines = format!(
            "link add {BRIDGE} address {mac} type bridge stp_state {state} forward_delay 200\n\
             addr flush dev {device}\nlink set {device} master {BRIDGE}\nlink set {BRIDGE} up\n"
        );
        for net in &self.info.addresses {
            let nodad = if net.addr().is_ipv6() { " nodad" } else { "" };
            writeln!(lines, "addr add {net} dev {BRIDGE}{nodad}")?;
        }
        self.ip(&lines)
    }

    /// Plugs a guest into the bridge inside: `eth0` of the guest, with this MAC and these addresses of
    /// the network, which netd does not know of.
    pub fn plug(&self, guest: &Ns, network: &Network, mac: &str, host: u32) -> Result<Host> {
        let port = format!("g{host}");
        self.ip(&format!(
            "link add {port} type veth peer name eth0 address {mac} netns {}\n\
             link set {port} master {BRIDGE}\nlink set {port} up\n",
            guest.name()
        ))?;
        let mut lines = "link set eth0 up\n".to_owned();
        let mut addresses = Vec::new();
        for subnet in &network.subnets {
            let (ip, nodad): (IpAddr, _) = match subnet.network() {
                IpAddr::V4(base) => (IpAddr::V4((u32::from(base) + host).into()), ""),
                IpAddr::V6(base) => (
                    IpAddr::V6((u128::from(base) + u128::from(host)).into()),
                    " nodad",
                ),
            };
            let bits = subnet.prefix_len();
            writeln!(lines, "addr add {ip}/{bits} dev eth0{nodad}")?;
            addresses.push(ip);
        }
        for gateway in &network.gateways {
            writeln!(lines, "route add default via {gateway} dev eth0")?;
        }
        guest.ip(&lines)?;
        Ok(Host::new(guest.name(), guest.clone(), "eth0", &addresses))
    }

    /// Unplugs a guest: its device is gone.
    pub fn unplug(&self, host: u32) -> Result<()> {
        self.ip(&format!("link del g{host}\n"))
    }
}

impl Lab {
    /// What netd has learned on a network.
    pub fn learned(&self, network: &Network) -> Result<Vec<netd_api::FdbLine>> {
        let lines: Vec<netd_api::FdbLine> = self
            .node
            .netd_json(&["fdb", "ls", "--network", &network.name])
            .context("forwarding entries")?;
        Ok(lines.into_iter().filter(|l| !l.fixed).collect())
    }
}
