//! Applies a rewrite: checksums first, by differences only (the packet may carry a partial checksum
//! or be many segments), then the bytes.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::bpf_l4_csum_replace;
use netd_common::addr::{Addr, Mac, V4, V6};
use netd_common::checksum::Delta;
use netd_common::nat::{Rewrite, port_bytes};
use netd_common::reason::DropReason;
use netd_common::trace::Point;
use netd_common::tuple::Tuple;
use netd_common::wire::icmp_error::Quoted;
use netd_common::wire::{ETH_LEN, Eth, L4, Packet, V4_LEN, Window, v4_forward, v6_forward};

use crate::family::Net;
use crate::skb::Skb;
use crate::trace::trace;
use crate::watch::rewritten;

/// `BPF_F_IPV6` where the kernel knows it (6.16, commit ead7f9b8de65), else 0; set by the loader.
#[unsafe(no_mangle)]
static CSUM_V6_FLAG: Global<u64> = Global::new(0);

/// Turns the packet into one with tuple `to`, `hops` routers further.
#[inline(never)]
pub fn apply<A: Net>(skb: Skb, p: &Packet<A>, to: &Tuple<A>, hops: u8) -> Result<(), DropReason> {
    let l4 = usize::from(p.ip.l4);
    let same_ports = p.tuple.sport == to.sport && p.tuple.dport == to.dport;
    let same_addrs = p.tuple.src == to.src && p.tuple.dst == to.dst;
    trace(Point::Rewrite, u32::from(hops), 0);
    if !(same_addrs && same_ports) {
        rewritten(skb, &p.tuple, to);
    }
    // 1. L4 checksum
    if let Some(field) = p.l4.checksum() {
        let plan = Rewrite::plan(&p.tuple, to);
        let at = l4 + field;
        let udp = if p.l4 == L4::Udp {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        let icmp = matches!(p.l4, L4::EchoRequest | L4::EchoReply | L4::Icmp(_));
        let pseudo_header = !(A::IS_V4 && icmp);
        if pseudo_header && !same_addrs {
            let v6 = if A::IS_V4 { 0 } else { CSUM_V6_FLAG.load() };
            csum(skb, at, plan.addr, u64::from(BPF_F_PSEUDO_HDR) | udp | v6)?;
        }
        if !same_ports {
            csum(skb, at, plan.port, udp)?;
        }
    }
    // 2. L3
    header(skb, to.src, to.dst, p.ip.ttl, hops)?;
    // 3. L4
    if !same_ports {
        match p.l4 {
            L4::Tcp(_) | L4::Udp => skb.store(l4, &port_bytes(to.sport, to.dport))?,
            L4::EchoRequest => skb.store(l4 + 4, &to.sport.0)?,
            L4::EchoReply => skb.store(l4 + 4, &to.dport.0)?,
            L4::Icmp(_) | L4::Other | L4::Fragment => {}
        }
    }
    Ok(())
}

/// Changes a checksum at offset `at`; `flags` as of `bpf_l4_csum_replace`.
#[inline(always)]
pub fn csum(skb: Skb, at: usize, delta: Delta, flags: u64) -> Result<(), DropReason> {
    // SAFETY: `raw` is the context; size 0 in the flags takes `to` as a difference.
    let rc =
        unsafe { bpf_l4_csum_replace(skb.raw(), at as u32, 0, u64::from(delta.wsum()), flags) };
    if rc == 0 {
        Ok(())
    } else {
        Err(DropReason::Helper)
    }
}

#[inline(always)]
fn header<A: Addr>(skb: Skb, src: A, dst: A, ttl: u8, hops: u8) -> Result<(), DropReason> {
    let (s, d) = (src.to_16(), dst.to_16());
    if A::IS_V4 {
        let h = skb.load::<V4_LEN>(ETH_LEN).ok_or(DropReason::Helper)?;
        skb.store(
            ETH_LEN,
            &v4_forward(h, V4::from_16(s), V4::from_16(d), hops),
        )
    } else {
        let mut both = [0u8; 32];
        let (a, b) = both.split_at_mut(16);
        a.copy_from_slice(&s);
        b.copy_from_slice(&d);
        skb.store(ETH_LEN + 8, &both)?;
        if hops > 0 {
            skb.store(ETH_LEN + 7, &[v6_forward(ttl, hops)])?;
        }
        Ok(())
    }
}

/// Writes the addresses of the IP header at offset `l3`; its checksum is the caller's business.
#[inline(always)]
pub fn addresses<A: Addr>(skb: Skb, l3: usize, src: A, dst: A) -> Result<(), DropReason> {
    let (s, d) = (src.to_16(), dst.to_16());
    if A::IS_V4 {
        let both = [s[12], s[13], s[14], s[15], d[12], d[13], d[14], d[15]];
        return skb.store(l3 + 12, &both);
    }
    skb.store(l3 + 8, &s)?;
    skb.store(l3 + 24, &d)
}

/// Writes the ports, or the identifier, of a quoted packet whose L4 header is at offset `l4`.
#[inline(always)]
pub fn ports<A>(skb: Skb, l4: usize, carries: Quoted, to: &Tuple<A>) -> Result<(), DropReason> {
    match carries {
        Quoted::Tcp | Quoted::Udp | Quoted::Sctp => skb.store(l4, &port_bytes(to.sport, to.dport)),
        // One of the two is zero: which, says whether it is a request or a reply.
        Quoted::Echo => skb.store(
            l4 + 4,
            &[to.sport.0[0] | to.dport.0[0], to.sport.0[1] | to.dport.0[1]],
        ),
        Quoted::Other => Ok(()),
    }
}

/// Writes the Ethernet header.
#[inline(always)]
pub fn ethernet(skb: Skb, dst: Mac, src: Mac, ethertype: u16) -> Result<(), DropReason> {
    skb.store(
        0,
        &Eth {
            dst,
            src,
            ethertype,
        }
        .bytes(),
    )
}

/// An IPv6 address is 16 bytes: what `header` relies on.
const _: () = assert!(size_of::<V6>() == 16);
