//! The networks of a source: which stay, which change in place, which are made (anew).

use std::collections::BTreeSet;

use netd_api::{NetworkCreate, object};

use super::{Refusal, Work};
use crate::model::{ModelError, Network, Object, ipam, masquerade, network};

/// Fields that cannot be changed while a network is there.
const FIXED: [&str; 3] = ["kind", "subnets", "internal"];

impl Work<'_> {
    /// Decides about the networks that are there: those that change in place are changed in the state
    /// after, those that have to be made anew are noted.
    pub(super) fn networks_that_stay(&mut self) {
        let mut seen = BTreeSet::new();
        for request in &self.manifest.networks {
            let object = object::network(&request.name);
            if !seen.insert(&request.name) {
                self.conflict(object, "it is asked for twice".into());
                continue;
            }
            let mut networks = self.before.networks.values();
            let Some(old) = networks.find(|n| n.name == request.name).cloned() else {
                continue;
            };
            match self.changed(&old, request) {
                Err(e) => self.problem(object, e),
                Ok(new) if new == old => {}
                Ok(new) if self.may_change(&object, &old.owner) => self.decide(&old, new),
                Ok(_) => {}
            }
        }
    }

    fn decide(&mut self, old: &Network, new: Network) {
        let fields = super::lines::differences(old, &new);
        let mut why = fields
            .iter()
            .map(|f| f.field.clone())
            .find(|f| FIXED.contains(&f.as_str()));
        if old.gateways.iter().any(|g| !new.gateways.contains(g)) {
            why = why.or(Some("gateways".into()));
        }
        if let Some(field) = why {
            let why = format!("{field} cannot be changed in place");
            self.anew_networks.insert(old.number, why);
            return;
        }
        let routes = old.gateways != new.gateways && !new.internal;
        let mtu = old.mtu != new.mtu;
        if routes || mtu {
            let endpoints: Vec<_> = self.before.endpoints_of(old.number).cloned().collect();
            for mut endpoint in endpoints {
                if routes {
                    endpoint.gateways.clone_from(&new.gateways);
                }
                endpoint.behind.routes |= routes;
                endpoint.behind.mtu |= mtu;
                self.put(Object::Endpoint(endpoint));
            }
        }
        self.put(Object::Network(new));
    }

    /// The record an existing network is to have.
    fn changed(&mut self, old: &Network, request: &NetworkCreate) -> Result<Network, Refusal> {
        let request = filled(old, request);
        // What the node has got there since is no news to a network that stays where it is.
        let same = same_subnets(old, &request);
        let node = if same { &[][..] } else { self.context.node };
        let context = network::Context {
            node,
            mac: old.gateway_mac,
            ..self.context
        };
        // Itself is not in its own way.
        let this = self.networks.networks.remove(&old.number);
        let new = network::record(&self.networks, &context, &request);
        self.networks.networks.extend(this.map(|n| (old.number, n)));
        let mut new = new?;
        new.number = old.number;
        new.owner = self.owner_after(&old.owner);
        if request.gateways.as_ref().is_some_and(|g| {
            g.len() == old.gateways.len() && g.iter().all(|g| old.gateways.contains(g))
        }) && !request.no_gateway
        {
            // One of two subnets may have a gateway alone: that is not filled up here.
            new.gateways.clone_from(&old.gateways);
        }
        if !same {
            return Ok(new);
        }
        for gateway in new.gateways.iter().filter(|g| !old.gateways.contains(g)) {
            if let Some(by) = ipam::holder(self.before, old, *gateway) {
                let address = *gateway;
                return Err(ModelError::Taken { address, by }.into());
            }
        }
        let taken = |mac| self.before.endpoints_of(old.number).any(|e| e.mac == mac);
        if !old.has_gateway() && new.has_gateway() && taken(new.gateway_mac) {
            new.gateway_mac = self.ask.mac()?;
        }
        Ok(new)
    }

    /// Makes the networks that are not there (any more).
    pub(super) fn networks_to_make(&mut self) {
        for request in &self.manifest.networks {
            let there = |n: &Network| n.name == request.name;
            if self.after.networks.values().any(there) || !self.is_sound(&request.name) {
                continue;
            }
            // A new network takes the defaults of today; one that is made anew keeps what it can.
            let old = self.before.networks.values().find(|n| there(n));
            let mut request = old.map_or_else(|| request.clone(), |old| filled(old, request));
            request.owner = Some(self.owner.clone());
            let made = self.ask.mac().and_then(|mac| {
                let mac = old.map_or(mac, |old| old.gateway_mac);
                let context = network::Context {
                    mac,
                    ..self.context
                };
                Ok(network::record(&self.after, &context, &request)?)
            });
            match made {
                Err(e) => self.problem(object::network(&request.name), e),
                Ok(mut record) => {
                    record.number = self.after.take_number();
                    self.put(Object::Network(record));
                }
            }
        }
    }

    /// Checks what all networks have together. The first of the file with which it is too much is named.
    pub(super) fn networks_together(&mut self) {
        let (daemon, before) = (self.after.masquerade, &self.before.networks);
        let asked = |n: &&Network| self.manifest.networks.iter().any(|r| r.name == n.name);
        let mut all: Vec<&Network> = self.after.networks.values().collect();
        all.retain(|n| !asked(n));
        for request in &self.manifest.networks {
            let mut made = self.after.networks.values();
            all.extend(made.find(|n| n.name == request.name));
            let checked = masquerade::check_silent(daemon, before.values(), all.iter().copied());
            if let Err(e) = checked {
                self.problem(object::network(&request.name), e);
                return;
            }
        }
    }

    /// Whether nothing is known to be wrong with a network.
    pub(super) fn is_sound(&self, network: &str) -> bool {
        let object = object::network(network);
        self.problems.iter().all(|p| p.object != object)
    }

    /// Networks of this source that it no longer asks for and that are to go.
    pub(super) fn networks_left(&mut self) -> Vec<u32> {
        let mut go = Vec::new();
        for network in self.before.networks.values() {
            let asked = self
                .manifest
                .networks
                .iter()
                .any(|r| r.name == network.name);
            if network.owner != self.owner || asked {
                continue;
            }
            let object = object::network(&network.name);
            if !self.manifest.prune {
                self.left.push(object);
                continue;
            }
            let users = self.after.endpoints_of(network.number);
            let list: Vec<String> = users.map(|e| e.name.clone()).collect();
            if list.is_empty() {
                go.push(network.number);
                continue;
            }
            let used = ModelError::InUse {
                network: network.name.clone(),
                list: list.join(", "),
            };
            self.problem(object, used);
        }
        go
    }
}

fn same_subnets(old: &Network, request: &NetworkCreate) -> bool {
    let mut wanted = request.subnets.clone();
    wanted.sort_by_key(|s| s.addr().is_ipv6());
    wanted == old.subnets
}

/// A request with what it leaves open as the network has it: a default that was filled in once stays.
fn filled(old: &Network, request: &NetworkCreate) -> NetworkCreate {
    let mut request = request.clone();
    if request.subnets.is_empty() {
        request.subnets.clone_from(&old.subnets);
    }
    if request.gateways.is_none()
        && !request.no_gateway
        && old.has_gateway()
        && same_subnets(old, &request)
    {
        request.gateways = Some(old.gateways.clone());
    }
    request.mtu = request.mtu.or(Some(old.mtu));
    request
}
