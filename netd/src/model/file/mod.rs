//! From what one source asks for as a whole to the state after it: checked object by object, with the
//! smallest change. Pure: what only the node can tell is asked through [`Ask`].
//!
//! The state after is made in a copy of the state before; what is different between the two is the
//! change. Objects that are equal keep their record, so nothing is done about them.

mod endpoints;
mod export;
mod floating;
mod lines;
mod networks;
mod publishes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netd_api::{Manifest, PlanLine, Problem, PublishSpec};
use netd_common::addr::Mac;

use super::network::Context;
use super::{Change, Desired, Endpoint, Fault, Key, ModelError, Netns, Object, name};

pub use export::export;

/// Why the node, or the model, says no: one line, and whose fault it is (none: the node's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub line: String,
    /// Whose fault it is.
    pub fault: Option<Fault>,
}

impl From<ModelError> for Refusal {
    fn from(e: ModelError) -> Self {
        Self {
            line: e.to_string(),
            fault: Some(e.fault()),
        }
    }
}

/// What only the node can tell.
pub trait Ask {
    /// The namespace of a target.
    fn target(&mut self, target: &str) -> Result<Netns, Refusal>;
    /// Whether a device name is free inside a target.
    fn is_free(&mut self, target: &str, device: &str) -> Result<bool, Refusal>;
    /// Whether the device of an endpoint is gone.
    fn is_gone(&self, endpoint: &Endpoint) -> bool;
    /// An id that no endpoint has.
    fn id(&mut self, desired: &Desired) -> Result<String, Refusal>;
    /// A MAC that nobody has.
    fn mac(&mut self) -> Result<Mac, Refusal>;
    /// The addresses of the node, with their subnets.
    fn addresses(&mut self) -> Result<Vec<IpNet>, Refusal>;
    /// Addresses that ports are published on which name none.
    fn publish_addresses(&self) -> Vec<IpAddr>;
    /// Specs of one request, checked against the processes of the node, and with a port that is free
    /// for all of them where any will do.
    fn ports(
        &mut self,
        desired: &Desired,
        endpoint: &Endpoint,
        group: &[PublishSpec],
    ) -> Result<Vec<PublishSpec>, Refusal>;
}

/// What it takes to give a source what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The state after.
    pub after: Desired,
    /// What has to be gone before anything is made: objects that are made anew.
    pub first: Change,
    /// The whole difference.
    pub change: Change,
    /// The same for people.
    pub lines: Vec<PlanLine>,
    /// What the source made, no longer asks for, and is not to be removed.
    pub left: Vec<String>,
}

/// Everything that is wrong, and whose fault the first of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Object by object; never empty.
    pub problems: Vec<Problem>,
    /// Whose fault.
    pub fault: Option<Fault>,
}

/// How owners begin that are files.
pub const OWNER: &str = "file:";

/// The owner of what a source of that name makes.
pub fn owner_of(source: &str) -> String {
    format!("{OWNER}{source}")
}

/// What it takes to get from `before` to what a source asks for.
pub fn outcome(
    before: &Desired,
    manifest: &Manifest,
    context: &Context<'_>,
    ask: &mut dyn Ask,
) -> Result<Outcome, Refused> {
    let mut networks = before.clone();
    networks.endpoints.clear();
    networks.publishes.clear();
    let mut work = Work {
        before,
        networks,
        after: before.clone(),
        manifest,
        owner: owner_of(&manifest.name),
        context: *context,
        ask,
        anew: BTreeMap::new(),
        anew_networks: BTreeMap::new(),
        left: Vec::new(),
        problems: Vec::new(),
        fault: None,
    };
    if let Err(e) = name::check("file", &manifest.name) {
        work.problem("file", e);
    } else {
        work.run();
    }
    if !work.problems.is_empty() {
        return Err(Refused {
            problems: work.problems,
            fault: work.fault,
        });
    }
    let lines = lines::lines(before, &work.after, &work.anew, &work.anew_networks);
    let mut first = Change::default();
    for number in work.anew.keys() {
        first.remove.extend(before.all_of(*number));
    }
    let networks = work.anew_networks.keys().copied();
    first.remove.extend(networks.map(Key::Network));
    Ok(Outcome {
        change: difference(before, &work.after),
        first,
        lines,
        left: work.left,
        after: work.after,
    })
}

struct Work<'a> {
    before: &'a Desired,
    /// The networks of the state before, alone.
    networks: Desired,
    after: Desired,
    manifest: &'a Manifest,
    owner: String,
    context: Context<'a>,
    ask: &'a mut dyn Ask,
    /// Endpoints that are made anew, by their number before, and why.
    anew: BTreeMap<u32, String>,
    /// The same of networks.
    anew_networks: BTreeMap<u32, String>,
    left: Vec<String>,
    problems: Vec<Problem>,
    fault: Option<Fault>,
}

impl Work<'_> {
    fn run(&mut self) {
        self.networks_that_stay();
        let wanted = self.endpoints_that_stay();
        self.take_away();
        self.networks_to_make();
        self.networks_together();
        self.endpoints_to_make(wanted);
        self.floating();
        self.publishes();
    }

    fn problem(&mut self, object: impl Into<String>, why: impl Into<Refusal>) {
        let why = why.into();
        if self.problems.is_empty() {
            self.fault = why.fault;
        }
        self.problems.push(Problem {
            object: object.into(),
            error: why.line,
        });
    }

    fn conflict(&mut self, object: impl Into<String>, line: String) {
        let fault = Some(Fault::Conflict);
        self.problem(object, Refusal { line, fault });
    }

    /// Whether this source may change an object of that owner; what is wrong is noted.
    fn may_change(&mut self, object: &str, owner: &str) -> bool {
        if owner == self.owner || self.manifest.force {
            return true;
        }
        let line = format!("it belongs to {owner}; --force takes it over");
        self.conflict(object, line);
        false
    }

    /// Who owns an object that is there: what another owner has and is as asked for stays its.
    fn owner_after(&self, owner: &str) -> String {
        if self.manifest.force {
            self.owner.clone()
        } else {
            owner.to_owned()
        }
    }

    fn put(&mut self, object: Object) {
        self.after.apply(&Change {
            put: vec![object],
            remove: vec![],
        });
    }

    fn remove(&mut self, remove: Vec<Key>) {
        self.after.apply(&Change {
            put: vec![],
            remove,
        });
    }

    /// Takes away what is made anew, and what is no longer asked for.
    fn take_away(&mut self) {
        let mut endpoints: BTreeSet<u32> = self.anew.keys().copied().collect();
        endpoints.extend(self.endpoints_left());
        let mut remove = Vec::new();
        for number in endpoints {
            remove.extend(self.before.all_of(number));
        }
        self.remove(remove);
        let anew = self.anew_networks.keys().copied().map(Key::Network);
        self.remove(anew.collect());
        let left = self.networks_left();
        self.remove(left.into_iter().map(Key::Network).collect());
    }
}

/// The change from one state to another.
pub fn difference(before: &Desired, after: &Desired) -> Change {
    fn of<T: PartialEq + Clone>(
        before: &BTreeMap<u32, T>,
        after: &BTreeMap<u32, T>,
        object: fn(T) -> Object,
        key: fn(u32) -> Key,
        change: &mut Change,
    ) {
        let gone = before.keys().filter(|n| !after.contains_key(n));
        change.remove.extend(gone.map(|n| key(*n)));
        let new = after.iter().filter(|(n, o)| before.get(n) != Some(*o));
        change.put.extend(new.map(|(_, o)| object(o.clone())));
    }
    let mut change = Change::default();
    let c = &mut change;
    of(
        &before.publishes,
        &after.publishes,
        Object::Publish,
        Key::Publish,
        c,
    );
    of(
        &before.floating,
        &after.floating,
        Object::Floating,
        Key::Floating,
        c,
    );
    of(
        &before.endpoints,
        &after.endpoints,
        Object::Endpoint,
        Key::Endpoint,
        c,
    );
    of(
        &before.networks,
        &after.networks,
        Object::Network,
        Key::Network,
        c,
    );
    change
}
