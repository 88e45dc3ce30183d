//! The floating addresses of a source: which stay, which change hands, which are new.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netd_api::{FloatingAdd, object};

use super::{Refusal, Work};
use crate::model::{Endpoint, Floating, Key, Object, floating};

impl Work<'_> {
    /// Decides about all floating addresses, now that the endpoints of the state after are known.
    pub(super) fn floating(&mut self) {
        self.come_again();
        let mut asked = BTreeSet::new();
        for wanted in &self.manifest.floating {
            let object = object::floating(wanted.address);
            if !asked.insert(wanted.address) {
                self.conflict(object, "it is asked for twice".into());
                continue;
            }
            // An endpoint that cannot be there has said so.
            let endpoint = object::endpoint(&wanted.endpoint);
            if self.problems.iter().any(|p| p.object == endpoint) {
                continue;
            }
            if let Err(e) = self.give(wanted, &object) {
                self.problem(object, e);
            }
        }
        self.floating_left(&asked);
    }

    /// Those of what is made anew.
    fn come_again(&mut self) {
        for old in self.before.floating.values() {
            if !self.anew.contains_key(&old.endpoint) {
                continue;
            }
            let was = self.before.endpoints.get(&old.endpoint);
            let now = was.and_then(|e| self.after.endpoint(&e.name, None).ok());
            // An endpoint that could not be made anew is a problem by itself.
            let Some(now) = now.cloned() else { continue };
            if let Err(e) = self.hand(old.clone(), &now) {
                self.problem(object::floating(old.address), e);
            }
        }
    }

    /// Gives a record to an endpoint.
    fn hand(&mut self, record: Floating, to: &Endpoint) -> Result<(), Refusal> {
        floating::fits(&self.after, to, record.address)?;
        self.put(Object::Floating(Floating {
            endpoint: to.number,
            ..record
        }));
        Ok(())
    }

    fn give(&mut self, wanted: &FloatingAdd, object: &str) -> Result<(), Refusal> {
        let endpoint = self.after.endpoint(&wanted.endpoint, None)?.clone();
        let Some(old) = floating::find(&self.after, wanted.address).cloned() else {
            let node = self.ask.addresses()?;
            floating::check(&self.after, &node, &endpoint, wanted.address)?;
            let record = Floating {
                number: self.after.take_number(),
                endpoint: endpoint.number,
                address: wanted.address,
                owner: self.owner.clone(),
            };
            self.put(Object::Floating(record));
            return Ok(());
        };
        if old.endpoint != endpoint.number {
            if !self.may_change(object, &old.owner) {
                return Ok(());
            }
            let owner = self.owner.clone();
            return self.hand(Floating { owner, ..old }, &endpoint);
        }
        let owner = self.owner_after(&old.owner);
        self.put(Object::Floating(Floating { owner, ..old }));
        Ok(())
    }

    /// Those of this source that it no longer asks for.
    fn floating_left(&mut self, asked: &BTreeSet<IpAddr>) {
        let mine = |f: &&Floating| f.owner == self.owner && !asked.contains(&f.address);
        let all = self.after.floating.values().filter(mine);
        let left: Vec<(u32, IpAddr)> = all.map(|f| (f.number, f.address)).collect();
        for (number, address) in left {
            if self.manifest.prune {
                self.remove(vec![Key::Floating(number)]);
            } else {
                self.left.push(object::floating(address));
            }
        }
    }
}
