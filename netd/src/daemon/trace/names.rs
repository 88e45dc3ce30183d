//! What devices, endpoints, networks and published ports are called, for whoever reads a trace.

use super::super::core::Core;
use crate::net::veth::Device;
use crate::trace::names::{Names, Role};

impl Core {
    /// What things are called.
    pub(super) fn names(&self, devices: &[Device]) -> Names {
        let mut names = Names::default();
        let d = &self.desired;
        let mut device = |name: String, role| {
            names
                .devices
                .insert(self.actual.ifindex(&name), (name, role));
        };
        for n in d.networks.values() {
            device(n.outer(), Role::Gateway(n.name.clone()));
            device(n.inner(), Role::Inner(n.name.clone()));
        }
        for e in d.endpoints.values() {
            device(e.device(), Role::Endpoint(e.name.clone()));
        }
        names.devices.remove(&0);
        for (ifindex, uplink) in &self.uplinks {
            names
                .devices
                .insert(*ifindex, (uplink.name.clone(), Role::Uplink));
        }
        names.endpoints = d
            .endpoints
            .values()
            .map(|e| (e.number, e.name.clone()))
            .collect();
        names.networks = d
            .networks
            .values()
            .map(|n| (n.number, n.name.clone()))
            .collect();
        names.publishes = d
            .publishes
            .values()
            .map(|p| (p.number, p.spec.to_string()))
            .collect();
        for d in devices {
            let entry = names.devices.entry(d.ifindex);
            entry
                .or_insert_with(|| (d.name.clone(), Role::Other))
                .0
                .clone_from(&d.name);
        }
        names
    }
}
