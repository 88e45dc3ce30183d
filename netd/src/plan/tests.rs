//! Plans, run against a model of the node that only keeps what the steps say.

mod floating;
mod published;

use std::collections::BTreeSet;

use netd_api::{Filtering, Profile};
use netd_common::addr::Addr;
use netd_common::maps::HostKind;
use proptest::prelude::*;

use super::*;
use crate::model::desired::tests::{empty, endpoint, network};
use crate::model::{Change, Floating, Key, Object, Publish as PublishRecord};

/// Does what a step says to `actual`, with fresh ifindexes, and checks what must hold in between.
pub(crate) fn perform(actual: &mut Actual, next: &mut u32, step: &Step) {
    let mut fresh = || {
        *next += 1;
        *next
    };
    match step {
        Step::MakeGateway(g) => {
            for name in [&g.outer, &g.inner] {
                let ifindex = actual
                    .devices
                    .get(name)
                    .map_or_else(&mut fresh, |d| d.ifindex);
                let alias = Alias::Network(g.network.clone());
                actual.devices.insert(
                    name.clone(),
                    Device {
                        ifindex,
                        alias,
                        configured: true,
                    },
                );
            }
        }
        Step::MakeEndpoint(e) => {
            let device = Device {
                ifindex: fresh(),
                alias: Alias::Making(e.id.clone()),
                configured: false,
            };
            assert!(actual.devices.insert(e.device.clone(), device).is_none());
        }
        Step::FinishEndpoint(e) => {
            assert!(actual.hooked.contains(&e.device), "up before it is hooked");
            let device = actual.devices.get_mut(&e.device).unwrap();
            assert!(
                actual.ports.contains_key(&device.ifindex),
                "up before it has rows"
            );
            (device.alias, device.configured) = (Alias::Endpoint(e.id.clone()), true);
        }
        Step::Down { device, .. } | Step::Up { device } => {
            assert!(actual.devices.contains_key(device));
        }
        Step::Delete {
            device, ifindex, ..
        } => {
            assert!(
                !actual.hooked.contains(device),
                "deleted before it is unhooked"
            );
            assert!(
                !actual.ports.contains_key(ifindex),
                "deleted before its rows"
            );
            let alias = actual.devices[device].alias.clone();
            actual.devices.retain(|_, d| d.alias != alias);
        }
        Step::HookEndpoint(d) | Step::HookGateway(d) => drop(actual.hooked.insert(d.clone())),
        Step::Unhook(d) => drop(actual.hooked.remove(d)),
        Step::EndFlows(_) => {}
        Step::Port(k, v) => row(&mut actual.ports, *k, v.as_ref()),
        Step::Fdb(k, v) => row(&mut actual.fdb, *k, v.as_ref()),
        Step::Host(k, v) => row(&mut actual.hosts, *k, v.as_ref()),
        Step::Slot(k, v) => {
            row(&mut actual.segments, *k, v.as_ref());
        }
        Step::Publish(k, v) => {
            let limited = v.filter(|v| v.limited == 1).map(|v| v.number);
            let has = |publish| actual.from.keys().any(|(n, _)| *n == publish);
            assert!(limited.is_none_or(has), "open before its sources are known");
            row(&mut actual.published, *k, v.as_ref());
        }
        Step::Float(k, v) => row(&mut actual.floats, *k, v.as_ref()),
        Step::Group(k, v) => row(&mut actual.groups, *k, v.as_ref()),
        Step::From(k, v) => {
            let used = actual.published.values().any(|p| p.number == k.0);
            assert!(v.is_some() || !used, "its sources go before it does");
            row(&mut actual.from, *k, v.as_ref());
        }
    }
    let slots: Vec<(u32, u32)> = actual.segments.keys().copied().collect();
    for (network, slot) in slots {
        let below = slot == 0 || actual.segments.contains_key(&(network, slot - 1));
        assert!(below, "a hole below slot {slot} after {step:?}");
    }
}

fn row<K: Ord, V: Clone>(map: &mut std::collections::BTreeMap<K, V>, key: K, value: Option<&V>) {
    match value {
        Some(v) => drop(map.insert(key, v.clone())),
        None => drop(map.remove(&key)),
    }
}

fn settle(desired: &Desired, actual: &mut Actual, next: &mut u32, scope: Scope) -> usize {
    for round in 0..6 {
        let steps = plan(desired, actual, scope);
        if steps.is_empty() {
            return round;
        }
        for step in &steps {
            perform(actual, next, step);
        }
    }
    panic!("no end: {:?}", plan(desired, actual, scope));
}

fn publish(desired: &mut Desired, endpoint: u32, spec: &str) -> u32 {
    let number = desired.take_number();
    let record = PublishRecord {
        number,
        endpoint,
        spec: spec.parse().unwrap(),
        owner: "cli".into(),
    };
    desired.apply(&Change {
        put: vec![Object::Publish(record)],
        remove: vec![],
    });
    number
}

fn fresh_endpoint(desired: &mut Desired, name: &str, network: u32, addresses: &[&str]) -> u32 {
    let n = endpoint(desired, name, network, addresses);
    desired.endpoints.get_mut(&n).unwrap().made = false;
    n
}

#[test]
fn a_network_with_two_endpoints_gets_all_its_rows() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let two = fresh_endpoint(&mut d, "two", web, &["10.0.0.3/24", "fd00::3/64"]);
    publish(&mut d, one, "8080-8081:80-81");
    publish(&mut d, one, "192.0.2.1:53:53/udp");
    assert_eq!(settle(&d, &mut a, &mut next, Scope::Network(web)), 2);
    let outer = a.ifindex("nd-web");
    let inner = a.ifindex(&d.networks[&web].inner());
    let [dev1, dev2] = [one, two].map(|n| a.ifindex(&d.endpoints[&n].device()));
    assert_eq!(
        a.ports.keys().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([inner, dev1, dev2])
    );
    assert!(
        a.ports
            .values()
            .all(|p| p.outer == outer && p.inner == inner)
    );
    assert_eq!(
        (a.ports[&inner].endpoint, a.ports[&inner].flags),
        (0, port_flags(true))
    );
    assert_eq!(
        (a.ports[&dev1].endpoint, a.ports[&dev1].flags),
        (one, port_flags(false))
    );
    assert_eq!(a.ports[&dev1].gateway_v4, [10, 0, 0, 1]);
    assert_eq!(a.hosts.len(), 6);
    assert_eq!(
        a.hosts[&"10.0.0.1".parse::<IpAddr>().unwrap()].device,
        outer
    );
    assert_eq!(a.hosts[&"fd00::3".parse::<IpAddr>().unwrap()].device, dev2);
    assert_eq!(a.fdb.len(), 3);
    let segment: Vec<_> = a.segments.iter().filter(|(k, _)| k.0 == web).collect();
    let is_gateway = |t: &Target| t.kind == HostKind::Gateway.code();
    let gateways = segment.iter().filter(|(_, t)| is_gateway(t)).count();
    assert_eq!((segment.len(), gateways), (3, 1));
    assert_eq!(a.published.len(), 5);
    assert!(a.devices.values().all(|d| d.configured));
}

fn port_flags(gateway: bool) -> u32 {
    use netd_common::maps::port_flags::{GATEWAY, MASQUERADE};
    if gateway {
        GATEWAY | MASQUERADE
    } else {
        MASQUERADE
    }
}

/// Devices of a network's slots.
fn segment(a: &Actual, network: u32) -> Vec<u32> {
    let slots = a.segments.iter().filter(|(k, _)| k.0 == network);
    slots.map(|(_, target)| target.device).collect()
}

#[test]
fn one_more_switch_port_is_one_more_slot_and_the_others_stay_in_some() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    let ids: Vec<u32> = (2..8)
        .map(|n| fresh_endpoint(&mut d, &format!("e{n}"), web, &[&format!("10.0.0.{n}/24")]))
        .collect();
    settle(&d, &mut a, &mut next, Scope::All);
    let slot_steps = |d: &Desired, a: &Actual| {
        let steps = plan(d, a, Scope::All).into_iter();
        let slots = steps.filter(|s| matches!(s, Step::Slot(..)));
        slots.collect::<Vec<_>>()
    };
    // One goes, out of the middle.
    let gone = d.endpoints.remove(&ids[1]).unwrap();
    let stay: Vec<u32> = segment(&a, web);
    let device = a.ifindex(&gone.device());
    for step in plan(&d, &a, Scope::All) {
        perform(&mut a, &mut next, &step);
        let now = segment(&a, web);
        let all = stay.iter().filter(|d| **d != device);
        assert!(all.into_iter().all(|d| now.contains(d)), "{step:?}");
    }
    settle(&d, &mut a, &mut next, Scope::All);
    assert_eq!(segment(&a, web).len(), 6);
    // It comes back, at the end of the numbers: nobody else's slot changes.
    fresh_endpoint(&mut d, "late", web, &["10.0.0.3/24"]);
    let before = segment(&a, web);
    settle(&d, &mut a, &mut next, Scope::All);
    assert_eq!(segment(&a, web)[..6], before);
    assert!(slot_steps(&d, &a).is_empty());
    // The gateway comes first, also to a network that did without.
    let gateways = std::mem::take(&mut d.networks.get_mut(&web).unwrap().gateways);
    settle(&d, &mut a, &mut next, Scope::All);
    let without = segment(&a, web);
    assert_eq!(without.len(), 6);
    d.networks.get_mut(&web).unwrap().gateways = gateways;
    for _ in 0..6 {
        for step in plan(&d, &a, Scope::All) {
            perform(&mut a, &mut next, &step);
            let now = segment(&a, web);
            assert!(without.iter().all(|d| now.contains(d)), "{step:?}");
        }
    }
    assert_eq!(segment(&a, web).len(), 7);
}

#[test]
fn options_of_masquerade_are_in_the_rows_and_a_change_is_one_row_for_each_port() {
    use netd_common::maps::port_flags::{FILTER_ADDRESS, FILTER_ANY, MASQUERADE, STRICT};
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24"]);
    settle(&d, &mut a, &mut next, Scope::All);
    let device = a.ifindex(&d.endpoints[&one].device());
    let row = |a: &Actual| {
        let p = a.ports[&device];
        (p.flags, p.masq_min, p.masq_max)
    };
    assert_eq!(row(&a), (MASQUERADE, 0, 0));
    // The daemon's ports are in the rows of the uplinks.
    d.masquerade.ports = "2000-3000".parse().ok();
    d.masquerade.profile = Some(Profile::Strict);
    settle(&d, &mut a, &mut next, Scope::All);
    let strict = MASQUERADE | STRICT | FILTER_ADDRESS;
    assert_eq!(row(&a), (strict, 0, 0));
    assert_eq!(
        a.hosts[&"10.0.0.2".parse::<IpAddr>().unwrap()].flags,
        strict
    );
    let options = &mut d.networks.get_mut(&web).unwrap().options;
    options.ports = "5000-5001".parse().ok();
    options.filtering = Some(Filtering::EndpointIndependent);
    settle(&d, &mut a, &mut next, Scope::Network(web));
    assert_eq!(row(&a), (MASQUERADE | STRICT | FILTER_ANY, 5000, 5001));
    d.networks.get_mut(&web).unwrap().options.profile = Some(Profile::Balanced);
    d.networks.get_mut(&web).unwrap().options.filtering = Some(Filtering::AddressPort);
    settle(&d, &mut a, &mut next, Scope::Network(web));
    assert_eq!(row(&a), (MASQUERADE, 5000, 5001));
    d.networks.get_mut(&web).unwrap().masquerade = false;
    settle(&d, &mut a, &mut next, Scope::Network(web));
    assert_eq!(row(&a), (0, 0, 0));
}

#[test]
fn a_network_without_gateway_is_a_segment_alone() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    d.networks.get_mut(&web).unwrap().gateways.clear();
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24"]);
    settle(&d, &mut a, &mut next, Scope::All);
    let port = a.ports[&a.ifindex(&d.endpoints[&one].device())];
    assert_eq!((port.outer, port.inner, port.gateway_mac), (0, 0, [0; 6]));
    assert_eq!(a.segments.len(), 1);
    assert_eq!(a.devices.len(), 1);
}

#[test]
fn what_is_no_longer_asked_for_leaves_nothing() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let p = publish(&mut d, one, "80:80");
    settle(&d, &mut a, &mut next, Scope::All);
    d.apply(&Change {
        put: vec![],
        remove: vec![Key::Publish(p), Key::Endpoint(one)],
    });
    let steps = plan(&d, &a, Scope::Network(web));
    assert!(
        matches!(steps.first(), Some(Step::Down { .. })),
        "{steps:?}"
    );
    assert!(
        matches!(steps.last(), Some(Step::Delete { later: true, .. })),
        "{steps:?}"
    );
    let ended = Ended {
        endpoints: BTreeSet::from([one]),
        publishes: BTreeSet::from([p]),
        floating: BTreeSet::new(),
    };
    assert!(steps.contains(&Step::EndFlows(ended)));
    settle(&d, &mut a, &mut next, Scope::Network(web));
    d.apply(&Change {
        put: vec![],
        remove: vec![Key::Network(web)],
    });
    settle(&d, &mut a, &mut next, Scope::Network(web));
    assert_eq!(a, Actual::default());
}

#[test]
fn an_endpoint_that_lost_its_device_is_not_made_again_and_has_no_rows() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24"]);
    publish(&mut d, one, "80:80");
    settle(&d, &mut a, &mut next, Scope::All);
    d.endpoints.get_mut(&one).unwrap().made = true;
    a.devices.remove(&d.endpoints[&one].device());
    settle(&d, &mut a, &mut next, Scope::All);
    assert!(a.published.is_empty() && a.hooked.len() == 1 && a.devices.len() == 2);
    assert_eq!((a.hosts.len(), a.ports.len(), a.fdb.len()), (1, 1, 1));
}

#[test]
fn a_gateway_that_lost_its_devices_is_made_again() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24"]);
    settle(&d, &mut a, &mut next, Scope::All);
    let old = a.ifindex("nd-web");
    a.devices
        .retain(|_, d| !matches!(d.alias, Alias::Network(_)));
    settle(&d, &mut a, &mut next, Scope::All);
    assert_ne!(a.ifindex("nd-web"), old);
    assert!(a.ports.values().all(|p| p.outer == a.ifindex("nd-web")));
}

proptest! {
    #[test]
    fn any_history_ends_where_a_fresh_start_would(ops in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 1..40)) {
        let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
        for (i, (op, which)) in ops.into_iter().enumerate() {
            let networks: Vec<u32> = d.networks.keys().copied().collect();
            let endpoints: Vec<u32> = d.endpoints.keys().copied().collect();
            match op {
                0 => {
                    network(&mut d, &format!("n{i}"), &[&format!("10.{i}.0.0/24")]);
                }
                1 if !networks.is_empty() => {
                    let n = *which.get(&networks);
                    fresh_endpoint(&mut d, &format!("e{i}"), n, &[&format!("10.99.0.{i}/24")]);
                }
                2 if !endpoints.is_empty() => {
                    let e = *which.get(&endpoints);
                    publish(&mut d, e, &format!("{}:80", 1000 + i));
                }
                3 if !endpoints.is_empty() => {
                    let e = *which.get(&endpoints);
                    let mut remove: Vec<Key> = d.publishes_of(e).map(|p| Key::Publish(p.number)).collect();
                    remove.push(Key::Endpoint(e));
                    d.apply(&Change { put: vec![], remove });
                }
                4 if !networks.is_empty() => {
                    let n = *which.get(&networks);
                    if d.endpoints_of(n).next().is_none() {
                        d.apply(&Change { put: vec![], remove: vec![Key::Network(n)] });
                    }
                }
                _ => {}
            }
            settle(&d, &mut a, &mut next, Scope::All);
        }
        prop_assert!(plan(&d, &a, Scope::All).is_empty());
        let gateways = d.networks.len();
        prop_assert_eq!(a.ports.len(), gateways + d.endpoints.len());
        prop_assert_eq!(a.devices.len(), 2 * gateways + d.endpoints.len());
        prop_assert_eq!(a.published.len(), d.publishes.len());
        prop_assert_eq!(a.hosts.len(), gateways + d.endpoints.len());
    }
}
