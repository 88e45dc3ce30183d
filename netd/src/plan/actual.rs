//! What is there: devices, hooks and map rows, as last observed or written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use netd_common::addr::{Be16, Mac, V6};
use netd_common::maps::{FdbEntry, FdbKey, Float, HostEntry, Port, Publish, PublishKey, Target};

use super::Ended;

/// Key of `FDB` that can be ordered.
pub type FdbId = (u32, Mac);
/// Key of `PUBLISH` that can be ordered, behind the number of its endpoint: address in 16 bytes, port,
/// protocol number.
pub type PublishId = (u32, V6, u16, u8);

/// Key of `FROM`: number of a publish, and who may come.
pub type FromId = (u32, IpNet);

/// ifindex of an uplink, and an IPv6 address that is answered for there.
pub type GroupId = (u32, Ipv6Addr);

/// What a device is there for, as its alias says: `netd:INSTANCE:OBJECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alias {
    /// One end of a network's gateway pair, by the network's name.
    Network(String),
    /// The node-side device of an endpoint that is whole, by the endpoint's id.
    Endpoint(String),
    /// The same while the inside is not finished yet.
    Making(String),
}

impl Alias {
    /// As text.
    pub fn text(&self, instance: &str) -> String {
        match self {
            Self::Network(name) => format!("netd:{instance}:network/{name}"),
            Self::Endpoint(id) => format!("netd:{instance}:endpoint/{id}"),
            Self::Making(id) => format!("netd:{instance}:making/{id}"),
        }
    }

    /// From text; none: not a device of this instance.
    pub fn parse(text: &str, instance: &str) -> Option<Self> {
        let object = text
            .strip_prefix("netd:")?
            .strip_prefix(instance)?
            .strip_prefix(':')?;
        let (kind, name) = object.split_once('/')?;
        match kind {
            "network" => Some(Self::Network(name.into())),
            "endpoint" => Some(Self::Endpoint(name.into())),
            "making" => Some(Self::Making(name.into())),
            _ => None,
        }
    }
}

/// A device of this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its ifindex.
    pub ifindex: u32,
    /// What it is there for.
    pub alias: Alias,
    /// Whether all that belongs to it is set.
    pub configured: bool,
}

impl Device {
    /// Whether deleting this device is enough: a gateway's inner end goes with its outer end.
    pub fn is_head(&self, name: &str) -> bool {
        match self.alias {
            Alias::Network(_) => !name.starts_with("ndi"),
            Alias::Endpoint(_) | Alias::Making(_) => true,
        }
    }
}

/// A subnet that an uplink is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkNet {
    /// ifindex of the uplink.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: Mac,
    /// The subnet.
    pub net: IpNet,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actual {
    /// Devices of this instance by name.
    pub devices: BTreeMap<String, Device>,
    /// Devices with hooks (not uplinks); one that is not in `devices` left its pins behind.
    pub hooked: BTreeSet<String>,
    /// `PORT`.
    pub ports: BTreeMap<u32, Port>,
    /// `FDB`.
    pub fdb: BTreeMap<FdbId, FdbEntry>,
    /// `HOST4` and `HOST6`.
    pub hosts: BTreeMap<IpAddr, HostEntry>,
    /// `SEGMENT`: by network and slot.
    pub segments: BTreeMap<(u32, u32), Target>,
    /// `PUBLISH`.
    pub published: BTreeMap<PublishId, Publish>,
    /// `FROM`, with the network of the publish.
    pub from: BTreeMap<FromId, u32>,
    /// `FLOAT`.
    pub floats: BTreeMap<IpAddr, Float>,
    /// Whose solicited-node multicast groups the node has joined, with the network of the endpoint.
    pub groups: BTreeMap<GroupId, u32>,
    /// Subnets of the uplinks.
    pub uplinks: Vec<UplinkNet>,
    /// Objects whose rows are gone and whose flows could not be ended yet.
    pub ending: Ended,
    /// Devices a step of this settling failed on: not tried again until the next one.
    pub failed: BTreeSet<String>,
}

impl Actual {
    /// ifindex of a device; 0: not there.
    pub fn ifindex(&self, device: &str) -> u32 {
        self.devices.get(device).map_or(0, |d| d.ifindex)
    }

    /// The uplink on whose link an address is.
    pub fn uplink_of(&self, address: IpAddr) -> Option<&UplinkNet> {
        self.uplinks.iter().find(|u| u.net.contains(&address))
    }
}

/// The map key of an [`FdbId`].
pub fn fdb_key((network, mac): FdbId) -> FdbKey {
    FdbKey::new(network, mac)
}

/// The map key of a [`PublishId`].
pub fn publish_key((_, addr, port, proto): PublishId) -> PublishKey {
    PublishKey {
        addr,
        port: Be16::new(port),
        proto,
        pad: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_read_back_by_their_own_instance_only() {
        for alias in [
            Alias::Network("web".into()),
            Alias::Endpoint("a1".into()),
            Alias::Making("a1".into()),
        ] {
            let text = alias.text("lab");
            assert_eq!(Alias::parse(&text, "lab"), Some(alias));
            assert_eq!(Alias::parse(&text, "la"), None);
            assert_eq!(Alias::parse(&text, "other"), None);
        }
        assert_eq!(Alias::parse("netd:lab:uplink/x", "lab"), None);
        assert_eq!(Alias::parse("something else", "lab"), None);
    }
}
