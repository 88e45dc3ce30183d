//! Rows of the maps the control plane writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use netd_common::addr::{V4, V6};
use netd_common::learn::learns;
use netd_common::maps::{
    FdbEntry, FdbKey, Float, HostEntry, Node, Port, Publish, PublishKey, Range, SILENT, SegmentKey,
    Target, Uplink, name, node_flags,
};

use super::Datapath;
use super::error::{Error, Result, chain};
use super::table::Raw;
use crate::failpoint;

impl Datapath {
    /// Writes the row of a device.
    pub fn port_set(&mut self, ifindex: u32, port: &Port) -> Result<()> {
        self.ports.set(ifindex, *port)
    }

    /// Removes the row of a device, there or not (likewise below), and what was learned behind it.
    pub fn port_remove(&mut self, ifindex: u32) -> Result<()> {
        let had = self.ports.get(ifindex)?;
        self.ports.remove(ifindex)?;
        self.learned_forget(ifindex, had.is_some_and(|port| learns(&port)))
    }

    /// All devices: (ifindex, row).
    pub fn ports(&self) -> Result<Vec<(u32, Port)>> {
        self.ports.all()
    }

    /// Writes a forwarding entry; a switch port that was learned for the MAC is forgotten.
    pub fn fdb_set(&mut self, key: FdbKey, entry: &FdbEntry) -> Result<()> {
        self.fdb.set(key, *entry)?;
        self.learned.remove(key).map(drop)
    }

    /// Removes a forwarding entry.
    pub fn fdb_remove(&mut self, key: FdbKey) -> Result<()> {
        self.fdb.remove(key).map(drop)
    }

    /// All forwarding entries.
    pub fn fdb(&self) -> Result<Vec<(FdbKey, FdbEntry)>> {
        self.fdb.all()
    }

    /// Says who has an address.
    pub fn host_set(&mut self, addr: IpAddr, entry: &HostEntry) -> Result<()> {
        match addr {
            IpAddr::V4(a) => self.hosts4.set(a.octets(), *entry),
            IpAddr::V6(a) => self.hosts6.set(a.octets(), *entry),
        }
    }

    /// Nobody has the address any more.
    pub fn host_remove(&mut self, addr: IpAddr) -> Result<()> {
        match addr {
            IpAddr::V4(a) => self.hosts4.remove(a.octets()).map(drop),
            IpAddr::V6(a) => self.hosts6.remove(a.octets()).map(drop),
        }
    }

    /// All addresses.
    pub fn hosts(&self) -> Result<Vec<(IpAddr, HostEntry)>> {
        let v4 = self
            .hosts4
            .all()?
            .into_iter()
            .map(|(a, h)| (IpAddr::from(a), h));
        let v6 = self
            .hosts6
            .all()?
            .into_iter()
            .map(|(a, h)| (IpAddr::from(a), h));
        Ok(v4.chain(v6).collect())
    }

    /// Writes a slot of a network's switch ports. There must be no hole below it.
    pub fn slot_set(&mut self, (network, slot): (u32, u32), target: &Target) -> Result<()> {
        self.segments.set(SegmentKey { network, slot }, *target)
    }

    /// Removes a slot, the last one of its network.
    pub fn slot_remove(&mut self, (network, slot): (u32, u32)) -> Result<()> {
        self.segments.remove(SegmentKey { network, slot }).map(drop)
    }

    /// All switch ports, by network and slot.
    pub fn slots(&self) -> Result<Vec<((u32, u32), Target)>> {
        let rows = self.segments.all()?.into_iter();
        Ok(rows.map(|(k, v)| ((k.network, k.slot), v)).collect())
    }

    /// Publishes a port. No process can bind it from then on.
    pub fn publish_set(&mut self, key: PublishKey, value: &Publish) -> Result<()> {
        if self.publishes.get(key)?.is_some() {
            return self.publishes.set(key, *value);
        }
        self.held.note(&key, true)?;
        let set = self.publishes.set(key, *value);
        if set.is_err() {
            self.held.note(&key, false)?;
        }
        set
    }

    /// Ends a published port; its flows are the caller's business.
    pub fn publish_remove(&mut self, key: PublishKey) -> Result<()> {
        if self.publishes.remove(key)? {
            self.held.note(&key, false)?;
        }
        Ok(())
    }

    /// Lets no process bind a port while it is being published; nothing leads to it yet. Idle where the
    /// socket hooks are not.
    pub fn claim(&mut self, proto: u8, port: u16) -> Result<()> {
        self.held.claim(proto, port)
    }

    /// Ends all claims.
    pub fn release_claims(&mut self) -> Result<()> {
        self.held.release()
    }

    /// All published ports.
    pub fn published(&self) -> Result<Vec<(PublishKey, Publish)>> {
        self.publishes.all()
    }

    /// Gives an address to an endpoint. That there are such is said first: a row that nobody looks for would
    /// be taken for whole by the next start.
    pub fn float_set(&mut self, address: IpAddr, float: &Float) -> Result<()> {
        self.node_change(|node| node.flags |= node_flags::FLOATS)?;
        let set = self.floats.set(wide(address), *float);
        if set.is_err() {
            self.floats_noted()?;
        }
        set
    }

    /// Takes one back; its flows are the caller's business.
    pub fn float_remove(&mut self, address: IpAddr) -> Result<()> {
        self.floats.remove(wide(address))?;
        self.floats_noted()
    }

    /// Says whether there are floating addresses, as the map has it.
    pub(super) fn floats_noted(&mut self) -> Result<()> {
        let any = !self.floats.all()?.is_empty();
        self.node_change(|node| {
            node.flags &= !node_flags::FLOATS;
            if any {
                node.flags |= node_flags::FLOATS;
            }
        })
    }

    /// All floating addresses.
    pub fn floats(&self) -> Result<Vec<(IpAddr, Float)>> {
        let all = self.floats.all()?.into_iter();
        let narrow = |(a, f): (V6, Float)| (IpAddr::from(a).to_canonical(), f);
        Ok(all.map(narrow).collect())
    }

    /// Writes the row of an uplink.
    pub fn uplink_set(&mut self, ifindex: u32, uplink: &Uplink) -> Result<()> {
        self.uplinks.set(ifindex, *uplink)
    }

    /// Removes the row of an uplink.
    pub fn uplink_remove(&mut self, ifindex: u32) -> Result<()> {
        self.uplinks.remove(ifindex).map(drop)
    }

    /// All uplinks: (ifindex, row).
    pub fn uplinks(&self) -> Result<Vec<(u32, Uplink)>> {
        self.uplinks.all()
    }

    /// The addresses that traffic of endpoints could stand on as the programs were told last: those of the node
    /// and of the uplinks.
    pub fn stood_on(&self) -> Result<BTreeSet<IpAddr>> {
        let mut all: BTreeSet<IpAddr> = BTreeSet::new();
        all.extend(self.locals.all()?.into_iter().map(|(ip, _)| narrow(ip)));
        for (_, uplink) in self.uplinks.all()? {
            all.extend([IpAddr::from(uplink.v4), IpAddr::from(uplink.v6)]);
        }
        all.retain(|ip| !ip.is_unspecified());
        Ok(all)
    }

    /// Makes the node's addresses exactly `addresses`, each with the ifindex of its device: new ones
    /// first, so that none that stays is ever missing.
    pub fn locals_set(&mut self, addresses: &BTreeMap<IpAddr, u32>) -> Result<()> {
        let there: BTreeMap<V6, u32> = self.locals.all()?.into_iter().collect();
        let wanted: BTreeMap<V6, u32> = addresses
            .iter()
            .map(|(ip, device)| (wide(*ip), *device))
            .collect();
        for (ip, device) in wanted.iter().filter(|(k, v)| there.get(*k) != Some(v)) {
            self.locals.set(*ip, *device)?;
        }
        for ip in there.keys().filter(|k| !wanted.contains_key(*k)) {
            self.locals.remove(*ip)?;
        }
        Ok(())
    }

    /// Makes the deny list exactly `prefixes`: new ones first, so that no prefix that stays is ever off.
    pub fn deny_set(&mut self, prefixes: &[IpNet]) -> Result<()> {
        let error = |op| {
            move |e: aya::maps::MapError| Error::Map {
                map: name::DENY,
                op,
                why: chain(&e),
            }
        };
        let wanted: Vec<(u32, V6)> = prefixes.iter().map(deny_key).collect();
        for (len, addr) in &wanted {
            self.deny
                .insert(&Key::new(*len, Raw(*addr)), 1, 0)
                .map_err(error("insert"))?;
        }
        let mut stale = Vec::new();
        for key in self.deny.keys() {
            let key = key.map_err(error("dump"))?;
            if !wanted.contains(&(key.prefix_len(), key.data().0)) {
                stale.push(key);
            }
        }
        for key in stale {
            self.deny.remove(&key).map_err(error("remove"))?;
        }
        self.node_change(|node| {
            node.flags &= !node_flags::DENY;
            if !wanted.is_empty() {
                node.flags |= node_flags::DENY;
            }
        })
    }

    /// Says which addresses of the node a server sees where an endpoint calls a published port; zero:
    /// the one that was called.
    pub fn node_addresses_set(&mut self, v4: V4, v6: V6) -> Result<()> {
        self.node_change(|node| (node.v4, node.v6) = (v4, v6))
    }

    /// Says at which ports a SYN that belongs to nothing is dropped without a word; unused ranges are zero.
    pub fn silent_set(&mut self, ports: [Range; SILENT]) -> Result<()> {
        self.node_change(|node| node.silent = ports)
    }

    fn node_change(&mut self, change: impl FnOnce(&mut Node)) -> Result<()> {
        let error = |op| {
            move |e: aya::maps::MapError| Error::Map {
                map: name::NODE,
                op,
                why: chain(&e),
            }
        };
        let Raw(mut node) = self.node.get(&0, 0).map_err(error("look-up"))?;
        let before = node;
        change(&mut node);
        if node == before {
            return Ok(());
        }
        failpoint::step(name::NODE);
        self.node.set(0, Raw(node), 0).map_err(error("insert"))
    }
}

/// An address in 16 bytes: IPv4 as `::ffff:a.b.c.d`.
fn wide(ip: IpAddr) -> V6 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The other way round.
fn narrow(ip: V6) -> IpAddr {
    Ipv6Addr::from(ip).to_canonical()
}

/// Prefix length and address of a deny-list key: IPv4 lies in `::ffff:0:0/96`.
fn deny_key(net: &IpNet) -> (u32, V6) {
    match net {
        IpNet::V4(n) => (
            96 + u32::from(n.prefix_len()),
            n.network().to_ipv6_mapped().octets(),
        ),
        IpNet::V6(n) => (u32::from(n.prefix_len()), n.network().octets()),
    }
}
