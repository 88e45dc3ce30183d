//! ICMP errors (RFC 792, RFC 4443 section 3) and the packets they quote: whose conversation they are about,
//! and what has to change in them where that conversation is translated (RFC 5508 section 4).

use super::Window;
use super::ip::{Family, Ip, V4_LEN};
use super::l4::{L4, Packet};
use crate::addr::{Addr, Be16};
use crate::checksum::Delta;
use crate::nat::Rewrite;
use crate::reason::DropReason;
use crate::tuple::{Tuple, proto};

/// Bytes of the header of an ICMP error, before the packet it quotes.
pub const ICMP_LEN: usize = 8;

/// Words of options an IPv4 header has room for.
const MAX_OPTION_WORDS: usize = 10;

/// Whether an ICMP or ICMPv6 message of this type is an error that quotes a packet. Source quench (RFC 6633)
/// is no longer one, and a redirect is a word between neighbours.
#[inline(always)]
pub const fn is_error<A: Addr>(kind: u8) -> bool {
    if A::IS_V4 {
        // Destination unreachable, time exceeded, parameter problem.
        matches!(kind, 3 | 11 | 12)
    } else {
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        matches!(kind, 1..=4)
    }
}

/// Whether a packet is an ICMP error.
#[inline(always)]
pub const fn of<A: Addr>(l4: L4) -> bool {
    match l4 {
        L4::Icmp(kind) => is_error::<A>(kind),
        L4::Tcp(_) | L4::Udp | L4::EchoRequest | L4::EchoReply | L4::Other | L4::Fragment => false,
    }
}

/// What the quoted packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quoted {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: ports, and a checksum over the whole packet, which nobody looks at in a quote.
    Sctp,
    /// An echo request or reply.
    Echo,
    /// Nothing that is translated.
    Other,
}

/// The packet an ICMP error quotes: at least its IP header and eight bytes more.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote<A> {
    /// Who sent it to whom, as a packet's [`Tuple`].
    pub tuple: Tuple<A>,
    /// What it carries.
    pub carries: Quoted,
    /// IPv4: the header's checksum field; else zero.
    pub header_sum: [u8; 2],
    /// Whether that is right; always so for IPv6.
    pub header_is_right: bool,
    /// The checksum field of what it carries; none: it is not in the quote, or says "none" (UDP).
    pub sum: Option<[u8; 2]>,
    /// Offset of its IP header from the start of the frame.
    pub l3: u16,
    /// Offset of its L4 header.
    pub l4: u16,
}

/// What changes in a quote, beside its addresses and ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// IPv4: the new checksum field of the header.
    pub header_sum: [u8; 2],
    /// The new checksum field of what it carries, if it is there.
    pub sum: Option<[u8; 2]>,
    /// How all of the change alters the checksum of the ICMP message, the outer addresses left out.
    pub delta: Delta,
}

impl<A: Family> Quote<A> {
    /// Reads the packet that the ICMP error `p` quotes.
    ///
    /// # Errors
    /// It is cut off before its ports, its header is malformed, or it is a fragment without them.
    #[inline(always)]
    pub fn read<W: Window + ?Sized>(w: &W, p: &Packet<A>) -> Result<Self, DropReason> {
        let message = usize::from(p.ip.l4);
        let header = w.load::<ICMP_LEN>(message).ok_or(DropReason::Truncated)?;
        let l3 = message + ICMP_LEN;
        let end = end::<A>(header, l3, p.ip.end);
        let ip = A::quoted(w, l3, end)?;
        let at = usize::from(ip.l4);
        if ip.later || at + 8 > end as usize {
            return Err(DropReason::Truncated);
        }
        let (header_sum, header_is_right) = if A::IS_V4 {
            header_sum(w, l3, at)?
        } else {
            ([0; 2], true)
        };
        let l4 = w.load::<8>(at).ok_or(DropReason::Truncated)?;
        let ports = (Be16([l4[0], l4[1]]), Be16([l4[2], l4[3]]));
        let none = Be16([0; 2]);
        let (carries, (sport, dport), sum) = if ip.proto == proto::TCP {
            let whole = at + 18 <= end as usize;
            let sum = if whole { w.load::<2>(at + 16) } else { None };
            (Quoted::Tcp, ports, sum)
        } else if ip.proto == proto::UDP {
            let sum = [l4[6], l4[7]];
            let made = (sum != [0, 0]).then_some(sum);
            (Quoted::Udp, ports, made)
        } else if ip.proto == proto::SCTP {
            (Quoted::Sctp, ports, None)
        } else if ip.proto == A::ICMP {
            let (id, sum) = (Be16([l4[4], l4[5]]), Some([l4[2], l4[3]]));
            match (l4[0], l4[1]) {
                (kind, 0) if kind == A::ECHO_REQUEST => (Quoted::Echo, (id, none), sum),
                (kind, 0) if kind == A::ECHO_REPLY => (Quoted::Echo, (none, id), sum),
                // Errors about other messages are about nothing that is translated.
                _ => return Err(DropReason::NatIcmp),
            }
        } else {
            (Quoted::Other, (none, none), None)
        };
        Ok(Self {
            tuple: tuple(&ip, sport, dport),
            carries,
            header_sum,
            header_is_right,
            sum,
            l3: l3 as u16,
            l4: ip.l4,
        })
    }

    /// What has to change for the quoted packet to be one with tuple `to`.
    #[inline(always)]
    pub fn plan(&self, to: &Tuple<A>) -> Change {
        let plan = Rewrite::plan(&self.tuple, to);
        let header_sum = plan.addr.apply(self.header_sum);
        // An ICMP checksum has no pseudo-header (RFC 792), an ICMPv6 one has (RFC 4443 section 2.3).
        let pseudo_header = !(A::IS_V4 && self.carries == Quoted::Echo);
        let sum = self.sum.map(|old| {
            let addr = if pseudo_header {
                plan.addr
            } else {
                Delta::new()
            };
            match plan.port.apply(addr.apply(old)) {
                // RFC 768: a checksum of zero is sent as all ones.
                [0, 0] if self.carries == Quoted::Udp => [0xff; 2],
                new => new,
            }
        });
        let mut delta = plan.addr.and(plan.port);
        if A::IS_V4 {
            delta = delta.remove(self.header_sum).add(header_sum);
        }
        if let (Some(old), Some(new)) = (self.sum, sum) {
            delta = delta.remove(old).add(new);
        }
        Change {
            header_sum,
            sum,
            delta,
        }
    }

    /// Offset of the checksum field behind [`Self::l4`].
    #[inline(always)]
    pub const fn sum_at(&self) -> usize {
        match self.carries {
            Quoted::Tcp => 16,
            Quoted::Udp => 6,
            Quoted::Echo => 2,
            Quoted::Sctp | Quoted::Other => 0,
        }
    }
}

#[inline(always)]
const fn tuple<A: Addr>(ip: &Ip<A>, sport: Be16, dport: Be16) -> Tuple<A> {
    Tuple {
        src: ip.src,
        dst: ip.dst,
        sport,
        dport,
        proto: ip.proto,
        pad: [0; 3],
    }
}

/// Where the quote that starts at offset `l3` ends: where the message does, or where its length field says
/// that extensions begin (RFC 4884 section 4). Those stay as they are.
#[inline(always)]
fn end<A: Addr>(header: [u8; ICMP_LEN], l3: usize, end: u32) -> u32 {
    // In units of 4 bytes for the three IPv4 errors, of 8 for two of the IPv6 ones.
    let said = match (A::IS_V4, header[0]) {
        (true, _) => u32::from(header[5]) * 4,
        (false, 1 | 3) => u32::from(header[4]) * 8,
        (false, _) => 0,
    };
    if said == 0 {
        return end;
    }
    end.min(l3 as u32 + said)
}

/// The checksum field of the IPv4 header from `l3` to `l4`, and whether it is right.
#[inline(always)]
fn header_sum<W: Window + ?Sized>(
    w: &W,
    l3: usize,
    l4: usize,
) -> Result<([u8; 2], bool), DropReason> {
    let h = w.load::<V4_LEN>(l3).ok_or(DropReason::Truncated)?;
    let mut sum = Delta::new().add(h);
    let mut at = l3 + V4_LEN;
    for _ in 0..MAX_OPTION_WORDS {
        if at >= l4 {
            break;
        }
        sum = sum.add(w.load::<4>(at).ok_or(DropReason::Truncated)?);
        at += 4;
    }
    Ok(([h[10], h[11]], sum.is_right()))
}

/// The sum that an ICMP message's own bytes are added to: of the pseudo-header (RFC 8200 section 8.1), of
/// nothing for IPv4. `len` is the length of the message in bytes.
#[inline(always)]
pub fn pseudo_header<A: Addr>(src: A, dst: A, len: u32) -> Delta {
    if A::IS_V4 {
        return Delta::new();
    }
    Delta::new()
        .add(src.to_16())
        .add(dst.to_16())
        .add(len.to_be_bytes())
        .add([0, proto::ICMPV6])
}

/// The outer source of a translated error: where the flow hides the address of this side, an error from here
/// comes from the address it is hidden behind (RFC 5508 REQ-5c), else from whoever sends it: errors come from
/// routers on the way, too.
#[inline(always)]
pub fn source<A: Addr>(src: A, key: &Tuple<A>, to: &Tuple<A>) -> A {
    if key.src == to.src { src } else { to.src }
}

#[cfg(test)]
mod tests;
