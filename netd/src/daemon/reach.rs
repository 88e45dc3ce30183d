//! Changes inside of endpoints that stay while their network changes: default routes, and the MTU. Steps
//! of a plan make and remove; these reach into what is there. What is to be done is stored with the change
//! ([`Behind`]), so that a start after a kill finds it.

use std::net::IpAddr;

use super::core::Core;
use super::error::Result;
use crate::model::{Behind, Change, Desired, Endpoint, Network, Object};
use crate::net::link::Set;
use crate::net::{NetnsFile, inside, route};

/// What was done, to be taken back if the rest fails.
#[derive(Default)]
pub(super) struct Reached {
    /// Networks as they were, with the gateways they are to have.
    networks: Vec<(Network, Vec<IpAddr>)>,
    /// Routes that were not there before.
    routed: Vec<(Endpoint, Vec<IpAddr>)>,
    /// Endpoints with the MTU of before.
    resized: Vec<(Endpoint, u32)>,
    /// Numbers of the endpoints that are not behind any more.
    followed: Vec<u32>,
}

impl Core {
    /// Lets the endpoints follow that stay while a change makes another network of theirs.
    pub(super) fn reach_inside(&mut self, before: &Desired, reached: &mut Reached) -> Result<()> {
        for old in before.networks.values() {
            let Some(new) = self.desired.networks.get(&old.number) else {
                continue;
            };
            if old.gateways == new.gateways && old.mtu == new.mtu {
                continue;
            }
            let gateways = new.gateways.clone();
            self.gateway_is_stale(old);
            reached.networks.push((old.clone(), gateways));
        }
        for (endpoint, mtu) in self.behind() {
            let old = before.networks.get(&endpoint.network);
            self.follow(&endpoint, mtu, old.map_or(mtu, |n| n.mtu), reached)?;
        }
        Ok(())
    }

    /// Lets endpoints follow that are behind; what fails is tried again at the next start.
    pub(super) fn catch_up(&mut self) {
        let mut reached = Reached::default();
        for (endpoint, mtu) in self.behind() {
            if let Err(e) = self.follow(&endpoint, mtu, mtu, &mut reached) {
                tracing::warn!("endpoint {}: {}", endpoint.name, e.line);
            }
        }
        self.note_followed(&reached);
    }

    /// Endpoints that are there and behind, each with the MTU of its network.
    fn behind(&self) -> Vec<(Endpoint, u32)> {
        let behind = |e: &&Endpoint| {
            let device = self.actual.devices.get(&e.device());
            !e.behind.is_none() && device.is_some_and(|d| d.configured)
        };
        let all = self.desired.endpoints.values().filter(behind);
        let with = |e: &Endpoint| Some((e.clone(), self.desired.networks.get(&e.network)?.mtu));
        all.filter_map(with).collect()
    }

    /// Remembers in the store who has followed. Were that lost, the next start would do it again.
    pub(super) fn note_followed(&mut self, reached: &Reached) {
        let mut put = Vec::new();
        for number in &reached.followed {
            if let Some(endpoint) = self.desired.endpoints.get_mut(number) {
                endpoint.behind = Behind::default();
                put.push(Object::Endpoint(endpoint.clone()));
            }
        }
        if !put.is_empty() {
            let change = Change {
                put,
                remove: vec![],
            };
            drop(self.store.commit(change, self.desired.meta.next_number));
        }
    }

    /// A gateway that is there is brought into order again: new addresses, another MTU.
    fn gateway_is_stale(&mut self, network: &Network) {
        if let Some(outer) = self.actual.devices.get_mut(&network.outer()) {
            outer.configured = false;
        }
    }

    fn follow(
        &mut self,
        endpoint: &Endpoint,
        mtu: u32,
        old: u32,
        reached: &mut Reached,
    ) -> Result<()> {
        let mut whole = true;
        if endpoint.behind.routes {
            let added = self.add_defaults(endpoint);
            whole = added.is_some();
            reached.routed.extend(added.map(|a| (endpoint.clone(), a)));
        }
        if endpoint.behind.mtu {
            reached.resized.push((endpoint.clone(), old));
            self.resize(endpoint, mtu)?;
        }
        if whole {
            reached.followed.push(endpoint.number);
        }
        Ok(())
    }

    /// Adds the default routes of an endpoint that is there; says which ones were not there before.
    /// None: its namespace cannot be found (any more), or it refuses.
    fn add_defaults(&self, endpoint: &Endpoint) -> Option<Vec<IpAddr>> {
        self.actual.devices.get(&endpoint.device())?;
        let added = NetnsFile::open(&endpoint.target).and_then(|ns| {
            if ns.id == endpoint.netns {
                inside::add_defaults(&ns, &endpoint.ifname, &endpoint.gateways)
            } else {
                Ok(vec![])
            }
        });
        added
            .inspect_err(|e| {
                tracing::warn!("endpoint {} gets no default route: {e}", endpoint.name);
            })
            .ok()
    }

    /// Gives both ends of an endpoint another MTU.
    fn resize(&mut self, endpoint: &Endpoint, mtu: u32) -> Result<()> {
        let device = endpoint.device();
        let ns = NetnsFile::open(&endpoint.target)?;
        if ns.id == endpoint.netns {
            inside::set_mtu(&ns, &endpoint.ifname, mtu)?;
        }
        let node_side = Set::new(&device).mtu(mtu).request();
        Ok(self.node.netlink.batch(vec![node_side])?)
    }

    /// Takes it back.
    pub(super) fn unreach(&mut self, reached: &Reached) {
        for (endpoint, added) in &reached.routed {
            take_defaults(endpoint, added);
        }
        for (endpoint, mtu) in &reached.resized {
            if let Err(e) = self.resize(endpoint, *mtu) {
                tracing::warn!("endpoint {}: while taking back: {}", endpoint.name, e.line);
            }
        }
        for (before, gateways) in &reached.networks {
            self.take_addresses(before, gateways);
            self.gateway_is_stale(before);
        }
    }

    /// Takes addresses of a gateway that stays back that were just added.
    fn take_addresses(&mut self, before: &Network, added: &[IpAddr]) {
        let outer = before.outer();
        let ifindex = self.actual.ifindex(&outer);
        let new = added.iter().filter(|ip| !before.gateways.contains(ip));
        let nets = new.filter_map(|ip| before.with_prefix(*ip));
        let requests: Vec<_> = nets
            .map(|net| route::remove_address(&outer, ifindex, net))
            .collect();
        if ifindex != 0
            && let Err(e) = self.node.netlink.batch(requests)
        {
            tracing::warn!("while taking back: {e}");
        }
    }
}

/// Takes default routes back that were just added.
fn take_defaults(endpoint: &Endpoint, added: &[IpAddr]) {
    let taken = NetnsFile::open(&endpoint.target)
        .and_then(|ns| inside::remove_defaults(&ns, &endpoint.ifname, added));
    if let Err(e) = taken {
        tracing::warn!("endpoint {}: while taking back: {e}", endpoint.name);
    }
}
