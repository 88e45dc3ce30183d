//! Headers that not every packet has: they are found, kept, and counted into no checksum twice.

use netd_tests::packet::{A, B, Family, Flags, GATEWAY, Kind, OUTSIDE, Packet, World};

/// No-operations and an end (RFC 791 section 3.1).
const OPTIONS: [u8; 8] = [1, 1, 1, 1, 1, 1, 1, 0];

/// An extension header of `8 * (1 + more)` bytes without its first byte: its length and padding.
fn extension(more: u8) -> Vec<u8> {
    let mut bytes = vec![0; 7 + usize::from(more) * 8];
    bytes[0] = more;
    bytes[1] = 1; // PadN
    bytes[2] = (bytes.len() - 3) as u8;
    bytes
}

/// Every shape of header in front of the L4 header.
fn shapes(packet: &Packet) -> Vec<Packet> {
    let with = |change: &dyn Fn(&mut Packet)| {
        let mut packet = packet.clone();
        change(&mut packet);
        packet
    };
    match packet.family() {
        Family::V4 => vec![
            with(&|p| p.options = OPTIONS[..4].to_vec()),
            with(&|p| p.options = OPTIONS.to_vec()),
            with(&|p| p.options = [OPTIONS; 5].concat()),
        ],
        Family::V6 => vec![
            with(&|p| p.extensions = vec![(0, extension(0))]),
            with(&|p| p.extensions = vec![(60, extension(2))]),
            with(&|p| p.extensions = vec![(43, extension(1))]),
            // An atomic fragment would be one: that is refused elsewhere.
            with(&|p| {
                p.extensions = vec![
                    (0, extension(0)),
                    (60, extension(1)),
                    (43, extension(2)),
                    (60, extension(0)),
                ];
            }),
        ],
    }
}

#[test]
fn options_and_extension_headers_are_translated_around() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            let plain = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            for first in shapes(&plain) {
                println!("{kind:?} {:?} {:?}", first.options, first.extensions);
                let wanted = first.clone().hop().from_uplink(20_100);
                w.ep_out(&A, &first).redirected().is(&wanted);
                let answer = first.clone().from_uplink(20_100).answer();
                let mut wanted = answer.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
                if kind == Kind::Echo {
                    wanted.sport = 0;
                }
                w.up_in(&answer).redirected().is(&wanted);
            }
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn options_and_extension_headers_are_kept_between_endpoints() {
    World::both(|w, family| {
        for packet in shapes(&Packet::udp(&A, 1, &B, 2, family)) {
            w.ep_out(&A, &packet).redirected().unchanged();
            let routed = packet.to_gateway();
            let wanted = routed.clone().delivered(&GATEWAY, &B);
            w.ep_out(&A, &routed).redirected().is(&wanted);
        }
    });
}

#[test]
fn ethernet_padding_is_kept_and_belongs_to_no_checksum() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            let mut first = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            first.payload = vec![9];
            first.padding = 11;
            let wanted = first.clone().hop().from_uplink(20_100);
            w.ep_out(&A, &first).redirected().is(&wanted);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn every_payload_length_keeps_its_checksum_right() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            for length in (0..20).chain([511, 512, 1_399, 1_400]) {
                let mut first = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
                first.payload = (0..length).map(|i: u32| (i * 37 + 11) as u8).collect();
                let wanted = first.clone().hop().from_uplink(20_100);
                w.ep_out(&A, &first).redirected().is(&wanted);
            }
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

/// A payload that makes the checksum of a datagram with these sockets come out as `wanted`.
fn payload_for(packet: &Packet, wanted: u16) -> Vec<u8> {
    let mut probe = packet.clone();
    let at = if packet.family() == Family::V4 {
        34
    } else {
        54
    } + 6;
    (0..=u16::MAX)
        .map(|word| word.to_be_bytes().to_vec())
        .find(|payload| {
            probe.payload.clone_from(payload);
            probe.bytes()[at..at + 2] == wanted.to_be_bytes()
        })
        .expect("one of all words fits")
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
    World::both(|w, family| {
        // RFC 768: zero says "none was made". Towards the outside, and back inside.
        let mut out = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        out.payload = payload_for(&out.clone().from_uplink(20_100), 0xffff);
        let wanted = out.clone().hop().from_uplink(20_100);
        w.ep_out(&A, &out).redirected().is(&wanted);
        let mut back = out.from_uplink(20_100).answer();
        back.payload = payload_for(&back.clone().to(&A, 20_100), 0xffff);
        let wanted = back.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
        w.up_in(&back).redirected().is(&wanted);
    });
}

#[test]
fn a_udp_packet_without_a_checksum_gets_none() {
    World::both(|w, family| {
        let first = Packet::first(Kind::UdpUnsummed, &A, 5_000, &OUTSIDE, 80, family).to_gateway();
        let out = w.ep_out(&A, &first);
        let at = if family == Family::V4 { 34 } else { 54 } + 6;
        assert_eq!(out.redirected().bytes[at..at + 2], [0, 0]);
    });
}

#[test]
fn a_link_layer_broadcast_to_the_gateways_address_is_flooded_not_routed() {
    World::both(|w, family| {
        let packet = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family);
        w.ep_out(&A, &packet.to_mac([0xff; 6])).copied();
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn addresses_and_ports_in_a_payload_stay_as_they_are() {
    World::both(|w, family| {
        let inside = A.ip(family);
        for (proto, port, text) in [
            (
                17,
                5060,
                format!("INVITE sip:b@example\r\nContact: <sip:a@{inside}:20100>\r\n"),
            ),
            (17, 69, format!("\0\x01{inside}\0octet\0")),
            (6, 21, "PORT 10,1,0,10,78,132\r\n".to_owned()),
        ] {
            let kind = if proto == 6 { Kind::Tcp } else { Kind::Udp };
            let mut first = Packet::first(kind, &A, 20_100, &OUTSIDE, port, family).to_gateway();
            first.payload = text.into_bytes();
            let out = w.ep_out(&A, &first);
            out.redirected()
                .is(&first.clone().hop().from_uplink(20_100));
            let answer = first.from_uplink(20_100).answer();
            let wanted = answer.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
            w.up_in(&answer).redirected().is(&wanted);
        }
    });
}
