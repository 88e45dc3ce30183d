//! From a request for a network to its record: every value checked, every default filled in.

use std::net::IpAddr;

use ipnet::IpNet;
use netd_api::NetworkCreate;
use netd_common::addr::Mac;

use super::records::{AGING, Network, STORM};
use super::subnet::{self, Occupied};
use super::{Desired, ModelError, masquerade, name};
use crate::config::Pools;

/// What a request is checked against, and what fills its gaps.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Addresses and routes of the node.
    pub node: &'a [Occupied],
    /// Default pools.
    pub pools: &'a Pools,
    /// MTU where none is asked for.
    pub mtu: u32,
    /// MAC of the gateway.
    pub mac: Mac,
}

/// The record of a network that is made alone; its number is still 0.
pub fn build(
    desired: &Desired,
    context: &Context<'_>,
    request: &NetworkCreate,
) -> Result<Network, ModelError> {
    let network = record(desired, context, request)?;
    let there = || desired.networks.values();
    masquerade::check_silent(desired.masquerade, there(), there().chain([&network]))?;
    Ok(network)
}

/// The same where others change with it: what they have together is still to be checked.
pub(super) fn record(
    desired: &Desired,
    context: &Context<'_>,
    request: &NetworkCreate,
) -> Result<Network, ModelError> {
    name::check("network", &request.name)?;
    let taken =
        |n: &&Network| n.name == request.name || n.outer() == name::outer_device(&request.name);
    if let Some(n) = desired.networks.values().find(taken) {
        return Err(ModelError::Exists {
            what: "network",
            name: n.name.clone(),
        });
    }
    let subnets = subnets(desired, context, &request.subnets)?;
    let gateways = gateways(&subnets, request)?;
    if let Some(range) = request.ip_range {
        check_range(&subnets, range)?;
    }
    let mtu = mtu(request.mtu, context.mtu, &subnets)?;
    let aging = aging(request.aging_s.unwrap_or(AGING))?;
    let storm = storm(request.storm.unwrap_or(STORM))?;
    let network = Network {
        number: 0,
        name: request.name.clone(),
        kind: request.kind,
        subnets,
        gateways,
        ip_range: request.ip_range,
        internal: request.internal,
        masquerade: !request.no_masquerade && !request.internal,
        options: masquerade::Options {
            profile: request.masquerade_profile,
            filtering: request.filtering,
            ports: request.masquerade_ports,
        },
        isolation: !request.no_isolation,
        any_ethertype: request.any_ethertype,
        mtu,
        aging,
        storm,
        gateway_mac: context.mac,
        labels: request.labels.clone(),
        owner: request.owner.clone().unwrap_or_else(|| "cli".into()),
    };
    masquerade::check(&network, network.options)?;
    Ok(network)
}

fn subnets(
    desired: &Desired,
    context: &Context<'_>,
    wanted: &[IpNet],
) -> Result<Vec<IpNet>, ModelError> {
    if wanted.is_empty() {
        let v6 = context.pools.v6.unwrap_or(desired.meta.ula);
        return Ok(vec![
            subnet::next_v4(desired, context.node, context.pools.v4)?,
            subnet::next_v6(desired, context.node, v6)?,
        ]);
    }
    for (i, s) in wanted.iter().enumerate() {
        subnet::check(s)?;
        let same = |o: &IpNet| o.addr().is_ipv4() == s.addr().is_ipv4();
        if wanted[..i].iter().any(same) {
            let why = "a network has at most one subnet of each family".into();
            return Err(ModelError::Subnet { subnet: *s, why });
        }
        subnet::check_free(desired, context.node, s)?;
    }
    let mut out = wanted.to_vec();
    out.sort_by_key(|s| s.addr().is_ipv6());
    Ok(out)
}

fn gateways(subnets: &[IpNet], request: &NetworkCreate) -> Result<Vec<IpAddr>, ModelError> {
    let wanted = request.gateways.as_deref().unwrap_or_default();
    if request.no_gateway {
        return match wanted.first() {
            None => Ok(vec![]),
            Some(gateway) => Err(ModelError::Gateway {
                gateway: *gateway,
                why: "the network is to have none".into(),
            }),
        };
    }
    for gateway in wanted {
        let refuse = |why: String| ModelError::Gateway {
            gateway: *gateway,
            why,
        };
        let Some(subnet) = subnets.iter().find(|s| s.contains(gateway)) else {
            let list: Vec<String> = subnets.iter().map(ToString::to_string).collect();
            return Err(refuse(format!("it is not in {}", list.join(" or "))));
        };
        subnet::is_host(subnet, *gateway).map_err(refuse)?;
        if wanted.iter().filter(|o| subnet.contains(*o)).count() > 1 {
            return Err(refuse(format!("{subnet} has one gateway only")));
        }
    }
    Ok(subnets
        .iter()
        .filter_map(|s| {
            // `hosts()` of IPv6 begins with the subnet-router anycast address.
            let first = || s.hosts().find(|ip| subnet::is_host(s, *ip).is_ok());
            wanted
                .iter()
                .copied()
                .find(|g| s.contains(g))
                .or_else(first)
        })
        .collect())
}

fn check_range(subnets: &[IpNet], range: IpNet) -> Result<(), ModelError> {
    let refuse = |why: String| Err(ModelError::Range { range, why });
    if range.trunc() != range {
        return refuse(format!("it has host bits; did you mean {}?", range.trunc()));
    }
    if !subnets.iter().any(|s| s.contains(&range)) {
        let list: Vec<String> = subnets.iter().map(ToString::to_string).collect();
        return refuse(format!("it is not part of {}", list.join(" or ")));
    }
    Ok(())
}

/// An MTU that can be, in bytes of the IP packet.
pub(super) fn mtu(wanted: Option<u32>, default: u32, subnets: &[IpNet]) -> Result<u32, ModelError> {
    let Some(mtu) = wanted else {
        return Ok(default);
    };
    // RFC 8200 section 5 and RFC 791 section 3.2; 65,535 is what a veth takes.
    let least = if subnets.iter().any(|s| s.addr().is_ipv6()) {
        1280
    } else {
        68
    };
    if (least..=65_535).contains(&mtu) {
        return Ok(mtu);
    }
    let why = format!("it is a number from {least} to 65535");
    Err(ModelError::Value {
        what: "MTU",
        value: mtu.to_string(),
        why,
    })
}

/// An aging time that can be, in seconds.
pub(super) fn aging(seconds: u32) -> Result<u32, ModelError> {
    limited("aging time", seconds, 1, 1_000_000)
}

/// A storm limit that can be, in frames a second; 0: none.
pub(super) fn storm(frames: u32) -> Result<u32, ModelError> {
    limited("storm limit", frames, 0, 1_000_000)
}

fn limited(what: &'static str, n: u32, least: u32, most: u32) -> Result<u32, ModelError> {
    if (least..=most).contains(&n) {
        return Ok(n);
    }
    Err(ModelError::Value {
        what,
        value: n.to_string(),
        why: format!("it is a number from {least} to {most}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, network};

    fn ask(d: &Desired, request: &NetworkCreate) -> Result<Network, ModelError> {
        let pools = Pools {
            v4: "10.210.0.0/16".parse().unwrap(),
            v6: None,
        };
        let node = [Occupied {
            prefix: "192.0.2.0/24".parse().unwrap(),
            what: "the node's address 192.0.2.2/24 on eth0".into(),
        }];
        build(
            d,
            &Context {
                node: &node,
                pools: &pools,
                mtu: 1400,
                mac: [2, 0, 0, 0, 0, 1],
            },
            request,
        )
    }

    fn request(name: &str, subnets: &[&str]) -> NetworkCreate {
        let subnets = subnets.iter().map(|s| s.parse().unwrap()).collect();
        NetworkCreate {
            name: name.into(),
            subnets,
            ..NetworkCreate::default()
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let n = ask(&empty(), &request("web", &[])).unwrap();
        assert_eq!(
            n.subnets
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["10.210.0.0/24", "fd12:3456:789a::/64"]
        );
        assert_eq!(
            n.gateways,
            [
                "10.210.0.1".parse::<IpAddr>().unwrap(),
                "fd12:3456:789a::1".parse().unwrap()
            ]
        );
        assert!(n.masquerade && n.isolation && !n.internal);
        assert_eq!((n.mtu, n.owner.as_str()), (1400, "cli"));
        assert_eq!((n.aging, n.storm), (300, 2000));
    }

    #[test]
    fn families_come_in_order_and_one_may_be_alone() {
        let n = ask(&empty(), &request("web", &["fd01::/64", "10.1.0.0/24"])).unwrap();
        assert!(n.subnets[0].addr().is_ipv4() && n.gateways[0].is_ipv4());
        let n = ask(&empty(), &request("web", &["fd01::/64"])).unwrap();
        assert_eq!(n.gateways, ["fd01::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn bad_requests_say_why() {
        let mut d = empty();
        network(&mut d, "old", &["10.5.0.0/16"]);
        let with = |f: &dyn Fn(&mut NetworkCreate)| {
            let mut r = request("web", &["10.1.0.0/24"]);
            f(&mut r);
            ask(&d, &r).unwrap_err().to_string()
        };
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        for (e, why) in [
            (
                with(&|r| r.name = "old".into()),
                "network old exists already",
            ),
            (with(&|r| r.name = "a/b".into()), "not allowed"),
            (
                with(&|r| r.subnets.push("10.2.0.0/24".parse().unwrap())),
                "at most one subnet",
            ),
            (
                with(&|r| r.subnets = vec!["10.5.6.0/24".parse().unwrap()]),
                "overlaps network old's",
            ),
            (
                with(&|r| r.subnets = vec!["192.0.2.128/25".parse().unwrap()]),
                "192.0.2.2/24 on eth0",
            ),
            (
                with(&|r| r.gateways = Some(vec![ip("10.9.0.1")])),
                "not in 10.1.0.0/24",
            ),
            (
                with(&|r| r.gateways = Some(vec![ip("10.1.0.255")])),
                "broadcast",
            ),
            (
                with(&|r| r.gateways = Some(vec![ip("10.1.0.1"), ip("10.1.0.2")])),
                "one gateway only",
            ),
            (
                with(&|r| {
                    r.no_gateway = true;
                    r.gateways = Some(vec![ip("10.1.0.1")]);
                }),
                "have none",
            ),
            (
                with(&|r| r.ip_range = Some("10.2.0.0/25".parse().unwrap())),
                "not part of",
            ),
            (with(&|r| r.mtu = Some(67)), "from 68 to 65535"),
            (with(&|r| r.aging_s = Some(0)), "aging time 0 is refused"),
            (with(&|r| r.storm = Some(1_000_001)), "from 0 to 1000000"),
            (
                with(&|r| {
                    r.masquerade_profile = Some(netd_api::Profile::Strict);
                    r.no_masquerade = true;
                }),
                "masquerade profile strict is refused: the network's traffic is not masqueraded",
            ),
            (
                with(&|r| {
                    r.filtering = Some(netd_api::Filtering::AddressPort);
                    r.internal = true;
                }),
                "filtering address-port is refused: the network is internal",
            ),
            (
                with(&|r| {
                    r.masquerade_ports = "1-2".parse().ok();
                    r.internal = true;
                }),
                "masquerade ports 1-2 is refused",
            ),
            (
                with(&|r| {
                    r.mtu = Some(1279);
                    r.subnets = vec!["fd01::/64".parse().unwrap()];
                }),
                "from 1280",
            ),
        ] {
            assert!(e.contains(why) && !e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn without_a_gateway_there_is_no_masquerade() {
        let mut r = request("seg", &["10.1.0.0/24"]);
        r.no_gateway = true;
        let n = ask(&empty(), &r).unwrap();
        assert!(n.gateways.is_empty() && !n.masquerades());
    }
}
