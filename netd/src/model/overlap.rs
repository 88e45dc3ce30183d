//! Addresses that an uplink has got in a network's subnet, or around it, since the network was made: the same
//! addresses stand for hosts inside and outside (RFC 4787 REQ-7). A network that would begin so is refused by
//! [`super::subnet`].

use std::fmt;

use ipnet::IpNet;

use super::subnet::overlap;
use super::{Desired, ModelError, Network};

/// An address of an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Name of the uplink.
    pub uplink: String,
    /// The address and its prefix length.
    pub address: IpNet,
}

/// A subnet of a network and the subnet of an uplink that have addresses in common.
#[derive(Clone, Copy, Debug)]
pub struct Clash<'a> {
    network: &'a Network,
    subnet: IpNet,
    outside: &'a Outside,
}

impl Clash<'_> {
    /// Whether the uplink's own address is one of the network's; else its subnet goes around the network's.
    fn is_within(&self) -> bool {
        self.subnet.contains(&self.outside.address.addr())
    }
}

impl fmt::Display for Clash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outside { uplink, address } = self.outside;
        let (name, subnet) = (&self.network.name, self.subnet);
        if self.is_within() {
            write!(
                f,
                "network {name}: uplink {uplink} has got {address}, inside its subnet {subnet}: to the node these \
                 addresses are outside, to endpoints inside, and no further ones are attached"
            )?;
        } else {
            write!(
                f,
                "network {name}: uplink {uplink} has got {address}, and its subnet {subnet} is a part of that: \
                 hosts outside with such addresses cannot be reached"
            )?;
        }
        f.write_str(
            "; give the uplink another address, or move the endpoints to a network with another subnet",
        )
    }
}

/// All clashes, by network. A subnet without a gateway leads nowhere: who has the same addresses outside is no
/// matter there.
pub fn clashes(desired: &Desired) -> impl Iterator<Item = Clash<'_>> {
    let subnets = desired.networks.values().flat_map(|network| {
        let routed = |s: &&IpNet| network.gateways.iter().any(|g| s.contains(g));
        let subnets = network.subnets.iter().filter(routed);
        subnets.map(move |subnet| (network, *subnet))
    });
    subnets.flat_map(|(network, subnet)| {
        let of = move |outside| Clash {
            network,
            subnet,
            outside,
        };
        let meets = move |o: &&Outside| overlap(&o.address, &subnet);
        desired.outside.iter().filter(meets).map(of)
    })
}

/// Refuses a further endpoint on a network whose addresses an uplink has.
pub fn check(desired: &Desired, network: &Network) -> Result<(), ModelError> {
    let mut of_it = clashes(desired).filter(|c| c.network.number == network.number);
    match of_it.find(Clash::is_within) {
        Some(clash) => Err(ModelError::Clash {
            network: network.name.clone(),
            subnet: clash.subnet,
            uplink: clash.outside.uplink.clone(),
            address: clash.outside.address,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, network};

    fn with(addresses: &[&str]) -> Desired {
        let mut d = empty();
        network(&mut d, "web", &["10.99.0.0/24", "fd99::/64"]);
        network(&mut d, "db", &["10.98.0.0/24"]);
        let outside = |a: &&str| Outside {
            uplink: "up0".into(),
            address: a.parse().unwrap(),
        };
        d.outside = addresses.iter().map(outside).collect();
        d
    }

    #[test]
    fn uplinks_that_meet_a_subnet_are_named_and_those_inside_it_refuse_endpoints() {
        for (addresses, wanted, refused) in [
            (vec![], vec![], None),
            (vec!["192.0.2.2/24", "fd98::1/64"], vec![], None),
            (
                vec!["10.99.0.77/24"],
                vec!["web: uplink up0 has got 10.99.0.77/24, inside its subnet 10.99.0.0/24"],
                Some("10.99.0.77/24 on uplink up0"),
            ),
            (
                vec!["10.99.0.77/8"],
                vec![
                    "web: uplink up0 has got 10.99.0.77/8, inside",
                    "db: uplink up0 has got 10.99.0.77/8, and its subnet 10.98.0.0/24 is a part",
                ],
                Some("its subnet 10.99.0.0/24"),
            ),
            (
                vec!["192.0.2.2/24", "10.97.0.1/8"],
                vec!["web: uplink up0 has got 10.97.0.1/8, and", "db: uplink"],
                None,
            ),
            (
                vec!["fd99::7/128"],
                vec!["web: uplink up0 has got fd99::7/128, inside"],
                Some("fd99::/64"),
            ),
        ] {
            let d = with(&addresses);
            let found: Vec<String> = clashes(&d).map(|c| c.to_string()).collect();
            assert_eq!(found.len(), wanted.len(), "{addresses:?}: {found:?}");
            for (line, part) in found.iter().zip(wanted) {
                let whole = line.contains(part) && !line.contains(['\n', '\t']);
                assert!(whole && !line.contains("  "), "{line}");
            }
            let web = d.network("web").unwrap();
            let e = check(&d, web).err().map(|e| e.to_string());
            match (&e, refused) {
                (Some(e), Some(part)) => assert!(e.contains(part), "{e}"),
                (None, None) => {}
                _ => panic!("{addresses:?}: {e:?}"),
            }
            assert_eq!(check(&d, d.network("db").unwrap()), Ok(()));
        }
    }

    #[test]
    fn a_subnet_without_a_gateway_clashes_with_nothing() {
        let mut d = with(&["10.99.0.77/24"]);
        for network in d.networks.values_mut() {
            network.gateways.clear();
        }
        assert_eq!(clashes(&d).count(), 0);
    }
}
