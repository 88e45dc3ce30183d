//! From a request to attach to the endpoint's record.

use netd_api::Attach;

use super::records::{Behind, Endpoint, Netns};
use super::{Desired, ModelError, ipam, lookup, name, overlap};

/// What only the node can tell about a target.
#[derive(Clone, Debug)]
pub struct Target {
    /// The namespace.
    pub netns: Netns,
    /// Device name inside: as asked for, or the first free one.
    pub ifname: String,
}

/// Checks what can be checked without looking at the node.
pub fn check(desired: &Desired, request: &Attach) -> Result<(), ModelError> {
    overlap::check(desired, desired.network(&request.network)?)?;
    if let Some(n) = &request.name {
        name::check("endpoint", n)?;
        if desired.endpoints.values().any(|e| e.name == *n) {
            return Err(ModelError::Exists {
                what: "endpoint",
                name: n.clone(),
            });
        }
    }
    if let Some(ifname) = &request.ifname {
        name::check_device(ifname)?;
    }
    if let Some(mac) = &request.mac {
        name::parse_mac(mac)?;
    }
    Ok(())
}

/// The record of a new endpoint with that id; its number is still 0.
pub fn build(
    desired: &Desired,
    request: &Attach,
    target: &Target,
    id: &str,
) -> Result<Endpoint, ModelError> {
    check(desired, request)?;
    let network = desired.network(&request.network)?;
    let text = lookup::normal_target(&request.target);
    let there = |e: &&Endpoint| e.netns == target.netns && e.network == network.number;
    if let Some(e) = desired.endpoints.values().find(there) {
        return Err(ModelError::Attached {
            target: text.into(),
            network: network.name.clone(),
            endpoint: e.name.clone(),
        });
    }
    let mac = match &request.mac {
        Some(mac) => name::parse_mac(mac)?,
        None => mac_of(id),
    };
    let holder = desired.endpoints_of(network.number).find(|e| e.mac == mac);
    if holder.is_some() || (network.has_gateway() && mac == network.gateway_mac) {
        let by = holder.map_or("the gateway".into(), |e| format!("endpoint {}", e.name));
        let why = format!("{by} on network {} has it", network.name);
        return Err(ModelError::Mac {
            mac: name::ShowMac(mac).to_string(),
            why,
        });
    }
    let addresses = ipam::addresses(desired, network, &request.ips)?;
    // An internal network leads nowhere: a default route there would hide another network's.
    let gateways = if network.internal {
        vec![]
    } else {
        network.gateways.clone()
    };
    Ok(Endpoint {
        number: 0,
        id: id.into(),
        name: request
            .name
            .clone()
            .unwrap_or_else(|| free_name(desired, text, &network.name)),
        network: network.number,
        target: text.into(),
        netns: target.netns,
        ifname: target.ifname.clone(),
        mac,
        macs: request.macs.unwrap_or_default(),
        addresses,
        gateways,
        made: false,
        behind: Behind::default(),
        labels: request.labels.clone(),
        owner: request.owner.clone().unwrap_or_else(|| "cli".into()),
    })
}

/// A MAC made from an endpoint's id: locally administered, unicast.
fn mac_of(id: &str) -> [u8; 6] {
    let n = u64::from_str_radix(id, 16).unwrap_or_else(|_| name::hash(id));
    let [_, _, first, rest @ ..] = n.to_be_bytes();
    let mut mac = [first & 0xfc | 0x02, 0, 0, 0, 0, 0];
    mac[1..].copy_from_slice(&rest);
    mac
}

/// `TARGET-NETWORK`, with a number where that is taken.
fn free_name(desired: &Desired, target: &str, network: &str) -> String {
    let last = target
        .trim_end_matches("/ns/net")
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let ok = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let clean: String = last.chars().map(|c| if ok(c) { c } else { '-' }).collect();
    let clean = clean.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let clean = if clean.is_empty() { "ep" } else { clean };
    let mut base = format!("{clean}-{network}");
    base.truncate(56);
    let taken = |n: &str| desired.endpoints.values().any(|e| e.name == n);
    if !taken(&base) {
        return base;
    }
    (2..u32::MAX)
        .map(|i| format!("{base}-{i}"))
        .find(|n| !taken(n))
        .unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, endpoint, network};

    fn target() -> Target {
        Target {
            netns: Netns {
                dev: 9,
                ino: 9,
                cookie: 9,
            },
            ifname: "eth0".into(),
        }
    }

    fn ask(d: &Desired, f: &dyn Fn(&mut Attach)) -> Result<Endpoint, ModelError> {
        let mut r = Attach {
            target: "box".into(),
            network: "web".into(),
            ..Attach::default()
        };
        f(&mut r);
        build(d, &r, &target(), "a1b2c3d4e5f6")
    }

    #[test]
    fn defaults_are_filled_in() {
        let mut d = empty();
        network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
        let e = ask(&d, &|r| r.target = "/run/netns/box".into()).unwrap();
        assert_eq!((e.name.as_str(), e.target.as_str()), ("box-web", "box"));
        assert_eq!(name::ShowMac(e.mac).to_string(), "a2:b2:c3:d4:e5:f6");
        assert_eq!(e.gateways, d.networks[&1].gateways);
        assert_eq!(e.device(), "ndea1b2c3d4e5f6");
        let e = ask(&d, &|r| r.target = "pid:12".into()).unwrap();
        assert_eq!(e.name, "pid-12-web");
        endpoint(&mut d, "box-web", 1, &[]);
        assert_eq!(ask(&d, &|_| ()).unwrap().name, "box-web-2");
    }

    #[test]
    fn bad_requests_say_why() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let a = endpoint(&mut d, "a", web, &["10.0.0.2/24"]);
        let mac = name::ShowMac(d.endpoints[&a].mac).to_string();
        for (e, why) in [
            (
                ask(&d, &|r| r.network = "nope".into()),
                "no network \"nope\"",
            ),
            (
                ask(&d, &|r| r.name = Some("a".into())),
                "endpoint a exists already",
            ),
            (ask(&d, &|r| r.name = Some("a b".into())), "not allowed"),
            (
                ask(&d, &|r| r.ifname = Some("abcdefghijklmnop".into())),
                "16 characters",
            ),
            (ask(&d, &|r| r.mac = Some("xx".into())), "aa:bb:cc:dd:ee:ff"),
            (
                ask(&d, &|r| r.mac = Some(mac.clone())),
                "endpoint a on network web has it",
            ),
            (
                ask(&d, &|r| r.mac = Some("02:00:00:00:01:01".into())),
                "the gateway on network web has it",
            ),
            (
                ask(&d, &|r| r.ips = vec!["10.0.0.2".parse().unwrap()]),
                "taken by endpoint a",
            ),
        ] {
            let e = e.unwrap_err().to_string();
            assert!(e.contains(why) && !e.contains('\n'), "{e}");
        }
        d.endpoints.get_mut(&a).unwrap().netns = target().netns;
        assert!(
            ask(&d, &|_| ())
                .unwrap_err()
                .to_string()
                .contains("on network web already")
        );
    }

    #[test]
    fn an_internal_network_gives_no_default_route() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        d.networks.get_mut(&web).unwrap().internal = true;
        assert!(ask(&d, &|_| ()).unwrap().gateways.is_empty());
    }
}
