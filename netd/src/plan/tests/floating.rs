//! Floating addresses.

use std::collections::BTreeMap;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Gives an endpoint an address; the record's number.
fn float(d: &mut Desired, endpoint: u32, address: &str) -> u32 {
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
}

#[test]
fn a_floating_address_has_a_row_that_follows_endpoint_and_uplink() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let two = fresh_endpoint(&mut d, "two", web, &["10.0.0.3/24"]);
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
fn the_group_of_a_floating_address_is_joined_where_its_uplink_is() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let nine = "2001:db8::9".parse().unwrap();
    float(&mut d, one, "2001:db8::9");
    let place = |ifindex| UplinkNet {
        ifindex,
        mac: [2, 0, 0, 0, 0, 3],
        net: "2001:db8::/64".parse().unwrap(),
    };
    settle(&d, &mut a, &mut next, Scope::All);
    assert!(a.groups.is_empty());
    for ifindex in [3, 4] {
        a.uplinks = vec![place(ifindex)];
        settle(&d, &mut a, &mut next, Scope::All);
        assert_eq!(a.groups, BTreeMap::from([((ifindex, nine), web)]));
    }
    // It is left before the row goes, by which it is known to be ours.
    d.floating.clear();
    let steps = plan(&d, &a, Scope::All);
    let at = |wanted: &Step| steps.iter().position(|s| s == wanted).unwrap();
    let group = at(&Step::Group((4, nine), None));
    assert!(group < at(&Step::Float(nine.into(), None)), "{steps:?}");
}
