//! Where a packet comes in, and the addresses and MACs that its words leave open.

use std::net::IpAddr;

use netd_api::PacketSpec;
use netd_common::addr::Mac;

use super::super::core::Core;
use super::super::error::{Result, ServiceError};
use crate::model::{Endpoint, ModelError, Network};
use crate::trace::{Ends, fixed_mac};

/// The MAC of whoever is behind the uplink, or of nobody at all: made up, and said to be.
const SOMEBODY: Mac = [0x02, 0, 0, 0, 0xff, 0xff];

/// Where a packet comes in.
pub(super) enum Place<'a> {
    Endpoint(&'a Endpoint, &'a Network),
    Network(&'a Network),
    Uplink(u32),
}

impl Core {
    /// What a name is: it may say so itself (`network:web`).
    pub(super) fn place(&self, text: &str) -> Result<Place<'_>> {
        let (kind, name) = match text.split_once(':') {
            Some((kind @ ("endpoint" | "network" | "uplink"), name)) => (Some(kind), name),
            _ => (None, text),
        };
        let asked = |wanted: &str| kind.is_none_or(|k| k == wanted);
        let mut found = Vec::new();
        if asked("uplink") {
            let uplink = self.uplinks.iter().find(|(_, u)| u.name == name);
            found.extend(uplink.map(|(ifindex, _)| Place::Uplink(*ifindex)));
        }
        if asked("network") {
            found.extend(self.desired.network(name).ok().map(Place::Network));
        }
        let endpoint = self.desired.endpoint(name, None);
        if let Ok(e) = &endpoint
            && asked("endpoint")
            && let Some(network) = self.desired.networks.get(&e.network)
        {
            found.push(Place::Endpoint(e, network));
        }
        if found.len() > 1 {
            return Err(ServiceError::conflict(format!(
                "{name:?} names several things: say endpoint:{name}, network:{name} or uplink:{name}"
            )));
        }
        if let Some(place) = found.pop() {
            return Ok(place);
        }
        let uplinks: Vec<&str> = self.uplinks.values().map(|u| u.name.as_str()).collect();
        let uplinks = if uplinks.is_empty() {
            "none".into()
        } else {
            uplinks.join(", ")
        };
        Err(match endpoint {
            Err(ModelError::Missing { .. }) | Ok(_) => ServiceError::missing(format!(
                "{text:?} is no endpoint (`netd endpoint ls`), network (`netd network ls`) or uplink \
                 ({uplinks}) of this node"
            )),
            Err(e) => e.into(),
        })
    }

    /// Addresses and MACs that the words leave open.
    pub(super) fn ends(
        &self,
        place: &Place<'_>,
        spec: &PacketSpec,
        device_mac: Option<Mac>,
        remarks: &mut Vec<String>,
    ) -> Result<Ends> {
        let v6 = spec.dst.is_ipv6();
        let family = if v6 { "IPv6" } else { "IPv4" };
        let (own, src_mac, who) = match place {
            Place::Endpoint(e, _) => {
                let own = if v6 {
                    e.v6().map(IpAddr::V6)
                } else {
                    e.v4().map(IpAddr::V4)
                };
                (own, e.mac, format!("endpoint {}", e.name))
            }
            Place::Network(n) => {
                let own = n.gateways.iter().copied().find(|g| g.is_ipv6() == v6);
                (
                    own,
                    n.gateway_mac,
                    format!("the gateway of network {}", n.name),
                )
            }
            Place::Uplink(_) => (None, SOMEBODY, "the outside".into()),
        };
        let src = spec.src.or(own).ok_or_else(|| {
            ServiceError::bad(format!(
                "{who} has no {family} address of its own: say the source, as `SOURCE > {}`",
                spec.dst
            ))
        })?;
        let dst_mac = match (spec.to.or_else(|| fixed_mac(spec)), place) {
            (Some(mac), _) => mac,
            (None, Place::Uplink(_)) => device_mac.unwrap_or(SOMEBODY),
            (None, Place::Endpoint(_, n) | Place::Network(n)) => {
                self.next_hop(n, matches!(place, Place::Network(_)), spec.dst, remarks)?
            }
        };
        Ok(Ends {
            src,
            src_mac,
            dst_mac,
        })
    }

    /// The MAC a host on a network sends to for an address.
    fn next_hop(
        &self,
        network: &Network,
        node: bool,
        dst: IpAddr,
        remarks: &mut Vec<String>,
    ) -> Result<Mac> {
        let has = |e: &&Endpoint| e.addresses.iter().any(|a| a.addr() == dst);
        if let Some(owner) = self.desired.endpoints_of(network.number).find(has) {
            return Ok(owner.mac);
        }
        if network.gateways.contains(&dst) && !node {
            return Ok(network.gateway_mac);
        }
        let on_link = network.subnets.iter().any(|s| s.contains(&dst)) || node;
        if let Some(subnet) = network.subnets.iter().find(|s| s.contains(&dst))
            && subnet.broadcast() == dst
            && dst.is_ipv4()
        {
            return Ok([0xff; 6]);
        }
        if on_link {
            remarks.push(format!(
                "nobody on network {} is known to have {dst}: its MAC is made up",
                network.name
            ));
            return Ok(SOMEBODY);
        }
        if network.has_gateway() {
            return Ok(network.gateway_mac);
        }
        Err(ServiceError::bad(format!(
            "network {} has no gateway to {dst}: say the MAC it is sent to, as `to MAC`",
            network.name
        )))
    }
}
