//! From a change that is asked for to the records it makes: a network in use gets a gateway, another MTU, or
//! other limits.

use std::net::IpAddr;

use netd_api::NetworkSet;
use netd_common::addr::Mac;

use super::network::{aging, mtu, storm};
use super::records::Network;
use super::subnet::{self, Occupied};
use super::{Change, Desired, ModelError, Object, ipam, masquerade};

/// The change a request asks for; nothing in it: all is as asked for already. `mac` is used where the
/// network's own gateway MAC has been taken by an endpoint meanwhile.
pub fn change(
    desired: &Desired,
    node: &[Occupied],
    mac: Mac,
    name: &str,
    request: &NetworkSet,
) -> Result<Change, ModelError> {
    let network = desired.network(name)?;
    let mut changed = network.clone();
    for gateway in &request.gateways {
        if !network.gateways.contains(gateway) {
            check(desired, node, &changed, *gateway)?;
            changed.gateways.push(*gateway);
        }
    }
    changed.mtu = mtu(request.mtu, network.mtu, &network.subnets)?;
    changed.aging = aging(request.aging_s.unwrap_or(network.aging))?;
    changed.storm = storm(request.storm.unwrap_or(network.storm))?;
    let asked = masquerade::Options {
        profile: request.masquerade_profile,
        filtering: request.filtering,
        ports: request.masquerade_ports,
    };
    masquerade::check(network, asked)?;
    changed.options = asked.or(network.options);
    if changed == *network {
        return Ok(Change::default());
    }
    let matters = |n: &Network| (n.options, n.has_gateway());
    if matters(&changed) != matters(network) {
        let all = || desired.networks.values();
        let others = all().filter(|n| n.number != network.number);
        masquerade::check_silent(desired.masquerade, all(), others.chain([&changed]))?;
    }
    changed.gateways.sort_by_key(IpAddr::is_ipv6);
    let taken = |mac: Mac| desired.endpoints_of(network.number).any(|e| e.mac == mac);
    if !network.has_gateway() && taken(changed.gateway_mac) {
        changed.gateway_mac = mac;
    }
    let mut put = Vec::new();
    // As at attach: an internal network leads nowhere.
    let routes = !changed.internal && changed.gateways != network.gateways;
    let resized = changed.mtu != network.mtu;
    for endpoint in desired.endpoints_of(network.number) {
        let mut endpoint = endpoint.clone();
        if routes {
            endpoint.gateways.clone_from(&changed.gateways);
        }
        endpoint.behind.routes |= routes;
        endpoint.behind.mtu |= resized;
        if routes || resized {
            put.push(Object::Endpoint(endpoint));
        }
    }
    put.insert(0, Object::Network(changed));
    Ok(Change {
        put,
        remove: vec![],
    })
}

fn check(
    desired: &Desired,
    node: &[Occupied],
    network: &Network,
    gateway: IpAddr,
) -> Result<(), ModelError> {
    let refuse = |why: String| ModelError::Gateway { gateway, why };
    let Some(subnet) = network.subnets.iter().find(|s| s.contains(&gateway)) else {
        let list: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
        return Err(refuse(format!("it is not in {}", list.join(" or "))));
    };
    subnet::is_host(subnet, gateway).map_err(refuse)?;
    if let Some(other) = network.gateways.iter().find(|g| subnet.contains(*g)) {
        return Err(refuse(format!(
            "{subnet} has the gateway {other}; a gateway can be added, not changed: make another network"
        )));
    }
    if let Some(by) = ipam::holder(desired, network, gateway) {
        return Err(ModelError::Taken {
            address: gateway,
            by,
        });
    }
    // The node may have got an address or a route there since the network was created.
    match node.iter().find(|o| subnet::overlap(&o.prefix, subnet)) {
        Some(o) => Err(ModelError::Overlap {
            subnet: *subnet,
            with: o.what.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use netd_api::{Filtering, Profile};

    use super::*;
    use crate::model::Behind;
    use crate::model::desired::tests::{empty, endpoint, network};

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn without_gateway() -> (Desired, u32) {
        let mut d = empty();
        let seg = network(&mut d, "seg", &["10.1.0.0/24", "fd01::/64"]);
        d.networks.get_mut(&seg).unwrap().gateways.clear();
        endpoint(&mut d, "a", seg, &["10.1.0.2/24", "fd01::2/64"]);
        (d, seg)
    }

    fn ask(d: &Desired, gateways: &[&str]) -> Result<Change, ModelError> {
        let node = [Occupied {
            prefix: "192.0.2.0/24".parse().unwrap(),
            what: "the node's address".into(),
        }];
        let gateways = gateways.iter().map(|g| g.parse().unwrap()).collect();
        let request = NetworkSet {
            gateways,
            ..NetworkSet::default()
        };
        change(d, &node, MAC, "seg", &request)
    }

    #[test]
    fn a_gateway_that_comes_later_reaches_the_endpoints_too() {
        let (mut d, seg) = without_gateway();
        let change = ask(&d, &["fd01::1", "10.1.0.1"]).unwrap();
        d.apply(&change);
        let wanted: [IpAddr; 2] = ["10.1.0.1".parse().unwrap(), "fd01::1".parse().unwrap()];
        assert_eq!(d.networks[&seg].gateways, wanted);
        assert!(d.endpoints.values().all(|e| e.gateways == wanted));
        let routes = Behind {
            routes: true,
            mtu: false,
        };
        assert!(d.endpoints.values().all(|e| e.behind == routes));
        // The same again is nothing to do, one family after the other is fine.
        assert_eq!(ask(&d, &["10.1.0.1"]).unwrap(), Change::default());
        let (mut d, seg) = without_gateway();
        d.apply(&ask(&d, &["10.1.0.1"]).unwrap());
        d.apply(&ask(&d, &["fd01::1"]).unwrap());
        assert_eq!(d.networks[&seg].gateways, wanted);
    }

    #[test]
    fn another_mtu_reaches_the_endpoints_too() {
        let (mut d, seg) = without_gateway();
        let set = |bytes| NetworkSet {
            mtu: Some(bytes),
            ..NetworkSet::default()
        };
        d.apply(&change(&d, &[], MAC, "seg", &set(1400)).unwrap());
        assert_eq!(d.networks[&seg].mtu, 1400);
        let behind = |e: &crate::model::Endpoint| (e.behind.routes, e.behind.mtu);
        assert!(d.endpoints.values().all(|e| behind(e) == (false, true)));
        let again = change(&d, &[], MAC, "seg", &set(1400)).unwrap();
        assert_eq!(again, Change::default());
        let e = change(&d, &[], MAC, "seg", &set(1279)).unwrap_err();
        assert!(e.to_string().contains("from 1280 to 65535"), "{e}");
    }

    #[test]
    fn limits_change_and_leave_the_rest_alone() {
        let (mut d, seg) = without_gateway();
        let before = d.clone();
        let set = |aging_s, storm| NetworkSet {
            aging_s,
            storm,
            ..NetworkSet::default()
        };
        let ask = |d: &Desired, set| change(d, &[], MAC, "seg", &set);
        d.apply(&ask(&d, set(Some(10), None)).unwrap());
        d.apply(&ask(&d, set(None, Some(0))).unwrap());
        assert_eq!((d.networks[&seg].aging, d.networks[&seg].storm), (10, 0));
        assert_eq!(d.endpoints, before.endpoints);
        assert_eq!(ask(&d, set(Some(10), Some(0))).unwrap(), Change::default());
        for bad in [set(Some(0), None), set(None, Some(1_000_001))] {
            assert!(ask(&d, bad).unwrap_err().to_string().contains("refused"));
        }
    }

    #[test]
    fn options_of_masquerade_change_one_by_one() {
        let (mut d, seg) = without_gateway();
        let ports = |text: &str| Some(text.parse().unwrap());
        let profile = |p| NetworkSet {
            masquerade_profile: Some(p),
            ..NetworkSet::default()
        };
        let span = |text| NetworkSet {
            masquerade_ports: ports(text),
            ..NetworkSet::default()
        };
        let filtering = NetworkSet {
            filtering: Some(Filtering::Address),
            ..NetworkSet::default()
        };
        let ask = |d: &Desired, set: &NetworkSet| change(d, &[], MAC, "seg", set);
        for set in [&profile(Profile::Strict), &span("20-30"), &filtering] {
            let change = ask(&d, set).unwrap();
            assert_eq!(change.put.len(), 1);
            d.apply(&change);
            assert_eq!(ask(&d, set).unwrap(), Change::default());
        }
        let wanted = masquerade::Options {
            profile: Some(Profile::Strict),
            filtering: Some(Filtering::Address),
            ports: ports("20-30"),
        };
        assert_eq!(d.networks[&seg].options, wanted);
        // The range a network gives up makes room for another one.
        d.masquerade.ports = ports("1000-1000");
        for (n, text) in ["2000-2000", "3000-3000"].iter().enumerate() {
            let other = network(&mut d, &format!("n{n}"), &["10.2.0.0/24"]);
            d.networks.get_mut(&other).unwrap().options.ports = ports(text);
        }
        d.networks.get_mut(&seg).unwrap().gateways = vec!["10.1.0.1".parse().unwrap()];
        assert!(ask(&d, &span("4000-4000")).is_ok());
        let other = network(&mut d, "n3", &["10.3.0.0/24"]);
        d.networks.get_mut(&other).unwrap().options.ports = ports("5000-5000");
        let e = ask(&d, &span("4000-4000")).map(drop);
        assert!(e.unwrap_err().to_string().contains("4 separate ranges"));
        d.networks.get_mut(&seg).unwrap().internal = true;
        let e = ask(&d, &profile(Profile::Balanced)).unwrap_err();
        assert!(e.to_string().contains("internal"), "{e}");
        assert_eq!(
            ask(&d, &NetworkSet::default()).unwrap(),
            Change::default(),
            "what it had stays"
        );
    }

    #[test]
    fn endpoints_of_an_internal_network_get_no_default_route() {
        let (mut d, seg) = without_gateway();
        d.networks.get_mut(&seg).unwrap().internal = true;
        let change = ask(&d, &["10.1.0.1"]).unwrap();
        assert!(matches!(change.put[..], [Object::Network(_)]));
    }

    #[test]
    fn a_gateway_has_a_mac_of_its_own() {
        let (mut d, seg) = without_gateway();
        let theirs = d.networks[&seg].gateway_mac;
        d.endpoints.values_mut().for_each(|e| e.mac = theirs);
        d.apply(&ask(&d, &["10.1.0.1"]).unwrap());
        assert_eq!(d.networks[&seg].gateway_mac, MAC);
    }

    #[test]
    fn what_cannot_be_a_gateway_is_refused_with_the_reason() {
        let (mut d, seg) = without_gateway();
        d.apply(&ask(&d, &["fd01::1"]).unwrap());
        for (gateways, why) in [
            (&["10.9.0.1"][..], "not in 10.1.0.0/24 or fd01::/64"),
            (&["10.1.0.255"], "broadcast"),
            (&["10.1.0.2"], "taken by endpoint a"),
            (&["10.1.0.1", "10.1.0.3"], "has the gateway 10.1.0.1"),
            (&["fd01::9"], "has the gateway fd01::1"),
        ] {
            let e = ask(&d, gateways).unwrap_err().to_string();
            assert!(e.contains(why) && !e.contains('\n'), "{e}");
        }
        let other = "192.0.2.0/25".parse().unwrap();
        d.networks.get_mut(&seg).unwrap().subnets[0] = other;
        let e = ask(&d, &["192.0.2.1"]).unwrap_err().to_string();
        assert!(e.contains("overlaps the node's address"), "{e}");
        let e = change(&d, &[], MAC, "none", &NetworkSet::default()).unwrap_err();
        assert!(matches!(e, ModelError::Missing { .. }), "{e}");
    }
}
