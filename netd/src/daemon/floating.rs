//! Floating IPs: giving outside addresses to endpoints, and making them known on the uplink's link.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use netd_api::{Floating as ApiFloating, FloatingAdd};
use netd_common::addr::{BROADCAST, V6};
use netd_common::wire::{arp, nd};

use super::core::Core;
use super::error::Result;
use crate::model::{Change, Floating, Key, ModelError, Object, floating};
use crate::net::{neighbour, raw, route};
use crate::plan::{Actual, GroupId, Scope, UplinkNet};

impl Core {
    /// Gives an address to an endpoint.
    pub fn add_floating(&mut self, request: &FloatingAdd) -> Result<ApiFloating> {
        let endpoint = self.desired.endpoint(&request.endpoint, None)?.clone();
        let addresses = route::addresses(&mut self.node.netlink)?;
        let node: Vec<_> = addresses.iter().map(|a| a.net).collect();
        floating::check(&self.desired, &node, &endpoint, request.address)?;
        let number = self.desired.take_number();
        let record = Floating {
            number,
            endpoint: endpoint.number,
            address: request.address,
            owner: request.owner.clone().unwrap_or_else(|| "cli".into()),
        };
        let shown = self.show_floating(&record);
        let change = Change {
            put: vec![Object::Floating(record)],
            remove: vec![],
        };
        let scope = Scope::Endpoint {
            network: endpoint.network,
            endpoint: endpoint.number,
        };
        self.transact(&change, scope)?;
        self.announce_floating(request.address);
        let first = floating::outgoing(&self.desired, endpoint.number, request.address.is_ipv6());
        Ok(ApiFloating {
            outgoing: first.is_some_and(|f| f.number == number),
            ..shown
        })
    }

    /// Takes an address back; its flows end.
    pub fn remove_floating(&mut self, address: IpAddr) -> Result<()> {
        let Some(f) = floating::find(&self.desired, address) else {
            let all: Vec<String> = self
                .desired
                .floating
                .values()
                .map(|f| f.address.to_string())
                .collect();
            let hint = if all.is_empty() {
                "; there is none".into()
            } else {
                format!("; there is {}", all.join(", "))
            };
            return Err(ModelError::Missing {
                what: "floating address",
                name: address.to_string(),
                hint,
            }
            .into());
        };
        let (number, endpoint) = (f.number, f.endpoint);
        let scope = match self.desired.endpoints.get(&endpoint) {
            Some(e) => Scope::Endpoint {
                network: e.network,
                endpoint,
            },
            None => Scope::All,
        };
        let change = Change {
            put: vec![],
            remove: vec![Key::Floating(number)],
        };
        self.remove(&change, scope)?;
        Ok(())
    }

    /// All floating addresses, by endpoint, each endpoint's in the order they were added.
    pub fn list_floating(&self) -> Vec<ApiFloating> {
        let all = self.desired.floating.values();
        let mut shown: Vec<_> = all.map(|f| self.show_floating(f)).collect();
        shown.sort_by(|a, b| (&a.network, &a.endpoint).cmp(&(&b.network, &b.endpoint)));
        shown
    }

    fn show_floating(&self, f: &Floating) -> ApiFloating {
        let endpoint = self.desired.endpoints.get(&f.endpoint);
        let network = endpoint.and_then(|e| self.desired.networks.get(&e.network));
        let first = floating::outgoing(&self.desired, f.endpoint, f.address.is_ipv6());
        let uplink = self.actual.uplink_of(f.address);
        let uplink = uplink.and_then(|u| self.uplinks.get(&u.ifindex));
        ApiFloating {
            address: f.address,
            endpoint: endpoint.map_or_else(|| "?".into(), |e| e.name.clone()),
            network: network.map_or_else(|| "?".into(), |n| n.name.clone()),
            inside: endpoint.and_then(|e| match f.address {
                IpAddr::V4(_) => e.v4().map(IpAddr::V4),
                IpAddr::V6(_) => e.v6().map(IpAddr::V6),
            }),
            outgoing: first.is_some_and(|o| o.number == f.number),
            uplink: uplink.map(|u| u.name.clone()),
            owner: f.owner.clone(),
        }
    }

    /// Follows the subnets and MACs of the uplinks: floating addresses are answered for on the uplink whose
    /// subnet has them. What moves is announced.
    pub(super) fn follow_uplink_nets(&mut self, nets: Vec<UplinkNet>) {
        let left = self.groups_left();
        if self.actual.uplinks == nets && !left {
            return;
        }
        let before = std::mem::replace(&mut self.actual.uplinks, nets);
        if self.desired.floating.is_empty() || !self.settled {
            return;
        }
        self.settle_onward(Scope::All);
        let all: Vec<IpAddr> = self.desired.floating.values().map(|f| f.address).collect();
        for address in all {
            let was = before.iter().find(|u| u.net.contains(&address));
            if self.actual.uplink_of(address) != was {
                self.announce_floating(address);
            }
        }
    }

    /// Whether the node has left a multicast group that it had joined: a device that goes down forgets whom it
    /// is a proxy for.
    fn groups_left(&mut self) -> bool {
        if self.actual.groups.is_empty() {
            return false;
        }
        match neighbour::joined(&mut self.node.netlink) {
            Ok(joined) => {
                let before = self.actual.groups.len();
                self.actual.groups.retain(|id, _| joined.contains(id));
                self.actual.groups.len() < before
            }
            Err(e) => {
                tracing::warn!("multicast groups of floating addresses: {e}");
                false
            }
        }
    }

    /// The groups this instance has joined, as its own rows and records tell; another one's on the same node are
    /// none of them.
    pub(super) fn observe_groups(&mut self, actual: &Actual) -> Result<BTreeMap<GroupId, u32>> {
        let joined = neighbour::joined(&mut self.node.netlink)?;
        let network = |ip: Ipv6Addr| {
            let row = actual.floats.get(&IpAddr::V6(ip)).map(|row| row.network);
            row.or_else(|| {
                let known = floating::find(&self.desired, ip.into())?;
                let endpoint = self.desired.endpoints.get(&known.endpoint)?;
                Some(endpoint.network)
            })
        };
        let ours = joined.into_iter();
        Ok(ours.filter_map(|id| Some((id, network(id.1)?))).collect())
    }

    /// Tells the link of the uplink who has a floating address now (RFC 5227 section 2.3, RFC 4861 section
    /// 7.2.6): whoever knew another MAC for it learns the new one at once.
    pub(super) fn announce_floating(&mut self, address: IpAddr) {
        let Some(UplinkNet { ifindex, mac, .. }) = self.actual.uplink_of(address).copied() else {
            return;
        };
        let said = match address {
            IpAddr::V4(ip) => raw::send(ifindex, &arp::announcement(mac, ip.octets())),
            IpAddr::V6(ip) => {
                let nobody = V6::default();
                let frame = nd::advertisement(BROADCAST, nobody, ip.octets(), mac, false);
                raw::send(ifindex, &frame)
            }
        };
        if let Err(e) = said {
            tracing::warn!("floating address {address} is not announced: {e}");
        }
    }
}
