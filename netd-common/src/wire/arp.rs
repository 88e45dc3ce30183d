//! ARP for IPv4 over Ethernet (RFC 826).

use super::Window;
use super::eth::{ETH_LEN, Eth, ethertype};
use crate::addr::{BROADCAST, Mac, V4};
use crate::reason::DropReason;

/// Bytes of a frame with an ARP packet.
pub const FRAME_LEN: usize = ETH_LEN + 28;

/// What an ARP packet does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Who has `target_ip`?
    Request,
    /// `sender_ip` is at `sender_mac`.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Request or reply.
    pub op: Op,
    /// MAC of the speaker.
    pub sender_mac: Mac,
    /// Address of the speaker; 0.0.0.0 in a probe (RFC 5227 section 1.1).
    pub sender_ip: V4,
    /// Address that is asked for, or of the one who asked.
    pub target_ip: V4,
}

impl Arp {
    /// The ARP packet behind the Ethernet header.
    #[inline(always)]
    pub fn parse<W: Window + ?Sized>(w: &W) -> Result<Self, DropReason> {
        let a = w.load::<28>(ETH_LEN).ok_or(DropReason::Truncated)?;
        if [a[0], a[1], a[2], a[3], a[4], a[5]] != [0, 1, 0x08, 0, 6, 4] {
            return Err(DropReason::SpoofedArp);
        }
        let op = match (a[6], a[7]) {
            (0, 1) => Op::Request,
            (0, 2) => Op::Reply,
            _ => return Err(DropReason::SpoofedArp),
        };
        Ok(Self {
            op,
            sender_mac: [a[8], a[9], a[10], a[11], a[12], a[13]],
            sender_ip: [a[14], a[15], a[16], a[17]],
            target_ip: [a[24], a[25], a[26], a[27]],
        })
    }

    /// The frame that answers this request: `target_ip` is at `mac`.
    #[inline(always)]
    pub fn answer(&self, mac: Mac) -> [u8; FRAME_LEN] {
        frame(
            self.sender_mac,
            2,
            (mac, self.target_ip),
            (self.sender_mac, self.sender_ip),
        )
    }
}

/// The frame that tells everybody, unasked, that `ip` is at `mac` (RFC 5227 section 2.3).
pub fn announcement(mac: Mac, ip: V4) -> [u8; FRAME_LEN] {
    frame(BROADCAST, 1, (mac, ip), ([0; 6], ip))
}

#[inline(always)]
fn frame(dst: Mac, op: u8, (sm, s): (Mac, V4), (dm, d): (Mac, V4)) -> [u8; FRAME_LEN] {
    let e = Eth {
        dst,
        src: sm,
        ethertype: ethertype::ARP,
    }
    .bytes();
    [
        e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7], e[8], e[9], e[10], e[11], e[12],
        e[13], //
        0, 1, 0x08, 0, 6, 4, 0, op, //
        sm[0], sm[1], sm[2], sm[3], sm[4], sm[5], s[0], s[1], s[2], s[3], //
        dm[0], dm[1], dm[2], dm[3], dm[4], dm[5], d[0], d[1], d[2], d[3],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_everybody_for_its_own_address() {
        let mac = [2, 0, 0, 0, 0, 1];
        let f = announcement(mac, [10, 0, 0, 5]);
        assert_eq!(&f[..6], &BROADCAST);
        let arp = Arp {
            op: Op::Request,
            sender_mac: mac,
            sender_ip: [10, 0, 0, 5],
            target_ip: [10, 0, 0, 5],
        };
        assert_eq!(Arp::parse(&f[..]), Ok(arp));
        assert_eq!(&f[32..38], &[0; 6], "nobody has it otherwise");
    }

    fn request() -> Vec<u8> {
        let mut f = vec![0xff; 6];
        f.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
        f.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
        f.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
        f.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        f
    }

    #[test]
    fn a_request_is_read_and_answered() {
        let f = request();
        let arp = Arp::parse(&f[..]).unwrap();
        assert_eq!(
            arp,
            Arp {
                op: Op::Request,
                sender_mac: [2, 0, 0, 0, 0, 1],
                sender_ip: [10, 0, 0, 1],
                target_ip: [10, 0, 0, 2]
            }
        );
        let reply = arp.answer([2, 0, 0, 0, 0, 9]);
        let eth = Eth::parse(&reply[..]).unwrap();
        assert_eq!(
            eth,
            Eth {
                dst: [2, 0, 0, 0, 0, 1],
                src: [2, 0, 0, 0, 0, 9],
                ethertype: 0x0806
            }
        );
        let arp = Arp::parse(&reply[..]).unwrap();
        assert_eq!(
            arp,
            Arp {
                op: Op::Reply,
                sender_mac: [2, 0, 0, 0, 0, 9],
                sender_ip: [10, 0, 0, 2],
                target_ip: [10, 0, 0, 1]
            }
        );
        assert_eq!(&reply[32..38], &[2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn other_hardware_protocols_and_operations_are_refused() {
        for at in 14..20 {
            let mut f = request();
            f[at] ^= 0x40;
            assert_eq!(Arp::parse(&f[..]), Err(DropReason::SpoofedArp), "byte {at}");
        }
        for op in [[0u8, 0], [0, 3], [1, 1]] {
            let mut f = request();
            f[20..22].copy_from_slice(&op);
            assert_eq!(Arp::parse(&f[..]), Err(DropReason::SpoofedArp));
        }
        assert_eq!(Arp::parse(&request()[..41]), Err(DropReason::Truncated));
    }
}
