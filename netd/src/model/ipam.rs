//! Addresses of endpoints: the next free one, or the one asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::records::Network;
use super::{Desired, ModelError, subnet};

/// The addresses of a new endpoint: one of each subnet, `wanted` where it names one.
pub fn addresses(
    desired: &Desired,
    network: &Network,
    wanted: &[IpAddr],
) -> Result<Vec<IpNet>, ModelError> {
    for ip in wanted {
        let refuse = |why: String| ModelError::Address { address: *ip, why };
        let Some(subnet) = network.subnets.iter().find(|s| s.contains(ip)) else {
            let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
            let why = format!("network {} has {}", network.name, subnets.join(" and "));
            return Err(refuse(why));
        };
        if wanted.iter().filter(|o| subnet.contains(*o)).count() > 1 {
            return Err(refuse(format!("only one address of {subnet} can be given")));
        }
        subnet::is_host(subnet, *ip).map_err(refuse)?;
        if let Some(by) = holder(desired, network, *ip) {
            return Err(ModelError::Taken { address: *ip, by });
        }
    }
    let mut out = Vec::new();
    for subnet in &network.subnets {
        let ip = match wanted.iter().find(|ip| subnet.contains(*ip)) {
            Some(ip) => *ip,
            None => next_free(desired, network, subnet)?,
        };
        out.extend(IpNet::new(ip, subnet.prefix_len()));
    }
    Ok(out)
}

/// Who has an address, in words.
pub(super) fn holder(desired: &Desired, network: &Network, ip: IpAddr) -> Option<String> {
    if network.gateways.contains(&ip) {
        return Some(format!("the gateway of network {}", network.name));
    }
    desired
        .endpoints_of(network.number)
        .find(|e| e.addresses.iter().any(|a| a.addr() == ip))
        .map(|e| format!("endpoint {}", e.name))
}

/// The lowest address that is free and was not released a short while ago; when there is none,
/// the one that was released first: a stale neighbour entry or a slow client meets a stranger as
/// late as possible.
fn next_free(desired: &Desired, network: &Network, subnet: &IpNet) -> Result<IpAddr, ModelError> {
    let range = network
        .ip_range
        .filter(|r| subnet.contains(r))
        .unwrap_or(*subnet);
    let mut used: BTreeSet<IpAddr> = network.gateways.iter().copied().collect();
    for ep in desired.endpoints_of(network.number) {
        used.extend(ep.addresses.iter().map(IpNet::addr));
    }
    let free = |ip: &IpAddr| !used.contains(ip) && subnet::is_host(subnet, *ip).is_ok();
    let released = desired.released.get(&network.number);
    let recent: BTreeSet<IpAddr> = released.into_iter().flatten().copied().collect();
    every(&range)
        .find(|ip| free(ip) && !recent.contains(ip))
        .or_else(|| {
            released?
                .iter()
                .copied()
                .find(|ip| range.contains(ip) && free(ip))
        })
        .ok_or_else(|| ModelError::Exhausted {
            network: network.name.clone(),
            range,
        })
}

/// Every address of a range, first to last.
fn every(range: &IpNet) -> Box<dyn Iterator<Item = IpAddr>> {
    match range {
        IpNet::V4(r) => {
            let (first, last) = (u32::from(r.network()), u32::from(r.broadcast()));
            Box::new((first..=last).map(|n| Ipv4Addr::from(n).into()))
        }
        IpNet::V6(r) => {
            let (first, last) = (u128::from(r.network()), u128::from(r.broadcast()));
            Box::new((first..=last).map(|n| Ipv6Addr::from(n).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::desired::tests::{empty, endpoint, network};
    use crate::model::desired::{Change, Key};

    fn next(d: &Desired, n: u32, wanted: &[&str]) -> Result<Vec<String>, ModelError> {
        let wanted: Vec<IpAddr> = wanted.iter().map(|w| w.parse().unwrap()).collect();
        let out = addresses(d, &d.networks[&n], &wanted)?;
        Ok(out.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn next_free_never_is_the_gateway_network_or_broadcast_address() {
        let mut d = empty();
        let n = network(&mut d, "web", &["10.0.0.0/29", "fd00::/64"]);
        for host in 2..=6 {
            let got = next(&d, n, &[]).unwrap();
            assert_eq!(
                got,
                [format!("10.0.0.{host}/29"), format!("fd00::{host}/64")]
            );
            let name = format!("e{host}");
            endpoint(&mut d, &name, n, &[&got[0], &got[1]]);
        }
        let e = next(&d, n, &[]).unwrap_err();
        assert!(matches!(e, ModelError::Exhausted { .. }), "{e}");
    }

    #[test]
    fn a_released_address_is_used_again_last() {
        let mut d = empty();
        let n = network(&mut d, "web", &["10.0.0.0/29"]);
        let a = endpoint(&mut d, "a", n, &["10.0.0.2/29"]);
        let b = endpoint(&mut d, "b", n, &["10.0.0.3/29"]);
        d.apply(&Change {
            put: vec![],
            remove: vec![Key::Endpoint(b)],
        });
        d.apply(&Change {
            put: vec![],
            remove: vec![Key::Endpoint(a)],
        });
        let mut order = Vec::new();
        for i in 0..5 {
            let got = next(&d, n, &[]).unwrap();
            endpoint(&mut d, &format!("n{i}"), n, &[&got[0]]);
            order.extend(got);
        }
        assert_eq!(
            order,
            [
                "10.0.0.4/29",
                "10.0.0.5/29",
                "10.0.0.6/29",
                "10.0.0.3/29",
                "10.0.0.2/29"
            ]
        );
    }

    #[test]
    fn asked_for_addresses_are_checked() {
        let mut d = empty();
        let n = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
        endpoint(&mut d, "a", n, &["10.0.0.7/24", "fd00::7/64"]);
        assert_eq!(
            next(&d, n, &["10.0.0.9"]).unwrap(),
            ["10.0.0.9/24", "fd00::2/64"]
        );
        for (wanted, why) in [
            (
                &["10.0.1.1"][..],
                "network web has 10.0.0.0/24 and fd00::/64",
            ),
            (&["10.0.0.0"], "network address"),
            (&["10.0.0.255"], "broadcast address"),
            (&["fd00::"], "network address"),
            (&["10.0.0.1"], "the gateway of network web"),
            (&["10.0.0.7"], "taken by endpoint a"),
            (&["fd00::7"], "taken by endpoint a"),
            (&["10.0.0.8", "10.0.0.9"], "only one address"),
        ] {
            let e = next(&d, n, wanted).unwrap_err().to_string();
            assert!(e.contains(why), "{wanted:?}: {e}");
        }
    }

    #[test]
    fn a_range_limits_what_is_given_out_but_not_what_is_asked_for() {
        let mut d = empty();
        let n = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
        let mut record = d.networks[&n].clone();
        record.ip_range = Some("10.0.0.128/25".parse().unwrap());
        d.networks.insert(n, record);
        assert_eq!(next(&d, n, &[]).unwrap(), ["10.0.0.128/24", "fd00::2/64"]);
        assert_eq!(
            next(&d, n, &["10.0.0.5"]).unwrap(),
            ["10.0.0.5/24", "fd00::2/64"]
        );
    }

    proptest! {
        #[test]
        fn no_address_is_ever_given_twice(ops in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..60)) {
            let mut d = empty();
            let n = network(&mut d, "web", &["10.0.0.0/28", "fd00::/124"]);
            for (i, (attach, which)) in ops.into_iter().enumerate() {
                if attach {
                    let Ok(got) = addresses(&d, &d.networks[&n], &[]) else {
                        prop_assert_eq!(d.endpoints.len(), 13);
                        continue;
                    };
                    for a in &got {
                        prop_assert!(!d.networks[&n].gateways.contains(&a.addr()));
                        prop_assert!(d.endpoints.values().all(|e| e.addresses.iter().all(|o| o.addr() != a.addr())));
                    }
                    let text: Vec<String> = got.iter().map(ToString::to_string).collect();
                    endpoint(&mut d, &format!("e{i}"), n, &text.iter().map(String::as_str).collect::<Vec<_>>());
                } else if !d.endpoints.is_empty() {
                    let key = *which.get(&d.endpoints.keys().copied().collect::<Vec<_>>());
                    d.apply(&Change { put: vec![], remove: vec![Key::Endpoint(key)] });
                }
            }
        }
    }
}
