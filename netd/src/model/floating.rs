//! Floating IPs: which address may be one, and what is in the way.

use std::net::IpAddr;

use ipnet::IpNet;

use super::publish::host_address;
use super::records::{Endpoint, Floating};
use super::{Desired, ModelError, subnet};

/// Checks a floating address for an endpoint. `node`: the addresses of the node with their subnets.
pub fn check(
    desired: &Desired,
    node: &[IpNet],
    endpoint: &Endpoint,
    address: IpAddr,
) -> Result<(), ModelError> {
    let refuse = |why: String| Err(ModelError::Floating { address, why });
    if address.is_unspecified() || address.is_loopback() {
        return refuse("it names no host on a network".into());
    }
    if let Err(why) = host_address(address) {
        return refuse(why);
    }
    if let Some(f) = find(desired, address) {
        let holder = desired.endpoints.get(&f.endpoint);
        let name = holder.map_or("?", |e| e.name.as_str());
        return refuse(format!(
            "it is endpoint {name}'s already; remove it there first (netd floating rm {address})"
        ));
    }
    for network in desired.networks.values() {
        if let Some(of) = network.subnets.iter().find(|s| s.contains(&address)) {
            return refuse(format!("it is in network {}'s subnet {of}", network.name));
        }
    }
    if node.iter().any(|net| net.addr() == address) {
        return refuse("it is an address of the node; publish ports on it instead".into());
    }
    for net in node.iter().filter(|net| net.contains(&address)) {
        // Point-to-point links have no network or broadcast address (RFC 3021, RFC 6164).
        let wide = net.max_prefix_len() - net.prefix_len() > 1;
        if let (true, Err(why)) = (wide, subnet::is_host(&net.trunc(), address)) {
            return refuse(why);
        }
    }
    fits(desired, endpoint, address)
}

/// Checks that an endpoint may have a floating address at all.
pub fn fits(desired: &Desired, endpoint: &Endpoint, address: IpAddr) -> Result<(), ModelError> {
    let refuse = |why: String| Err(ModelError::Floating { address, why });
    match desired.networks.get(&endpoint.network) {
        Some(n) if n.internal => {
            return refuse(format!("network {} is internal: it has no outside", n.name));
        }
        Some(n) if !n.has_gateway() => {
            return refuse(format!("network {} has no gateway", n.name));
        }
        _ => {}
    }
    let (family, inside) = match address {
        IpAddr::V4(_) => ("IPv4", endpoint.v4().is_some()),
        IpAddr::V6(_) => ("IPv6", endpoint.v6().is_some()),
    };
    if !inside {
        return refuse(format!(
            "endpoint {} has no {family} address",
            endpoint.name
        ));
    }
    Ok(())
}

/// The floating IP with an address.
pub fn find(desired: &Desired, address: IpAddr) -> Option<&Floating> {
    desired.floating.values().find(|f| f.address == address)
}

/// The one that what an endpoint sends leaves with: the first that was added of a family.
pub fn outgoing(desired: &Desired, endpoint: u32, v6: bool) -> Option<&Floating> {
    let mut all = desired.floating_of(endpoint);
    all.find(|f| f.address.is_ipv6() == v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, endpoint, network};
    use crate::model::{Change, Object};

    fn put(d: &mut Desired, endpoint: u32, address: &str) -> u32 {
        let number = d.take_number();
        let floating = Floating {
            number,
            endpoint,
            address: address.parse().unwrap(),
            owner: "cli".into(),
        };
        d.apply(&Change {
            put: vec![Object::Floating(floating)],
            remove: vec![],
        });
        number
    }

    #[test]
    fn only_an_outside_address_that_nobody_has_may_be_one() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.1.0.0/24", "fd01::/64"]);
        let a = endpoint(&mut d, "a", web, &["10.1.0.2/24"]);
        put(&mut d, a, "192.0.2.9");
        let node: Vec<IpNet> = ["192.0.2.2/24", "198.51.100.2/31", "2001:db8::2/64"]
            .iter()
            .map(|n| n.parse().unwrap())
            .collect();
        let ask = |d: &Desired, address: &str| {
            check(d, &node, &d.endpoints[&a], address.parse().unwrap())
        };
        for good in ["192.0.2.10", "203.0.113.7", "198.51.100.3"] {
            assert_eq!(ask(&d, good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("192.0.2.9", "endpoint a's already"),
            ("192.0.2.2", "address of the node"),
            ("192.0.2.255", "broadcast address of 192.0.2.0/24"),
            ("192.0.2.0", "network address"),
            ("10.1.0.77", "network web's subnet 10.1.0.0/24"),
            ("10.1.0.2", "network web's subnet"),
            ("0.0.0.0", "no host"),
            ("127.0.0.1", "no host"),
            ("::1", "no host"),
            ("224.0.0.5", "group"),
            ("255.255.255.255", "group"),
            ("fe80::5", "link-local"),
            ("::ffff:192.0.2.77", "IPv4"),
            ("2001:db8::9", "endpoint a has no IPv6 address"),
            ("2001:db8::", "network address"),
        ] {
            let e = ask(&d, bad).unwrap_err().to_string();
            assert!(e.contains(why) && !e.contains('\n'), "{bad}: {e}");
        }
        d.networks.get_mut(&web).unwrap().gateways.clear();
        assert!(
            ask(&d, "192.0.2.10")
                .unwrap_err()
                .to_string()
                .contains("no gateway")
        );
        d.networks.get_mut(&web).unwrap().internal = true;
        assert!(
            ask(&d, "192.0.2.10")
                .unwrap_err()
                .to_string()
                .contains("internal")
        );
    }

    #[test]
    fn the_first_of_a_family_is_the_outgoing_one() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.1.0.0/24", "fd01::/64"]);
        let a = endpoint(&mut d, "a", web, &["10.1.0.2/24", "fd01::2/64"]);
        let b = endpoint(&mut d, "b", web, &["10.1.0.3/24"]);
        let first = put(&mut d, a, "192.0.2.9");
        put(&mut d, b, "192.0.2.5");
        put(&mut d, a, "192.0.2.3");
        put(&mut d, a, "2001:db8::9");
        let found = |d: &Desired, e, v6| outgoing(d, e, v6).map(|f| f.address.to_string());
        assert_eq!(found(&d, a, false).as_deref(), Some("192.0.2.9"));
        assert_eq!(found(&d, a, true).as_deref(), Some("2001:db8::9"));
        assert_eq!(found(&d, b, true), None);
        let back = d.apply(&Change {
            put: vec![],
            remove: vec![crate::model::Key::Floating(first)],
        });
        assert_eq!(found(&d, a, false).as_deref(), Some("192.0.2.3"));
        d.apply(&back);
        assert_eq!(found(&d, a, false).as_deref(), Some("192.0.2.9"));
    }
}
