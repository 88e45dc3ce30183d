//! The endpoints of a source: which stay, which change in place, which are made (anew).

use std::collections::BTreeSet;
use std::net::IpAddr;

use netd_api::{Attach, object};

use super::{Refusal, Work};
use crate::model::attach::{self, Target};
use crate::model::{Endpoint, Netns, Object, lookup, name};

/// An endpoint that is to be made, with the namespace it goes to.
pub(super) type ToMake = (Attach, Netns);

impl Work<'_> {
    /// Decides about the endpoints that are there; returns those that have to be made.
    pub(super) fn endpoints_that_stay(&mut self) -> Vec<ToMake> {
        let mut to_make = Vec::new();
        let mut seen = BTreeSet::new();
        for request in &self.manifest.endpoints {
            let Some(name) = request.name.clone() else {
                self.conflict("endpoint", "an endpoint of a file has a name".into());
                continue;
            };
            let object = object::endpoint(&name);
            if !seen.insert(name.clone()) {
                self.conflict(object, "it is asked for twice".into());
                continue;
            }
            let netns = match self.ask.target(&request.target) {
                Ok(netns) => netns,
                Err(e) => {
                    self.problem(object, e);
                    continue;
                }
            };
            let mut request = request.clone();
            request.owner = Some(self.owner.clone());
            let mut endpoints = self.before.endpoints.values();
            let Some(old) = endpoints.find(|e| e.name == name).cloned() else {
                to_make.push((request, netns));
                continue;
            };
            match self.why_anew(&old, &request, netns) {
                Err(e) => self.problem(object, e),
                Ok(Some(why)) if self.may_change(&object, &old.owner) => {
                    self.anew.insert(old.number, why);
                    to_make.push((self.kept(&old, request), netns));
                }
                Ok(Some(_)) => {}
                Ok(None) => self.change_in_place(&old, &request),
            }
        }
        self.nobody_else_is_on_a_network_that_is_made_anew();
        to_make
    }

    /// Why an endpoint cannot stay and be what is asked for; none: it can.
    fn why_anew(
        &self,
        old: &Endpoint,
        request: &Attach,
        netns: Netns,
    ) -> Result<Option<String>, Refusal> {
        let network = self.before.networks.get(&old.network);
        if network.is_none_or(|n| n.name != request.network) {
            return Ok(Some("network cannot be changed in place".into()));
        }
        if let Some(why) = self.anew_networks.get(&old.network) {
            return Ok(Some(format!("its network is made anew: {why}")));
        }
        if old.target != lookup::normal_target(&request.target) && old.netns != netns {
            return Ok(Some("target cannot be changed in place".into()));
        }
        if old.netns != netns {
            return Ok(Some("its target is another namespace now".into()));
        }
        if self.ask.is_gone(old) {
            return Ok(Some("its device is gone".into()));
        }
        let mac = request.mac.as_deref().map(name::parse_mac).transpose()?;
        let has = |ip: &IpAddr| old.addresses.iter().any(|a| a.addr() == *ip);
        Ok([
            (mac.is_some_and(|mac| mac != old.mac), "mac"),
            (!request.ips.iter().all(has), "addresses"),
            (
                request.ifname.as_ref().is_some_and(|n| *n != old.ifname),
                "ifname",
            ),
        ]
        .into_iter()
        .find(|(differs, _)| *differs)
        .map(|(_, field)| format!("{field} cannot be changed in place")))
    }

    /// What is made anew keeps what nobody wants otherwise.
    fn kept(&self, old: &Endpoint, mut request: Attach) -> Attach {
        let network = self.before.networks.get(&old.network);
        let stays = network.is_some_and(|n| n.name == request.network);
        let old_ips = old.addresses.iter().map(ipnet::IpNet::addr);
        if stays && !self.anew_networks.contains_key(&old.network) {
            let asked: Vec<bool> = request.ips.iter().map(IpAddr::is_ipv4).collect();
            request
                .ips
                .extend(old_ips.filter(|ip| !asked.contains(&ip.is_ipv4())));
        }
        let mac = || name::ShowMac(old.mac).to_string();
        request.mac = request.mac.or_else(|| Some(mac()));
        if old.target == lookup::normal_target(&request.target) {
            request.ifname = request.ifname.or_else(|| Some(old.ifname.clone()));
        }
        request
    }

    fn change_in_place(&mut self, old: &Endpoint, request: &Attach) {
        // Its network may have given it gateways meanwhile.
        let now = self.after.endpoints.get(&old.number).unwrap_or(old);
        let mut new = now.clone();
        new.macs = request.macs.unwrap_or_default();
        new.labels.clone_from(&request.labels);
        new.owner = self.owner_after(&old.owner);
        lookup::normal_target(&request.target).clone_into(&mut new.target);
        if new != *now && self.may_change(&object::endpoint(&old.name), &old.owner) {
            self.put(Object::Endpoint(new));
        }
    }

    fn nobody_else_is_on_a_network_that_is_made_anew(&mut self) {
        for endpoint in self.before.endpoints.values() {
            let Some(why) = self.anew_networks.get(&endpoint.network) else {
                continue;
            };
            let asked = |r: &&Attach| r.name.as_ref() == Some(&endpoint.name);
            let goes = self.manifest.prune && endpoint.owner == self.owner;
            if self.manifest.endpoints.iter().any(|r| asked(&r)) || goes {
                continue;
            }
            let network = self.before.networks.get(&endpoint.network);
            let name = network.map_or("?", |n| n.name.as_str());
            let line = format!(
                "it has to be made anew ({why}), but has endpoint {} of owner {}; detach that first",
                endpoint.name, endpoint.owner
            );
            self.conflict(object::network(name), line);
        }
    }

    /// Makes the endpoints: those that name their addresses first, so that nobody is given one of them.
    pub(super) fn endpoints_to_make(&mut self, mut wanted: Vec<ToMake>) {
        wanted.sort_by_key(|(request, _)| request.ips.is_empty());
        for (request, netns) in wanted {
            // What is wrong with its network has been said.
            if !self.is_sound(&request.network) {
                continue;
            }
            if let Err(e) = self.make(&request, netns) {
                let name = request.name.as_deref().unwrap_or_default();
                self.problem(object::endpoint(name), e);
            }
        }
    }

    fn make(&mut self, request: &Attach, netns: Netns) -> Result<(), Refusal> {
        attach::check(&self.after, request)?;
        let ifname = self.ifname(request, netns)?;
        let id = self.ask.id(&self.after)?;
        let target = Target { netns, ifname };
        let mut record = attach::build(&self.after, request, &target, &id)?;
        record.number = self.after.take_number();
        self.put(Object::Endpoint(record));
        Ok(())
    }

    /// The device name inside: free, or of an endpoint that is taken away, and of no other new one.
    fn ifname(&mut self, request: &Attach, netns: Netns) -> Result<String, Refusal> {
        let of = |e: &&Endpoint| e.netns == netns;
        let stays: BTreeSet<&str> = self
            .after
            .endpoints
            .values()
            .filter(of)
            .map(|e| e.ifname.as_str())
            .collect();
        let leaves: BTreeSet<&str> = self
            .anew
            .keys()
            .filter_map(|n| self.before.endpoints.get(n))
            .filter(of)
            .map(|e| e.ifname.as_str())
            .collect();
        let ask = &mut self.ask;
        let mut free = |device: &str| {
            Ok::<_, Refusal>(
                !stays.contains(device)
                    && (leaves.contains(device) || ask.is_free(&request.target, device)?),
            )
        };
        if let Some(wanted) = &request.ifname {
            if free(wanted)? {
                return Ok(wanted.clone());
            }
            let line = format!(
                "target {} has a device {wanted} already; give another ifname or leave it out",
                request.target
            );
            let fault = Some(crate::model::Fault::Conflict);
            return Err(Refusal { line, fault });
        }
        for i in 0..4096 {
            let name = format!("eth{i}");
            if free(&name)? {
                return Ok(name);
            }
        }
        let line = format!("target {} has no free device name left", request.target);
        Err(Refusal { line, fault: None })
    }

    /// Endpoints of this source that it no longer asks for and that are to go.
    pub(super) fn endpoints_left(&mut self) -> Vec<u32> {
        let mut go = Vec::new();
        for endpoint in self.before.endpoints.values() {
            let asked = |r: &Attach| r.name.as_ref() == Some(&endpoint.name);
            if endpoint.owner != self.owner || self.manifest.endpoints.iter().any(asked) {
                continue;
            }
            if self.manifest.prune {
                go.push(endpoint.number);
            } else {
                self.left.push(object::endpoint(&endpoint.name));
            }
        }
        go
    }
}
