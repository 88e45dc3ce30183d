//! The flow table: one conversation is two entries, one for each direction, that appear and
//! vanish together.

use bytemuck::{Pod, Zeroable};

use super::pod;
use crate::addr::Mac;
use crate::flow::Timeouts;
use crate::tuple::Tuple;

/// Why a flow is tracked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowKind {
    /// SNAT of endpoint traffic to the uplink's address.
    Masquerade,
    /// DNAT of outside traffic to a published endpoint port.
    Publish,
    /// A flow of the node itself that had to leave by another port, because a mapping holds its own.
    Node,
    /// Endpoint traffic to the outside that keeps its address, so that the replies are let in.
    Forward,
    /// An endpoint's traffic to a published port: its destination becomes the server's endpoint, its
    /// source an address of the node.
    Hairpin,
    /// From outside to an endpoint by a mapping it holds, as the mapping's filter allows.
    Inbound,
    /// Between a floating address and its endpoint, from either side, or from the node itself.
    Floating,
}

impl FlowKind {
    /// The code in a map.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        match self {
            Self::Masquerade => 0,
            Self::Publish => 1,
            Self::Node => 2,
            Self::Forward => 3,
            Self::Hairpin => 4,
            Self::Inbound => 5,
            Self::Floating => 6,
        }
    }

    /// From the code in a map.
    #[inline(always)]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Masquerade),
            1 => Some(Self::Publish),
            2 => Some(Self::Node),
            3 => Some(Self::Forward),
            4 => Some(Self::Hairpin),
            5 => Some(Self::Inbound),
            6 => Some(Self::Floating),
            _ => None,
        }
    }

    /// What people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masquerade => "masquerade",
            Self::Publish => "publish",
            Self::Node => "node",
            Self::Forward => "forward",
            Self::Hairpin => "hairpin",
            Self::Inbound => "inbound",
            Self::Floating => "floating",
        }
    }
}

/// Which direction of the conversation an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dir {
    /// The way of the first packet.
    Original,
    /// The way back.
    Reply,
}

impl Dir {
    /// The code in a map.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        match self {
            Self::Original => 0,
            Self::Reply => 1,
        }
    }

    /// From the code in a map.
    #[inline(always)]
    pub const fn from_code(code: u8) -> Self {
        if code == 0 {
            Self::Original
        } else {
            Self::Reply
        }
    }
}

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// Packets of this direction go to an endpoint's device; else they are routed to the outside.
    pub const TO_ENDPOINT: u8 = 1;
    /// Packets of this direction go up the node's own stack.
    pub const TO_NODE: u8 = 1 << 1;
    /// The flow holds the mapping of the socket that began it. Masquerade without this bit shares its
    /// outside port with flows to other remote sockets.
    pub const MAPPED: u8 = 1 << 2;
    /// The flow holds the mapping by which its endpoint was called.
    pub const CALLED: u8 = 1 << 3;
    /// With `MAPPED`: the mapping is this flow's alone, not its socket's ([`crate::mapping::apart`]).
    pub const APART: u8 = 1 << 5;
    /// Of a network with the strict profile: what is over stays for the transitory time-out.
    pub const STRICT: u8 = 1 << 4;
}

/// Value of `FLOW4` and `FLOW6`: one direction of a conversation. Key: the [`Tuple`] the packet has
/// when netd sees it. Only packets of that direction write an entry.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow<A> {
    /// The tuple the packet leaves with; its reverse is the key of the other direction.
    pub to: Tuple<A>,
    /// When the flow began, `bpf_ktime_get_ns`: the same in both entries, its generation.
    pub created: u64,
    /// Last packet of this direction, `bpf_ktime_get_ns`.
    pub last_seen: u64,
    /// Packets of this direction.
    pub packets: u64,
    /// Bytes of this direction (L2).
    pub bytes: u64,
    /// [`Tuple::tag`] of the entry's own key: tells a reader that the kernel reused the element.
    pub tag: u32,
    /// With `TO_ENDPOINT`: ifindex of the endpoint's node-side device. Masquerade's original
    /// direction: ifindex of the uplink whose address it carries. Else 0.
    pub device: u32,
    /// Number of the endpoint the flow belongs to; 0: the node.
    pub endpoint: u32,
    /// With `TO_ENDPOINT`: MAC of the endpoint.
    pub dst_mac: Mac,
    /// With `TO_ENDPOINT`: MAC of its gateway.
    pub src_mac: Mac,
    /// [`FlowKind::code`].
    pub kind: u8,
    /// [`Dir::code`].
    pub dir: u8,
    /// TCP: what this direction has sent, [`crate::flow::seen`].
    pub seen: u8,
    /// [`flow_flags`].
    pub flags: u8,
    /// Number of the network the endpoint is on; 0: the node.
    pub network: u32,
    /// Number of the publish the flow came in by; 0: by none.
    pub publish: u32,
    /// Number of the endpoint that began the flow, where `endpoint` is the one that was called; 0: none.
    pub client: u32,
    /// TCP: the sequence number that follows the last byte this direction has sent.
    pub next: u32,
    /// TCP: the last acknowledgement this direction has sent.
    pub ack: u32,
}

pod!(Flow, 16 + 32 + 12 + 12 + 4 + 20, 40 + 32 + 12 + 12 + 4 + 20);

/// The endpoint a flow is counted for: the one that began it, or that was called from outside; 0: the node.
#[inline(always)]
pub const fn payer(endpoint: u32, client: u32) -> u32 {
    if client == 0 { endpoint } else { client }
}

/// Value of `USAGE`: how many flows an endpoint is counted with.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Usage {
    /// All of them.
    pub flows: u64,
    /// Those that somebody outside has begun.
    pub called: u64,
}

/// Whether a flow is begun by others than its endpoint, from outside: by the [`FlowKind::code`] and the
/// [`flow_flags`] of its original entry. By a floating address flows begin from either side.
#[inline(always)]
pub const fn is_called(kind: u8, flags: u8) -> bool {
    kind == FlowKind::Publish.code()
        || kind == FlowKind::Inbound.code()
        || (kind == FlowKind::Floating.code() && flags & flow_flags::TO_ENDPOINT != 0)
}

/// The one value of `LIMITS`: how long flows live and how many there may be.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Limits {
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Flows of both families that an endpoint may have at a time.
    pub per_endpoint: u64,
}

/// A flow that is to end, by the key of its original direction (or of an entry that has lost its other
/// half) and its generation: should another flow have the key by now, that one stays.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending<A> {
    /// The key.
    pub key: Tuple<A>,
    /// [`Flow::created`].
    pub created: u64,
}

pod!(Ending, 16 + 8, 40 + 8);

/// What `netd_flow_end` is run on: a frame of [`ending::HEAD`] bytes, then [`Ending`]s.
pub mod ending {
    /// Bytes before the first [`super::Ending`].
    pub const HEAD: usize = 16;
    /// Where the family stands: 4 or 6.
    pub const FAMILY: usize = 14;
    /// Where the mode stands.
    pub const MODE: usize = 15;
    /// Mode: end it, whatever its state.
    pub const END: u8 = 0;
    /// Mode: end it if it is over.
    pub const END_IF_OVER: u8 = 1;
    /// Mode: what is listed are mappings; free them, whatever they hold.
    pub const FREE: u8 = 2;
    /// Mode: what is listed are mappings; free them if they are over.
    pub const FREE_IF_OVER: u8 = 3;
    /// At most so many in one frame.
    pub const MOST: usize = 64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_endpoints_and_the_node_begin_is_not_called_from_outside() {
        let called = |kind: FlowKind| is_called(kind.code(), 0);
        assert!(called(FlowKind::Publish) && called(FlowKind::Inbound));
        for kind in [
            FlowKind::Masquerade,
            FlowKind::Node,
            FlowKind::Forward,
            FlowKind::Hairpin,
        ] {
            assert!(!called(kind), "{kind:?}");
        }
        let floating = |flags| is_called(FlowKind::Floating.code(), flags);
        assert!(floating(flow_flags::TO_ENDPOINT) && !floating(0));
    }

    #[test]
    fn whoever_began_a_flow_pays_for_it() {
        assert_eq!(payer(7, 0), 7, "out, or called from outside");
        assert_eq!(payer(7, 8), 8, "8 calls a published port of 7");
        assert_eq!(payer(0, 0), 0);
    }
}
