//! Plans, run against a model of the node that only keeps what the steps say.

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
fn a_floating_address_has_a_row_that_follows_endpoint_and_uplink() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let two = fresh_endpoint(&mut d, "two", web, &["10.0.0.3/24"]);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let float = |d: &mut Desired, endpoint, address: &str| {
        let number = d.take_number();
        let floating = Floating {
            number,
            endpoint,
            address: ip(address),
            owner: "cli".into(),
        };
        d.apply(&Change {
            put: vec![Object::Floating(floating)],
            remove: vec![],
        });
        number
    };
    let first = float(&mut d, one, "192.0.2.9");
    float(&mut d, one, "192.0.2.8");
    let six = float(&mut d, one, "2001:db8::9");
    settle(&d, &mut a, &mut next, Scope::All);
    let [dev1, dev2] = [one, two].map(|n| a.ifindex(&d.endpoints[&n].device()));
    assert_eq!(a.floats.len(), 3);
    let row = a.floats[&ip("192.0.2.9")];
    assert_eq!((row.endpoint, row.device, row.uplink), (one, dev1, 0));
    assert_eq!(row.addr, [10, 0, 0, 2].to_16());
    assert_eq!(a.ports[&dev1].float4, [192, 0, 2, 9]);
    let IpAddr::V6(nine) = ip("2001:db8::9") else {
        panic!()
    };
    assert_eq!(a.ports[&dev1].float6, nine.octets());
    assert_eq!(a.ports[&dev2].float4, [0; 4]);

    // An uplink gets the subnet.
    a.uplinks = vec![UplinkNet {
        ifindex: 3,
        mac: [2, 0, 0, 0, 0, 3],
        net: "192.0.2.0/24".parse().unwrap(),
    }];
    settle(&d, &mut a, &mut next, Scope::All);
    let row = a.floats[&ip("192.0.2.9")];
    assert_eq!((row.uplink, row.uplink_mac), (3, [2, 0, 0, 0, 0, 3]));
    assert_eq!(a.floats[&ip("2001:db8::9")].uplink, 0);

    // The first goes: its row before its flows end, and the next one is the outgoing one.
    let scope = Scope::Endpoint {
        network: web,
        endpoint: one,
    };
    d.apply(&Change {
        put: vec![],
        remove: vec![Key::Floating(first)],
    });
    let steps = plan(&d, &a, scope);
    let at = |wanted: &Step| steps.iter().position(|s| s == wanted).unwrap();
    let ended = Step::EndFlows(Ended {
        floating: BTreeSet::from([ip("192.0.2.9")]),
        ..Ended::default()
    });
    assert!(
        at(&Step::Float(ip("192.0.2.9"), None)) < at(&ended),
        "{steps:?}"
    );
    settle(&d, &mut a, &mut next, scope);
    assert_eq!(a.ports[&dev1].float4, [192, 0, 2, 8]);
    assert!(!a.floats.contains_key(&ip("192.0.2.9")));

    // One that changes hands is another one's, and its flows end.
    d.apply(&Change {
        put: vec![],
        remove: vec![Key::Floating(six)],
    });
    d.endpoints
        .get_mut(&two)
        .unwrap()
        .addresses
        .push("fd00::3/64".parse().unwrap());
    float(&mut d, two, "2001:db8::9");
    let steps = plan(&d, &a, Scope::All);
    let ended = Step::EndFlows(Ended {
        floating: BTreeSet::from([ip("2001:db8::9")]),
        ..Ended::default()
    });
    assert!(steps.contains(&ended), "{steps:?}");
    settle(&d, &mut a, &mut next, Scope::All);
    assert_eq!(a.floats[&ip("2001:db8::9")].endpoint, two);
    // With the endpoint goes all that is its own.
    let remove = d.all_of(one);
    d.apply(&Change {
        put: vec![],
        remove,
    });
    settle(&d, &mut a, &mut next, scope);
    assert_eq!(a.floats.len(), 1);
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
fn who_may_come_is_known_before_a_port_is_open_and_until_it_is_closed() {
    let (mut a, mut next) = (Actual::default(), 1);
    let mut d = empty();
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let open = publish(&mut d, one, "80:80");
    let closed = publish(&mut d, one, "8000-8009:80-89");
    let from = ["192.0.2.7/24", "2001:db8::/32"].map(|n| n.parse().unwrap());
    d.publishes.get_mut(&closed).unwrap().spec.from = from.to_vec();
    settle(&d, &mut a, &mut next, Scope::All);
    let keys: Vec<FromId> = a.from.keys().copied().collect();
    assert_eq!(keys, from.map(|n: IpNet| (closed, n.trunc())));
    let limited = a.published.values().filter(|p| p.limited == 1);
    assert_eq!(limited.count(), 20);
    assert!(
        a.published
            .values()
            .all(|p| (p.number == open) == (p.limited == 0))
    );
    let remove = vec![Key::Publish(closed)];
    d.apply(&Change {
        put: vec![],
        remove,
    });
    settle(&d, &mut a, &mut next, Scope::All);
    assert!(a.from.is_empty() && a.published.len() == 2);
}

#[test]
fn what_happens_to_one_endpoint_is_no_news_to_the_publishes_of_others() {
    let (mut a, mut next) = (Actual::default(), 1);
    let mut d = empty();
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let many = fresh_endpoint(&mut d, "many", web, &["10.0.0.2/24", "fd00::2/64"]);
    let range = publish(&mut d, many, "10000-19999:10000-19999");
    d.publishes.get_mut(&range).unwrap().spec.from = vec!["192.0.2.0/24".parse().unwrap()];
    settle(&d, &mut a, &mut next, Scope::All);
    assert_eq!(a.published.len(), 20_000);
    // An attach with a port of its own, whose plans hold nothing of the range.
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.3/24"]);
    publish(&mut d, one, "80:80");
    let scope = Scope::Endpoint {
        network: web,
        endpoint: one,
    };
    let rows = |steps: &[Step]| {
        let row = |s: &&Step| matches!(s, Step::Publish(..) | Step::From(..));
        steps.iter().filter(row).count()
    };
    for _ in 0..2 {
        let steps = plan(&d, &a, scope);
        assert!(rows(&steps) <= 1, "{}", rows(&steps));
        for step in &steps {
            perform(&mut a, &mut next, step);
        }
    }
    assert_eq!(a.published.len(), 20_001);
    assert!(plan(&d, &a, Scope::All).is_empty(), "nothing was left out");
    // A detach takes its own port alone.
    let mut remove: Vec<Key> = d
        .publishes_of(one)
        .map(|p| Key::Publish(p.number))
        .collect();
    remove.push(Key::Endpoint(one));
    d.apply(&Change {
        put: vec![],
        remove,
    });
    assert_eq!(rows(&plan(&d, &a, scope)), 1);
    settle(&d, &mut a, &mut next, scope);
    assert_eq!((a.published.len(), a.from.len()), (20_000, 1));
    assert!(plan(&d, &a, Scope::All).is_empty());
}

#[test]
fn a_port_that_changes_hands_is_taken_before_it_is_given() {
    let (mut a, mut next) = (Actual::default(), 1);
    let mut d = empty();
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    let two =
        [2, 3].map(|i| fresh_endpoint(&mut d, &format!("e{i}"), web, &[&format!("10.0.0.{i}/24")]));
    let mut number = publish(&mut d, two[1], "80:80");
    settle(&d, &mut a, &mut next, Scope::All);
    for to in two {
        let remove = vec![Key::Publish(number)];
        d.apply(&Change {
            put: vec![],
            remove,
        });
        number = publish(&mut d, to, "80:80");
        let steps = plan(&d, &a, Scope::All);
        let of = |some| {
            let found = |s: &Step| matches!(s, Step::Publish(_, v) if v.is_some() == some);
            steps.iter().position(found)
        };
        assert!(of(false).unwrap() < of(true).unwrap(), "{steps:?}");
        settle(&d, &mut a, &mut next, Scope::All);
        assert_eq!(
            a.published.values().map(|p| p.endpoint).collect::<Vec<_>>(),
            [to]
        );
    }
}

#[test]
fn taking_a_publish_back_ends_its_flows_and_no_other() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let db = network(&mut d, "db", &["10.0.1.0/24"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let two = fresh_endpoint(&mut d, "two", db, &["10.0.1.2/24"]);
    let range = publish(&mut d, one, "8000-8009:80-89");
    let same_port = publish(&mut d, one, "9000:80");
    publish(&mut d, two, "9001:80");
    settle(&d, &mut a, &mut next, Scope::All);
    let ended = |steps: &[Step]| -> Vec<Ended> {
        let of = |step: &Step| match step {
            Step::EndFlows(ended) => Some(ended.clone()),
            _ => None,
        };
        steps.iter().filter_map(of).collect()
    };
    let remove = vec![Key::Publish(range)];
    d.apply(&Change {
        put: vec![],
        remove,
    });
    let publishes = BTreeSet::from([range]);
    let wanted = Ended {
        publishes,
        ..Ended::default()
    };
    let steps = plan(&d, &a, Scope::Network(web));
    assert_eq!(ended(&steps), [wanted]);
    let rows = |s: &Step| matches!(s, Step::Publish(_, None));
    let last_row = steps.iter().rposition(rows);
    let flows = steps.iter().position(|s| matches!(s, Step::EndFlows(_)));
    assert!(last_row < flows, "no new flow begins behind it: {steps:?}");
    settle(&d, &mut a, &mut next, Scope::Network(web));
    // The same ports again are another publish: the rows change hands, and the old one's flows end.
    d.apply(&Change {
        put: vec![],
        remove: vec![Key::Publish(same_port)],
    });
    publish(&mut d, one, "9000:80");
    let steps = plan(&d, &a, Scope::Network(web));
    let publishes = BTreeSet::from([same_port]);
    let wanted = Ended {
        publishes,
        ..Ended::default()
    };
    assert_eq!(ended(&steps), [wanted]);
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
