//! Packets in words to frames, and frames to words.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use netd_api::{PacketKind, PacketSpec, flag_letters};
use netd_common::addr::{Addr, BROADCAST, Mac, V4, V6};
use netd_common::reason::DropReason;
use netd_common::wire::arp::{Arp, Op};
use netd_common::wire::{ETH_LEN, Eth, Family, L4, Packet, ethertype, nd};

use crate::model::name::ShowMac;

/// Source port of who does not say one.
const SPORT: u16 = 40_000;

/// What words leave open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// Source address, of the destination's family.
    pub src: IpAddr,
    /// Source MAC.
    pub src_mac: Mac,
    /// Destination MAC.
    pub dst_mac: Mac,
}

/// The MAC that an address of a group has, or that a question goes to; none: a host's own.
pub fn fixed_mac(spec: &PacketSpec) -> Option<Mac> {
    let group = |a: V6| [0x33, 0x33, a[12], a[13], a[14], a[15]];
    match (spec.kind, spec.dst) {
        (PacketKind::Arp, _) => Some(BROADCAST),
        (PacketKind::Nd, IpAddr::V6(a)) => Some(group(solicited(a).octets())),
        (_, IpAddr::V4(a)) if a.is_broadcast() => Some(BROADCAST),
        (_, IpAddr::V4(a)) if a.is_multicast() => {
            let [_, b, c, d] = a.octets();
            Some([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        (_, IpAddr::V6(a)) if a.is_multicast() => Some(group(a.octets())),
        _ => None,
    }
}

/// The group that whoever has an address listens to (RFC 4291 section 2.7.1).
fn solicited(a: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = a.octets();
    let low = (u16::from(y) << 8) | u16::from(z);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), low)
}

/// The frame, with every length and checksum right. The ends must be of one family.
pub fn build(spec: &PacketSpec, ends: &Ends) -> Vec<u8> {
    let src_mac = spec.from.unwrap_or(ends.src_mac);
    let dst_mac = spec.to.unwrap_or(ends.dst_mac);
    if let (PacketKind::Arp, IpAddr::V4(src), IpAddr::V4(dst)) = (spec.kind, ends.src, spec.dst) {
        return arp(src_mac, dst_mac, src.octets(), dst.octets());
    }
    let eth = PacketBuilder::ethernet2(src_mac, dst_mac);
    let ip = match (ends.src, spec.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => eth.ipv4(src.octets(), dst.octets(), spec.ttl),
        (src, dst) => {
            let wide = |a: IpAddr| match a {
                IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
                IpAddr::V6(a) => a.octets(),
            };
            let dst = match (spec.kind, dst) {
                (PacketKind::Nd, IpAddr::V6(target)) => solicited(target).octets(),
                _ => wide(dst),
            };
            eth.ipv6(wide(src), dst, spec.ttl)
        }
    };
    payload(spec, src_mac, ip)
}

fn payload(spec: &PacketSpec, src_mac: Mac, ip: PacketBuilderStep<IpHeaders>) -> Vec<u8> {
    let data = vec![0u8; usize::from(spec.len)];
    let sport = spec.sport.unwrap_or(SPORT);
    let mut frame = Vec::new();
    let written = match spec.kind {
        PacketKind::Tcp => {
            let mut tcp = ip.tcp(sport, spec.dport, 1_000, 65_000);
            let has = |bit: u8| spec.flags & bit != 0;
            for (bit, set) in FLAGS {
                if has(bit) {
                    tcp = set(tcp);
                }
            }
            tcp.write(&mut frame, &data)
        }
        PacketKind::Udp => ip.udp(sport, spec.dport).write(&mut frame, &data),
        PacketKind::Icmp if spec.dst.is_ipv4() => {
            ip.icmpv4_echo_request(sport, 1).write(&mut frame, &data)
        }
        PacketKind::Icmp => ip.icmpv6_echo_request(sport, 1).write(&mut frame, &data),
        PacketKind::Nd | PacketKind::Arp => {
            let target = match spec.dst {
                IpAddr::V6(a) => a.octets(),
                IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
            };
            // Option 1 is the source link-layer address, in units of eight bytes (RFC 4861 section 4.6.1).
            let body = [&target[..], &[1, 1], &src_mac].concat();
            ip.icmpv6_raw(135, 0, [0; 4]).write(&mut frame, &body)
        }
    };
    // A vector takes all that is written, and lengths are checked where the words are read.
    debug_assert!(written.is_ok(), "{written:?}");
    frame
}

type Tcp = PacketBuilderStep<etherparse::TcpHeader>;
type SetFlag = fn(Tcp) -> Tcp;

/// Flags by their bits in the header.
const FLAGS: [(u8, SetFlag); 6] = [
    (0x01, |t| t.fin()),
    (0x02, |t| t.syn()),
    (0x04, |t| t.rst()),
    (0x08, |t| t.psh()),
    (0x10, |t| t.ack(1)),
    (0x20, |t| t.urg(0)),
];

/// An ARP request (RFC 826).
fn arp(src_mac: Mac, dst_mac: Mac, src: V4, dst: V4) -> Vec<u8> {
    let eth = Eth {
        dst: dst_mac,
        src: src_mac,
        ethertype: ethertype::ARP,
    };
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&eth.bytes()[..], &head, &src_mac, &src, &[0; 6], &dst].concat()
}

/// A frame in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// All of it.
    pub text: String,
    /// Source and destination, without protocol and flags.
    pub ends: String,
    /// Time to live or hop limit; none: not IP.
    pub ttl: Option<u8>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What a frame is, in words; what the programs would not take is said with their reason.
pub fn summary(frame: &[u8]) -> Summary {
    match Eth::parse(frame) {
        Ok(eth) if eth.ethertype == ethertype::IPV4 => ip::<V4>(frame),
        Ok(eth) if eth.ethertype == ethertype::IPV6 => ip::<V6>(frame),
        Ok(eth) if eth.ethertype == ethertype::ARP => match Arp::parse(frame) {
            Ok(arp) => question(&arp),
            Err(reason) => odd("arp", frame, reason),
        },
        Ok(eth) => plain(format!(
            "{} bytes of EtherType 0x{:04x}, {} > {}",
            frame.len(),
            eth.ethertype,
            ShowMac(eth.src),
            ShowMac(eth.dst)
        )),
        Err(reason) => odd("frame", frame, reason),
    }
}

fn plain(text: String) -> Summary {
    Summary {
        ends: text.clone(),
        text,
        ttl: None,
        addresses: Vec::new(),
    }
}

fn odd(what: &str, frame: &[u8], reason: DropReason) -> Summary {
    plain(format!(
        "{what} of {} bytes that cannot be read ({})",
        frame.len(),
        reason.name()
    ))
}

fn question(arp: &Arp) -> Summary {
    let (sender, target) = (IpAddr::from(arp.sender_ip), IpAddr::from(arp.target_ip));
    let text = match arp.op {
        Op::Request => format!("arp who-has {target} tell {sender}"),
        Op::Reply => format!("arp {sender} is at {}", ShowMac(arp.sender_mac)),
    };
    Summary {
        addresses: vec![sender, target],
        ..plain(text)
    }
}

fn address<A: Addr>(a: A) -> IpAddr {
    let wide = Ipv6Addr::from(a.to_16());
    if A::IS_V4 {
        wide.to_ipv4_mapped().map_or(IpAddr::V6(wide), IpAddr::V4)
    } else {
        IpAddr::V6(wide)
    }
}

fn ip<A: Family>(frame: &[u8]) -> Summary {
    let name = if A::IS_V4 { "ipv4" } else { "ipv6" };
    let head = match A::parse(frame, ETH_LEN) {
        Ok(head) => head,
        Err(reason) => return odd(name, frame, reason),
    };
    let (src, dst) = (address(head.src), address(head.dst));
    let whole = |text: String, ends: String| Summary {
        text,
        ends,
        ttl: Some(head.ttl),
        addresses: vec![src, dst],
    };
    let bare = format!("{src} > {dst}");
    if !A::IS_V4
        && let Ok(head) = V6::parse(frame, ETH_LEN)
        && let Ok(message) = nd::parse(frame, &head)
    {
        let target = Ipv6Addr::from(message.target);
        let mac = ShowMac(message.mac);
        match message.kind {
            nd::Kind::Solicitation => {
                return whole(format!("nd who-has {target} tell {src}"), bare);
            }
            nd::Kind::Advertisement => return whole(format!("nd {target} is at {mac}"), bare),
            nd::Kind::Router | nd::Kind::Other => {}
        }
    }
    let packet = match Packet::parse(frame, head) {
        Ok(packet) => packet,
        Err(reason) => {
            let text = format!("{name} {bare}, protocol {} ({})", head.proto, reason.name());
            return whole(text, bare);
        }
    };
    let t = &packet.tuple;
    let sockets = format!(
        "{} > {}",
        SocketAddr::new(src, t.sport.get()),
        SocketAddr::new(dst, t.dport.get())
    );
    let icmp = if A::IS_V4 { "icmp" } else { "icmpv6" };
    match packet.l4 {
        L4::Tcp(flags) => whole(
            format!("tcp {sockets} flags {}", flag_letters(flags)),
            sockets,
        ),
        L4::Udp => whole(format!("udp {sockets}"), sockets),
        L4::EchoRequest => {
            let ends = format!("{bare} id {}", t.sport.get());
            whole(format!("{icmp} echo request {ends}"), ends)
        }
        L4::EchoReply => {
            let ends = format!("{bare} id {}", t.dport.get());
            whole(format!("{icmp} echo reply {ends}"), ends)
        }
        L4::Icmp(kind) => whole(format!("{icmp} type {kind} {bare}"), bare),
        L4::Fragment => whole(
            format!("{name} fragment {bare}, protocol {}", head.proto),
            bare,
        ),
        L4::Other => whole(format!("{name} {bare}, protocol {}", head.proto), bare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 0x0a];
    const B: Mac = [2, 0, 0, 0, 0, 0x0b];

    fn made(words: &str, src: &str) -> Vec<u8> {
        let spec: PacketSpec = words.parse().unwrap();
        let ends = Ends {
            src: src.parse().unwrap(),
            src_mac: A,
            dst_mac: fixed_mac(&spec).unwrap_or(B),
        };
        build(&spec, &ends)
    }

    #[test]
    fn words_become_the_frame_they_say_and_are_read_back_from_it() {
        for (words, src, said) in [
            (
                "tcp 1.1.1.1:443",
                "10.0.0.5",
                "tcp 10.0.0.5:40000 > 1.1.1.1:443 flags S",
            ),
            (
                "tcp :9 > 1.1.1.1:443 flags fa",
                "10.0.0.5",
                "tcp 10.0.0.5:9 > 1.1.1.1:443 flags FA",
            ),
            (
                "tcp [::5]:443 flags .",
                "fd00::2",
                "tcp [fd00::2]:40000 > [::5]:443 flags .",
            ),
            (
                "udp [::5]:53 len 9",
                "fd00::2",
                "udp [fd00::2]:40000 > [::5]:53",
            ),
            (
                "icmp 1.1.1.1 id 7",
                "10.0.0.5",
                "icmp echo request 10.0.0.5 > 1.1.1.1 id 7",
            ),
            (
                "icmp ::5 id 7",
                "fd00::2",
                "icmpv6 echo request fd00::2 > ::5 id 7",
            ),
            (
                "arp who-has 10.0.0.1",
                "10.0.0.5",
                "arp who-has 10.0.0.1 tell 10.0.0.5",
            ),
            (
                "nd who-has fd00::1",
                "fd00::2",
                "nd who-has fd00::1 tell fd00::2",
            ),
        ] {
            let frame = made(words, src);
            assert_eq!(summary(&frame).text, said, "{words}");
            let eth = Eth::parse(&frame[..]).unwrap();
            assert_eq!(eth.src, A, "{words}");
        }
    }

    #[test]
    fn lengths_time_to_live_and_macs_are_what_was_said() {
        let frame = made(
            "udp 1.1.1.1:53 len 10 ttl 3 to 02:00:00:00:00:99",
            "10.0.0.5",
        );
        assert_eq!(frame.len(), 14 + 20 + 8 + 10);
        assert_eq!((frame[22], &frame[..6]), (3, &[2, 0, 0, 0, 0, 0x99][..]));
        assert_eq!(summary(&frame).ttl, Some(3));
        let ask = made("nd who-has fd00::1:2", "fd00::2");
        assert_eq!(ask[..6], [0x33, 0x33, 0xff, 1, 0, 2]);
        let group = made("udp 239.255.1.2:1", "10.0.0.5");
        assert_eq!(group[..6], [1, 0, 0x5e, 0x7f, 1, 2]);
    }

    #[test]
    fn what_is_no_packet_is_said_to_be_none() {
        assert!(summary(&[0; 4]).text.contains("truncated"));
        let mut lldp = vec![0; 60];
        lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
        assert!(summary(&lldp).text.contains("0x88cc"));
        let mut short = made("tcp 1.1.1.1:443", "10.0.0.5");
        short.truncate(40);
        assert!(
            summary(&short).text.contains("bad_length"),
            "{:?}",
            summary(&short)
        );
    }
}
