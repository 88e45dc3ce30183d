//! `netd_xdp`: on an uplink, before an skb exists. Malformed frames and denied sources die here.

use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::XdpContext;
use netd_common::addr::{V4, V6};
use netd_common::maps::{DenyKey, node_flags};
use netd_common::reason::DropReason;
use netd_common::wire::{Eth, Packet, Window, ethertype};

use crate::L3;
use crate::family::Net;
use crate::maps::{DENY, NODE};

/// The linear part of an XDP frame.
pub struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame a program was called with.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

impl Window for Frame {
    #[inline(always)]
    fn load<const N: usize>(&self, off: usize) -> Option<[u8; N]> {
        const MAX_OFFSET: usize = 0x3fff;
        if off > MAX_OFFSET {
            return None;
        }
        let at = self.start + off;
        if at + N > self.end {
            return None;
        }
        // SAFETY: the N bytes at `at` lie between `data` and `data_end`.
        Some(unsafe { (at as *const [u8; N]).read_unaligned() })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Judges a frame from the outside.
#[inline(always)]
pub fn judge(frame: &Frame) -> Result<(), DropReason> {
    let judged = match Eth::parse(frame)?.ethertype {
        ethertype::IPV4 => packet::<V4>(frame),
        ethertype::IPV6 => packet::<V6>(frame),
        _ => Ok(()),
    };
    match judged {
        // More extension headers than netd follows, or a source route, are odd, not malformed: the node's
        // stack decides.
        Err(DropReason::ExtHeaders | DropReason::SourceRoute) => Ok(()),
        other => other,
    }
}

#[inline(always)]
fn packet<A: Net>(frame: &Frame) -> Result<(), DropReason> {
    let src = A::source(frame, L3).ok_or(DropReason::Truncated)?;
    if denied(src) {
        return Err(DropReason::Denied);
    }
    let ip = A::parse(frame, L3)?;
    Packet::parse(frame, ip).map(|_| ())
}

#[inline(always)]
fn denied<A: Net>(src: A) -> bool {
    let on = NODE.get(0).is_some_and(|n| n.flags & node_flags::DENY != 0);
    if !on {
        return false;
    }
    let key = DenyKey::lookup(src);
    DENY.get(Key::new(key.prefix_len, key.addr)).is_some()
}
