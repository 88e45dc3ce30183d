//! What a router tells the sender of a packet it could not pass on (RFC 792, RFC 1812 section 4.3, RFC 4443
//! section 3): which error, whether it may be sent, and its headers.

use crate::addr::{Addr, Mac, V4};
use crate::checksum::Delta;
use crate::reason::{DropReason, Hook};
use crate::wire::{ETH_LEN, Family, Ip, L4, V4_LEN, V6_LEN};

/// Bytes of the headers of an error, from its IP header on.
pub const fn head_len<A: Addr>() -> usize {
    if A::IS_V4 { V4_LEN + 8 } else { V6_LEN + 8 }
}

/// Bytes of an error at most: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4(c).
const fn most<A: Addr>() -> usize {
    if A::IS_V4 { 576 } else { 1280 }
}

/// Errors a second by each device, and at once (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4(f)).
pub const RATE: u32 = 100;

/// The reasons that are told to a sender, by the hook at which the packet died.
const OUT: u64 = bit(DropReason::TtlExceeded)
    | bit(DropReason::TooBig)
    | bit(DropReason::NoRoute)
    | bit(DropReason::UnknownHost)
    | bit(DropReason::NoPortFree)
    | bit(DropReason::FlowLimit)
    | bit(DropReason::FlowTableFull);
/// To the outside only what path MTU discovery and traceroute want to know.
const IN: u64 = bit(DropReason::TtlExceeded) | bit(DropReason::TooBig);

const fn bit(reason: DropReason) -> u64 {
    1 << reason as u8
}

/// Whether the sender of a packet that died of the reason with this code may be told.
#[inline(always)]
pub const fn is_told(hook: Hook, code: u8) -> bool {
    let told = match hook {
        Hook::EpOut => OUT,
        Hook::UpIn => IN,
        Hook::EpIn | Hook::GwOut | Hook::UpOut | Hook::Xdp => 0,
    };
    code < 64 && told >> code & 1 == 1
}

/// What the routing table may say instead of a way, as `bpf_fib_lookup` codes it.
pub mod refusal {
    /// A `blackhole` route: nobody is told.
    pub const BLACKHOLE: u32 = 1;
    /// An `unreachable` route.
    pub const UNREACHABLE: u32 = 2;
    /// A `prohibit` route.
    pub const PROHIBIT: u32 = 3;
}

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The MTU of the next hop; 0 where the error has none.
    pub mtu: u32,
}

/// The error for a packet that died of the reason with this code. `detail` is the MTU of the exit for
/// [`DropReason::TooBig`], and a [`refusal`], or 0, for [`DropReason::NoRoute`].
#[inline(always)]
pub const fn message<A: Addr>(code: u8, detail: u32) -> Option<Message> {
    const TTL: u8 = DropReason::TtlExceeded as u8;
    const BIG: u8 = DropReason::TooBig as u8;
    const ROUTE: u8 = DropReason::NoRoute as u8;
    const HOST: u8 = DropReason::UnknownHost as u8;
    const PORT: u8 = DropReason::NoPortFree as u8;
    const LIMIT: u8 = DropReason::FlowLimit as u8;
    const FULL: u8 = DropReason::FlowTableFull as u8;
    // Net unreachable, host unreachable, administratively prohibited.
    let (v4, v6) = match code {
        TTL => ((11, 0), (3, 0)),
        BIG => ((3, 4), (2, 0)),
        ROUTE => match detail {
            refusal::BLACKHOLE => return None,
            // As the kernel has it for such a route.
            refusal::UNREACHABLE => ((3, 1), (1, 0)),
            refusal::PROHIBIT => ((3, 13), (1, 1)),
            _ => ((3, 0), (1, 0)),
        },
        HOST => ((3, 1), (1, 3)),
        // RFC 5508 REQ-8.
        PORT | LIMIT | FULL => ((3, 13), (1, 1)),
        _ => return None,
    };
    let (kind, code_) = if A::IS_V4 { v4 } else { v6 };
    let mtu = if code == BIG { detail } else { 0 };
    Some(Message {
        kind,
        code: code_,
        mtu,
    })
}

/// Whether an error may be sent about a packet (RFC 1122 section 3.2.2, RFC 4443 section 2.4(e)): not about
/// ICMP messages other than echoes, not about a fragment but the first, not about what was for many or came
/// from nobody. `link` is the destination MAC of its frame.
#[inline(always)]
pub fn may_tell<A: Family>(ip: &Ip<A>, l4: L4, link: Mac) -> bool {
    let icmp = matches!(l4, L4::Icmp(_));
    let many = link[0] & 1 == 1 || ip.dst.is_multicast();
    let nobody = ip.src.is_multicast() || ip.src.is_unspecified() || ip.src.is_loopback();
    // What is in a fragment only the first can tell, where it has been looked into.
    let unknown = ip.fragment && (ip.later || ip.proto == A::ICMP && matches!(l4, L4::Fragment));
    !(icmp || many || nobody || unknown || ip.src.is_never_sent())
}

/// Bytes of the packet that are quoted: as many as there are and fit.
#[inline(always)]
pub const fn quoted<A: Addr>(total: usize) -> usize {
    let most = most::<A>() - head_len::<A>();
    if total < most { total } else { most }
}

/// Payload of a packet at which a sender's segments are cut, with their headers: what has to fit an MTU.
/// `header` is the bytes from the IP header to the payload of TCP or UDP.
#[inline(always)]
pub const fn segment(total: u32, gso_size: u32, header: u32) -> u32 {
    if gso_size == 0 {
        total
    } else {
        gso_size + header
    }
}

/// The Ethernet header back to whoever sent a frame with this one.
#[inline(always)]
pub fn back(eth: [u8; ETH_LEN]) -> [u8; ETH_LEN] {
    let mut out = eth;
    let (dst, rest) = out.split_at_mut(6);
    let (src, _) = rest.split_at_mut(6);
    dst.swap_with_slice(src);
    out
}

/// The IPv4 header of an error with `quote` bytes of a packet.
#[inline(always)]
pub fn v4_header(src: V4, dst: V4, quote: usize) -> [u8; V4_LEN] {
    let len = ((head_len::<V4>() + quote) as u16).to_be_bytes();
    // Internetwork control (RFC 1812 section 4.3.2.5); never fragmented, so no identification (RFC 6864).
    let mut h = [
        0x45, 0xc0, len[0], len[1], 0, 0, 0x40, 0, 64, 1, 0, 0, src[0], src[1], src[2], src[3],
        dst[0], dst[1], dst[2], dst[3],
    ];
    let sum = Delta::new().add(h).field();
    h[10] = sum[0];
    h[11] = sum[1];
    h
}

/// The first eight bytes of the IPv6 header of an error with `quote` bytes of a packet.
#[inline(always)]
pub const fn v6_header(quote: usize) -> [u8; 8] {
    let len = ((8 + quote) as u16).to_be_bytes();
    [0x60, 0, 0, 0, len[0], len[1], 58, 64]
}

/// The ICMP header of an error, its checksum still zero. IPv4 has the MTU in two bytes (RFC 1191 section 4),
/// IPv6 in four (RFC 4443 section 3.2).
#[inline(always)]
pub const fn icmp_header<A: Addr>(m: Message) -> [u8; 8] {
    let mtu = m.mtu.to_be_bytes();
    if A::IS_V4 {
        let mtu = if m.mtu > 0xffff {
            [0xff; 2]
        } else {
            [mtu[2], mtu[3]]
        };
        return [m.kind, m.code, 0, 0, 0, 0, mtu[0], mtu[1]];
    }
    [m.kind, m.code, 0, 0, mtu[0], mtu[1], mtu[2], mtu[3]]
}

#[cfg(test)]
mod tests;
