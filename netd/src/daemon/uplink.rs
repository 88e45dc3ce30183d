//! Uplinks: which devices lead outside, and with which addresses masqueraded traffic leaves.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_api::EventKind;
use netd_common::addr::{Addr, Be16};
use netd_common::maps::{Range, SILENT, Uplink as Row};

use super::core::Core;
use super::error::{Result, ServiceError};
use super::local::locals;
use crate::config::XdpChoice;
use crate::datapath::{Datapath, XdpMode};
use crate::model::masquerade::{silent, too_many};
use crate::net::events::is_made_name;
use crate::net::link::Link;
use crate::net::route::{Address, Route};
use crate::net::{Netlink, link, qdisc, route};
use crate::plan::UplinkNet;

/// The routing table default routes are looked for in.
const MAIN: u32 = 254;
/// Addresses of the outside that stand for "anywhere" when the kernel is asked for a source.
const ANYWHERE_V4: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const ANYWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);

/// An uplink in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Uplink {
    /// Device name.
    pub name: String,
    /// Its row.
    pub row: Row,
    /// How XDP is hooked.
    pub xdp: XdpMode,
    /// Administratively up.
    pub up: bool,
    /// A default route of the main table leads by it.
    pub has_default: bool,
    /// The addresses of both families that it has, or had last.
    pub last: [Option<IpAddr>; 2],
}

impl Uplink {
    /// Source of masqueraded IPv4.
    pub fn v4(&self) -> Option<IpAddr> {
        Some(IpAddr::from(self.row.v4)).filter(|ip| !ip.is_unspecified())
    }

    /// Source of masqueraded IPv6.
    pub fn v6(&self) -> Option<IpAddr> {
        Some(IpAddr::from(self.row.v6)).filter(|ip| !ip.is_unspecified())
    }
}

impl Core {
    /// Brings hooks and rows of the uplinks up to what the node has now; what fails is a problem.
    pub(super) fn refresh_uplinks(&mut self) {
        let before = self.uplinks.clone();
        let refreshed = self.try_refresh_uplinks();
        if self.uplinks != before {
            self.refresh_watchers();
        }
        match refreshed {
            Ok(()) => drop(self.problems.remove("uplinks")),
            Err(e) => {
                self.problems
                    .insert("uplinks".into(), format!("uplinks: {}", e.line));
            }
        }
    }

    fn try_refresh_uplinks(&mut self) -> Result<()> {
        let netlink = &mut self.node.netlink;
        let links = link::all(netlink)?;
        let addresses = route::addresses(netlink)?;
        let routes = route::routes(netlink)?;
        let rows: Vec<u32> = self
            .node
            .datapath
            .uplinks()?
            .iter()
            .map(|(i, _)| *i)
            .collect();
        let wanted = self.wanted_uplinks(&links, &routes, &rows);
        let stale: Vec<u32> = self
            .uplinks
            .keys()
            .copied()
            .filter(|i| wanted.iter().all(|l| l.ifindex != *i))
            .collect();
        // What fails with one is no reason to leave the others as they are.
        let mut wrong = Vec::new();
        let mut note = |of: &str, done: Result<()>| {
            if let Err(e) = done {
                wrong.push(format!("{of}: {}", e.line));
            }
        };
        for ifindex in stale {
            note(&ifindex.to_string(), self.drop_uplink(ifindex, &wanted));
        }
        // Rows and hooks a former daemon left for devices that are no uplinks any more.
        for ifindex in rows {
            if wanted.iter().all(|l| l.ifindex != ifindex) {
                let removed = self.node.datapath.uplink_remove(ifindex);
                note(&ifindex.to_string(), removed.map_err(ServiceError::from));
            }
        }
        let hooked = self.node.datapath.hooked()?;
        for name in hooked.iter().filter(|d| !is_made_name(d)) {
            if wanted.iter().all(|l| l.name != *name) {
                let unhooked = self.node.datapath.unhook(name);
                note(name, unhooked.map_err(ServiceError::from));
            }
        }
        for link in &wanted {
            note(&link.name, self.use_uplink(link, &addresses, &routes));
        }
        self.follow_uplink_nets(nets(&wanted, &addresses));
        self.follow_outside(&wanted, &addresses);
        // Of several uplinks the first that has an address: callers are to be seen with one address.
        self.end_flows_of_lost_addresses(&locals(&addresses).into_keys().collect());
        let rows = || self.uplinks.values().map(|u| u.row);
        let v4 = rows().map(|r| r.v4).find(|a| !a.is_unspecified());
        let v6 = rows().map(|r| r.v6).find(|a| !a.is_unspecified());
        self.node
            .datapath
            .node_addresses_set(v4.unwrap_or_default(), v6.unwrap_or_default())?;
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(ServiceError::node(wrong.join("; ")))
        }
    }

    /// Brings the ports at which the node keeps quiet up to what networks and daemon ask for.
    pub(super) fn refresh_silent(&mut self) {
        let networks = self.desired.networks.values();
        let wanted = silent(self.desired.masquerade, networks);
        let mut ports = [Range::default(); SILENT];
        for (to, from) in ports.iter_mut().zip(&wanted) {
            *to = Range {
                min: from.first(),
                max: from.last(),
            };
        }
        // Networks that fitted may meet a daemon with other ports of its own.
        let wrong = match self.node.datapath.silent_set(ports) {
            Ok(()) if wanted.len() <= SILENT => None,
            Ok(()) => Some(too_many(&wanted).to_string()),
            Err(e) => Some(format!("masquerade ports: {e}")),
        };
        let key = "silent ports".to_owned();
        match wrong {
            None => drop(self.problems.remove(&key)),
            Some(line) => drop(self.problems.insert(key, line)),
        }
    }

    /// The devices asked for, else those of the default routes. While there is no default route at
    /// all the uplinks stay what they were: it may be back in a moment.
    fn wanted_uplinks(&self, links: &[Link], routes: &[Route], rows: &[u32]) -> Vec<Link> {
        let usable = |l: &&Link| !l.loopback && !is_made_name(&l.name);
        let links = links.iter().filter(usable);
        if !self.settings.uplinks.is_empty() {
            return links
                .filter(|l| self.settings.uplinks.contains(&l.name))
                .cloned()
                .collect();
        }
        let devices = defaults(routes).flat_map(|r| r.devices.iter().copied());
        let mut devices: BTreeSet<u32> = devices.collect();
        if devices.is_empty() {
            devices = rows.iter().copied().collect();
        }
        links
            .filter(|l| devices.contains(&l.ifindex))
            .cloned()
            .collect()
    }

    fn drop_uplink(&mut self, ifindex: u32, wanted: &[Link]) -> Result<()> {
        let Some(uplink) = self.uplinks.remove(&ifindex) else {
            return Ok(());
        };
        let text = format!("uplink {} is no uplink any more", uplink.name);
        self.tell(EventKind::Removed, format!("uplink {}", uplink.name), text);
        self.node.datapath.uplink_remove(ifindex)?;
        self.end_flows_on(&uplink.last.into_iter().flatten().collect());
        // A device that was made anew under the same name is hooked a moment later.
        if wanted.iter().all(|l| l.name != uplink.name) {
            self.node.datapath.unhook(&uplink.name)?;
            let made = Datapath::clsact_made(&self.settings.bpf_dir).contains(&uplink.name);
            if made && link::ifindex(&uplink.name) == Some(ifindex) {
                qdisc::remove_empty_clsact(&mut self.node.netlink, &uplink.name, ifindex)?;
            }
        }
        Ok(())
    }

    fn use_uplink(&mut self, link: &Link, addresses: &[Address], routes: &[Route]) -> Result<()> {
        let netlink = &mut self.node.netlink;
        let v4 = source(netlink, ANYWHERE_V4.into(), link.ifindex, addresses)?;
        let v6 = source(netlink, ANYWHERE_V6.into(), link.ifindex, addresses)?;
        let ports = self.settings.masquerade.ports();
        let row = Row {
            v4: match v4 {
                Some(IpAddr::V4(ip)) => ip.octets(),
                _ => [0; 4],
            },
            v6: match v6 {
                Some(IpAddr::V6(ip)) => ip.octets(),
                _ => [0; 16],
            },
            port_min: Be16::new(ports.first()),
            port_max: Be16::new(ports.last()),
            mtu: link.mtu,
        };
        let has_default = defaults(routes).any(|r| r.devices.contains(&link.ifindex));
        if let Some(known) = self.uplinks.get_mut(&link.ifindex) {
            (known.up, known.has_default) = (link.up, has_default);
        }
        let known = self.uplinks.get(&link.ifindex);
        if known.is_some_and(|u| u.row == row && u.name == link.name) {
            return Ok(());
        }
        let was_known = known.is_some();
        let [last4, last6] = known.map_or([None; 2], |u| u.last);
        let renamed = known.is_some_and(|u| u.name != link.name);
        let known_xdp = known.map(|u| u.xdp).filter(|_| !renamed);
        self.node.datapath.uplink_set(link.ifindex, &row)?;
        let xdp = match known_xdp {
            Some(xdp) => xdp,
            None => self.node.datapath.hook_uplink(&link.name, self.xdp(link))?,
        };
        let uplink = Uplink {
            name: link.name.clone(),
            row,
            xdp,
            up: link.up,
            has_default,
            last: [v4.or(last4), v6.or(last6)],
        };
        let show = |ip: Option<IpAddr>| ip.map_or("none".into(), |ip| ip.to_string());
        let (kind, done) = if was_known {
            (EventKind::Changed, "changed")
        } else {
            (EventKind::Created, "in use")
        };
        let text = format!(
            "uplink {} {done}: IPv4 {}, IPv6 {}, MTU {}, XDP {}",
            link.name,
            show(uplink.v4()),
            show(uplink.v6()),
            link.mtu,
            xdp.name()
        );
        self.tell(kind, format!("uplink {}", link.name), text);
        self.uplinks.insert(link.ifindex, uplink);
        Ok(())
    }

    fn xdp(&self, link: &Link) -> Option<XdpMode> {
        match self.settings.xdp {
            // Native XDP would take the segmentation offload from the veth's other end.
            XdpChoice::Auto if link.veth => Some(XdpMode::Generic),
            XdpChoice::Auto => None,
            XdpChoice::Native => Some(XdpMode::Native),
            XdpChoice::Generic => Some(XdpMode::Generic),
            XdpChoice::Off => Some(XdpMode::Off),
        }
    }
}

/// The default routes of the main table.
fn defaults(routes: &[Route]) -> impl Iterator<Item = &Route> {
    routes
        .iter()
        .filter(|r| r.to.prefix_len() == 0 && r.table == MAIN)
}

/// The subnets of the uplinks, link-local ones left out.
fn nets(uplinks: &[Link], addresses: &[Address]) -> Vec<UplinkNet> {
    let of = |link: &Link| {
        let (ifindex, mac) = (link.ifindex, link.mac);
        let on = move |a: &&Address| a.ifindex == ifindex && !a.is_link_local();
        let net = move |a: &Address| UplinkNet {
            ifindex,
            mac,
            net: a.net.trunc(),
        };
        addresses.iter().filter(on).map(net).collect::<Vec<_>>()
    };
    uplinks.iter().flat_map(of).collect()
}

/// The address the kernel would take as source to the outside by a device, as long as it is a
/// usable one of that device; else the first usable one.
fn source(
    netlink: &mut Netlink,
    to: IpAddr,
    ifindex: u32,
    addresses: &[Address],
) -> Result<Option<IpAddr>> {
    let family = |a: &&Address| a.net.addr().is_ipv4() == to.is_ipv4();
    let usable: Vec<IpAddr> = addresses
        .iter()
        .filter(|a| a.ifindex == ifindex && a.usable)
        .filter(family)
        .map(|a| a.net.addr())
        .collect();
    let chosen = route::source(netlink, to, ifindex)?;
    Ok(chosen
        .filter(|ip| usable.contains(ip))
        .or_else(|| usable.first().copied()))
}
