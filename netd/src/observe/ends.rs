//! Who speaks to whom in a frame of which perhaps only the beginning is there.

use std::net::{IpAddr, Ipv6Addr};

use netd_api::{Ends, Proto};
use netd_common::addr::{Addr, V4, V6};
use netd_common::tuple::Tuple;
use netd_common::wire::arp::Arp;
use netd_common::wire::{ETH_LEN, Eth, Family, L4, Packet, Window, ethertype};

/// The first bytes of a frame that is longer.
struct Head<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl Window for Head<'_> {
    fn load<const N: usize>(&self, off: usize) -> Option<[u8; N]> {
        self.bytes.load(off)
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// Protocol in words, and addresses and ports as far as they can be read; `len` is the length of the whole
/// frame.
pub fn of_frame(bytes: &[u8], len: usize) -> (String, Ends) {
    let head = Head { bytes, len };
    let Ok(eth) = Eth::parse(&head) else {
        return ("?".into(), Ends::default());
    };
    match eth.ethertype {
        ethertype::IPV4 => of_ip::<V4, _>(&head),
        ethertype::IPV6 => of_ip::<V6, _>(&head),
        ethertype::ARP => ("arp".into(), of_arp(&head)),
        other => (format!("0x{other:04x}"), Ends::default()),
    }
}

fn of_arp(head: &Head<'_>) -> Ends {
    let Ok(arp) = Arp::parse(head) else {
        return Ends::default();
    };
    Ends {
        src: Some(address(arp.sender_ip)),
        dst: Some(address(arp.target_ip)),
        ..Ends::default()
    }
}

fn of_ip<A: Family, W: Window>(head: &W) -> (String, Ends) {
    let addresses = Ends {
        src: A::source(head, ETH_LEN).map(address),
        dst: A::destination(head, ETH_LEN).map(address),
        ..Ends::default()
    };
    let Ok(ip) = A::parse(head, ETH_LEN) else {
        let family = if A::IS_V4 { "ip" } else { "ip6" };
        return (family.into(), addresses);
    };
    let proto = proto(ip.proto);
    match Packet::parse(head, ip) {
        Ok(packet) => match packet.l4 {
            L4::Tcp(_) | L4::Udp | L4::EchoRequest | L4::EchoReply => (proto, ends(&packet.tuple)),
            L4::Icmp(_) | L4::Other | L4::Fragment => (proto, addresses),
        },
        Err(_) => (proto, addresses),
    }
}

/// An IP protocol in words.
pub fn proto(number: u8) -> String {
    Proto::from_number(number).map_or_else(|| number.to_string(), |p| p.name().into())
}

/// The ends of a tuple. An echo has an identifier on the asking side only.
pub fn ends<A: Addr>(tuple: &Tuple<A>) -> Ends {
    let echo = matches!(
        Proto::from_number(tuple.proto),
        Some(Proto::Icmp | Proto::Icmpv6)
    );
    let number = |n: u16, other: u16| (!echo || n != 0 || other == 0).then_some(n);
    let (sport, dport) = (tuple.sport.get(), tuple.dport.get());
    Ends {
        src: Some(address(tuple.src)),
        sport: number(sport, dport),
        dst: Some(address(tuple.dst)),
        dport: number(dport, sport),
    }
}

/// An address; `::ffff:a.b.c.d` is IPv4.
fn address<A: Addr>(a: A) -> IpAddr {
    Ipv6Addr::from(a.to_16()).to_canonical()
}

#[cfg(test)]
mod tests {
    use netd_common::addr::Be16;

    use super::*;

    fn udp4(len: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((28 + len).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 5, 1, 1, 1, 1]);
        frame.extend([0x10, 0x92, 0, 53]);
        frame.extend((8 + len).to_be_bytes());
        frame.extend([0, 0]);
        frame.resize(42 + usize::from(len), 7);
        frame
    }

    #[test]
    fn ports_are_read_from_the_beginning_of_a_long_frame() {
        let frame = udp4(1000);
        for there in [frame.len(), 128, 42] {
            let (proto, ends) = of_frame(&frame[..there], frame.len());
            assert_eq!(proto, "udp");
            assert_eq!(ends.src, Some("10.0.0.5".parse().unwrap()));
            assert_eq!((ends.sport, ends.dport), (Some(4242), Some(53)));
        }
        let (proto, ends) = of_frame(&frame[..36], frame.len());
        assert_eq!((proto.as_str(), ends.sport), ("udp", None));
        assert_eq!(ends.dst, Some("1.1.1.1".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(of_frame(&[], 0), ("?".into(), Ends::default()));
        let mut other = vec![0; 60];
        other[12..14].copy_from_slice(&[0x88, 0xcc]);
        assert_eq!(of_frame(&other, 60).0, "0x88cc");
        other[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(of_frame(&other, 60).0, "ip6");
    }

    #[test]
    fn an_echo_has_an_identifier_on_the_asking_side() {
        let mut tuple = Tuple {
            src: [10, 0, 0, 5],
            dst: [1, 1, 1, 1],
            sport: Be16::new(7),
            dport: Be16::new(0),
            proto: 1,
            pad: [0; 3],
        };
        let asked = ends(&tuple);
        assert_eq!((asked.sport, asked.dport), (Some(7), None));
        let answered = ends(&tuple.reverse());
        assert_eq!((answered.sport, answered.dport), (None, Some(7)));
        tuple.proto = 17;
        assert_eq!(ends(&tuple).dport, Some(0));
    }
}
