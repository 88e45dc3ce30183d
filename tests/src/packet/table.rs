//! The flow table's raw entries: a test ages them, takes one half away, or looks at what was noted.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData};
use netd_common::addr::{Addr, Be16, V4, V6};
use netd_common::maps::{Dir, Flow, FlowKind, name};
use netd_common::tuple::Tuple;

use super::hosts::Family;
use super::world::World;

/// Lets aya handle a type that bytemuck knows to be plain bytes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Plain<T>(pub(crate) T);

// SAFETY: `T: bytemuck::Pod` is stronger than `aya::Pod`.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

/// Which entry of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// The way of the first packet.
    Original,
    /// The way back.
    Reply,
}

/// What both families' entries have.
pub struct Entry<'a> {
    /// When the flow began.
    pub created: &'a mut u64,
    /// Last packet.
    pub last_seen: &'a mut u64,
    /// Packets.
    pub packets: &'a mut u64,
    /// Bytes.
    pub bytes: &'a mut u64,
    /// TCP flags noted.
    pub seen: &'a mut u8,
    /// Belongs to which key.
    pub tag: &'a mut u32,
}

enum Table {
    V4(HashMap<MapData, Plain<Tuple<V4>>, Plain<Flow<V4>>>),
    V6(HashMap<MapData, Plain<Tuple<V6>>, Plain<Flow<V6>>>),
}

/// One family's flow table.
pub struct FlowTable(Table);

impl World {
    /// The flow table of a family.
    pub fn table(&self, family: Family) -> FlowTable {
        let open = |name| Map::HashMap(MapData::from_pin(self.pin(name)).expect("a pinned map"));
        FlowTable(match family {
            Family::V4 => Table::V4(open(name::FLOW4).try_into().expect("a hash map")),
            Family::V6 => Table::V6(open(name::FLOW6).try_into().expect("a hash map")),
        })
    }
}

macro_rules! each {
    ($table:expr, $map:ident => $body:expr) => {
        match &mut $table.0 {
            Table::V4($map) => $body,
            Table::V6($map) => $body,
        }
    };
}

/// What a reader of one entry wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The entry is of the way of the first packet, and that came from outside.
    pub begun_outside: bool,
}

impl World {
    /// The entry of a packet with these addresses, ports and protocol.
    pub fn flow_of(
        &self,
        src: &[u8],
        dst: &[u8],
        sport: u16,
        dport: u16,
        proto: u8,
    ) -> Option<Found> {
        let begun_outside = |kind, dir| {
            let kind = FlowKind::from_code(kind);
            matches!(kind, Some(FlowKind::Publish | FlowKind::Inbound))
                && half_of(dir) == Half::Original
        };
        if src.len() == 4 {
            let flow = lookup::<V4>(&self.pin(name::FLOW4), src, dst, (sport, dport, proto))?;
            Some(Found {
                begun_outside: begun_outside(flow.kind, flow.dir),
            })
        } else {
            let flow = lookup::<V6>(&self.pin(name::FLOW6), src, dst, (sport, dport, proto))?;
            Some(Found {
                begun_outside: begun_outside(flow.kind, flow.dir),
            })
        }
    }
}

fn lookup<A: Addr>(
    pin: &Path,
    src: &[u8],
    dst: &[u8],
    (sport, dport, proto): (u16, u16, u8),
) -> Option<Flow<A>>
where
    Tuple<A>: bytemuck::Pod,
    Flow<A>: bytemuck::Pod,
{
    let map = Map::HashMap(MapData::from_pin(pin).expect("a pinned map"));
    let map: HashMap<MapData, Plain<Tuple<A>>, Plain<Flow<A>>> =
        map.try_into().expect("a hash map");
    let key = Tuple {
        src: bytemuck::pod_read_unaligned(src),
        dst: bytemuck::pod_read_unaligned(dst),
        sport: Be16::new(sport),
        dport: Be16::new(dport),
        proto,
        pad: [0; 3],
    };
    map.get(&Plain(key), 0).ok().map(|flow| flow.0)
}

impl FlowTable {
    /// Number of entries; a flow has two.
    pub fn entries(&mut self) -> usize {
        each!(self, map => map.keys().count())
    }

    /// Changes every entry of one half.
    pub fn change(&mut self, half: Half, change: impl Fn(&mut Entry)) {
        each!(self, map => {
            let all: Vec<_> = map.iter().map(|row| row.expect("a row")).collect();
            for (key, mut flow) in all {
                if half_of(flow.0.dir) != half {
                    continue;
                }
                let f = &mut flow.0;
                change(&mut Entry {
                    created: &mut f.created,
                    last_seen: &mut f.last_seen,
                    packets: &mut f.packets,
                    bytes: &mut f.bytes,
                    seen: &mut f.seen,
                    tag: &mut f.tag,
                });
                map.insert(key, flow, 0).expect("the row is written back");
            }
        });
    }

    /// Changes every entry.
    pub fn change_all(&mut self, change: impl Fn(&mut Entry)) {
        self.change(Half::Original, &change);
        self.change(Half::Reply, &change);
    }

    /// Shows the key, as bytes, and the beginning of every flow.
    pub fn originals(&mut self, mut show: impl FnMut(&[u8], u64)) {
        each!(self, map => {
            for row in map.iter() {
                let (key, flow) = row.expect("a row");
                if half_of(flow.0.dir) == Half::Original {
                    show(bytemuck::bytes_of(&key.0), flow.0.created);
                }
            }
        });
    }

    /// Takes one half of every flow away.
    pub fn remove(&mut self, half: Half) {
        each!(self, map => {
            let all: Vec<_> = map.iter().map(|row| row.expect("a row")).collect();
            for (key, flow) in all {
                if half_of(flow.0.dir) == half {
                    map.remove(&key).expect("the row is there");
                }
            }
        });
    }
}

const fn half_of(dir: u8) -> Half {
    match Dir::from_code(dir) {
        Dir::Original => Half::Original,
        Dir::Reply => Half::Reply,
    }
}

/// Nanoseconds on the clock of the flow table's entries: none can be older.
pub fn uptime() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let now = nix::time::clock_gettime(clock).expect("the monotonic clock");
    let (seconds, ns) = (now.tv_sec(), now.tv_nsec());
    seconds.cast_unsigned() * 1_000_000_000 + ns.cast_unsigned()
}
