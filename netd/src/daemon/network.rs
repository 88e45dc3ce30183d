//! Creating and removing networks.

use std::collections::BTreeMap;

use netd_api::{Network as ApiNetwork, NetworkCreate, NetworkSet};

use super::core::Core;
use super::error::Result;
use super::uplink::Uplink;
use crate::model::file::Outcome;
use crate::model::network::{self, Context};
use crate::model::network_set;
use crate::model::subnet::Occupied;
use crate::model::{Change, Key, ModelError, Object};
use crate::net::events::is_made_name;
use crate::net::{NetError, link, ports, route};
use crate::plan::Scope;

/// MTU where neither the request nor an uplink says one.
const MTU: u32 = 1500;

impl Core {
    /// Creates a network, its gateway included.
    pub fn create_network(&mut self, request: &NetworkCreate) -> Result<ApiNetwork> {
        let node = self.occupied()?;
        let mac = free_mac()?;
        let mtu = default_mtu(&self.uplinks);
        let context = Context {
            node: &node,
            pools: &self.settings.pools,
            mtu,
            mac,
        };
        let mut record = network::build(&self.desired, &context, request)?;
        record.number = self.desired.take_number();
        let number = record.number;
        let change = Change {
            put: vec![Object::Network(record)],
            remove: vec![],
        };
        self.transact(&change, Scope::Network(number))?;
        self.refresh_silent();
        // The kernel tells of the gateway's addresses a moment later; whoever asked calls them at once.
        self.refresh_locals();
        Ok(self.show_network(&self.desired.networks[&number]))
    }

    /// Changes a network while it is in use, as a file would: all of it or nothing.
    pub fn set_network(&mut self, name: &str, request: &NetworkSet) -> Result<ApiNetwork> {
        let node = self.occupied()?;
        let change = network_set::change(&self.desired, &node, free_mac()?, name, request)?;
        let number = self.desired.network(name)?.number;
        if !change.put.is_empty() {
            let mut after = self.desired.clone();
            after.apply(&change);
            self.carry_out(Outcome {
                after,
                first: Change::default(),
                change,
                lines: vec![],
                left: vec![],
            })?;
        }
        Ok(self.show_network(&self.desired.networks[&number]))
    }

    /// Removes a network that has no endpoints.
    pub fn remove_network(&mut self, name: &str) -> Result<()> {
        let network = self.desired.network(name)?;
        let number = network.number;
        let used: Vec<&str> = self
            .desired
            .endpoints_of(number)
            .map(|e| e.name.as_str())
            .collect();
        if !used.is_empty() {
            let list = used.join(", ");
            return Err(ModelError::InUse {
                network: name.into(),
                list,
            }
            .into());
        }
        let change = Change {
            put: vec![],
            remove: vec![Key::Network(number)],
        };
        self.remove(&change, Scope::Network(number))?;
        self.refresh_silent();
        Ok(())
    }

    /// What the node's own addresses and routes occupy. Default routes do not count, nor do netd's
    /// own devices.
    pub(super) fn occupied(&mut self) -> Result<Vec<Occupied>> {
        let netlink = &mut self.node.netlink;
        let links = link::all(netlink)?;
        let addresses = route::addresses(netlink)?;
        let routes = route::routes(netlink)?;
        let name = |ifindex: u32| {
            links
                .iter()
                .find(|l| l.ifindex == ifindex)
                .map_or("?", |l| l.name.as_str())
        };
        let own = |ifindex: u32| is_made_name(name(ifindex));
        let mut out = Vec::new();
        for a in addresses.iter().filter(|a| !own(a.ifindex)) {
            let what = format!("the node's address {} on {}", a.net, name(a.ifindex));
            out.push(Occupied {
                prefix: a.net.trunc(),
                what,
            });
        }
        for r in &routes {
            let netds = !r.devices.is_empty() && r.devices.iter().all(|d| own(*d));
            if r.to.prefix_len() == 0 || netds {
                continue;
            }
            let by: Vec<&str> = r.devices.iter().map(|d| name(*d)).collect();
            let by = if by.is_empty() {
                "nowhere".into()
            } else {
                by.join(" and ")
            };
            let what = format!("the node's route to {} by {by}", r.to);
            out.push(Occupied { prefix: r.to, what });
        }
        // IPv6 has link-local and multicast prefixes everywhere; no network may have those anyway.
        out.retain(|o| !is_everywhere(o.prefix.addr()));
        Ok(out)
    }
}

/// MTU where nobody says one: the smallest of the uplinks.
pub(super) fn default_mtu(uplinks: &BTreeMap<u32, Uplink>) -> u32 {
    let all = uplinks.values().map(|u| u.row.mtu);
    all.min().unwrap_or(MTU)
}

fn is_everywhere(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(_) => false,
        std::net::IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local(),
    }
}

/// A random MAC: locally administered, unicast.
pub(super) fn free_mac() -> Result<[u8; 6]> {
    let mut mac = ports::random::<6>().map_err(|e| NetError::io("no random bytes", e))?;
    mac[0] = mac[0] & 0xfc | 0x02;
    Ok(mac)
}
