//! Puts back what others took away while the daemon runs: pins, hooks, gateways, the node side of endpoints.
//! What cannot be put back is a problem that `netd status` names, and is tried again by the next sweep.

use std::collections::BTreeSet;

use netd_api::{EventKind, object};

use super::bpffs;
use super::core::Core;
use crate::datapath::{FILTER_PRIORITY, Hooked, Role, probe};
use crate::model::{Change, Endpoint, Network};
use crate::net::link::{self, Link, Set};
use crate::net::route::Address;
use crate::net::{hooked, sysctl};
use crate::plan::Scope;

/// Keys of problems.
const PINS: &str = "pins";
const HOOKS: &str = "hooks";
const BEFORE: &str = "hooked before";

impl Core {
    /// Notes a problem, or that it is none any more.
    fn problem(&mut self, key: &str, found: Option<String>) {
        match found {
            None => drop(self.problems.remove(key)),
            Some(line) => drop(self.problems.insert(key.into(), line)),
        }
    }

    /// Something was found and put right.
    fn repaired(&self, object: impl Into<String>, text: impl Into<String>) {
        self.tell(EventKind::Repaired, object, text);
    }

    /// Pins again what is not pinned any more, on a bpffs that is mounted again if it has to be. Whether
    /// something was missing: links that were pinned have ended then.
    pub(super) fn repair_pins(&mut self) -> bool {
        let dir = self.settings.bpf_dir.clone();
        let pinned = bpffs::prepare(&dir).map_err(|e| format!("{e:#}"));
        let pinned = pinned.and_then(|()| {
            let again = self.node.datapath.pin_again();
            again.map_err(|e| e.to_string())
        });
        let again = match &pinned {
            Ok(again) if again.is_empty() => false,
            Ok(again) => {
                let n = again.len();
                let text = format!("{n} maps were pinned no more: they are pinned again");
                self.repaired(dir.display().to_string(), text);
                true
            }
            Err(_) => false,
        };
        let next = "a restart of the daemon would begin with empty maps";
        let wrong = pinned.err().map(|why| format!("pins: {why}; {next}"));
        self.problem(PINS, wrong);
        if again || !self.node.datapath.sockets_pinned() {
            self.hook_sockets();
        }
        again
    }

    /// Looks at the hooks of all devices, or of these, by ifindex; what is missing is hooked again, on endpoints
    /// and gateways by the next settling. Whether there is something to settle.
    pub(super) fn repair_hooks(&mut self, only: Option<&BTreeSet<u32>>) -> bool {
        let looked_at = |ifindex: u32| only.is_none_or(|only| only.contains(&ifindex));
        let mut lost = Vec::new();
        for (name, ifindex, role) in self.hooked_devices() {
            if looked_at(ifindex) && !self.is_hooked(&name, ifindex, role) {
                let text = format!("device {name} lost its hooks: it is hooked again");
                self.repaired(format!("device {name}"), text);
                self.actual.hooked.remove(&name);
                lost.push(name);
            }
        }
        let mut wrong = Vec::new();
        let uplinks = self.uplinks.clone();
        for (ifindex, uplink) in uplinks.iter().filter(|(i, _)| looked_at(**i)) {
            if self.is_hooked(&uplink.name, *ifindex, Role::Uplink(uplink.xdp)) {
                continue;
            }
            match self
                .node
                .datapath
                .hook_uplink(&uplink.name, Some(uplink.xdp))
            {
                Ok(_) => {
                    let uplink = format!("uplink {}", uplink.name);
                    let text = format!("{uplink} lost its hooks: it is hooked again");
                    self.repaired(uplink, text);
                }
                // A device that has just gone is no uplink any more, as is found out next.
                Err(_) if link::ifindex(&uplink.name) != Some(*ifindex) => {}
                Err(e) => wrong.push(format!("uplink {}: {e}", uplink.name)),
            }
        }
        if only.is_none() || !wrong.is_empty() {
            let line = format!("hooks: {}", wrong.join("; "));
            self.problem(HOOKS, Some(line).filter(|_| !wrong.is_empty()));
        }
        !lost.is_empty()
    }

    /// Gateways and endpoints that are there and have hooks.
    fn hooked_devices(&self) -> Vec<(String, u32, Role)> {
        let networks = self.desired.networks.values().map(Network::inner);
        let endpoints = self.desired.endpoints.values().map(Endpoint::device);
        let all = networks
            .map(|name| (name, Role::Gateway))
            .chain(endpoints.map(|name| (name, Role::Endpoint)));
        let there = |(name, role): (String, Role)| {
            let ifindex = self.actual.devices.get(&name)?.ifindex;
            let hooked = self.actual.hooked.contains(&name);
            hooked.then_some((name, ifindex, role))
        };
        all.filter_map(there).collect()
    }

    fn is_hooked(&mut self, name: &str, ifindex: u32, role: Role) -> bool {
        let sides = match self.node.datapath.hooks_there(name, ifindex, role) {
            Hooked::Missing(_) => return false,
            Hooked::Filters(sides) if sides.is_empty() => return true,
            Hooked::Filters(sides) => sides,
        };
        match hooked::filters(&mut self.node.netlink, ifindex) {
            Ok(there) => sides.iter().all(|side| {
                let ours = |f: &hooked::Filter| f.side == *side && f.priority == FILTER_PRIORITY;
                there.iter().any(ours)
            }),
            // Nothing is known then; it is asked again.
            Err(e) => {
                tracing::warn!("device {name}: {e}");
                true
            }
        }
    }

    /// Names programs of others that see the packets of an uplink before netd's do, and may take them.
    pub(super) fn name_those_before(&mut self) {
        let mut found = Vec::new();
        for (ifindex, uplink) in &self.uplinks {
            let filters = hooked::filters(&mut self.node.netlink, *ifindex).unwrap_or_default();
            let before = filters.iter().filter(|f| f.priority < FILTER_PRIORITY);
            let mut names: Vec<String> = before
                .map(|f| format!("{} filter of priority {} on {}", f.kind, f.priority, f.side))
                .collect();
            names.extend(probe::tcx_before(&uplink.name).unwrap_or_default());
            found.extend(
                names
                    .iter()
                    .map(|n| format!("{n} of uplink {}", uplink.name)),
            );
        }
        let what =
            "what they take netd never sees; hook them behind netd's, or restart netd after them";
        let line = format!(
            "programs of others are hooked before netd's: {}; {what}",
            found.join(", ")
        );
        self.problem(BEFORE, Some(line).filter(|_| !found.is_empty()));
    }

    /// Finds gateways that are not as they were set up, for the next settling; takes endpoints up that somebody
    /// took down. Whether there is something to settle.
    pub(super) fn repair_devices(&mut self, links: &[Link], addresses: &[Address]) -> bool {
        let of = |name: &str| links.iter().find(|l| l.name == name);
        let mut stale = Vec::new();
        for network in self.desired.networks.values().filter(|n| n.has_gateway()) {
            let (Some(outer), Some(inner)) = (of(&network.outer()), of(&network.inner())) else {
                continue;
            };
            let configured = self
                .actual
                .devices
                .get(&outer.name)
                .is_some_and(|d| d.configured);
            if configured && let Some(why) = amiss(network, outer, inner, addresses) {
                let text = format!(
                    "gateway of network {}: {why}: it is put in order",
                    network.name
                );
                self.repaired(object::network(&network.name), text);
                stale.push(outer.name.clone());
            }
        }
        for name in &stale {
            if let Some(device) = self.actual.devices.get_mut(name) {
                device.configured = false;
            }
        }
        let endpoints = self
            .desired
            .endpoints
            .values()
            .filter_map(|e| of(&e.device()));
        let down: Vec<&str> = endpoints
            .filter(|l| !l.up)
            .map(|l| l.name.as_str())
            .collect();
        for name in down {
            let up = Set::new(name).up().request().or(libc::ENODEV);
            match self.node.netlink.batch(vec![up]) {
                Ok(()) => {
                    let text = format!("device {name} was taken down: it is up again");
                    self.repaired(format!("device {name}"), text);
                }
                Err(e) => tracing::warn!("{e}"),
            }
        }
        !stale.is_empty()
    }

    /// Endpoints whose inside cannot be finished: their namespace is gone or another one, and something still
    /// holds the device. One of `netd attach` was never answered for and is removed; of a file it is gone.
    /// They would be in the way of every change of their network.
    pub(super) fn give_up_unfinished(&mut self) {
        let half = |e: &&Endpoint| {
            let device = self.actual.devices.get(&e.device());
            device.is_some_and(|d| !d.configured)
        };
        let half: Vec<Endpoint> = self
            .desired
            .endpoints
            .values()
            .filter(half)
            .cloned()
            .collect();
        if half.is_empty() {
            return;
        }
        for endpoint in half {
            let device = endpoint.device();
            let file = endpoint.owner.starts_with(crate::model::file::OWNER);
            if endpoint.made || file {
                let text = format!("endpoint {} cannot be finished: it is gone", endpoint.name);
                self.tell(EventKind::Gone, object::endpoint(&endpoint.name), text);
                let ifindex = self.actual.ifindex(&device);
                if let Err(e) = self
                    .node
                    .netlink
                    .batch(vec![link::delete(&device, ifindex)])
                {
                    tracing::warn!("{e}");
                    continue;
                }
                self.actual.devices.remove(&device);
                self.note_made(endpoint.number);
                continue;
            }
            let change = Change {
                put: vec![],
                remove: self.desired.all_of(endpoint.number),
            };
            let stored = self
                .store
                .commit(change.clone(), self.desired.meta.next_number);
            match stored.wait() {
                Ok(()) => {
                    let back = self.desired.apply(&change);
                    self.tell_change(&change, &back);
                }
                Err(e) => tracing::warn!("{e}"),
            }
        }
        self.settle_onward(Scope::All);
    }

    /// Removes what earlier loads left, as soon as every hook has the programs of this one. Other problems have
    /// nothing to do with the programs of before.
    pub(super) fn drop_former_programs(&mut self, starting: bool) {
        let in_the_way = ["state", "uplinks", HOOKS];
        if self.former_dropped || in_the_way.iter().any(|p| self.problems.contains_key(*p)) {
            return;
        }
        match self.node.datapath.hooks_replaced(starting) {
            Ok(()) => self.former_dropped = true,
            Err(e) => tracing::warn!("{e}"),
        }
    }
}

/// What of a gateway pair is not as it was set up; none: all is.
fn amiss(network: &Network, outer: &Link, inner: &Link, addresses: &[Address]) -> Option<String> {
    if !outer.up || !inner.up {
        return Some("a device is down".into());
    }
    if outer.mtu != network.mtu || inner.mtu != network.mtu {
        return Some(format!("its MTU is not {}", network.mtu));
    }
    if outer.mac != network.gateway_mac {
        return Some("its MAC is another one".into());
    }
    let has = |net| {
        addresses
            .iter()
            .any(|a| a.ifindex == outer.ifindex && a.net == net)
    };
    if let Some(net) = network.gateway_nets().into_iter().find(|net| !has(*net)) {
        return Some(format!("the address {net} is missing"));
    }
    for (device, wanted) in [(&outer.name, 0), (&inner.name, 1)] {
        for family in ["ipv4", "ipv6"] {
            if sysctl::get(family, device, "forwarding").is_ok_and(|now| now != wanted) {
                return Some(format!("{family} forwarding of {device} is not {wanted}"));
            }
        }
    }
    None
}
