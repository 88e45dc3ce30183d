//! What the programs tell while somebody watches: records of the ring buffer `EVENTS`.
//!
//! Nobody watches as a rule: then [`watch`] is 0 in the programs' `.rodata`, the verifier takes all of
//! this out of them, and no record is written.

use bytemuck::{Pod, Zeroable};

use crate::addr::{Be16, V6};
use crate::tuple::Tuple;

/// Bits of the global `WATCH` (`u32`, in `.rodata`): what the programs of one load tell. It is fixed when
/// they are loaded; another set of programs is hooked in their place to change it.
pub mod watch {
    /// Name of the global.
    pub const GLOBAL: &str = "WATCH";
    /// Drops, and flows that begin and end.
    pub const EVENTS: u32 = 1;
    /// Every packet at the devices of `WATCHED`, with its first bytes.
    pub const PACKETS: u32 = 1 << 1;
    /// Each step of a packet's way, for `netd trace`; such programs are never hooked.
    pub const TRACE: u32 = 1 << 2;
}

/// What an [`Event`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// A packet and what became of it at a hook.
    Packet,
    /// A flow began.
    FlowOpened,
    /// A flow ended.
    FlowClosed,
}

impl EventKind {
    /// The code in a record.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        match self {
            Self::Packet => 0,
            Self::FlowOpened => 1,
            Self::FlowClosed => 2,
        }
    }

    /// From the code in a record.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Packet),
            1 => Some(Self::FlowOpened),
            2 => Some(Self::FlowClosed),
            _ => None,
        }
    }
}

/// What became of a packet at a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// On to the next program and the stack.
    Passed,
    /// Dropped: [`Event::reason`] says why.
    Dropped,
    /// Sent to another device, or up the node's stack from one: [`Event::device`], as far as a program
    /// named it.
    Redirected,
    /// Copies were sent.
    Copied,
}

impl Outcome {
    /// The code in a record.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Dropped => 1,
            Self::Redirected => 2,
            Self::Copied => 3,
        }
    }

    /// From the code in a record.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Passed),
            1 => Some(Self::Dropped),
            2 => Some(Self::Redirected),
            3 => Some(Self::Copied),
            _ => None,
        }
    }
}

/// Why a flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// It was over: closed by its ends, or idle for too long. [`Event::seen`] tells which.
    Over,
    /// Somebody ended it: flushed, or its endpoint or published port went.
    Ended,
    /// It was over, and its place was needed before the daemon came by.
    MadeRoom,
}

impl Closed {
    /// The code in a record.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        match self {
            Self::Over => 0,
            Self::Ended => 1,
            Self::MadeRoom => 2,
        }
    }

    /// From the code in a record.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Over),
            1 => Some(Self::Ended),
            2 => Some(Self::MadeRoom),
            _ => None,
        }
    }
}

/// Bits of [`Event::flags`].
pub mod event_flags {
    /// A packet: `tuple` and `to` are set, the packet was rewritten from one to the other.
    pub const REWRITTEN: u8 = 1;
    /// A packet of several segments (GSO): longer than a frame on a wire.
    pub const SEGMENTS: u8 = 1 << 1;
    /// The tuples are of IPv4 addresses, `::ffff:a.b.c.d`.
    pub const V4: u8 = 1 << 2;
    /// A packet: it carried a VLAN tag, which the kernel had moved out of its bytes.
    pub const VLAN: u8 = 1 << 3;
}

/// Head of a record of `EVENTS`. Of a packet, the first [`captured`](Event::captured) bytes of its frame
/// follow, as it came to the hook, before any rewriting; whoever reads parses them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Event {
    /// When the packet came to the hook or the flow began or ended, `bpf_ktime_get_ns`.
    pub time: u64,
    /// Flow: when it began, `bpf_ktime_get_ns`, its generation. Else 0.
    pub created: u64,
    /// Closed flow: packets of the original direction. Else 0.
    pub packets: u64,
    /// Closed flow: bytes of the original direction (L2). Else 0.
    pub bytes: u64,
    /// Closed flow: packets of the replies. Else 0.
    pub reply_packets: u64,
    /// Closed flow: bytes of the replies (L2). Else 0.
    pub reply_bytes: u64,
    /// Flow: the original direction's tuple as netd saw it. Packet: see [`event_flags::REWRITTEN`].
    pub tuple: Tuple<V6>,
    /// Flow: the tuple the original direction leaves with. Packet: the tuple it left with.
    pub to: Tuple<V6>,
    /// Packet: ifindex of the hook's device. Else 0.
    pub ifindex: u32,
    /// Packet: ifindex of the device it was sent to; 0: none, or the routing table said. Else 0.
    pub device: u32,
    /// Flow: number of its endpoint, [`super::Flow::endpoint`]. Else 0.
    pub endpoint: u32,
    /// Flow: number of its network, [`super::Flow::network`]. Else 0.
    pub network: u32,
    /// Flow: number of the publish it came in by. Else 0.
    pub publish: u32,
    /// Flow: number of the endpoint that began it, [`super::Flow::client`]. Else 0.
    pub client: u32,
    /// Packet: its length in bytes (L2). Else 0.
    pub len: u32,
    /// Packet: bytes of the frame that follow this head. Else 0.
    pub captured: u32,
    /// [`EventKind::code`].
    pub kind: u8,
    /// Packet: the hook, [`crate::reason::Hook`].
    pub hook: u8,
    /// Packet: [`Outcome::code`].
    pub outcome: u8,
    /// Packet: [`crate::reason::DropReason`]; 0: not dropped.
    pub reason: u8,
    /// [`event_flags`].
    pub flags: u8,
    /// Flow: [`super::FlowKind::code`].
    pub flow_kind: u8,
    /// Closed flow: [`Closed::code`].
    pub closed: u8,
    /// Closed TCP flow: what the original direction has sent, [`crate::flow::seen`].
    pub seen: u8,
    /// Closed TCP flow: what the replies have sent.
    pub reply_seen: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// With [`event_flags::VLAN`]: priority and VLAN id. Else 0.
    pub vlan_tci: u16,
    /// With [`event_flags::VLAN`]: the tag's EtherType. Else 0.
    pub vlan_proto: Be16,
}

/// Most bytes of a frame that follow an [`Event`].
pub const MAX_SNAPLEN: usize = 16_384;
/// Bytes of a frame that follow the [`Event`] of a dropped packet, where nobody captures: all headers.
pub const HEADERS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_value_and_no_other_code_has_one() {
        for code in 0..=u8::MAX {
            assert_eq!(
                EventKind::from_code(code).map(EventKind::code),
                (code < 3).then_some(code)
            );
            assert_eq!(
                Outcome::from_code(code).map(Outcome::code),
                (code < 4).then_some(code)
            );
            assert_eq!(
                Closed::from_code(code).map(Closed::code),
                (code < 3).then_some(code)
            );
        }
    }

    #[test]
    fn a_head_leaves_the_frame_behind_it_aligned() {
        assert_eq!(size_of::<Event>() % 8, 0);
    }
}
