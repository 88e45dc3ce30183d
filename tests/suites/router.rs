//! netd is a router like any other on the way: traceroute and its kin see it, paths with a small MTU are
//! found, and what is refused is refused at once. With the real tools, IPv4 and IPv6.

#[path = "router/hops.rs"]
mod hops;
#[path = "router/mtu.rs"]
mod mtu;
#[path = "router/refused.rs"]
mod refused;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use netd_tests::lab::{Host, Lab};

/// The wildcard of an address's family.
fn any(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Two routers and a host behind the lab's outside host, which is the first of the routers:
/// node - outside - middle - far.
struct Beyond {
    middle: Host,
    far: Host,
}

fn set(host: &Host, values: &[(&str, &str)]) -> Result<()> {
    host.ns.enter(|| {
        for (name, value) in values {
            let path = format!("/proc/sys/net/{name}");
            fs::write(&path, value).with_context(|| path.clone())?;
        }
        Ok(())
    })
}

/// Tells everybody at once, however many ask.
fn tells(host: &Host) -> Result<()> {
    set(
        host,
        &[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")],
    )
}

/// The same, and passes packets on.
fn routes(host: &Host) -> Result<()> {
    tells(host)?;
    set(
        host,
        &[
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv6/conf/all/forwarding", "1"),
        ],
    )
}

fn beyond(lab: &Lab) -> Result<Beyond> {
    let (middle, far) = (lab.namespace("middle")?, lab.namespace("far")?);
    lab.outside.ip(&format!(
        "link add mid0 type veth peer name out0 netns {middle}\n\
         addr add 198.51.100.1/24 dev mid0\n\
         addr add 2001:db8:2::1/64 dev mid0 nodad\n\
         link set mid0 up\n",
        middle = middle.name()
    ))?;
    middle.ip(&format!(
        "link add far0 type veth peer name eth0 netns {far}\n\
         addr add 198.51.100.2/24 dev out0\n\
         addr add 2001:db8:2::2/64 dev out0 nodad\n\
         addr add 203.0.113.1/24 dev far0\n\
         addr add 2001:db8:3::1/64 dev far0 nodad\n\
         link set out0 up\nlink set far0 up\n\
         route add default via 198.51.100.1\nroute add default via 2001:db8:2::1\n",
        far = far.name()
    ))?;
    far.ip("link set lo up\n\
         addr add 203.0.113.2/24 dev eth0\n\
         addr add 2001:db8:3::2/64 dev eth0 nodad\n\
         link set eth0 up\n\
         route add default via 203.0.113.1\nroute add default via 2001:db8:3::1\n")?;
    lab.outside.ip(
        "route add 203.0.113.0/24 via 198.51.100.2\nroute add 2001:db8:3::/64 via 2001:db8:2::2\n",
    )?;
    let address = |v4: &str, v6: &str| Ok::<_, anyhow::Error>([v4.parse()?, v6.parse()?]);
    let middle_at = address("198.51.100.2", "2001:db8:2::2")?;
    let far_at = address("203.0.113.2", "2001:db8:3::2")?;
    let beyond = Beyond {
        middle: Host::new("middle", middle, "out0", &middle_at),
        far: Host::new("far", far, "eth0", &far_at),
    };
    for host in [&lab.outside, &beyond.middle, &beyond.far] {
        routes(host)?;
    }
    Ok(beyond)
}

/// IPv4 or IPv6.
#[derive(Clone, Copy)]
struct Family(bool);

const FAMILIES: [Family; 2] = [Family(false), Family(true)];

impl Family {
    fn of(self, host: &Host) -> IpAddr {
        if self.0 { host.v6() } else { host.v4() }
    }

    fn one_of(self, addresses: &[IpAddr]) -> Result<IpAddr> {
        let mine = addresses.iter().find(|a| a.is_ipv6() == self.0);
        mine.copied().context("no address of this family")
    }

    const fn flag(self) -> &'static str {
        if self.0 { "-6" } else { "-4" }
    }
}
