//! Every parser on any bytes.

use netd_common::reason::DropReason;
use netd_common::wire::arp::Arp;
use netd_common::wire::group::{is_spanning_tree, stays_on_its_link};
use netd_common::wire::icmp_error::{self, Quote};
use netd_common::wire::{Eth, Family, Ip, L4, Packet, nd, options};

use super::Subject;
use crate::read::{self, L3};

/// What all parsers make of a frame, as text: two frames of which they make the same look the same.
fn all<S: Subject>(subject: &S, frame: &[u8]) -> String {
    let eth = Eth::parse(frame);
    let group = eth.map(|eth| (is_spanning_tree(frame, &eth), stays_on_its_link(eth.dst)));
    let v4 = subject.v4(frame).map(|ip| {
        let options = options::check(frame, L3, &ip);
        (
            ip,
            Packet::parse(frame, ip),
            options,
            pieces(frame, ip),
            quote(frame, ip),
        )
    });
    let v6 = subject.v6(frame).map(|ip| {
        let message = nd::parse(frame, &ip);
        (
            ip,
            Packet::parse(frame, ip),
            message,
            pieces(frame, ip),
            quote(frame, ip),
        )
    });
    let arp = Arp::parse(frame);
    format!("{eth:?} {group:?} {arp:?} {v4:?} {v6:?}")
}

/// What is made of a fragment.
fn pieces<A: Family>(frame: &[u8], ip: Ip<A>) -> String {
    if !ip.fragment {
        return String::new();
    }
    let fragment = A::fragment(frame, L3, &ip);
    let judged = fragment.map(|f| f.check(ip.proto));
    let first = (!ip.later).then(|| Packet::first(frame, ip));
    format!("{fragment:?} {judged:?} {first:?}")
}

/// What an ICMP error is read to quote.
fn quote<A: Family>(frame: &[u8], ip: Ip<A>) -> Option<Quote<A>> {
    let p = Packet::parse(frame, ip).ok()?;
    // Why none is read makes no difference: the message is then like any other.
    let quote = icmp_error::of::<A>(p.l4).then(|| Quote::read(frame, &p))?;
    quote.ok()
}

pub fn check<S: Subject>(subject: &S, frame: &[u8]) -> Result<(), String> {
    let kind = read::ethertype(frame);
    if kind == Some(0x0800) {
        same(frame, subject.v4(frame))?;
    } else if kind == Some(0x86dd) {
        same(frame, subject.v6(frame))?;
    } else {
        all(subject, frame);
        return Ok(());
    }
    behind(subject, frame)
}

/// What netd reads is what stands there.
fn same<A: Family>(frame: &[u8], ip: Result<Ip<A>, DropReason>) -> Result<(), String> {
    let plain = read::ip(frame);
    let (ip, plain) = match (ip, plain) {
        (Ok(ip), Some(plain)) => (ip, plain),
        (Ok(ip), None) => return Err(format!("accepted, though not whole: {ip:?}")),
        // The last two are whole, and refused all the same.
        (Err(_), None) | (Err(DropReason::ExtHeaders | DropReason::SourceRoute), Some(_)) => {
            return Ok(());
        }
        (Err(reason), Some(plain)) => return Err(format!("refused ({reason:?}): {plain:?}")),
    };
    let (src, dst) = (bytemuck::bytes_of(&ip.src), bytemuck::bytes_of(&ip.dst));
    let equal = src == plain.src
        && dst == plain.dst
        && ip.proto == plain.proto
        && ip.ttl == plain.ttl
        && usize::from(ip.l4) == plain.l4
        && ip.end as usize == plain.end
        && (ip.fragment, ip.later) == (plain.fragment, plain.later);
    if !equal {
        return Err(format!("read as {ip:?}, is {plain:?}"));
    }
    let Ok(p) = Packet::parse(frame, ip) else {
        return Ok(());
    };
    let ports = (p.tuple.sport.get(), p.tuple.dport.get());
    match (p.l4, plain.ports(frame)) {
        (L4::Tcp(_) | L4::Udp | L4::EchoRequest | L4::EchoReply, Some(found)) if found == ports => {
            Ok(())
        }
        (L4::Icmp(_) | L4::Other | L4::Fragment, None) if ports == (0, 0) => Ok(()),
        (l4, found) => Err(format!("{l4:?} with ports {ports:?}, there are {found:?}")),
    }
}

/// Bytes behind the packet's end are nobody's: whatever they are, the packet is the same.
fn behind<S: Subject>(subject: &S, frame: &[u8]) -> Result<(), String> {
    let Some(plain) = read::ip(frame) else {
        return Ok(());
    };
    if plain.end == frame.len() {
        return Ok(());
    }
    let mut other = frame.to_vec();
    for byte in &mut other[plain.end..] {
        *byte = !*byte;
    }
    let (before, after) = (all(subject, frame), all(subject, &other));
    // ARP is read whatever the EtherType says, and has no end.
    let ip = |said: &str| said.split_once("Ip {").map(|(_, ip)| ip.to_owned());
    if ip(&before) == ip(&after) {
        Ok(())
    } else {
        Err(format!("padding decides: {before} or {after}"))
    }
}
