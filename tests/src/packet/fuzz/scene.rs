//! What surrounds a case: publishes, limits, options of networks, and the flows of the prologue.

use aya::maps::MapData;
use netd_common::addr::Be16;
use netd_common::maps::{name, port_flags};

use super::super::frame::{Flags, Kind, Packet};
use super::super::hosts::{A, B, C, DENIED, Family, OUTSIDE, PORT_MAX, PORT_MIN};
use super::super::pool::empty;
use super::super::world::World;

/// Surroundings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scene {
    /// Room for everything.
    Plain,
    /// Two outside ports, few flows for an endpoint, few floods, one more MAC behind `B`.
    Narrow,
    /// The uplink has no address.
    Mute,
}

/// Ports that are published on all addresses of the node, and where they lead: port 80 of `A`.
pub const PUBLISHED: u16 = 8_080;
/// The same, of `B`, for one host outside alone.
pub const LIMITED: u16 = 8_081;
/// Source ports of the prologue's flows from `A` to port 80 of a host outside.
const FLOWS: u16 = 20_100;

impl Scene {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Narrow, Self::Mute];

    /// That of a block.
    pub const fn of(block: u64) -> Self {
        match block % 8 {
            3 | 6 => Self::Narrow,
            7 => Self::Mute,
            _ => Self::Plain,
        }
    }

    /// Whether `B` may have another's MAC and address behind it.
    pub const fn learns(self) -> bool {
        matches!(self, Self::Narrow)
    }

    /// Writes the rows.
    pub fn set(self, world: &mut World) {
        let narrow = self == Self::Narrow;
        world.uplink(|u| {
            (u.port_min, u.port_max) = if narrow {
                (Be16::new(PORT_MIN + 100), Be16::new(PORT_MIN + 101))
            } else {
                (Be16::new(PORT_MIN), Be16::new(PORT_MAX))
            };
            if self == Self::Mute {
                (u.v4, u.v6) = ([0; 4], [0; 16]);
            }
        });
        world.silent(PORT_MIN, PORT_MAX);
        world.limits(|l| l.per_endpoint = if narrow { 40 } else { u64::MAX });
        for who in [&A, &B, &C] {
            world.port(who, |p| {
                p.storm = u32::from(narrow);
                p.macs = u32::from(narrow && who.endpoint == B.endpoint);
            });
        }
        world.port(&C, |p| p.flags |= port_flags::INTERNAL);
        for family in [Family::V4, Family::V6] {
            for proto in [6, 17] {
                world.publish(None, family, proto, PUBLISHED, &A, 80);
                world.publish(None, family, proto, LIMITED, &B, 80);
            }
        }
        world.limit(LIMITED, &["203.0.113.10/32", "2001:db8:9::10/128"]);
        let denied = [DENIED.ip(Family::V4), DENIED.ip(Family::V6)].map(Into::into);
        world.datapath().deny_set(&denied).expect("deny list");
    }
}

/// Empties what packets fill, and opens the prologue's flows where there is room for them.
pub fn begin(world: &mut World) {
    let filled = [
        name::FLOW4,
        name::FLOW6,
        name::MAP4,
        name::MAP6,
        name::SENT,
        name::USAGE,
        name::LEARNED,
        name::METER,
        name::AGED,
    ];
    for map in filled {
        empty(&MapData::from_pin(world.pin(map)).expect("a pinned map"));
    }
    for family in [Family::V4, Family::V6] {
        for kind in [Kind::Tcp, Kind::Udp, Kind::Echo] {
            let first = Packet::first(kind, &A, FLOWS, &OUTSIDE, 80, family).to_gateway();
            world.ep_out(&A, &first);
        }
        let call = Packet::tcp(
            &OUTSIDE,
            40_000,
            &super::super::hosts::NODE,
            PUBLISHED,
            Flags::SYN,
            family,
        );
        world.up_in(&call);
    }
}
