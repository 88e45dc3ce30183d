//! Published ports: what may be published, and what is in the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netd_api::{HostSpec, Proto, PublishSpec};

use super::records::{Endpoint, Publish};
use super::{Desired, ModelError};

/// Whether two outside halves claim a common socket.
pub fn overlaps(a: &HostSpec, b: &HostSpec) -> bool {
    a.proto == b.proto
        && a.host_port <= b.host_end
        && b.host_port <= a.host_end
        && addresses_overlap(a.host_ip, b.host_ip)
}

fn addresses_overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => {
            a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
        }
    }
}

/// The node addresses a publish listens on, one for each family the endpoint has: the unspecified
/// address stands for all of that family.
pub fn listen_on(endpoint: &Endpoint, host: &HostSpec) -> Vec<IpAddr> {
    if let Some(ip) = host.host_ip {
        return vec![ip];
    }
    let v4 = endpoint.v4().map(|_| Ipv4Addr::UNSPECIFIED.into());
    let v6 = endpoint.v6().map(|_| Ipv6Addr::UNSPECIFIED.into());
    v4.into_iter().chain(v6).collect()
}

/// Whether an address can be one of the node that a port is published on; says why not.
///
/// # Errors
/// What is wrong with it.
pub fn host_address(ip: IpAddr) -> Result<(), String> {
    let why = match ip {
        IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => "it is a group's address",
        IpAddr::V6(ip) if ip.is_multicast() => "it is a group's address",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "it is link-local: it names no device",
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => "write it as an IPv4 address",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(()),
    };
    Err(why.into())
}

/// A spec on the addresses it is for: its own, else the configured ones of the families the endpoint
/// has, else (without any configured) on all.
///
/// # Errors
/// When none of the configured ones fits the endpoint.
pub fn expand(
    defaults: &[IpAddr],
    endpoint: &Endpoint,
    spec: &PublishSpec,
) -> Result<Vec<PublishSpec>, ModelError> {
    if spec.host.host_ip.is_some() || defaults.is_empty() {
        return Ok(vec![spec.clone()]);
    }
    let fits = |ip: &&IpAddr| match ip {
        IpAddr::V4(_) => endpoint.v4().is_some(),
        IpAddr::V6(_) => endpoint.v6().is_some(),
    };
    let on = |ip: &IpAddr| PublishSpec {
        host: HostSpec {
            host_ip: Some(*ip),
            ..spec.host
        },
        ..spec.clone()
    };
    let all: Vec<PublishSpec> = defaults.iter().filter(fits).map(on).collect();
    if all.is_empty() {
        let name = &endpoint.name;
        return Err(ModelError::Publish {
            spec: spec.to_string(),
            why: format!(
                "endpoint {name} has no address of the family of publish.addresses in the configuration; give a host address"
            ),
        });
    }
    Ok(all)
}

/// Checks a spec for an endpoint; host port 0 passes (the caller looks for a free one).
pub fn check(desired: &Desired, endpoint: &Endpoint, spec: &PublishSpec) -> Result<(), ModelError> {
    let refuse = |why: &str| {
        Err(ModelError::Publish {
            spec: spec.to_string(),
            why: why.into(),
        })
    };
    match spec.host.proto {
        Proto::Tcp | Proto::Udp => {}
        Proto::Sctp => return refuse("netd translates TCP and UDP, not SCTP; use tcp or udp"),
        Proto::Icmp | Proto::Icmpv6 => return refuse("only tcp and udp ports can be published"),
    }
    let length = u32::from(spec.end) + 1 - u32::from(spec.port.min(spec.end));
    let host_length =
        u32::from(spec.host.host_end) + 1 - u32::from(spec.host.host_port.min(spec.host.host_end));
    if spec.port == 0 || spec.end < spec.port || length != host_length {
        return refuse("its ranges are empty, backwards or of different lengths");
    }
    if spec.host.host_port == 0 && length != 1 {
        return refuse("host port 0 (any free one) goes with a single endpoint port");
    }
    match desired.networks.get(&endpoint.network) {
        Some(n) if n.internal => {
            return refuse(&format!(
                "network {} is internal: it has no outside",
                n.name
            ));
        }
        Some(n) if !n.has_gateway() => {
            return refuse(&format!("network {} has no gateway", n.name));
        }
        _ => {}
    }
    if let Some(ip) = spec.host.host_ip
        && let Err(why) = host_address(ip)
    {
        return refuse(&format!("host address {ip}: {why}"));
    }
    match spec.host.host_ip {
        Some(IpAddr::V4(_)) if endpoint.v4().is_none() => {
            return refuse(&format!("endpoint {} has no IPv4 address", endpoint.name));
        }
        Some(IpAddr::V6(_)) if endpoint.v6().is_none() => {
            return refuse(&format!("endpoint {} has no IPv6 address", endpoint.name));
        }
        _ => {}
    }
    for ip in listen_on(endpoint, &spec.host) {
        let same = |net: &IpNet| net.addr().is_ipv4() == ip.is_ipv4();
        if spec.host.host_ip.is_some() && !spec.from.is_empty() && !spec.from.iter().any(same) {
            return refuse(&format!(
                "no --from is of the family of {ip}: nobody could come"
            ));
        }
    }
    if spec.host.host_port != 0
        && let Some(p) = taken_by(desired, &spec.host)
    {
        let name = desired
            .endpoints
            .get(&p.endpoint)
            .map_or("?", |e| e.name.as_str());
        return Err(ModelError::PortTaken {
            port: spec.host.to_string(),
            endpoint: name.into(),
        });
    }
    Ok(())
}

/// The publish that claims a socket of `host`, if there is one.
pub fn taken_by<'a>(desired: &'a Desired, host: &HostSpec) -> Option<&'a Publish> {
    desired
        .publishes
        .values()
        .find(|p| overlaps(&p.spec.host, host))
}

/// The publish with exactly that outside half; without a host address also those on the configured
/// addresses, as [`expand`] has made them.
///
/// # Errors
/// When there is none.
pub fn find<'a>(
    desired: &'a Desired,
    defaults: &[IpAddr],
    host: &HostSpec,
) -> Result<Vec<&'a Publish>, ModelError> {
    let exactly = |host: HostSpec| {
        desired
            .publishes
            .values()
            .find(move |p| p.spec.host == host)
    };
    if let Some(p) = exactly(*host) {
        return Ok(vec![p]);
    }
    if host.host_ip.is_none() {
        let on = defaults.iter().filter_map(|ip| {
            exactly(HostSpec {
                host_ip: Some(*ip),
                ..*host
            })
        });
        let found: Vec<&Publish> = on.collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let hint = match taken_by(desired, host) {
        Some(p) => format!(" like that; {} is", p.spec.host),
        None => "; `netd published` lists all".into(),
    };
    Err(ModelError::NotPublished {
        port: host.to_string(),
        hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, endpoint, network};
    use crate::model::{Change, Object};

    fn spec(s: &str) -> PublishSpec {
        s.parse().unwrap()
    }

    #[test]
    fn overlap_needs_protocol_port_and_address_in_common() {
        for (a, b, yes) in [
            ("80:80", "80:80", true),
            ("80:80", "80:80/udp", false),
            ("80:80", "81:80", false),
            ("80-90:80-90", "85:1", true),
            ("80-90:80-90", "91:1", false),
            ("192.0.2.1:80:80", "192.0.2.2:80:80", false),
            ("192.0.2.1:80:80", "80:80", true),
            ("192.0.2.1:80:80", "0.0.0.0:80:80", true),
            ("192.0.2.1:80:80", "[::]:80:80", false),
            ("[2001:db8::1]:80:80", "[::]:80:80", true),
        ] {
            assert_eq!(overlaps(&spec(a).host, &spec(b).host), yes, "{a} {b}");
            assert_eq!(overlaps(&spec(b).host, &spec(a).host), yes, "{b} {a}");
        }
    }

    #[test]
    fn publishes_are_checked_and_found() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let a = endpoint(&mut d, "a", web, &["10.0.0.2/24"]);
        let number = d.take_number();
        let p = Publish {
            number,
            endpoint: a,
            spec: spec("8080-8081:80-81"),
            owner: "cli".into(),
        };
        d.apply(&Change {
            put: vec![Object::Publish(p)],
            remove: vec![],
        });
        let ep = d.endpoints[&a].clone();
        let check = |s: &str| check(&d, &ep, &spec(s)).map_err(|e| e.to_string());
        assert_eq!(check("8082:80"), Ok(()));
        assert_eq!(check("0:80"), Ok(()));
        assert!(
            check("192.0.2.1:8081:80")
                .unwrap_err()
                .contains("for endpoint a")
        );
        assert!(
            check("[2001:db8::1]:9000:80")
                .unwrap_err()
                .contains("no IPv6 address")
        );
        assert!(check("9000:80/sctp").unwrap_err().contains("not SCTP"));
        let host = |s: &str| s.parse::<HostSpec>().unwrap();
        assert_eq!(find(&d, &[], &host("8080-8081")).unwrap()[0].number, number);
        assert!(
            find(&d, &[], &host("8080"))
                .unwrap_err()
                .to_string()
                .contains("8080-8081/tcp is")
        );
        assert!(
            find(&d, &[], &host("9"))
                .unwrap_err()
                .to_string()
                .contains("not published")
        );
        assert_eq!(
            listen_on(&ep, &host("80")),
            ["0.0.0.0".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn without_a_host_address_the_configured_ones_are_used() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
        let both = endpoint(&mut d, "both", web, &["10.0.0.2/24", "fd00::2/64"]);
        let four = endpoint(&mut d, "four", web, &["10.0.0.3/24"]);
        let (both, four) = (d.endpoints[&both].clone(), d.endpoints[&four].clone());
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let defaults = [ip("127.0.0.1"), ip("::1")];
        let texts = |defaults: &[IpAddr], ep: &Endpoint, s: &str| {
            let all = expand(defaults, ep, &spec(s)).map_err(|e| e.to_string())?;
            Ok::<_, String>(all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(texts(&[], &both, "80:80"), Ok(vec!["80:80/tcp".into()]));
        let two = vec!["127.0.0.1:80:80/tcp".to_owned(), "[::1]:80:80/tcp".into()];
        assert_eq!(texts(&defaults, &both, "80:80"), Ok(two.clone()));
        assert_eq!(texts(&defaults, &four, "80:80"), Ok(two[..1].to_vec()));
        let own = vec!["0.0.0.0:80:80/tcp".to_owned()];
        assert_eq!(texts(&defaults, &both, "0.0.0.0:80:80"), Ok(own));
        let e = texts(&defaults[1..], &four, "80:80").unwrap_err();
        assert!(e.contains("publish.addresses"), "{e}");
        // Taking it back finds what was made of it.
        let put: Vec<Object> = expand(&defaults, &both, &spec("80:80"))
            .unwrap()
            .into_iter()
            .map(|spec| {
                Object::Publish(Publish {
                    number: d.take_number(),
                    endpoint: both.number,
                    spec,
                    owner: "cli".into(),
                })
            })
            .collect();
        d.apply(&Change {
            put,
            remove: vec![],
        });
        let host = |s: &str| s.parse::<HostSpec>().unwrap();
        let found = |defaults: &[IpAddr], s: &str| find(&d, defaults, &host(s)).map(|p| p.len());
        assert_eq!(found(&defaults, "80"), Ok(2));
        assert_eq!(found(&defaults, "127.0.0.1:80"), Ok(1));
        assert!(found(&[], "80").is_err() && found(&defaults, "81").is_err());
    }

    #[test]
    fn some_addresses_no_port_is_published_on() {
        for (ip, part) in [
            ("224.0.0.1", "group"),
            ("255.255.255.255", "group"),
            ("ff02::1", "group"),
            ("fe80::1", "link-local"),
            ("::ffff:192.0.2.1", "IPv4"),
        ] {
            let why = host_address(ip.parse().unwrap()).unwrap_err();
            assert!(why.contains(part), "{ip}: {why}");
        }
        for ip in ["127.0.0.1", "0.0.0.0", "::", "::1", "2001:db8::1"] {
            assert_eq!(host_address(ip.parse().unwrap()), Ok(()));
        }
    }
}
