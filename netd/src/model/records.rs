//! The records of the store: what was asked for, with every default filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use netd_api::{Labels, Macs, NetworkKind, Owner, PublishSpec};
use netd_common::addr::Mac;
use serde::{Deserialize, Serialize};

use super::{masquerade, name};

/// Version of the records' layout.
pub const SCHEMA: u32 = 2;

/// Aging time of a network that asks for none, in seconds: IEEE 802.1Q table 8-6, and Linux.
pub const AGING: u32 = 300;
/// Frames a second that a switch port may have flooded where the network does not say.
pub const STORM: u32 = 2_000;

/// What is known once per store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// The instance it belongs to.
    pub instance: String,
    /// Random ULA /48, the IPv6 default pool (RFC 4193).
    pub ula: Ipv6Net,
    /// Next number to give out; numbers are never used twice.
    pub next_number: u32,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent option"
)]
pub struct Network {
    /// Its number, never 0.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: NetworkKind,
    /// At most one subnet of each family, host bits zero.
    pub subnets: Vec<IpNet>,
    /// At most one gateway address of each family; empty: no gateway.
    pub gateways: Vec<IpAddr>,
    /// Addresses are given out of this part of its family's subnet.
    pub ip_range: Option<IpNet>,
    /// No outside.
    pub internal: bool,
    /// Traffic to the outside is to be masqueraded, as soon as there is a gateway.
    pub masquerade: bool,
    /// How it is masqueraded, as far as the network says.
    pub options: masquerade::Options,
    /// Closed against other networks.
    pub isolation: bool,
    /// Switches frames of every `EtherType`, VLAN-tagged ones too.
    pub any_ethertype: bool,
    /// L3 MTU in bytes.
    pub mtu: u32,
    /// Seconds after which a learned MAC that says nothing is forgotten.
    pub aging: u32,
    /// Frames a second that each switch port may have flooded; 0: any number.
    pub storm: u32,
    /// MAC of the gateway's outer end.
    pub gateway_mac: Mac,
    /// Labels.
    pub labels: Labels,
    /// Who asked for it.
    pub owner: Owner,
}

impl Network {
    /// Whether it has a gateway.
    pub fn has_gateway(&self) -> bool {
        !self.gateways.is_empty()
    }

    /// Whether traffic to the outside is masqueraded: without a gateway there is none.
    pub fn masquerades(&self) -> bool {
        self.masquerade && self.has_gateway()
    }

    /// Name of the gateway pair's outer end.
    pub fn outer(&self) -> String {
        name::outer_device(&self.name)
    }

    /// Name of the gateway pair's inner end.
    pub fn inner(&self) -> String {
        name::inner_device(&self.name)
    }

    /// The IPv4 gateway.
    pub fn gateway_v4(&self) -> Option<Ipv4Addr> {
        first_v4(self.gateways.iter().copied())
    }

    /// The IPv6 gateway.
    pub fn gateway_v6(&self) -> Option<Ipv6Addr> {
        first_v6(self.gateways.iter().copied())
    }

    /// Gateway addresses with the prefix lengths of their subnets.
    pub fn gateway_nets(&self) -> Vec<IpNet> {
        self.gateways
            .iter()
            .filter_map(|ip| self.with_prefix(*ip))
            .collect()
    }

    /// An address with the prefix length of the subnet it is in.
    pub fn with_prefix(&self, ip: IpAddr) -> Option<IpNet> {
        let subnet = self.subnets.iter().find(|s| s.contains(&ip))?;
        IpNet::new(ip, subnet.prefix_len()).ok()
    }
}

/// The identity of a network namespace: it is remembered, never held open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Netns {
    /// Device of its nsfs inode.
    pub dev: u64,
    /// Number of its nsfs inode.
    pub ino: u64,
    /// Its cookie (`SO_NETNS_COOKIE`), never used twice until the next boot.
    pub cookie: u64,
}

/// What inside of an endpoint has yet to follow its network, which has changed while it stays. It is stored
/// with that change: whoever is killed in between finds it at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Default routes are to come.
    pub routes: bool,
    /// The MTU is another one.
    pub mtu: bool,
}

impl Behind {
    /// Whether it is nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its number, never 0.
    pub number: u32,
    /// Its id: 12 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Number of its network.
    pub network: u32,
    /// The target it was attached with, in its normal form.
    pub target: String,
    /// The target's namespace.
    pub netns: Netns,
    /// Device name inside.
    pub ifname: String,
    /// Its MAC.
    pub mac: Mac,
    /// MACs it may hold, its own included.
    pub macs: Macs,
    /// Its addresses with the prefix lengths of their subnets.
    pub addresses: Vec<IpNet>,
    /// Next hops of its default routes.
    pub gateways: Vec<IpAddr>,
    /// Whether the attach that made it came to its end.
    pub made: bool,
    /// What inside is not yet as the network is.
    #[serde(default, skip_serializing_if = "Behind::is_none")]
    pub behind: Behind,
    /// Labels.
    pub labels: Labels,
    /// Who asked for it.
    pub owner: Owner,
}

impl Endpoint {
    /// Name of its node-side device.
    pub fn device(&self) -> String {
        name::endpoint_device(&self.id)
    }

    /// Its first IPv4 address.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        first_v4(self.addresses.iter().map(IpNet::addr))
    }

    /// Its first IPv6 address.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        first_v6(self.addresses.iter().map(IpNet::addr))
    }
}

/// A published port, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Its number, never 0.
    pub number: u32,
    /// Number of the endpoint.
    pub endpoint: u32,
    /// What was asked for, host port 0 replaced.
    pub spec: PublishSpec,
    /// Who asked for it.
    pub owner: Owner,
}

/// A floating IP: of an endpoint's several the one with the lowest number is its outgoing one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floating {
    /// Its number, never 0.
    pub number: u32,
    /// Number of the endpoint.
    pub endpoint: u32,
    /// The address.
    pub address: IpAddr,
    /// Who asked for it.
    pub owner: Owner,
}

fn first_v4(mut ips: impl Iterator<Item = IpAddr>) -> Option<Ipv4Addr> {
    ips.find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
}

fn first_v6(mut ips: impl Iterator<Item = IpAddr>) -> Option<Ipv6Addr> {
    ips.find_map(|ip| match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    })
}
