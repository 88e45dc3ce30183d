//! Packets as values. A test changes the fields it cares about; [`Packet::bytes`] makes the frame, with
//! every length and checksum computed anew: so what a program made of a packet is compared with a
//! frame that owes nothing to the program's arithmetic.

use std::net::IpAddr;

use etherparse::{
    EtherType, IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, Ipv4Options,
    Ipv6Header, SlicedPacket, TcpHeader, TransportSlice, UdpHeader, checksum,
};

use super::hosts::{Family, GATEWAY, Host, NODE};

/// TCP flags of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// The first segment of a connection.
    pub const SYN: Self = Self(0x02);
    /// Its answer.
    pub const SYN_ACK: Self = Self(0x12);
    /// Any segment of an open connection.
    pub const ACK: Self = Self(0x10);
    /// The last one of a side.
    pub const FIN: Self = Self(0x11);
    /// The end.
    pub const RST: Self = Self(0x04);
}

/// What a packet carries. Ports of an echo: `sport` is a request's identifier, `dport` a reply's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    /// TCP.
    Tcp(Flags),
    /// UDP.
    Udp,
    /// UDP with the checksum field 0: none was made.
    UdpUnsummed,
    /// An echo request.
    Ping,
    /// An echo reply.
    Pong,
    /// Another ICMP or ICMPv6 message: type and code.
    Icmp(u8, u8),
    /// Another protocol.
    Other(u8),
}

/// The conversations masquerade translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP without checksums.
    UdpUnsummed,
    /// Echo.
    Echo,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::UdpUnsummed, Self::Echo];
    /// Those that have ports.
    pub const PORTS: [Self; 3] = [Self::Tcp, Self::Udp, Self::UdpUnsummed];
}

/// A packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// What it carries.
    pub l4: L4,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Bytes behind the L4 header.
    pub payload: Vec<u8>,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers in order: number, and bytes behind the next-header field.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// IPv4: whether it must not be cut to pieces; a fragment may be.
    pub dont_fragment: bool,
    /// Identification and type of service of IPv4.
    pub id_tos: (u16, u8),
    /// IPv4 fragment: offset in units of eight bytes, and whether more follow.
    pub fragment: (u16, bool),
    /// Bytes behind the packet's end, as short frames have them.
    pub padding: usize,
    /// IPv6: the flow label.
    pub label: u32,
    /// Bytes 4 to 7 of an ICMP message that is no echo.
    pub rest: [u8; 4],
    /// TCP: sequence number, and what is acknowledged where the segment does.
    pub numbers: (u32, u32),
}

impl Packet {
    /// A packet from one host to another, MAC to MAC.
    pub fn new(src: &Host, sport: u16, dst: &Host, dport: u16, l4: L4, family: Family) -> Self {
        Self {
            src_mac: src.mac,
            dst_mac: dst.mac,
            src: src.ip(family),
            dst: dst.ip(family),
            sport,
            dport,
            l4,
            ttl: 64,
            payload: b"a payload of odd length".to_vec(),
            options: Vec::new(),
            extensions: Vec::new(),
            dont_fragment: true,
            id_tos: (0x1234, 0),
            fragment: (0, false),
            padding: 0,
            label: 0x12345,
            rest: [0; 4],
            numbers: (1_000, 0),
        }
    }

    /// A TCP segment.
    pub fn tcp(src: &Host, sport: u16, dst: &Host, dport: u16, flags: Flags, f: Family) -> Self {
        Self::new(src, sport, dst, dport, L4::Tcp(flags), f)
    }

    /// A UDP datagram.
    pub fn udp(src: &Host, sport: u16, dst: &Host, dport: u16, f: Family) -> Self {
        Self::new(src, sport, dst, dport, L4::Udp, f)
    }

    /// An echo request.
    pub fn ping(src: &Host, id: u16, dst: &Host, f: Family) -> Self {
        Self::new(src, id, dst, 0, L4::Ping, f)
    }

    /// The packet that begins a conversation.
    pub fn first(kind: Kind, src: &Host, sport: u16, dst: &Host, dport: u16, f: Family) -> Self {
        match kind {
            Kind::Tcp => Self::tcp(src, sport, dst, dport, Flags::SYN, f),
            Kind::Udp => Self::udp(src, sport, dst, dport, f),
            Kind::UdpUnsummed => Self::new(src, sport, dst, dport, L4::UdpUnsummed, f),
            Kind::Echo => Self::ping(src, sport, dst, f),
        }
    }

    /// An ICMP error by which `from` tells the sender of `about` that it did not arrive.
    pub fn error(from: &Host, (kind, code): (u8, u8), about: &Self) -> Self {
        Self {
            src_mac: about.dst_mac,
            dst_mac: about.src_mac,
            dst: about.src,
            payload: about.bytes()[14..].to_vec(),
            ..Self::new(from, 0, from, 0, L4::Icmp(kind, code), about.family())
        }
    }

    /// With only the first `len` bytes of its payload.
    #[must_use]
    pub fn cut(mut self, len: usize) -> Self {
        self.payload.truncate(len);
        self
    }

    /// Bytes of its IP header.
    pub fn ip_header(&self) -> usize {
        let extensions = self.extensions.iter().map(|(_, bytes)| 1 + bytes.len());
        match self.family() {
            Family::V4 => 20 + self.options.len(),
            Family::V6 => 40 + extensions.sum::<usize>(),
        }
    }

    /// The packet the other side sends back: a SYN is answered, a request replied to.
    #[must_use]
    pub fn answer(&self) -> Self {
        let l4 = match self.l4 {
            L4::Tcp(Flags::SYN) => L4::Tcp(Flags::SYN_ACK),
            L4::Ping => L4::Pong,
            L4::Pong => L4::Ping,
            same => same,
        };
        Self {
            src_mac: self.dst_mac,
            dst_mac: self.src_mac,
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            l4,
            ttl: 64,
            ..self.clone()
        }
    }

    /// With the gateway of network 1 as destination MAC: to be routed.
    #[must_use]
    pub fn to_gateway(self) -> Self {
        self.to_mac(GATEWAY.mac)
    }

    /// With another destination MAC.
    #[must_use]
    pub fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.dst_mac = mac;
        self
    }

    /// With another source MAC.
    #[must_use]
    pub fn from_mac(mut self, mac: [u8; 6]) -> Self {
        self.src_mac = mac;
        self
    }

    /// With another source socket.
    #[must_use]
    pub fn from(mut self, host: &Host, port: u16) -> Self {
        self.src = host.ip(self.family());
        self.sport = port;
        self
    }

    /// With another destination socket.
    #[must_use]
    pub fn to(mut self, host: &Host, port: u16) -> Self {
        self.dst = host.ip(self.family());
        self.dport = port;
        self
    }

    /// With the node's masquerade address and this port as source.
    #[must_use]
    pub fn from_uplink(self, port: u16) -> Self {
        self.from(&NODE, port)
    }

    /// With these TCP flags.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.l4 = L4::Tcp(flags);
        self
    }

    /// With this sequence number and this acknowledgement, and no payload.
    #[must_use]
    pub fn numbers(mut self, seq: u32, ack: u32) -> Self {
        self.numbers = (seq, ack);
        self.payload.clear();
        self
    }

    /// With this time to live.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// One router further.
    #[must_use]
    pub fn hop(mut self) -> Self {
        self.ttl -= 1;
        self
    }

    /// Delivered to an endpoint by its gateway, one router further.
    #[must_use]
    pub fn delivered(self, gateway: &Host, endpoint: &Host) -> Self {
        self.from_mac(gateway.mac).to_mac(endpoint.mac).hop()
    }

    /// Its family.
    pub const fn family(&self) -> Family {
        match self.src {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Its protocol number.
    pub const fn proto(&self) -> u8 {
        match self.l4 {
            L4::Tcp(_) => 6,
            L4::Udp | L4::UdpUnsummed => 17,
            L4::Other(number) => number,
            L4::Ping | L4::Pong | L4::Icmp(..) => match self.family() {
                Family::V4 => 1,
                Family::V6 => 58,
            },
        }
    }

    /// The L4 header and the payload.
    fn body(&self) -> Vec<u8> {
        let header = match self.l4 {
            L4::Tcp(flags) => self.tcp_header(flags),
            L4::Udp | L4::UdpUnsummed => self.udp_header(),
            L4::Ping | L4::Pong | L4::Icmp(..) => self.icmp_header(),
            L4::Other(_) => Vec::new(),
        };
        [header, self.payload.clone()].concat()
    }

    fn tcp_header(&self, flags: Flags) -> Vec<u8> {
        let has = |bit: u8| flags.0 & bit != 0;
        let mut h = TcpHeader::new(self.sport, self.dport, self.numbers.0, 65_000);
        h.fin = has(0x01);
        h.syn = has(0x02);
        h.rst = has(0x04);
        h.ack = has(0x10);
        h.acknowledgment_number = self.numbers.1;
        h.checksum = match (self.src, self.dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                h.calc_checksum_ipv4_raw(s.octets(), d.octets(), &self.payload)
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                h.calc_checksum_ipv6_raw(s.octets(), d.octets(), &self.payload)
            }
            _ => panic!("two families in {self:?}"),
        }
        .expect("a payload of reasonable size");
        h.to_bytes().to_vec()
    }

    fn udp_header(&self) -> Vec<u8> {
        let mut h = UdpHeader {
            source_port: self.sport,
            destination_port: self.dport,
            length: 8 + self.payload.len() as u16,
            checksum: 0,
        };
        if self.l4 == L4::Udp {
            h.checksum = match (self.src, self.dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    h.calc_checksum_ipv4_raw(s.octets(), d.octets(), &self.payload)
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    h.calc_checksum_ipv6_raw(s.octets(), d.octets(), &self.payload)
                }
                _ => panic!("two families in {self:?}"),
            }
            .expect("a payload of reasonable size");
        }
        h.to_bytes().to_vec()
    }

    fn icmp_header(&self) -> Vec<u8> {
        let echo = |id| IcmpEchoHeader { id, seq: 7 };
        match (self.src, self.dst) {
            (IpAddr::V4(_), _) => {
                let kind = match self.l4 {
                    L4::Ping => Icmpv4Type::EchoRequest(echo(self.sport)),
                    L4::Pong => Icmpv4Type::EchoReply(echo(self.dport)),
                    L4::Icmp(type_u8, code_u8) => Icmpv4Type::Unknown {
                        type_u8,
                        code_u8,
                        bytes5to8: self.rest,
                    },
                    other => panic!("{other:?} is not ICMP"),
                };
                let header = etherparse::Icmpv4Header::with_checksum(kind, &self.payload);
                header.to_bytes().to_vec()
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let kind = match self.l4 {
                    L4::Ping => Icmpv6Type::EchoRequest(echo(self.sport)),
                    L4::Pong => Icmpv6Type::EchoReply(echo(self.dport)),
                    L4::Icmp(type_u8, code_u8) => Icmpv6Type::Unknown {
                        type_u8,
                        code_u8,
                        bytes5to8: self.rest,
                    },
                    other => panic!("{other:?} is not ICMP"),
                };
                let header = etherparse::Icmpv6Header::with_checksum(
                    kind,
                    s.octets(),
                    d.octets(),
                    &self.payload,
                );
                header
                    .expect("a payload of reasonable size")
                    .to_bytes()
                    .to_vec()
            }
            _ => panic!("two families in {self:?}"),
        }
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let body = self.body();
        let (ether_type, ip) = match (self.src, self.dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                let mut h = Ipv4Header::new(
                    body.len() as u16,
                    self.ttl,
                    IpNumber(self.proto()),
                    s.octets(),
                    d.octets(),
                )
                .expect("a payload of reasonable size");
                h.identification = self.id_tos.0;
                h.dscp = (self.id_tos.1 >> 2).try_into().expect("six bits");
                h.options = Ipv4Options::try_from(&self.options[..]).expect("whole words");
                h.total_len += self.options.len() as u16;
                h.fragment_offset = self.fragment.0.try_into().expect("an offset of 13 bits");
                h.more_fragments = self.fragment.1;
                h.dont_fragment = self.dont_fragment && self.fragment == (0, false);
                h.header_checksum = h.calc_header_checksum();
                (EtherType::IPV4, h.to_bytes().to_vec())
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let mut extensions = Vec::new();
                let numbers = self.extensions.iter().map(|(n, _)| *n);
                let mut next = numbers.skip(1).chain([self.proto()]);
                for (_, bytes) in &self.extensions {
                    extensions.extend(next.next());
                    extensions.extend_from_slice(bytes);
                }
                let first = self.extensions.first().map_or(self.proto(), |(n, _)| *n);
                let h = Ipv6Header {
                    traffic_class: 0,
                    flow_label: self.label.try_into().expect("20 bits"),
                    payload_length: (extensions.len() + body.len()) as u16,
                    next_header: IpNumber(first),
                    hop_limit: self.ttl,
                    source: s.octets(),
                    destination: d.octets(),
                };
                (
                    EtherType::IPV6,
                    [h.to_bytes().to_vec(), extensions].concat(),
                )
            }
            _ => panic!("two families in {self:?}"),
        };
        [
            &self.dst_mac[..],
            &self.src_mac,
            &ether_type.0.to_be_bytes(),
            &ip,
            &body,
            &vec![0xee; self.padding],
        ]
        .concat()
    }
}

/// Whether a frame's IPv4 header checksum and its TCP, UDP or ICMP checksum are what its bytes ask for.
pub fn checksums_are_right(frame: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|e| e.to_string())?;
    let (src, dst, v4) = match &sliced.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            if header.header_checksum != header.calc_header_checksum() {
                return Err("the IPv4 header checksum is wrong".into());
            }
            (header.source.to_vec(), header.destination.to_vec(), true)
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => (
            ip.header().source().to_vec(),
            ip.header().destination().to_vec(),
            false,
        ),
        _ => return Ok(()),
    };
    let (proto, bytes) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => (6u8, tcp.slice()),
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => (17, udp.slice()),
        Some(TransportSlice::Icmpv4(icmp)) => (1, icmp.slice()),
        Some(TransportSlice::Icmpv6(icmp)) => (58, icmp.slice()),
        _ => return Ok(()),
    };
    let mut sum = checksum::Sum16BitWords::new();
    if proto != 1 || !v4 {
        let length = bytes.len() as u16;
        sum = sum
            .add_slice(&src)
            .add_slice(&dst)
            .add_2bytes([0, proto])
            .add_2bytes(length.to_be_bytes());
    }
    match sum.add_slice(bytes).ones_complement() {
        0 => Ok(()),
        _ => Err(format!("the checksum of protocol {proto} is wrong")),
    }
}
