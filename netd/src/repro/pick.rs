//! Which rows of the maps a packet needs. What a row is about (an address, a MAC, a port) is looked for in the
//! bytes of the frames before and after: a damaged packet, an ICMP error with the packet it quotes and a
//! question of ARP then need no reader of their own. A row too many does no harm; whether one is missing is
//! seen when the case is run before it is given out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytemuck::AnyBitPattern;
use netd_common::addr::{Addr, V4, V6};
use netd_common::maps::{
    DenyKey, FdbEntry, FdbKey, Float, Flow, FromKey, HostEntry, Learned, Mapping, Port, Publish,
    PublishKey, SegmentKey, SentKey, Target, name,
};
use netd_common::tuple::Tuple;

use super::case::Run;
use crate::datapath::{MapRows, RawRows, Tables};
use crate::trace::{End, summary};

/// What stands before an IPv4 address in a field of 16 bytes.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// What the runs of a case are about, and what the rows picked so far have added to it.
struct About<'a> {
    frames: Vec<&'a [u8]>,
    addresses: Vec<IpAddr>,
    flooded: bool,
    devices: BTreeSet<u32>,
    endpoints: BTreeSet<u32>,
    networks: BTreeSet<u32>,
    publishes: BTreeSet<u32>,
}

/// Reads a row's part; the maps were read with these sizes.
fn read<T: AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    bytemuck::try_pod_read_unaligned(bytes).ok()
}

impl About<'_> {
    fn occurs(&self, bytes: &[u8]) -> bool {
        let found = |frame: &&[u8]| frame.windows(bytes.len()).any(|part| part == bytes);
        self.frames.iter().any(found)
    }

    /// An address of either family in 16 bytes.
    fn has(&self, address: &V6) -> bool {
        match address.strip_prefix(&MAPPED) {
            Some(v4) => self.occurs(v4),
            None => self.occurs(address),
        }
    }

    /// An address, or none.
    fn may(&self, address: &V6) -> bool {
        let bare = address.strip_prefix(&MAPPED).unwrap_or(address);
        bare.iter().all(|b| *b == 0) || self.has(address)
    }

    fn is_about<A: Addr>(&self, t: &Tuple<A>) -> bool {
        let ports = [t.sport.0, t.dport.0];
        self.may(&t.src.to_16())
            && self.may(&t.dst.to_16())
            && (ports == [[0; 2]; 2] || ports.iter().any(|p| *p != [0; 2] && self.occurs(p)))
    }

    fn flow<A: Addr>(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let (key, flow): (Tuple<A>, Flow<A>) = (read(key)?, read(value)?);
        let taken = self.is_about(&key) || self.is_about(&flow.to);
        if taken {
            self.devices.insert(flow.device);
            self.endpoints.extend([flow.endpoint, flow.client]);
            self.publishes.insert(flow.publish);
        }
        Some(taken)
    }

    fn mapping<A: Addr>(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let (key, mapping): (Tuple<A>, Mapping<A>) = (read(key)?, read(value)?);
        let taken = self.is_about(&key) || self.is_about(&mapping.other);
        if taken {
            self.devices.insert(mapping.device);
            self.endpoints.insert(mapping.endpoint);
        }
        Some(taken)
    }

    fn host(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let host: HostEntry = read(value)?;
        let taken = self.occurs(key);
        if taken {
            self.devices.insert(host.device);
            self.endpoints.insert(host.endpoint);
            self.networks.insert(host.network);
        }
        Some(taken)
    }

    fn port(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let port: Port = read(value)?;
        let taken = self.devices.contains(&read(key)?);
        if taken {
            self.devices.extend([port.outer, port.inner]);
            self.endpoints.insert(port.endpoint);
            self.networks.insert(port.network);
        }
        Some(taken)
    }

    fn mac(&mut self, key: &[u8], device: u32) -> Option<bool> {
        let key: FdbKey = read(key)?;
        let taken = self.networks.contains(&key.network) && self.occurs(&key.mac);
        if taken {
            self.devices.insert(device);
        }
        Some(taken)
    }

    fn publish(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let (key, to): (PublishKey, Publish) = (read(key)?, read(value)?);
        let port = self.occurs(&key.port.0) || self.occurs(&to.port.0);
        let taken = port && self.may(&key.addr);
        if taken {
            self.devices.insert(to.device);
            self.endpoints.insert(to.endpoint);
            self.publishes.insert(to.number);
        }
        Some(taken)
    }

    fn floating(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let (outside, to): (V6, Float) = (read(key)?, read(value)?);
        let taken = self.has(&outside) || self.has(&to.addr);
        if taken {
            self.devices.insert(to.device);
            self.endpoints.insert(to.endpoint);
        }
        Some(taken)
    }

    fn denies(&self, key: &[u8]) -> Option<bool> {
        let key: DenyKey = read(key)?;
        let bits = u128::from_be_bytes(key.addr);
        let mask = u128::MAX
            .checked_shl(128 - key.prefix_len.min(128))
            .unwrap_or(0);
        let wide = |a: &IpAddr| match a {
            IpAddr::V4(a) => u128::from(a.to_ipv6_mapped()),
            IpAddr::V6(a) => u128::from(*a),
        };
        let covers = |a: &IpAddr| (wide(a) ^ bits) & mask == 0;
        Some(self.addresses.iter().any(covers))
    }

    /// Whether a row is taken. What cannot be read is not.
    fn takes(&mut self, map: &str, key: &[u8], value: &[u8]) -> bool {
        let taken = match map {
            name::PORT => self.port(key, value),
            name::HOST4 | name::HOST6 => self.host(key, value),
            name::FDB => read(value).and_then(|fdb: FdbEntry| self.mac(key, fdb.device)),
            name::LEARNED => read(value).and_then(|learned: Learned| {
                let device = Learned::device(learned.owner, &read(key)?);
                self.mac(key, device.unwrap_or_default())
            }),
            name::SEGMENT => read(key).and_then(|key: SegmentKey| {
                let taken = self.flooded && self.networks.contains(&key.network);
                if taken {
                    self.devices.insert(read::<Target>(value)?.device);
                }
                Some(taken)
            }),
            name::FLOW4 => self.flow::<V4>(key, value),
            name::FLOW6 => self.flow::<V6>(key, value),
            name::MAP4 => self.mapping::<V4>(key, value),
            name::MAP6 => self.mapping::<V6>(key, value),
            name::PUBLISH => self.publish(key, value),
            name::FLOAT => self.floating(key, value),
            name::SENT => read(key).map(|k: SentKey| self.has(&k.remote)),
            name::FROM => read(key).map(|k: FromKey| self.publishes.contains(&k.source.publish)),
            name::LOCAL => read(key).map(|address| self.has(&address)),
            name::DENY => self.denies(key),
            name::METER | name::AGED => read(key).map(|device| self.devices.contains(&device)),
            name::USAGE => read(key).map(|endpoint| self.endpoints.contains(&endpoint)),
            // One row, or few: limits, the node, uplinks.
            _ => Some(true),
        };
        taken.unwrap_or(false)
    }
}

/// The rows these runs need.
pub fn pick(all: &Tables, runs: &[Run]) -> Tables {
    let frames: Vec<&[u8]> = frames(runs).collect();
    let mut about = About {
        addresses: related(runs),
        frames,
        flooded: runs.iter().any(|r| matches!(r.end, End::Copied(_))),
        devices: runs.iter().map(|r| r.ifindex).collect(),
        endpoints: BTreeSet::new(),
        networks: BTreeSet::new(),
        publishes: BTreeSet::new(),
    };
    let mut picked = Tables::new();
    loop {
        let before = picked;
        picked = Tables::new();
        for (map, table) in all {
            let rows = table.rows.iter();
            let taken = rows.filter(|(key, value)| about.takes(map, key, value));
            let rows: RawRows = taken.cloned().collect();
            let taken = MapRows {
                free: table.free,
                rows,
            };
            if taken.free.is_some() || !taken.rows.is_empty() {
                picked.insert(map.clone(), taken);
            }
        }
        // Rows lead to rows: a device to its network, that to its gateway.
        if picked == before {
            return picked;
        }
    }
}

/// Both ends of the gateways that these rows name.
pub fn gateways(tables: &Tables) -> BTreeSet<u32> {
    let ports = tables.get(name::PORT).into_iter().flat_map(|t| &t.rows);
    let read = ports.filter_map(|(_, value)| read(value));
    read.flat_map(|port: Port| [port.outer, port.inner])
        .collect()
}

fn frames(runs: &[Run]) -> impl Iterator<Item = &[u8]> {
    runs.iter()
        .flat_map(|r| [Some(&r.frame), r.out.as_ref()])
        .flatten()
        .map(Vec::as_slice)
}

/// The addresses of the packets before and after.
pub fn related(runs: &[Run]) -> Vec<IpAddr> {
    let all: BTreeSet<IpAddr> = frames(runs)
        .flat_map(|frame| summary(frame).addresses)
        .collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests;
