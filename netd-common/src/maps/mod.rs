//! Keys and values of the BPF maps: the binary contract between the programs and user space.
//!
//! Every type is `repr(C)` without padding, so all of its bytes are defined. Integers are in the
//! machine's order, addresses and ports in network order (byte arrays, [`Be16`](crate::addr::Be16)).
//! `docs/maps.md` lists who writes and who reads each map.

mod endpoint;
mod event;
mod floating;
mod flow;
pub mod fragment;
pub mod layout;
mod learn;
mod mapping;
mod publish;
mod socket;
mod uplink;

pub use endpoint::{FdbEntry, FdbKey, HostEntry, HostKind, Port, SegmentKey, Target, port_flags};
pub use event::{Closed, Event, EventKind, HEADERS, MAX_SNAPLEN, Outcome, event_flags, watch};
pub use floating::Float;
pub use flow::{Dir, Ending, Flow, FlowKind, Limits, Usage, ending, flow_flags, is_called, payer};
pub use learn::{Learned, Meter};
pub use mapping::{Mapping, SentKey, mapping_flags};
pub use publish::{FromKey, Publish, PublishKey, Source};
pub use socket::{Called, CalledKey, Held};
pub use uplink::{DenyKey, Node, Range, SILENT, Stat, Uplink, node_flags};

/// Names of the maps, as in the ELF and as file names of their pins.
pub mod name {
    /// `u32` ifindex -> [`Port`](super::Port): endpoint devices and gateway inner ends.
    pub const PORT: &str = "PORT";
    /// [`FdbKey`](super::FdbKey) -> [`FdbEntry`](super::FdbEntry).
    pub const FDB: &str = "FDB";
    /// [`FdbKey`](super::FdbKey) -> [`Learned`](super::Learned).
    pub const LEARNED: &str = "LEARNED";
    /// `u32` ifindex -> [`Meter`](super::Meter): what a switch port has learned and flooded.
    pub const METER: &str = "METER";
    /// `u32` ifindex -> `u64`: learned MACs of a switch port that the daemon has removed.
    pub const AGED: &str = "AGED";
    /// IPv4 address -> [`HostEntry`](super::HostEntry).
    pub const HOST4: &str = "HOST4";
    /// IPv6 address -> [`HostEntry`](super::HostEntry).
    pub const HOST6: &str = "HOST6";
    /// [`SegmentKey`](super::SegmentKey) -> [`Target`](super::Target): where a flood goes.
    pub const SEGMENT: &str = "SEGMENT";
    /// [`Tuple`](crate::tuple::Tuple) of IPv4 -> [`Flow`](super::Flow).
    pub const FLOW4: &str = "FLOW4";
    /// [`Tuple`](crate::tuple::Tuple) of IPv6 -> [`Flow`](super::Flow).
    pub const FLOW6: &str = "FLOW6";
    /// [`Tuple`](crate::tuple::Tuple) of IPv4 with one side -> [`Mapping`](super::Mapping).
    pub const MAP4: &str = "MAP4";
    /// [`Tuple`](crate::tuple::Tuple) of IPv6 with one side -> [`Mapping`](super::Mapping).
    pub const MAP6: &str = "MAP6";
    /// LRU: [`SentKey`](super::SentKey) -> `u32` (unused).
    pub const SENT: &str = "SENT";
    /// `u32` number of an endpoint -> [`Usage`](super::Usage): the flows it has.
    pub const USAGE: &str = "USAGE";
    /// One [`Limits`](super::Limits).
    pub const LIMITS: &str = "LIMITS";
    /// [`PublishKey`](super::PublishKey) -> [`Publish`](super::Publish).
    pub const PUBLISH: &str = "PUBLISH";
    /// Floating address, IPv4 as `::ffff:a.b.c.d` -> [`Float`](super::Float).
    pub const FLOAT: &str = "FLOAT";
    /// LPM: [`FromKey`](super::FromKey) -> `u32` number of the publish's network.
    pub const FROM: &str = "FROM";
    /// `u32` ifindex -> [`Uplink`](super::Uplink).
    pub const UPLINK: &str = "UPLINK";
    /// Address of the node, IPv4 as `::ffff:a.b.c.d` -> `u32` ifindex of the device that has it.
    pub const LOCAL: &str = "LOCAL";
    /// LPM: [`DenyKey`](super::DenyKey) -> `u32` (unused).
    pub const DENY: &str = "DENY";
    /// One [`Node`](super::Node).
    pub const NODE: &str = "NODE";
    /// Per CPU: [`Hook::stat`](crate::reason::Hook::stat) -> [`Stat`](super::Stat).
    pub const STATS: &str = "STATS";
    /// LRU: [`CalledKey`](super::CalledKey) -> [`Called`](super::Called).
    pub const CALLED: &str = "CALLED";
    /// Not pinned: [`held_index`](crate::sock::held_index) -> [`Held`](super::Held).
    pub const HELD: &str = "HELD";
    /// Not pinned, a ring buffer: [`Event`](super::Event)s while somebody watches.
    pub const EVENTS: &str = "EVENTS";
    /// Not pinned: `u32` ifindex -> `u32` bytes to capture of each packet at that device; ifindex 0: at all.
    pub const WATCHED: &str = "WATCHED";
    /// Not pinned, per CPU: the packet at hand as it came.
    pub const SEEN: &str = "SEEN";
    /// Not pinned, per CPU: `u64` events for which `EVENTS` had no room.
    pub const LOST: &str = "LOST";
    /// Not pinned: one [`Trace`](crate::trace::Trace).
    pub const TRACE: &str = "TRACE";
    /// All maps that are pinned and outlive the daemon.
    pub const PINNED: &[&str] = &[
        PORT, FDB, LEARNED, METER, AGED, HOST4, HOST6, SEGMENT, FLOW4, FLOW6, MAP4, MAP6, SENT,
        USAGE, LIMITS, PUBLISH, FLOAT, FROM, UPLINK, LOCAL, DENY, NODE, STATS, CALLED,
    ];
}

/// Default sizes of the maps, in entries.
pub mod size {
    /// Endpoints and gateways of a node.
    pub const PORT: u32 = 4_096;
    /// Forwarding entries of all networks.
    pub const FDB: u32 = 16_384;
    /// Learned MACs of all networks.
    pub const LEARNED: u32 = 16_384;
    /// Addresses of one family.
    pub const HOST: u32 = 16_384;
    /// Switch ports of all networks.
    pub const SEGMENT: u32 = 8_192;
    /// Entries of one family; a flow takes two.
    pub const FLOW: u32 = 262_144;
    /// Rows of one family; a mapping takes two. No flow needs more than one of its own.
    pub const MAPPING: u32 = FLOW;
    /// Remote addresses, but the first of each, that sockets with address-dependent filters have sent to.
    pub const SENT: u32 = 65_536;
    /// Endpoints that have flows.
    pub const USAGE: u32 = PORT;
    /// Published (address, protocol, port).
    pub const PUBLISH: u32 = 65_536;
    /// Floating addresses.
    pub const FLOAT: u32 = 4_096;
    /// Source prefixes of all publishes.
    pub const FROM: u32 = 16_384;
    /// Uplinks of a node.
    pub const UPLINK: u32 = 64;
    /// Addresses of the node.
    pub const LOCAL: u32 = 4_096;
    /// Deny-list prefixes.
    pub const DENY: u32 = 16_384;
    /// Sockets of the node that talk to published ports.
    pub const CALLED: u32 = 16_384;
    /// Bytes of the ring buffer of events while nobody watches.
    pub const EVENTS: u32 = 4_096;
    /// The same while somebody does.
    pub const EVENTS_WATCHED: u32 = 4 << 20;
    /// Packets that a CPU is at while somebody watches; else there is no need for any.
    pub const SEEN_WATCHED: u32 = 3;
    /// Ports of two protocols.
    pub const HELD: u32 = 131_072;
}

/// Implements `Pod` for a type that is generic over the address family, and proves for both families
/// that it has no padding: `$v4` and `$v6` are the sums of the sizes of its fields.
macro_rules! pod {
    ($ty:ident, $v4:expr, $v6:expr) => {
        const _: () = assert!(core::mem::size_of::<$ty<$crate::addr::V4>>() == $v4);
        const _: () = assert!(core::mem::size_of::<$ty<$crate::addr::V6>>() == $v6);
        // SAFETY: `repr(C)`, every field is `Pod`, and for the two address types there are (asserted
        // above) the size is the sum of the fields' sizes, so there is no padding.
        unsafe impl<A: $crate::addr::Addr> bytemuck::Zeroable for $ty<A> {}
        // SAFETY: as above.
        unsafe impl<A: $crate::addr::Addr> bytemuck::Pod for $ty<A> {}
    };
}
pub(crate) use pod;
