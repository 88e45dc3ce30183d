//! ARP and neighbour discovery: answered for addresses netd knows, so that no question has to be flooded.

use netd_common::addr::V6;
use netd_common::guard::{self, Source};
use netd_common::maps::{HostEntry, HostKind, Port};
use netd_common::reason::DropReason;
use netd_common::trace::Point;
use netd_common::wire::Window;
use netd_common::wire::arp::{Arp, Op};
use netd_common::wire::nd::{self, ADVERT_LEN, Kind, advertisement};

use crate::family::Net;
use crate::learn;
use crate::skb::{Skb, send};
use crate::trace::trace;
use crate::verdict::{SENT_BY_NETD, Verdict};
use crate::work::{self, Answer};

/// An ARP packet from a switch port. [`Verdict::OPEN`]: nobody here knows, treat the frame like any other.
#[inline(never)]
pub fn arp(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(arp_inner(skb, port))
}

#[inline(always)]
fn arp_inner(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let arp = Arp::parse(&skb)?;
    let from = skb.load::<6>(6).ok_or(DropReason::Truncated)?;
    owned(
        guard::arp(port, from, &arp)?,
        port,
        arp.sender_ip,
        DropReason::SpoofedArp,
    )?;
    if arp.op != Op::Request {
        return Ok(Verdict::OPEN);
    }
    let Some(host) = known(port, arp.target_ip, arp.sender_ip) else {
        return Ok(Verdict::OPEN);
    };
    trace(Point::Answer, 4, 0);
    skb.store(0, &arp.answer(host.mac))?;
    Ok(back(skb, port))
}

/// An IPv6 packet from a switch port. [`Verdict::OPEN`]: it is no question, or nobody here knows.
/// [`Verdict::ASKED`]: [`advertise`] has the answer.
#[inline(never)]
pub fn nd(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(nd_inner(skb, port))
}

#[inline(always)]
fn nd_inner(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    let ip = work::ip::<V6>(skb)?;
    let message = nd::parse(&skb, ip)?;
    let from = skb.load::<6>(6).ok_or(DropReason::Truncated)?;
    let source = guard::nd(port, from, &message)?;
    match message.kind {
        Kind::Advertisement => {
            owned(source, port, message.target, DropReason::SpoofedNd)?;
            Ok(Verdict::OPEN)
        }
        Kind::Solicitation => {
            // Answered before the packet's own guard runs, so its source is checked here.
            owned(
                guard::source(port, ip.src, ip.dst),
                port,
                ip.src,
                DropReason::SpoofedIp,
            )?;
            match known(port, message.target, ip.src) {
                Some(host) => {
                    let router = HostKind::from_code(host.kind) == HostKind::Gateway;
                    work::get::<V6>()?.answer = Answer {
                        target: message.target,
                        mac: host.mac,
                        router: u16::from(router),
                    };
                    Ok(Verdict::ASKED)
                }
                None => Ok(Verdict::OPEN),
            }
        }
        Kind::Router | Kind::Other => Ok(Verdict::OPEN),
    }
}

/// Turns the solicitation that [`nd`] has read into its answer. It stands beside [`nd`], not in it:
/// kernels before 6.8 round each frame up to 32 bytes and count all of a call chain.
#[inline(never)]
pub fn advertise(skb: Skb, port: &'static Port) -> Verdict {
    Verdict::of(advertise_inner(skb, port))
}

#[inline(always)]
fn advertise_inner(skb: Skb, port: &'static Port) -> Result<Verdict, DropReason> {
    write_advertisement(skb)?;
    Ok(back(skb, port))
}

/// Makes the frame the advertisement that answers the solicitation it is, as `Work::answer` says.
#[inline(always)]
pub fn write_advertisement(skb: Skb) -> Result<(), DropReason> {
    let work = work::get::<V6>()?;
    let Answer {
        target,
        mac,
        router,
    } = &work.answer;
    let asker = skb.load::<6>(6).ok_or(DropReason::Truncated)?;
    skb.resize(ADVERT_LEN)?;
    work.frame = advertisement(asker, work.packet.ip.src, *target, *mac, *router != 0);
    trace(Point::Answer, 6, 0);
    skb.store(0, &work.frame)
}

/// Refuses an address that is neither the port's first nor, by `HOST4`/`HOST6`, another of its own, nor
/// one that nobody has and may be behind a switch port that learns.
#[inline(always)]
pub fn owned<A: Net>(
    source: Source,
    port: &'static Port,
    addr: A,
    reason: DropReason,
) -> Result<(), DropReason> {
    match source {
        Source::Own => Ok(()),
        Source::Ask => match addr.host() {
            Some(h) if h.endpoint == port.endpoint && h.network == port.network => {
                trace(Point::Address, 1, 0);
                Ok(())
            }
            None if learn::unclaimed(port, &addr) => {
                trace(Point::Address, 0, 0);
                Ok(())
            }
            Some(_) | None => Err(reason),
        },
    }
}

/// Who on the port's network has the address, unless the asker itself does: gratuitous ARP and the
/// asker's own duplicate address detection must not be answered.
#[inline(always)]
fn known<A: Net>(port: &Port, target: A, asker: A) -> Option<&'static HostEntry> {
    if target == asker {
        return None;
    }
    let host = target.host()?;
    (host.network == port.network && (host.endpoint != port.endpoint || host.mac != port.mac))
        .then_some(host)
}

/// Back to the one who asked. To an endpoint straight, not through the device's queue: a device that
/// has just come up throws away what it is given until the kernel has activated its queue.
#[inline(always)]
fn back(skb: Skb, port: &Port) -> Verdict {
    if port.endpoint != 0 {
        return Verdict::redirect(skb.peer(skb.ifindex()));
    }
    // The gateway's other end is in this namespace, where a peer redirect does not go.
    skb.set_mark(SENT_BY_NETD);
    Verdict::redirect(send(skb.ifindex()))
}
