//! What the numbers of the data path are called: devices, endpoints, networks, published ports.

use std::collections::BTreeMap;

/// What a device of the node is to netd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// The node's side of an endpoint's veth.
    Endpoint(String),
    /// The outer end of a network's gateway pair.
    Gateway(String),
    /// The inner end.
    Inner(String),
    /// An uplink.
    Uplink,
    /// None of netd's.
    Other,
}

/// Names by number.
#[derive(Clone, Default, Debug)]
pub struct Names {
    /// Devices by ifindex.
    pub devices: BTreeMap<u32, (String, Role)>,
    /// Endpoints.
    pub endpoints: BTreeMap<u32, String>,
    /// Networks.
    pub networks: BTreeMap<u32, String>,
    /// Published ports, as asked for.
    pub publishes: BTreeMap<u32, String>,
}

impl Names {
    /// A device's name.
    pub fn device(&self, ifindex: u32) -> String {
        let found = self.devices.get(&ifindex);
        found.map_or_else(|| format!("device {ifindex}"), |(name, _)| name.clone())
    }

    /// Who is behind a device.
    pub fn behind(&self, ifindex: u32) -> String {
        match self.devices.get(&ifindex) {
            Some((_, Role::Endpoint(name))) => format!("endpoint {name}"),
            Some((_, Role::Gateway(network) | Role::Inner(network))) => {
                format!("the gateway of network {network}")
            }
            Some((name, Role::Uplink)) => format!("uplink {name}"),
            Some((name, Role::Other)) => format!("device {name}"),
            None => format!("device {ifindex}"),
        }
    }

    /// Whether a device is an uplink.
    pub fn is_uplink(&self, ifindex: u32) -> bool {
        matches!(self.devices.get(&ifindex), Some((_, Role::Uplink)))
    }

    /// An endpoint; 0 is none of them.
    pub fn endpoint(&self, number: u32) -> String {
        match self.endpoints.get(&number) {
            Some(name) => format!("endpoint {name}"),
            None if number == 0 => "the node".into(),
            None => format!("endpoint number {number}"),
        }
    }

    /// A network.
    pub fn network(&self, number: u32) -> String {
        match self.networks.get(&number) {
            Some(name) => format!("network {name}"),
            None => format!("network number {number}"),
        }
    }

    /// A publish.
    pub fn publish(&self, number: u32) -> String {
        let found = self.publishes.get(&number);
        found.map_or_else(
            || format!("publish number {number}"),
            |spec| format!("publish {spec}"),
        )
    }
}
