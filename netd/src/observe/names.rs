//! Names for the numbers in records. What has gone keeps its name as long as somebody listens: the ends of
//! its flows are told after it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd_api::HostSpec;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Number of the endpoint behind it; 0: none.
    pub endpoint: u32,
    /// Number of the network it belongs to; 0: none.
    pub network: u32,
}

/// All names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// By ifindex.
    pub devices: BTreeMap<u32, Device>,
    /// By number: name, and the number of its network.
    pub endpoints: BTreeMap<u32, (String, u32)>,
    /// By number.
    pub networks: BTreeMap<u32, String>,
    /// By number.
    pub publishes: BTreeMap<u32, HostSpec>,
    /// Numbers of the endpoints that have them.
    pub addresses: BTreeMap<IpAddr, u32>,
}

impl Names {
    /// Takes up what is there now, and keeps what was.
    pub fn update(&mut self, now: Self) {
        self.devices.extend(now.devices);
        self.endpoints.extend(now.endpoints);
        self.networks.extend(now.networks);
        self.publishes.extend(now.publishes);
        self.addresses.extend(now.addresses);
    }

    /// Name of a device.
    pub fn device(&self, ifindex: u32) -> String {
        let known = self.devices.get(&ifindex).map(|d| d.name.clone());
        known.unwrap_or_else(|| format!("if{ifindex}"))
    }

    /// Name of an endpoint; none for the number 0.
    pub fn endpoint(&self, number: u32) -> Option<String> {
        self.endpoints.get(&number).map(|(name, _)| name.clone())
    }

    /// Name of a network; none for the number 0.
    pub fn network(&self, number: u32) -> Option<String> {
        self.networks.get(&number).cloned()
    }

    /// Number of the network of an endpoint; 0: none.
    pub fn network_of(&self, endpoint: u32) -> u32 {
        self.endpoints.get(&endpoint).map_or(0, |(_, n)| *n)
    }
}
