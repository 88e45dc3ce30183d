//! The node's routing table, asked from a gateway pair's inner end (the one device with forwarding on).

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
    BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Params, bpf_redir_neigh,
};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect_neigh};
use netd_common::answer::segment;
use netd_common::reason::DropReason;
use netd_common::trace::Point;
use netd_common::tuple::{Tuple, proto};
use netd_common::wire::{Ip, Window};

use crate::L3;
use crate::family::Net;
use crate::skb::Skb;
use crate::trace::trace;
use crate::verdict::SENT_BY_NETD;
use crate::watch::goes;
use crate::work;

/// Sizes the helpers want to know.
const PARAMS: i32 = size_of::<Params>() as u16 as i32;
const NEIGH: i32 = size_of::<bpf_redir_neigh>() as u16 as i32;

/// Where the node would send a packet.
pub enum Route {
    /// Out of the device with this ifindex; [`send`] knows the next hop.
    Out(u32),
    /// To itself (or it has no idea: its stack answers).
    Node,
}

/// Looks up the route of a packet with addresses and ports `t`. `inner` is the device it "came from".
#[inline(always)]
pub fn route<A: Net>(skb: Skb, inner: u32, ip: &Ip<A>, t: &Tuple<A>) -> Result<Route, DropReason> {
    let work = work::get::<A>()?;
    let (fib, neigh) = (&mut work.fib, &mut work.neigh);
    *fib = work::blank();
    fib.family = A::AF;
    fib.l4_protocol = t.proto;
    fib.sport = u16::from_ne_bytes(t.sport.0);
    fib.dport = u16::from_ne_bytes(t.dport.0);
    fib.ifindex = inner;
    // The MTU check wants a length, and looks at the route's MTU only if there is one: of many segments in
    // one skb that of each.
    fib.__bindgen_anon_1.tot_len =
        segment(ip.end - L3 as u32, skb.gso_size(), headers(skb, ip)) as u16;
    let (src, dst) = (t.src.to_16(), t.dst.to_16());
    if A::IS_V4 {
        fib.__bindgen_anon_2.tos = ip.tos;
        fib.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes([src[12], src[13], src[14], src[15]]);
        fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes([dst[12], dst[13], dst[14], dst[15]]);
    } else {
        fib.__bindgen_anon_3.ipv6_src = words(src);
        fib.__bindgen_anon_4.ipv6_dst = words(dst);
    }
    // SAFETY: `raw` is the context, `fib` has the size given.
    let rc = unsafe { bpf_fib_lookup(skb.raw().cast::<c_void>(), &raw mut *fib, PARAMS, 0) };
    trace(Point::Fib, rc.cast_unsigned() as u32, fib.ifindex);
    work.detail = rc.cast_unsigned() as u32;
    match u32::try_from(rc) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH) => {}
        Ok(BPF_FIB_LKUP_RET_NOT_FWDED) => return Ok(Route::Node),
        // No router looks at the size of what it may not pass on anyway.
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) if ip.ttl <= 1 => return Err(DropReason::TtlExceeded),
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => {
            // SAFETY: both members are a plain integer; the helper has written the MTU over the length.
            work.detail = u32::from(unsafe { fib.__bindgen_anon_1.mtu_result });
            return Err(DropReason::TooBig);
        }
        Ok(_) => return Err(DropReason::NoRoute),
        Err(_) => return Err(DropReason::Helper),
    }
    // The helper has written the next hop of `family` over the destination: an IPv4 route may have an
    // IPv6 one (RFC 5549).
    neigh.nh_family = u32::from(fib.family);
    // SAFETY: all members of both unions are plain integers.
    unsafe {
        neigh.__bindgen_anon_1.ipv6_nh = fib.__bindgen_anon_4.ipv6_dst;
    }
    Ok(Route::Out(fib.ifindex))
}

/// Whether a packet for which [`route`] has found [`Route::Node`] is for the node, or for all on one of its
/// links. The helper says the same of it as of what there is no way for. But the addresses next to it are
/// then on the link, or at least have a way; of two of them, one is not the node's.
#[inline(never)]
pub fn is_at_hand<A: Net>(skb: Skb) -> bool {
    has_way::<A>(skb, 1) || has_way::<A>(skb, 1 ^ 2)
}

/// Whether the routing table says anything of the last destination with some of its last bits turned over.
#[inline(always)]
fn has_way<A: Net>(skb: Skb, bits: u8) -> bool {
    let Ok(work) = work::get::<A>() else {
        return false;
    };
    let bits = u32::from_ne_bytes([0, 0, 0, bits]);
    let fib = &mut work.fib;
    // SAFETY: all members of both unions are plain integers; the rest is as in `route`, which has written the
    // parameters, and the helper writes none where it has found no way.
    let rc = unsafe {
        if A::IS_V4 {
            fib.__bindgen_anon_4.ipv4_dst ^= bits;
        } else {
            fib.__bindgen_anon_4.ipv6_dst[3] ^= bits;
        }
        bpf_fib_lookup(skb.raw().cast::<c_void>(), &raw mut *fib, PARAMS, 0)
    };
    rc != i64::from(BPF_FIB_LKUP_RET_NOT_FWDED)
}

/// Sends the packet out of the device [`route`] found; the kernel resolves the next hop's MAC, and
/// keeps it fresh.
#[inline(always)]
pub fn send<A: Net>(skb: Skb, device: u32) -> Result<i32, DropReason> {
    let neigh = &mut work::get::<A>()?.neigh;
    goes(Point::Neigh, device);
    skb.set_mark(SENT_BY_NETD);
    // SAFETY: `neigh` has the size given.
    Ok(unsafe { bpf_redirect_neigh(device, &raw mut *neigh, NEIGH, 0) as i32 })
}

/// Bytes from the IP header to the payload of TCP or UDP, of a packet of many segments.
#[inline(always)]
pub fn headers<A: Net>(skb: Skb, ip: &Ip<A>) -> u32 {
    let tcp = if ip.proto == proto::TCP && skb.gso_size() != 0 {
        skb.load::<2>(usize::from(ip.l4) + 12)
    } else {
        None
    };
    let l4 = match tcp {
        Some([offset, _]) => u32::from(offset >> 4) * 4,
        None => 8,
    };
    u32::from(ip.l4) - L3 as u32 + l4
}

#[inline(always)]
fn words(a: [u8; 16]) -> [u32; 4] {
    let w = |i: usize| u32::from_ne_bytes([a[i], a[i + 1], a[i + 2], a[i + 3]]);
    [w(0), w(4), w(8), w(12)]
}
