//! Changes inside of endpoints that stay while their network changes: default routes, and the MTU. Steps
//! of a plan make and remove; these reach into what is there.

use std::net::IpAddr;

use super::core::Core;
use super::error::Result;
use super::network::take_defaults;
use crate::model::{Desired, Endpoint, Network};
use crate::net::link::Set;
use crate::net::{NetnsFile, inside};

/// What was done for one network, to be taken back if the rest fails.
pub(super) struct Reached {
    before: Network,
    gateways: Vec<IpAddr>,
    routed: Vec<(Endpoint, Vec<IpAddr>)>,
    resized: Vec<Endpoint>,
}

impl Core {
    /// Reaches into the endpoints of every network that is there before and after, and differs.
    pub(super) fn reach_inside(
        &mut self,
        before: &Desired,
        reached: &mut Vec<Reached>,
    ) -> Result<()> {
        let pairs: Vec<(Network, Network)> = before
            .networks
            .values()
            .filter_map(|n| Some((n.clone(), self.desired.networks.get(&n.number)?.clone())))
            .filter(|(old, new)| old != new)
            .collect();
        for (old, new) in pairs {
            if old.gateways == new.gateways && old.mtu == new.mtu {
                continue;
            }
            self.gateway_is_stale(&old);
            let mut these = Reached {
                before: old.clone(),
                gateways: new.gateways.clone(),
                routed: Vec::new(),
                resized: Vec::new(),
            };
            let done = self.reach(&old, &new, before, &mut these);
            reached.push(these);
            done?;
        }
        Ok(())
    }

    /// A gateway that is there is brought into order again: new addresses, another MTU.
    fn gateway_is_stale(&mut self, network: &Network) {
        if let Some(outer) = self.actual.devices.get_mut(&network.outer()) {
            outer.configured = false;
        }
    }

    fn reach(
        &mut self,
        old: &Network,
        new: &Network,
        before: &Desired,
        these: &mut Reached,
    ) -> Result<()> {
        let stays = |e: &&Endpoint| before.endpoints.contains_key(&e.number);
        let all = self.desired.endpoints_of(new.number).filter(stays);
        let endpoints: Vec<Endpoint> = all.cloned().collect();
        for endpoint in endpoints {
            if !self.actual.devices.contains_key(&endpoint.device()) {
                continue;
            }
            if old.gateways != new.gateways {
                let added = self.add_defaults(&endpoint);
                these.routed.extend(added.map(|a| (endpoint.clone(), a)));
            }
            if old.mtu != new.mtu {
                these.resized.push(endpoint.clone());
                self.resize(&endpoint, new.mtu)?;
            }
        }
        Ok(())
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
        for endpoint in &reached.resized {
            if let Err(e) = self.resize(endpoint, reached.before.mtu) {
                tracing::warn!("endpoint {}: while taking back: {}", endpoint.name, e.line);
            }
        }
        self.take_addresses(&reached.before, &reached.gateways);
        self.gateway_is_stale(&reached.before);
    }
}
