//! `netd_icmp`: an ICMP error belongs to the flow of the packet it quotes. It is translated as that flow's
//! packets are, the quoted packet with it, and goes where they go; the flow itself is only read (RFC 5508
//! REQ-6). What is about no flow goes on as any other packet.

use netd_common::addr::{V4, V6};
use netd_common::guard;
use netd_common::maps::{Port, flow_flags};
use netd_common::reason::{DropReason, Hook};
use netd_common::stage::Stage;
use netd_common::tuple::Tuple;
use netd_common::wire::icmp_error::{self, Quote};
use netd_common::wire::{Eth, Packet, ethertype};

use crate::family::Net;
use crate::fib::{self, Route};
use crate::flows::{self, Hop};
use crate::maps::PORT;
use crate::rewrite::{self, csum};
use crate::skb::{Skb, receive};
use crate::sum;
use crate::verdict::Verdict;
use crate::{floating, neighbour, route, work};

/// Bytes that hold the headers of an error without options or extension headers, and those it quotes up to
/// a TCP checksum.
const HEADERS: u32 = 192;

/// [`Stage::Icmp`]: an ICMP error, already read.
#[inline(always)]
pub fn translate(skb: Skb, hook: Hook) -> Verdict {
    skb.pull(HEADERS);
    match Eth::parse(&skb) {
        Ok(Eth {
            ethertype: ethertype::IPV4,
            ..
        }) => both::<V4>(skb, hook),
        Ok(_) => both::<V6>(skb, hook),
        Err(reason) => Verdict::of(Err(reason)),
    }
}

/// The stages stand side by side, not one in the other: stack.
#[inline(always)]
fn both<A: Net>(skb: Skb, hook: Hook) -> Verdict {
    match quote::<A>(skb, hook) {
        Verdict::OPEN => {}
        decided => return decided,
    }
    match check::<A>(skb) {
        Verdict::OPEN => {}
        decided => return decided,
    }
    match inner::<A>(skb) {
        Verdict::OPEN => outer::<A>(skb, hook),
        decided => decided,
    }
}

/// Reads the quote and finds its flow. [`Verdict::OPEN`]: there is one, in [`work::Work::hop`].
#[inline(never)]
fn quote<A: Net>(skb: Skb, hook: Hook) -> Verdict {
    Verdict::of(quote_inner::<A>(skb, hook))
}

#[inline(always)]
fn quote_inner<A: Net>(skb: Skb, hook: Hook) -> Result<Verdict, DropReason> {
    let work = work::get::<A>()?;
    let p = &work.packet;
    let Ok(quote) = Quote::read(&skb, p) else {
        return Ok(Verdict::stage(stranger(hook)));
    };
    work.quote = quote;
    // The error goes the way of the replies to the packet that it quotes.
    work.key = work.quote.tuple.reverse();
    if flows::peek(&work.key)?.is_none() {
        return Ok(Verdict::stage(stranger(hook)));
    }
    if work.packet.ip.dst != work.key.dst || !work.quote.header_is_right {
        return Err(DropReason::BadIcmp);
    }
    if hook == Hook::EpOut {
        about_its_own::<A>(skb, &work.key)?;
    }
    Ok(Verdict::OPEN)
}

/// Where an error goes on that is about no flow.
#[inline(always)]
const fn stranger(hook: Hook) -> Stage {
    match hook {
        Hook::UpIn => Stage::UpNew,
        Hook::UpOut => Stage::UpOwn,
        Hook::EpOut | Hook::EpIn | Hook::GwOut | Hook::Xdp => Stage::EpNew,
    }
}

/// The packet that an endpoint complains of must have been for that endpoint.
#[inline(always)]
fn about_its_own<A: Net>(skb: Skb, key: &Tuple<A>) -> Result<(), DropReason> {
    let port = port(skb)?;
    neighbour::owned(
        guard::source(port, key.src, key.dst),
        port,
        key.src,
        DropReason::SpoofedIcmp,
    )
}

#[inline(always)]
fn port(skb: Skb) -> Result<&'static Port, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    unsafe { PORT.get(&skb.ifindex()) }.ok_or(DropReason::NoPort)
}

/// The checksum of the message must be right (RFC 5508 REQ-3). Nothing on Linux leaves that of an ICMP error
/// for a device to finish, so there is one to check.
#[inline(never)]
fn check<A: Net>(skb: Skb) -> Verdict {
    Verdict::of(check_inner::<A>(skb))
}

#[inline(always)]
fn check_inner<A: Net>(skb: Skb) -> Result<Verdict, DropReason> {
    let ip = &work::get::<A>()?.packet.ip;
    let at = u32::from(ip.l4);
    let start = icmp_error::pseudo_header(ip.src, ip.dst, ip.end - at);
    if sum::bytes(skb, at, ip.end, start)?.is_right() {
        Ok(Verdict::OPEN)
    } else {
        Err(DropReason::BadIcmp)
    }
}

/// Changes the quote, and the checksum of the message as that asks for.
#[inline(never)]
fn inner<A: Net>(skb: Skb) -> Verdict {
    match inner_inner::<A>(skb) {
        Ok(()) => Verdict::OPEN,
        Err(reason) => Verdict::of(Err(reason)),
    }
}

#[inline(always)]
fn inner_inner<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = work::get::<A>()?;
    let (p, quote, hop) = (&work.packet, &work.quote, &work.hop);
    route::ttl(p)?;
    work.to = hop.to.reverse();
    let to = &work.to;
    let change = quote.plan(to);
    csum(skb, usize::from(p.ip.l4) + 2, change.delta, 0)?;
    let (l3, l4) = (usize::from(quote.l3), usize::from(quote.l4));
    rewrite::addresses(skb, l3, to.src, to.dst)?;
    if A::IS_V4 {
        skb.store(l3 + 10, &change.header_sum)?;
    }
    rewrite::ports(skb, l4, quote.carries, to)?;
    if let Some(sum) = change.sum {
        skb.store(l4 + quote.sum_at(), &sum)?;
    }
    Ok(())
}

/// Changes the error's own header and sends it on.
#[inline(never)]
fn outer<A: Net>(skb: Skb, hook: Hook) -> Verdict {
    Verdict::of(outer_inner::<A>(skb, hook))
}

#[inline(always)]
fn outer_inner<A: Net>(skb: Skb, hook: Hook) -> Result<Verdict, DropReason> {
    let work = work::get::<A>()?;
    let p: &Packet<A> = &work.packet;
    let hop: &Hop<A> = &work.hop;
    // The error's own tuple: no ports.
    work.to = p.tuple;
    work.to.src = icmp_error::source(p.ip.src, &work.key, &hop.to);
    work.to.dst = hop.to.dst;
    let to = &work.to;
    if hop.flags & flow_flags::TO_ENDPOINT != 0 {
        if hook == Hook::UpOut {
            return floating::hand_over(skb, p, to, hop);
        }
        return route::deliver(skb, p, to, hop);
    }
    if hook != Hook::EpOut {
        // Of the node itself, by its stack or for it.
        if hop.flags & flow_flags::TO_NODE != 0 || hook == Hook::UpOut {
            rewrite::apply(skb, p, to, 0)?;
        }
        return Ok(Verdict::NEXT);
    }
    let port = port(skb)?;
    if hop.flags & flow_flags::TO_NODE != 0 {
        // About a call of the node's to a floating address.
        rewrite::apply(skb, p, to, 0)?;
        return Ok(Verdict::redirect(receive(port.outer)));
    }
    match fib::route(skb, port.inner, &p.ip, route::routed_by(p, hop, to))? {
        Route::Out(exit) if hop.device != 0 && hop.device != exit => Err(DropReason::NotUplink),
        Route::Out(exit) => route::leave(skb, p, to, exit),
        Route::Node => Err(DropReason::NoRoute),
    }
}
