//! Translation, there and back, done on bytes by the plan the programs follow.

use netd_common::addr::{Addr, Be16};
use netd_common::nat::{Rewrite, port_bytes};
use netd_common::tuple::Tuple;
use netd_common::wire::{Family, Ip, L4, Packet, V4_LEN, v4_forward, v6_forward};

use super::Subject;
use crate::cast::NODE;
use crate::read::{self, L3};

pub fn check<S: Subject>(subject: &S, frame: &[u8]) -> Result<(), String> {
    match read::ethertype(frame) {
        Some(0x0800) => there_and_back(subject, frame, subject.v4(frame).ok(), NODE.v4),
        Some(0x86dd) => there_and_back(subject, frame, subject.v6(frame).ok(), NODE.v6),
        _ => Ok(()),
    }
}

fn there_and_back<S: Subject, A: Family>(
    subject: &S,
    frame: &[u8],
    ip: Option<Ip<A>>,
    src: A,
) -> Result<(), String> {
    let Some(p) = ip.and_then(|ip| Packet::parse(frame, ip).ok()) else {
        return Ok(());
    };
    let to = Tuple {
        src,
        sport: match p.l4 {
            L4::Tcp(_) | L4::Udp | L4::EchoRequest => Be16::new(0x9c40 | p.tuple.sport.get()),
            L4::EchoReply => p.tuple.sport,
            // Not translated by ports.
            L4::Icmp(_) | L4::Other | L4::Fragment => return Ok(()),
        },
        ..p.tuple
    };
    let there = translated(subject, frame, &p, &to);
    as_right(frame, &there)?;
    let ip = A::parse(&there[..], L3).map_err(|e| format!("unreadable afterwards: {e:?}"))?;
    let back =
        Packet::parse(&there[..], ip).map_err(|e| format!("unreadable afterwards: {e:?}"))?;
    if back.tuple != to {
        return Err(format!("became {:?}, wanted {to:?}", back.tuple));
    }
    let back = translated(subject, &there, &back, &p.tuple);
    if alike(frame, &back, &p) {
        Ok(())
    } else {
        Err("not the same when translated back".into())
    }
}

/// What `rewrite::apply` of the programs does, without a hop.
fn translated<S: Subject, A: Family>(
    subject: &S,
    frame: &[u8],
    p: &Packet<A>,
    to: &Tuple<A>,
) -> Vec<u8> {
    let mut out = frame.to_vec();
    let l4 = usize::from(p.ip.l4);
    if let Some(field) = p.l4.checksum() {
        let plan = Rewrite::plan(&p.tuple, to);
        let at = l4 + field;
        let echo = matches!(p.l4, L4::EchoRequest | L4::EchoReply);
        let old = [out[at], out[at + 1]];
        if p.l4 != L4::Udp || old != [0, 0] {
            let mut new = old;
            if !(A::IS_V4 && echo) {
                new = subject.apply(plan.addr, new);
            }
            new = subject.apply(plan.port, new);
            if p.l4 == L4::Udp && new == [0, 0] {
                new = [0xff, 0xff];
            }
            out[at..at + 2].copy_from_slice(&new);
        }
    }
    header(&mut out, p.ip.ttl, to);
    match p.l4 {
        L4::Tcp(_) | L4::Udp => {
            out[l4..l4 + 4].copy_from_slice(&port_bytes(to.sport, to.dport));
        }
        L4::EchoRequest => out[l4 + 4..l4 + 6].copy_from_slice(&to.sport.0),
        L4::EchoReply => out[l4 + 4..l4 + 6].copy_from_slice(&to.dport.0),
        L4::Icmp(_) | L4::Other | L4::Fragment => {}
    }
    out
}

fn header<A: Addr>(out: &mut [u8], ttl: u8, to: &Tuple<A>) {
    let (src, dst) = (to.src.to_16(), to.dst.to_16());
    if A::IS_V4 {
        let mut h = [0; V4_LEN];
        h.copy_from_slice(&out[L3..L3 + V4_LEN]);
        let v4 = |a: [u8; 16]| [a[12], a[13], a[14], a[15]];
        let new = v4_forward(h, v4(src), v4(dst), 0);
        out[L3..L3 + V4_LEN].copy_from_slice(&new);
    } else {
        out[L3 + 7] = v6_forward(ttl, 0);
        out[L3 + 8..L3 + 24].copy_from_slice(&src);
        out[L3 + 24..L3 + 40].copy_from_slice(&dst);
    }
}

/// A packet with a right checksum has one afterwards; a wrong one stays exactly as wrong, so that the
/// receiver refuses it.
pub fn as_right(before: &[u8], after: &[u8]) -> Result<(), String> {
    let (Some(b), Some(a)) = (read::ip(before), read::ip(after)) else {
        return Err("no IP packet any more".into());
    };
    let (was, is) = (b.header_error(before), a.header_error(after));
    if was != is {
        return Err(format!(
            "the header's checksum was off by {was:#x}, is by {is:#x}"
        ));
    }
    let (was, is) = (b.l4_error(before), a.l4_error(after));
    if was != is {
        return Err(format!(
            "the L4 checksum was off by {was:x?}, is by {is:x?}"
        ));
    }
    Ok(())
}

/// Equal, but for the two zeros a checksum may have.
fn alike<A: Family>(a: &[u8], b: &[u8], p: &Packet<A>) -> bool {
    let l4 = p.l4.checksum().map(|field| usize::from(p.ip.l4) + field);
    let header = A::IS_V4.then_some(L3 + 10);
    let mut b = b.to_vec();
    for at in [l4, header].into_iter().flatten() {
        let both = [[a[at], a[at + 1]], [b[at], b[at + 1]]];
        if both.iter().all(|c| matches!(c, [0, 0] | [0xff, 0xff])) {
            b[at..at + 2].copy_from_slice(&both[0]);
        }
    }
    a == b
}
