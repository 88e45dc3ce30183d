//! From desired and actual state to steps: pure, no aya, no netlink, no clock.
//!
//! A plan is made in rounds: map rows need the ifindex of devices, so as long as devices have to be
//! made a plan holds nothing else. [`plan`] is called again after each round until it is empty.

mod actual;
mod diff;
mod rows;

pub use actual::{
    Actual, Alias, Device, FdbId, FromId, GroupId, PublishId, UplinkNet, fdb_key, publish_key,
};

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netd_common::addr::Mac;
use netd_common::maps::{FdbEntry, Float, HostEntry, Port, Publish, Target};

use crate::model::{Change, Desired, Endpoint, Key, Netns, Network, Object};

/// What a plan looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// One network, its endpoints and their publishes.
    Network(u32),
    /// One network and its endpoints, but of publishes only one endpoint's: the others may have ten
    /// thousand, and what happens to this one is no news to them.
    Endpoint {
        /// Number of the network.
        network: u32,
        /// Number of the endpoint.
        endpoint: u32,
    },
}

/// A gateway pair to make or to bring into order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPlan {
    /// Name of the network.
    pub network: String,
    /// Name of the outer end.
    pub outer: String,
    /// Name of the inner end.
    pub inner: String,
    /// MAC of the outer end.
    pub mac: Mac,
    /// MTU of both.
    pub mtu: u32,
    /// Addresses of the outer end.
    pub addresses: Vec<IpNet>,
}

/// An endpoint's veth to make, or its inside to finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPlan {
    /// Its id.
    pub id: String,
    /// Name of the node-side device.
    pub device: String,
    /// The target.
    pub target: String,
    /// The namespace the target must be.
    pub netns: Netns,
    /// Device name inside.
    pub ifname: String,
    /// MAC of the inside device.
    pub mac: Mac,
    /// MTU of both ends.
    pub mtu: u32,
    /// Addresses inside.
    pub addresses: Vec<IpNet>,
    /// Next hops of default routes inside.
    pub gateways: Vec<IpAddr>,
}

/// Objects whose flows end with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Endpoints, by number: the flows they began and those they were called by.
    pub endpoints: BTreeSet<u32>,
    /// Publishes, by number: the flows that came in by them.
    pub publishes: BTreeSet<u32>,
    /// Floating addresses: the flows to and from them.
    pub floating: BTreeSet<IpAddr>,
}

impl Ended {
    /// Whether all of others is in it.
    pub fn holds(&self, others: &Self) -> bool {
        self.endpoints.is_superset(&others.endpoints)
            && self.publishes.is_superset(&others.publishes)
            && self.floating.is_superset(&others.floating)
    }

    /// Takes others in.
    pub fn extend(&mut self, others: Self) {
        self.endpoints.extend(others.endpoints);
        self.publishes.extend(others.publishes);
        self.floating.extend(others.floating);
    }

    /// Whether it is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.publishes.is_empty() && self.floating.is_empty()
    }

    /// What ends with a change of the desired state, which is still to be made.
    pub fn of(change: &Change, desired: &Desired) -> Self {
        let mut ended = Self::default();
        for key in &change.remove {
            match key {
                Key::Endpoint(n) => drop(ended.endpoints.insert(*n)),
                Key::Publish(n) => drop(ended.publishes.insert(*n)),
                Key::Floating(n) => {
                    let gone = desired.floating.get(n);
                    ended.floating.extend(gone.map(|f| f.address));
                }
                Key::Network(_) => {}
            }
        }
        for object in &change.put {
            if let Object::Floating(new) = object
                && let Some(old) = desired.floating.get(&new.number)
                && old.endpoint != new.endpoint
            {
                ended.floating.insert(old.address);
            }
        }
        ended
    }

    /// Whether a flow of these numbers ends (0: none of that kind).
    pub fn cuts(&self, publish: u32, endpoint: u32, client: u32) -> bool {
        self.publishes.contains(&publish)
            || [endpoint, client]
                .iter()
                .any(|n| self.endpoints.contains(n))
    }
}

/// One step; every one may be run again.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Makes a gateway pair, or brings one that is there into order.
    MakeGateway(GatewayPlan),
    /// Makes the veth of an endpoint, inside down.
    MakeEndpoint(EndpointPlan),
    /// Addresses, routes and up inside; then the alias says that the endpoint is whole.
    FinishEndpoint(EndpointPlan),
    /// Takes the device of an endpoint down, so that nothing moves while its rows go.
    Down {
        /// Its name.
        device: String,
        /// Its ifindex.
        ifindex: u32,
    },
    /// Takes it up again: what takes [`Step::Down`] back.
    Up {
        /// Its name.
        device: String,
    },
    /// Deletes a device, and with it its peer.
    Delete {
        /// Its name.
        device: String,
        /// Its ifindex.
        ifindex: u32,
        /// Later, in the background: the kernel takes 20 ms.
        later: bool,
    },
    /// Hooks the endpoint programs on a node-side device.
    HookEndpoint(String),
    /// Hooks the gateway program on an inner end.
    HookGateway(String),
    /// Removes the hooks of a device, there or gone.
    Unhook(String),
    /// Ends the flows of what is no longer there.
    EndFlows(Ended),
    /// A row of `PORT`: set, or removed when there is no value (likewise below).
    Port(u32, Option<Port>),
    /// A row of `FDB`.
    Fdb(FdbId, Option<FdbEntry>),
    /// A row of `HOST4` or `HOST6`.
    Host(IpAddr, Option<HostEntry>),
    /// The switch ports of a network.
    Slot((u32, u32), Option<Target>),
    /// A row of `PUBLISH`.
    Publish(PublishId, Option<Publish>),
    /// A row of `FLOAT`.
    Float(IpAddr, Option<Float>),
    /// The node is in the multicast group of an address it answers for, with the network of its endpoint; or
    /// leaves it.
    Group(GroupId, Option<u32>),
    /// A row of `FROM`, with the network of the publish.
    From(FromId, Option<u32>),
}

/// The next round of steps; empty: nothing is left to do.
pub fn plan(desired: &Desired, actual: &Actual, scope: Scope) -> Vec<Step> {
    let makes = makes(desired, actual, scope);
    if !makes.is_empty() {
        return makes;
    }
    let orphans: Vec<(&String, &Device)> = actual
        .devices
        .iter()
        .filter(|(name, device)| device.is_head(name) && !wanted(desired, device))
        .collect();
    // Not a gateway: going down flushes its IPv6 addresses, and up does not bring them back.
    let endpoints = orphans
        .iter()
        .filter(|(_, d)| !matches!(d.alias, Alias::Network(_)));
    let mut steps: Vec<Step> = endpoints
        .map(|(name, d)| Step::Down {
            device: (*name).clone(),
            ifindex: d.ifindex,
        })
        .collect();
    diff::rows(
        actual,
        &rows::rows(desired, actual, scope),
        scope,
        &mut steps,
    );
    hooks(desired, actual, scope, &mut steps);
    finishes(desired, actual, scope, &mut steps);
    for (name, device) in orphans {
        let later = !matches!(device.alias, Alias::Network(_));
        let step = Step::Delete {
            device: name.clone(),
            ifindex: device.ifindex,
            later,
        };
        steps.push(step);
    }
    steps
}

fn in_scope(scope: Scope, network: u32) -> bool {
    match scope {
        Scope::All => true,
        Scope::Network(n) | Scope::Endpoint { network: n, .. } => n == network,
    }
}

/// Whether publishes of an endpoint on a network that is in scope are looked at.
fn publishes_in_scope(scope: Scope, endpoint: u32) -> bool {
    match scope {
        Scope::All | Scope::Network(_) => true,
        Scope::Endpoint { endpoint: n, .. } => n == endpoint,
    }
}

fn wanted(desired: &Desired, device: &Device) -> bool {
    match &device.alias {
        Alias::Network(name) => desired
            .networks
            .values()
            .any(|n| n.name == *name && n.has_gateway()),
        Alias::Endpoint(id) | Alias::Making(id) => desired.endpoints.values().any(|e| e.id == *id),
    }
}

fn makes(desired: &Desired, actual: &Actual, scope: Scope) -> Vec<Step> {
    let mut steps = Vec::new();
    for network in desired.networks.values() {
        if !in_scope(scope, network.number) || !network.has_gateway() {
            continue;
        }
        let whole = |name: &str| actual.devices.get(name).is_some_and(|d| d.configured);
        if actual.failed.contains(&network.outer()) {
            continue;
        }
        if !whole(&network.outer()) || !whole(&network.inner()) {
            steps.push(Step::MakeGateway(gateway(network)));
        }
    }
    for endpoint in desired.endpoints.values() {
        let device = endpoint.device();
        let there = actual.devices.contains_key(&device) || actual.failed.contains(&device);
        // An endpoint that was whole and lost its device is gone: making a second one is not ours.
        if in_scope(scope, endpoint.network) && !there && !endpoint.made {
            steps.extend(endpoint_plan(desired, endpoint).map(Step::MakeEndpoint));
        }
    }
    steps
}

fn finishes(desired: &Desired, actual: &Actual, scope: Scope, steps: &mut Vec<Step>) {
    for endpoint in desired.endpoints.values() {
        let half = actual
            .devices
            .get(&endpoint.device())
            .is_some_and(|d| !d.configured);
        if in_scope(scope, endpoint.network) && half {
            steps.extend(endpoint_plan(desired, endpoint).map(Step::FinishEndpoint));
        }
    }
}

fn hooks(desired: &Desired, actual: &Actual, scope: Scope, steps: &mut Vec<Step>) {
    let missing =
        |device: &str| actual.devices.contains_key(device) && !actual.hooked.contains(device);
    let networks = desired
        .networks
        .values()
        .filter(|n| in_scope(scope, n.number) && n.has_gateway());
    steps.extend(
        networks
            .map(Network::inner)
            .filter(|d| missing(d))
            .map(Step::HookGateway),
    );
    let endpoints = desired
        .endpoints
        .values()
        .filter(|e| in_scope(scope, e.network));
    steps.extend(
        endpoints
            .map(Endpoint::device)
            .filter(|d| missing(d))
            .map(Step::HookEndpoint),
    );
    for device in &actual.hooked {
        if actual
            .devices
            .get(device)
            .is_none_or(|d| !wanted(desired, d))
        {
            steps.push(Step::Unhook(device.clone()));
        }
    }
}

fn gateway(network: &Network) -> GatewayPlan {
    GatewayPlan {
        network: network.name.clone(),
        outer: network.outer(),
        inner: network.inner(),
        mac: network.gateway_mac,
        mtu: network.mtu,
        addresses: network.gateway_nets(),
    }
}

fn endpoint_plan(desired: &Desired, endpoint: &Endpoint) -> Option<EndpointPlan> {
    let network = desired.networks.get(&endpoint.network)?;
    Some(EndpointPlan {
        id: endpoint.id.clone(),
        device: endpoint.device(),
        target: endpoint.target.clone(),
        netns: endpoint.netns,
        ifname: endpoint.ifname.clone(),
        mac: endpoint.mac,
        mtu: network.mtu,
        addresses: endpoint.addresses.clone(),
        gateways: endpoint.gateways.clone(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
