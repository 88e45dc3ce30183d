//! `netd_answer`: tells the sender of a packet that netd could not pass on, as a router does. The packet
//! becomes the error about itself and goes back the way it came; its drop is counted all the same.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use netd_common::addr::{Addr, V4, V6};
use netd_common::answer::{self, Message};
use netd_common::reason::{DropReason, Hook};
use netd_common::storm::take;
use netd_common::trace::Point;
use netd_common::wire::icmp_error::pseudo_header;
use netd_common::wire::{ETH_LEN, Eth, Window, ethertype};

use crate::family::Net;
use crate::maps::{ANSWERED, CHUNK, PORT, UPLINK};
use crate::skb::{Skb, send};
use crate::sum;
use crate::trace::trace;
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::{L3, atomic, work};

/// Bytes that are cut off behind the Ethernet header for a moment: more than the IP header of a packet has
/// whose checksum a device is to finish. Once the kernel has cut off where that checksum starts, it forgets
/// that there is one to finish; else the device that the error leaves by would write one into the quote, and
/// the error's own would be wrong.
const fn cut<A: Net>() -> u16 {
    if A::IS_V4 { 76 } else { 128 }
}

/// Turns the packet into the error about its drop for `reason`. [`Verdict::OPEN`]: its sender is not told.
#[inline(always)]
pub fn tell(skb: Skb, hook: Hook, reason: u8) -> Verdict {
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => all::<V4>(skb, hook, reason),
        Ok(Eth {
            ethertype: ethertype::IPV6,
            ..
        }) => all::<V6>(skb, hook, reason),
        Ok(_) | Err(_) => Verdict::OPEN,
    }
}

#[inline(always)]
fn all<A: Net>(skb: Skb, hook: Hook, reason: u8) -> Verdict {
    if !judge::<A>(skb, hook, reason)
        || !may_speak(skb.ifindex())
        || !reshape::<A>(skb)
        || !write::<A>(skb)
    {
        return Verdict::OPEN;
    }
    trace(Point::Told, 0, 0);
    if hook == Hook::EpOut {
        return Verdict::redirect(skb.peer(skb.ifindex()));
    }
    skb.set_mark(SENT_BY_NETD);
    Verdict::redirect(send(skb.ifindex()))
}

/// What is told, and whether it may be: [`work::Work::reply`].
#[inline(never)]
fn judge<A: Net>(skb: Skb, hook: Hook, reason: u8) -> bool {
    let Ok(work) = work::get::<A>() else {
        return false;
    };
    let p = &work.packet;
    let Some(eth) = skb.load::<ETH_LEN>(0) else {
        return false;
    };
    let link = [eth[0], eth[1], eth[2], eth[3], eth[4], eth[5]];
    if !answer::may_tell(&p.ip, p.l4, link) || usize::from(p.ip.l4) >= L3 + usize::from(cut::<A>())
    {
        return false;
    }
    if A::IS_V4 && reason == DropReason::TooBig as u8 && fragmentable(skb) {
        return false;
    }
    let Some(message) = answer::message::<A>(reason, work.detail) else {
        return false;
    };
    let src = if hook == Hook::EpOut {
        // SAFETY: a map value stays readable for the run of the program.
        match unsafe { PORT.get(&skb.ifindex()) } {
            Some(port) => A::gateway(port),
            None => return false,
        }
    } else {
        // SAFETY: as above.
        match unsafe { UPLINK.get(&skb.ifindex()) } {
            Some(uplink) => A::outside(uplink),
            None => return false,
        }
    };
    if src.is_unspecified() {
        return false;
    }
    work.reply = Reply {
        src,
        message,
        quote: answer::quoted::<A>(p.ip.end as usize - L3) as u32,
        eth: answer::back(eth),
        pad: [0; 2],
    };
    true
}

/// Whether an IPv4 packet may be cut to pieces: then its sender does not want to be told that it is too big
/// (RFC 1191 section 3), and [`crate::split`] cuts it.
#[inline(always)]
pub fn fragmentable(skb: Skb) -> bool {
    const DONT_FRAGMENT: u8 = 0x40;
    matches!(skb.load::<2>(L3 + 6), Some([flags, _]) if flags & DONT_FRAGMENT == 0)
}

/// What is answered.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Reply<A> {
    src: A,
    message: Message,
    quote: u32,
    eth: [u8; ETH_LEN],
    pad: [u8; 2],
}

/// Takes a token of the device's.
#[inline(never)]
fn may_speak(device: u32) -> bool {
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let Some(full) = ANSWERED.get_ptr_mut(&device) else {
        let first = take(0, now, answer::RATE).unwrap_or(now);
        return ANSWERED.insert(&device, &first, 0).is_ok();
    };
    // SAFETY: a map value stays mapped for the run of the program; the field is only ever changed by atomic
    // instructions.
    let before = unsafe { core::ptr::read_volatile(full) };
    match take(before, now, answer::RATE) {
        // SAFETY: as above. If another CPU was faster this one is silent.
        Some(next) => unsafe { atomic::swap(full, before, next) },
        None => false,
    }
}

/// Makes room for the headers of the error, cuts what is not quoted, and lets the kernel forget a checksum that
/// is not finished. Packets of many segments become one.
#[inline(never)]
fn reshape<A: Net>(skb: Skb) -> bool {
    let Ok(work) = work::get::<A>() else {
        return false;
    };
    let quote = work.reply.quote as usize;
    let head = answer::head_len::<A>();
    let by = i32::from(cut::<A>());
    let cut = usize::from(cut::<A>());
    let least = L3 + cut + A::HEADER;
    let first = if L3 + quote < least {
        least
    } else {
        L3 + quote
    };
    let Some(buffer) = CHUNK.get_ptr_mut(0) else {
        return false;
    };
    let buffer = buffer.cast::<u8>();
    let more = by + if A::IS_V4 { 28 } else { 48 };
    skb.reduce(first)
        && skb.read(L3, buffer, cut)
        && skb.shift(-by)
        && skb.shift(more)
        && skb.write(L3 + head, buffer, cut)
        && skb.reduce(L3 + head + quote)
}

/// Writes the headers and the checksum.
#[inline(never)]
fn write<A: Net>(skb: Skb) -> bool {
    write_inner::<A>(skb).is_ok()
}

#[inline(always)]
fn write_inner<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = work::get::<A>()?;
    let reply = &work.reply;
    let (src, dst, quote) = (reply.src, work.packet.ip.src, reply.quote as usize);
    let icmp = L3 + A::HEADER;
    skb.store(0, &reply.eth)?;
    if A::IS_V4 {
        let (s, d) = (V4::from_16(src.to_16()), V4::from_16(dst.to_16()));
        skb.put(L3, &answer::v4_header(s, d, quote))?;
    } else {
        skb.put(L3, &answer::v6_header(quote))?;
        skb.put(L3 + 8, &src.to_16())?;
        skb.put(L3 + 24, &dst.to_16())?;
    }
    skb.put(icmp, &answer::icmp_header::<A>(reply.message))?;
    let len = (8 + quote) as u32;
    let sum = sum::bytes(
        skb,
        icmp as u32,
        icmp as u32 + len,
        pseudo_header(src, dst, len),
    )?;
    skb.put(icmp + 2, &sum.field())
}
