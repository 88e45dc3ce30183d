//! Subnets: which ones are sane, which are free, and what of them may be given out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Desired, ModelError};

/// A prefix of the node itself: an address's or a route's, and in words which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupied {
    /// The prefix.
    pub prefix: IpNet,
    /// What it is, say `the node's address 192.0.2.2/24 on eth0`.
    pub what: String,
}

/// Whether two prefixes share an address.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Checks that a subnet can be one: host bits zero, room for a gateway and an endpoint, unicast.
pub fn check(subnet: &IpNet) -> Result<(), ModelError> {
    let bad = |why: String| ModelError::Subnet {
        subnet: *subnet,
        why,
    };
    if subnet.trunc() != *subnet {
        return Err(bad(format!(
            "it has host bits; did you mean {}?",
            subnet.trunc()
        )));
    }
    let len = subnet.prefix_len();
    match subnet {
        IpNet::V4(_) if !(8..=30).contains(&len) => {
            return Err(bad("an IPv4 prefix length is 8 to 30".into()));
        }
        IpNet::V6(_) if !(16..=126).contains(&len) => {
            return Err(bad("an IPv6 prefix length is 16 to 126".into()));
        }
        _ => {}
    }
    for (prefix, what) in reserved() {
        if overlap(&prefix, subnet) {
            return Err(bad(format!("{prefix} is {what}")));
        }
    }
    Ok(())
}

/// Prefixes no network may have (RFC 6890, and multicast).
fn reserved() -> [(IpNet, &'static str); 9] {
    let v4 = |a, b, len| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), len));
    let v6 = |a, len| {
        IpNet::V6(Ipv6Net::new_assert(
            Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, 0),
            len,
        ))
    };
    [
        (v4(0, 0, 8), "\"this network\""),
        (v4(127, 0, 8), "loopback"),
        (v4(169, 254, 16), "link-local"),
        (v4(224, 0, 4), "multicast"),
        (v4(240, 0, 4), "reserved"),
        (v6(0, 16), "reserved"),
        (v6(0xfe80, 10), "link-local"),
        (v6(0xff00, 8), "multicast"),
        (v6(0x0100, 64), "discard-only"),
    ]
}

/// Checks that a subnet is free: neither a network nor the node has a part of it.
pub fn check_free(desired: &Desired, node: &[Occupied], subnet: &IpNet) -> Result<(), ModelError> {
    for network in desired.networks.values() {
        if let Some(other) = network.subnets.iter().find(|o| overlap(o, subnet)) {
            let with = format!("network {}'s subnet {other}", network.name);
            return Err(ModelError::Overlap {
                subnet: *subnet,
                with,
            });
        }
    }
    let mut floating = desired.floating.values();
    if let Some(f) = floating.find(|f| subnet.contains(&f.address)) {
        return Err(ModelError::Overlap {
            subnet: *subnet,
            with: format!("the floating address {}", f.address),
        });
    }
    match node.iter().find(|o| overlap(&o.prefix, subnet)) {
        Some(o) => Err(ModelError::Overlap {
            subnet: *subnet,
            with: o.what.clone(),
        }),
        None => Ok(()),
    }
}

/// The first free /24 of the IPv4 pool.
pub fn next_v4(desired: &Desired, node: &[Occupied], pool: Ipv4Net) -> Result<IpNet, ModelError> {
    next(
        desired,
        node,
        pool.into(),
        pool.subnets(24).into_iter().flatten().map(IpNet::V4),
    )
}

/// The first free /64 of the IPv6 pool.
pub fn next_v6(desired: &Desired, node: &[Occupied], pool: Ipv6Net) -> Result<IpNet, ModelError> {
    // A /48 has 65,536 of them; of a larger pool as many are looked at.
    let candidates = pool.subnets(64).into_iter().flatten().take(65_536);
    next(desired, node, pool.into(), candidates.map(IpNet::V6))
}

fn next(
    desired: &Desired,
    node: &[Occupied],
    pool: IpNet,
    mut candidates: impl Iterator<Item = IpNet>,
) -> Result<IpNet, ModelError> {
    candidates
        .find(|c| check_free(desired, node, c).is_ok())
        .ok_or(ModelError::PoolExhausted { pool })
}

/// Whether an address may stand for a host of a subnet: inside, and neither the network's (IPv6:
/// the subnet-router anycast, RFC 4291 section 2.6.1) nor the broadcast address.
pub fn is_host(subnet: &IpNet, ip: IpAddr) -> Result<(), String> {
    if !subnet.contains(&ip) {
        return Err(format!("it is not in {subnet}"));
    }
    if ip == subnet.network() {
        return Err(format!("it is the network address of {subnet}"));
    }
    if ip.is_ipv4() && ip == subnet.broadcast() {
        return Err(format!("it is the broadcast address of {subnet}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, network};

    fn net(s: &str) -> IpNet {
        s.parse().unwrap()
    }

    #[test]
    fn sane_subnets_pass_and_others_say_why() {
        for good in [
            "10.0.0.0/24",
            "10.0.0.0/30",
            "192.168.0.0/16",
            "fd00::/64",
            "2001:db8::/32",
        ] {
            check(&net(good)).unwrap();
        }
        for (bad, why) in [
            ("10.0.0.1/24", "did you mean 10.0.0.0/24"),
            ("10.0.0.0/31", "8 to 30"),
            ("0.0.0.0/0", "8 to 30"),
            ("127.0.0.0/24", "loopback"),
            ("169.254.1.0/24", "link-local"),
            ("224.1.0.0/16", "multicast"),
            ("fe80::/64", "link-local"),
            ("ff02::/64", "multicast"),
            ("fd00::/127", "16 to 126"),
            ("fd00::1/64", "did you mean fd00::/64"),
            ("::ffff:0:0/96", "reserved"),
        ] {
            let e = check(&net(bad)).unwrap_err().to_string();
            assert!(e.contains(why), "{bad}: {e}");
        }
    }

    #[test]
    fn pools_skip_what_networks_and_the_node_have() {
        let mut d = empty();
        network(&mut d, "web", &["10.210.0.0/24", "fd12:3456:789a::/64"]);
        let pool: Ipv4Net = "10.210.0.0/16".parse().unwrap();
        let node = [Occupied {
            prefix: net("10.210.1.128/25"),
            what: "a route".into(),
        }];
        assert_eq!(next_v4(&d, &node, pool).unwrap(), net("10.210.2.0/24"));
        assert_eq!(
            next_v6(&d, &node, d.meta.ula).unwrap(),
            net("fd12:3456:789a:1::/64")
        );
        let all = [Occupied {
            prefix: net("10.0.0.0/8"),
            what: "a route".into(),
        }];
        let e = next_v4(&d, &all, pool).unwrap_err();
        assert_eq!(
            e,
            ModelError::PoolExhausted {
                pool: net("10.210.0.0/16")
            }
        );
        let e = check_free(&d, &node, &net("10.210.0.64/26"))
            .unwrap_err()
            .to_string();
        assert!(e.contains("network web's subnet 10.210.0.0/24"), "{e}");
    }
}
