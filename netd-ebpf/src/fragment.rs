//! Fragments of datagrams that are translated. Only the first one has ports: what it tells is kept, and the
//! later ones follow it. One that comes before waits, and is put where it came in once the first has gone.
//!
//! The first and a later one may be at work on two CPUs. [`Frag::waiting`](netd_common::maps::fragment::Frag::waiting) decides between them: a later
//! one adds itself to the list there, unless the first has closed it, and the first takes the whole list
//! as it closes it. Both change the one word by compare-and-swap, so no fragment is left behind.

use netd_common::addr::{V4, V6};
use netd_common::maps::fragment::{of_endpoint, of_source};
use netd_common::maps::{HostKind, Port, port_flags};
use netd_common::reason::{DropReason, Hook};
use netd_common::stage::Stage;
use netd_common::wire::{Eth, L4, ethertype};

use crate::family::Net;
use crate::maps::{PORT, UPLINK};
use crate::skb::Skb;
use crate::verdict::Verdict;
use crate::work::{self, Work};
use crate::{datagram, floating, route, uplink, waiting};

/// Runs one of two functions by the packet's family.
macro_rules! by_family {
    ($skb:ident, $function:ident $(, $arg:expr)*) => {
        match Eth::parse(&$skb) {
            Ok(Eth {
                ethertype: ethertype::IPV4,
                ..
            }) => $function::<V4>($skb $(, $arg)*),
            Ok(_) => $function::<V6>($skb $(, $arg)*),
            Err(reason) => Verdict::of(Err(reason)),
        }
    };
}

/// [`Stage::EpFrag`]: from an endpoint, for the gateway's MAC, already read.
#[inline(always)]
pub fn out(skb: Skb) -> Verdict {
    // SAFETY: a map value stays readable for the run of the program.
    match unsafe { PORT.get(&skb.ifindex()) } {
        Some(port) => by_family!(skb, from_endpoint, port),
        None => Verdict::of(Err(DropReason::NoPort)),
    }
}

#[inline(always)]
fn from_endpoint<A: Net>(skb: Skb, port: &'static Port) -> Verdict {
    let owner = of_endpoint(port.endpoint);
    match is_to_neighbour::<A>() {
        Ok(false) => {}
        // Nothing is translated on the way there: each fragment finds it by itself.
        Ok(true) => return Verdict::stage(Stage::EpNew),
        Err(reason) => return Verdict::of(Err(reason)),
    }
    let mut verdict = ports::<A>(skb, owner);
    if verdict == Verdict::ASKED {
        verdict = waiting::hold::<A>(skb, owner);
        if verdict == Verdict::OPEN {
            verdict = ports::<A>(skb, owner);
        }
    }
    match verdict {
        Verdict::OPEN => match route::known_from_endpoint::<A>(skb, port) {
            Verdict::OPEN => Verdict::stage(Stage::EpNew),
            decided => decided,
        },
        Verdict::ASKED => Verdict::of(Err(DropReason::FragLimit)),
        decided => decided,
    }
}

/// Whether the packet is for another endpoint's own address.
#[inline(always)]
fn is_to_neighbour<A: Net>() -> Result<bool, DropReason> {
    let p = &work::get::<A>()?.packet;
    Ok(is_endpoint(p.ip.dst))
}

#[inline(always)]
fn is_endpoint<A: Net>(addr: A) -> bool {
    match addr.host() {
        Some(host) => HostKind::from_code(host.kind) == HostKind::Endpoint,
        None => false,
    }
}

/// [`Stage::UpFrag`]: from outside, already read.
#[inline(always)]
pub fn r#in(skb: Skb) -> Verdict {
    by_family!(skb, from_outside)
}

#[inline(always)]
fn from_outside<A: Net>(skb: Skb) -> Verdict {
    let to = match destination::<A>(skb) {
        Ok(to) => to,
        Err(reason) => return Verdict::of(Err(reason)),
    };
    let owner = match work::get::<A>() {
        Ok(work) => of_source(work.packet.ip.src),
        Err(reason) => return Verdict::of(Err(reason)),
    };
    let mut verdict = ports::<A>(skb, owner);
    if verdict == Verdict::ASKED && matches!(to, To::Node | To::Endpoint) {
        verdict = waiting::hold::<A>(skb, owner);
        if verdict == Verdict::OPEN {
            verdict = ports::<A>(skb, owner);
        }
        // It may be the node's own: its stack knows how to wait for the first one. If it is not, nothing
        // there comes of it.
        if to == To::Node && verdict != Verdict::OPEN {
            return Verdict::NEXT;
        }
    }
    match verdict {
        Verdict::OPEN => uplink::fragment_in::<A>(skb),
        Verdict::ASKED if to == To::Endpoint => Verdict::of(Err(DropReason::FragLimit)),
        Verdict::ASKED => Verdict::stage(Stage::UpNew),
        // The node's stack judges what is for it.
        decided if matches!(to, To::Endpoint | To::Hidden) => decided,
        decided if decided.dropped().is_some() => Verdict::NEXT,
        decided => decided,
    }
}

/// Whom a packet from outside is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// An address of the node: itself, or an endpoint behind it.
    Node,
    /// An endpoint's own address by which the outside knows it, or its floating one.
    Endpoint,
    /// An endpoint's own address, by which nobody outside knows it.
    Hidden,
    /// Nobody netd knows.
    Other,
}

#[inline(always)]
fn destination<A: Net>(skb: Skb) -> Result<To, DropReason> {
    let dst = work::get::<A>()?.packet.ip.dst;
    if floating::has(dst) {
        return Ok(To::Endpoint);
    }
    if let Some(host) = dst.endpoint() {
        return Ok(if host.flags & port_flags::MASQUERADE == 0 {
            To::Endpoint
        } else {
            To::Hidden
        });
    }
    // SAFETY: a map value stays readable for the run of the program.
    let outside = match unsafe { UPLINK.get(&skb.ifindex()) } {
        Some(uplink) => A::outside(uplink) == dst,
        None => false,
    };
    Ok(if outside || dst.is_local() {
        To::Node
    } else {
        To::Other
    })
}

/// [`Stage::OwnFrag`]: from the node's stack to the outside, already read.
#[inline(always)]
pub fn own(skb: Skb) -> Verdict {
    by_family!(skb, from_node)
}

#[inline(always)]
fn from_node<A: Net>(skb: Skb) -> Verdict {
    let src = match work::get::<A>() {
        Ok(work) => work.packet.ip.src,
        Err(reason) => return Verdict::of(Err(reason)),
    };
    let owner = of_source(src);
    let mut verdict = ports::<A>(skb, owner);
    if verdict == Verdict::ASKED {
        // The node itself sends its fragments in order.
        if !is_translated(src) {
            return Verdict::NEXT;
        }
        verdict = waiting::hold::<A>(skb, owner);
        if verdict == Verdict::OPEN {
            verdict = ports::<A>(skb, owner);
        }
    }
    match verdict {
        Verdict::OPEN => uplink::fragment_out::<A>(skb),
        Verdict::ASKED => Verdict::of(Err(DropReason::FragLimit)),
        decided if is_translated(src) => decided,
        decided if decided.dropped().is_some() => Verdict::NEXT,
        decided => decided,
    }
}

/// Whether what the stack sends from this address is an endpoint's, or must not be seen outside.
#[inline(always)]
fn is_translated<A: Net>(src: A) -> bool {
    if src.endpoint().is_some() {
        return true;
    }
    match src.host() {
        Some(host) => {
            host.kind == HostKind::Gateway.code() && host.flags & port_flags::MASQUERADE != 0
        }
        None => false,
    }
}

/// Finds the ports of the fragment in [`Work::packet`]. [`Verdict::OPEN`]: they are in its tuple now, and it
/// goes on as any packet. [`Verdict::ASKED`]: its first one has not come.
#[inline(never)]
fn ports<A: Net>(skb: Skb, owner: u32) -> Verdict {
    Verdict::of(ports_inner::<A>(skb, owner))
}

#[inline(always)]
fn ports_inner<A: Net>(skb: Skb, owner: u32) -> Result<Verdict, DropReason> {
    work::fragment::<A>(skb)?;
    let Work {
        packet,
        fragment,
        datagram: key,
        owner: whose,
        ..
    } = work::get::<A>()?;
    *whose = owner;
    // Field by field: as a whole it would be made on the stack first.
    key.src = packet.ip.src;
    key.dst = packet.ip.dst;
    key.id = fragment.id;
    key.device = skb.ifindex();
    key.proto = packet.ip.proto;
    key.pad = [0; 3];
    let known = datagram::find::<A>(key);
    if fragment.is_first() {
        work::first::<A>(skb)?;
        if fragment.is_whole() {
            return Ok(Verdict::OPEN);
        }
        if let Some(known) = known {
            // A copy of the first one is as good as it; any other would change what the datagram is.
            let same = (known.sport, known.dport) == (packet.tuple.sport, packet.tuple.dport)
                && known.first == u32::from(fragment.len);
            if !same {
                return Err(DropReason::BadFragment);
            }
        }
        skb.set_first(true);
        return Ok(Verdict::OPEN);
    }
    let Some(known) = known else {
        return Ok(Verdict::ASKED);
    };
    if u32::from(fragment.offset) < known.first {
        return Err(DropReason::BadFragment);
    }
    packet.l4 = L4::Fragment;
    packet.tuple.sport = known.sport;
    packet.tuple.dport = known.dport;
    if known.id != fragment.id {
        datagram::rename::<A>(skb, fragment, known.id)?;
    }
    if A::IS_V4 && skb.hook() == Hook::EpOut as u32 {
        // It may have to be cut, and comes in again in pieces: noted once it goes, by `passed`.
        skb.set_later();
    } else {
        datagram::gone::<A>(key, fragment);
    }
    Ok(Verdict::OPEN)
}

/// A later fragment of IPv4 from an endpoint is on the point of leaving.
#[inline(never)]
pub fn passed() -> u32 {
    if let Ok(work) = work::get::<V4>() {
        datagram::gone::<V4>(&work.datagram, &work.fragment);
    }
    0
}

/// [`Stage::First`]: a first fragment, rewritten, on the point of leaving. What it told is kept, and those
/// that wait for it follow it.
#[inline(always)]
pub fn first(skb: Skb) -> Verdict {
    by_family!(skb, first_of)
}

#[inline(always)]
fn first_of<A: Net>(skb: Skb) -> Verdict {
    match datagram::tell::<A>(skb) {
        Verdict::OPEN => waiting::release::<A>(skb),
        decided => decided,
    }
}
