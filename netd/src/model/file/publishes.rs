//! The published ports of a source: which stay, which are taken back, which are new.

use std::collections::{BTreeMap, BTreeSet};

use netd_api::{PublishSpec, object};

use super::{Refusal, Work};
use crate::model::{Endpoint, Key, Object, Publish, publish};

/// Publishes of the state before, by endpoint and first host port.
type Standing = BTreeMap<(u32, u16), Vec<u32>>;

/// A port that is asked for.
struct Wanted {
    /// The endpoint's name.
    name: String,
    /// What is asked for.
    spec: PublishSpec,
    /// The same on the addresses it is for: of a fixed port one at a time, as each stands alone.
    group: Vec<PublishSpec>,
}

impl Work<'_> {
    /// Decides about all published ports, now that the endpoints of the state after are known.
    pub(super) fn publishes(&mut self) {
        let wanted = self.wanted();
        let mut kept: BTreeSet<u32> = BTreeSet::new();
        let mut new: Vec<(String, PublishSpec, String)> = Vec::new();
        let mut standing: Standing = BTreeMap::new();
        for p in self.before.publishes.values() {
            let key = (p.endpoint, p.spec.host.host_port);
            standing.entry(key).or_default().push(p.number);
        }
        // Exact ones first: a request for any port takes what is left.
        let (any, exact): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|w| w.spec.host.host_port == 0);
        for Wanted { name, spec, group } in exact.into_iter().chain(any) {
            let mut found: Vec<Publish> = Vec::new();
            for spec in &group {
                let free = |p: &Publish| {
                    !kept.contains(&p.number) && found.iter().all(|f| f.number != p.number)
                };
                let old = self.standing(&name, spec, &standing, free).cloned();
                found.extend(old);
            }
            if found.len() < group.len() {
                new.push((name, spec, self.owner.clone()));
                continue;
            }
            for old in found {
                kept.insert(old.number);
                if self.after.publishes.contains_key(&old.number) {
                    self.take_over(old);
                } else {
                    // Its endpoint is made anew: the same port again.
                    let owner = self.owner_after(&old.owner);
                    new.push((name.clone(), old.spec, owner));
                }
            }
        }
        self.give_up(&kept, &mut new);
        for (name, spec, owner) in new {
            if let Err(e) = self.publish(&name, &spec, &owner) {
                self.problem(object::publish(&spec), e);
            }
        }
    }

    /// Every published port that is asked for, on the addresses it is for, with the endpoint's name.
    fn wanted(&mut self) -> Vec<Wanted> {
        let mut asked = Vec::new();
        for request in &self.manifest.endpoints {
            let name = request.name.clone().unwrap_or_default();
            let specs = request.publish.iter().cloned();
            asked.extend(specs.map(|spec| (name.clone(), spec)));
        }
        let more = self.manifest.publishes.iter();
        asked.extend(more.map(|p| (p.endpoint.clone(), p.spec.clone())));
        let addresses = self.ask.publish_addresses();
        let mut wanted = Vec::new();
        for (name, spec) in asked {
            let object = object::endpoint(&name);
            if self.problems.iter().any(|p| p.object == object) {
                continue;
            }
            let endpoint = match self.after.endpoint(&name, None) {
                Ok(endpoint) => endpoint.clone(),
                // Endpoints that cannot be made have said so.
                Err(_)
                    if self
                        .problems
                        .iter()
                        .any(|p| p.object.starts_with("network ")) =>
                {
                    continue;
                }
                Err(e) => {
                    self.problem(object::publish(&spec), e);
                    continue;
                }
            };
            let name = endpoint.name.clone();
            match publish::expand(&addresses, &endpoint, &spec) {
                Ok(group) if spec.host.host_port == 0 => {
                    wanted.push(Wanted { name, spec, group });
                }
                Ok(specs) => wanted.extend(specs.into_iter().map(|spec| Wanted {
                    name: name.clone(),
                    group: vec![spec.clone()],
                    spec,
                })),
                Err(e) => self.problem(object::publish(&spec), e),
            }
        }
        wanted
    }

    /// The publish that is what is asked for already, of the same endpoint by name.
    fn standing(
        &self,
        name: &str,
        spec: &PublishSpec,
        standing: &Standing,
        free: impl Fn(&Publish) -> bool,
    ) -> Option<&Publish> {
        let endpoint = self.before.endpoints.values().find(|e| e.name == name)?;
        if spec.host.host_port == 0 {
            return self.before.publishes_of(endpoint.number).find(|p| {
                p.owner == self.owner
                    && (p.spec.port, p.spec.end) == (spec.port, spec.end)
                    && p.spec.host.proto == spec.host.proto
                    && p.spec.host.host_ip == spec.host.host_ip
                    && p.spec.from == spec.from
                    && free(p)
            });
        }
        let numbers = standing.get(&(endpoint.number, spec.host.host_port))?;
        let mut all = numbers.iter().filter_map(|n| self.before.publishes.get(n));
        all.find(|p| p.spec == *spec && free(p))
    }

    fn take_over(&mut self, mut old: Publish) {
        if self.manifest.force && old.owner != self.owner {
            old.owner.clone_from(&self.owner);
            self.put(Object::Publish(old));
        }
    }

    /// Takes back what is in the way of a new one or no longer asked for; what is not to go, and whose
    /// endpoint is made anew, comes again.
    fn give_up(&mut self, kept: &BTreeSet<u32>, new: &mut Vec<(String, PublishSpec, String)>) {
        let names: BTreeMap<u32, String> = self
            .before
            .endpoints
            .values()
            .map(|e| (e.number, e.name.clone()))
            .collect();
        for old in self.before.publishes.values() {
            if kept.contains(&old.number) {
                continue;
            }
            let mine = old.owner == self.owner || self.manifest.force;
            let replaced = mine && new.iter().any(|(_, s, _)| s.host == old.spec.host);
            let asked = old.owner == self.owner;
            if replaced || (asked && self.manifest.prune) {
                self.remove(vec![Key::Publish(old.number)]);
                continue;
            }
            if asked && self.after.publishes.contains_key(&old.number) {
                self.left.push(object::publish(&old.spec));
            }
            if self.anew.contains_key(&old.endpoint) {
                let name = names.get(&old.endpoint).cloned().unwrap_or_default();
                new.push((name, old.spec.clone(), old.owner.clone()));
            }
        }
    }

    fn publish(&mut self, name: &str, spec: &PublishSpec, owner: &str) -> Result<(), Refusal> {
        let endpoint: Endpoint = self.after.endpoint(name, None)?.clone();
        let addresses = self.ask.publish_addresses();
        let group = publish::expand(&addresses, &endpoint, spec)?;
        for spec in &group {
            publish::check(&self.after, &endpoint, spec)?;
        }
        for spec in self.ask.ports(&self.after, &endpoint, &group)? {
            let number = self.after.take_number();
            self.put(Object::Publish(Publish {
                number,
                endpoint: endpoint.number,
                spec,
                owner: owner.into(),
            }));
        }
        Ok(())
    }
}
