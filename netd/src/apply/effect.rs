//! What a step changes in the actual state, and which steps take it back.

use std::collections::BTreeMap;

use crate::plan::{Actual, Alias, Device, Ended, Step};

/// What running a step brought to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// ifindexes of a gateway pair: outer, inner.
    Gateway(u32, u32),
    /// ifindex of an endpoint's node-side device.
    Endpoint(u32),
}

/// Records a step that was run, and returns the steps that take it back, in their order.
pub fn record(actual: &mut Actual, step: &Step, outcome: Outcome) -> Vec<Step> {
    match step {
        Step::MakeGateway(plan) => {
            let Outcome::Gateway(outer, inner) = outcome else {
                return vec![];
            };
            let alias = Alias::Network(plan.network.clone());
            let device = |ifindex| Device {
                ifindex,
                alias: alias.clone(),
                configured: true,
            };
            let before = actual.devices.insert(plan.outer.clone(), device(outer));
            actual.devices.insert(plan.inner.clone(), device(inner));
            if before.is_some() {
                return vec![];
            }
            vec![Step::Delete {
                device: plan.outer.clone(),
                ifindex: outer,
                later: false,
            }]
        }
        Step::MakeEndpoint(plan) => {
            let Outcome::Endpoint(ifindex) = outcome else {
                return vec![];
            };
            let alias = Alias::Making(plan.id.clone());
            let device = Device {
                ifindex,
                alias,
                configured: false,
            };
            actual.devices.insert(plan.device.clone(), device);
            vec![Step::Delete {
                device: plan.device.clone(),
                ifindex,
                later: false,
            }]
        }
        Step::FinishEndpoint(plan) => {
            if let Some(device) = actual.devices.get_mut(&plan.device) {
                device.alias = Alias::Endpoint(plan.id.clone());
                device.configured = true;
            }
            vec![]
        }
        Step::Delete { device, .. } => {
            // Both ends of a gateway pair go together, and they alone share an alias.
            if let Some(gone) = actual.devices.remove(device) {
                actual.devices.retain(|_, d| d.alias != gone.alias);
            }
            vec![]
        }
        Step::HookEndpoint(device) | Step::HookGateway(device) => {
            actual.hooked.insert(device.clone());
            vec![Step::Unhook(device.clone())]
        }
        Step::Unhook(device) => {
            if !actual.hooked.remove(device) {
                return vec![];
            }
            match actual.devices.get(device).map(|d| &d.alias) {
                Some(Alias::Network(_)) => vec![Step::HookGateway(device.clone())],
                Some(Alias::Endpoint(_) | Alias::Making(_)) => {
                    vec![Step::HookEndpoint(device.clone())]
                }
                // What it left behind is nobody's.
                None => vec![],
            }
        }
        Step::Down { device, .. } => vec![Step::Up {
            device: device.clone(),
        }],
        Step::EndFlows(ended) => {
            // It held all that waited, or is about something else.
            if ended.holds(&actual.ending) {
                actual.ending = Ended::default();
            }
            vec![]
        }
        Step::Up { .. } => vec![],
        Step::Port(k, v) => vec![Step::Port(*k, swap(&mut actual.ports, *k, v.as_ref()))],
        Step::Fdb(k, v) => vec![Step::Fdb(*k, swap(&mut actual.fdb, *k, v.as_ref()))],
        Step::Host(k, v) => vec![Step::Host(*k, swap(&mut actual.hosts, *k, v.as_ref()))],
        Step::Publish(k, v) => {
            vec![Step::Publish(
                *k,
                swap(&mut actual.published, *k, v.as_ref()),
            )]
        }
        Step::Float(k, v) => vec![Step::Float(*k, swap(&mut actual.floats, *k, v.as_ref()))],
        Step::Group(k, v) => vec![Step::Group(*k, swap(&mut actual.groups, *k, v.as_ref()))],
        Step::From(k, v) => vec![Step::From(*k, swap(&mut actual.from, *k, v.as_ref()))],
        Step::Slot(k, v) => vec![Step::Slot(*k, swap(&mut actual.segments, *k, v.as_ref()))],
    }
}

fn swap<K: Ord, V: Clone>(map: &mut BTreeMap<K, V>, key: K, value: Option<&V>) -> Option<V> {
    match value {
        Some(v) => map.insert(key, v.clone()),
        None => map.remove(&key),
    }
}
