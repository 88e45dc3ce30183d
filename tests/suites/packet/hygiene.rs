//! What only a router or a server may say, ways a sender may not choose, addresses and wrappings that
//! are never on a wire.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_common::addr::link_local;
use netd_common::maps::port_flags;
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::lab::frames;
use netd_tests::packet::neighbour::arp_said;
use netd_tests::packet::{A, B, Family, GATEWAY, L4, OUTSIDE, Packet, World};

/// A datagram to a DHCP client, from a server's port or another.
fn offer(server: u16, family: Family) -> Packet {
    let (server, client) = match (family, server) {
        (Family::V4, 0) => (67, 68),
        (Family::V6, 0) => (547, 546),
        (Family::V4, port) => (port, 68),
        (Family::V6, port) => (port, 546),
    };
    Packet::udp(&A, server, &B, client, family)
}

fn with_options(options: &[u8]) -> Packet {
    let mut packet = Packet::udp(&A, 1, &B, 2, Family::V4);
    packet.options = options.to_vec();
    packet
}

/// A router advertisement in an IPv6 packet with these extension headers.
fn router_advertisement(extensions: Vec<(u8, Vec<u8>)>) -> Packet {
    let mut packet = Packet::new(&A, 0, &B, 0, L4::Icmp(134, 0), Family::V6);
    packet.src = IpAddr::from(link_local(A.mac));
    packet.ttl = 255;
    packet.extensions = extensions;
    packet
}

/// An extension header of eight bytes that asks for nothing (`PadN`).
fn padding() -> Vec<u8> {
    vec![0, 1, 4, 0, 0, 0, 0]
}

fn to(dst: &str) -> Packet {
    let dst: IpAddr = dst.parse().unwrap();
    let family = if dst.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let mut packet = Packet::udp(&A, 1, &B, 2, family);
    packet.dst = dst;
    packet
}

drop_cases! { DROPS:
    fn a_dhcp_answer_is_refused(w, family) => DhcpServer {
        w.ep_out(&A, &offer(0, family))
    }

    fn a_dhcp_answer_from_another_port_is_refused(w, family) => DhcpServer {
        w.ep_out(&A, &offer(9_999, family))
    }

    fn a_dhcp_answer_to_everybody_is_refused(w) => DhcpServer {
        let mut packet = offer(0, Family::V4).to_mac([0xff; 6]);
        packet.dst = Ipv4Addr::BROADCAST.into();
        w.ep_out(&A, &packet)
    }

    fn a_dhcp_answer_in_fragments_is_refused(w, family) => DhcpServer {
        let mut packet = offer(0, family);
        match family {
            Family::V4 => packet.fragment = (0, true),
            Family::V6 => packet.extensions = vec![(44, vec![0, 0, 1, 0, 0, 0, 9])],
        }
        w.ep_out(&A, &packet)
    }

    fn a_loose_source_route_is_refused(w) => SourceRoute {
        w.ep_out(&A, &with_options(&[131, 7, 4, 10, 1, 0, 1, 0]))
    }

    fn a_strict_source_route_behind_other_options_is_refused(w) => SourceRoute {
        w.ep_out(&A, &with_options(&[1, 148, 4, 0, 0, 137, 7, 4, 10, 1, 0, 1]))
    }

    fn a_routing_header_of_type_0_is_refused(w) => SourceRoute {
        let mut packet = Packet::udp(&A, 1, &B, 2, Family::V6);
        let route = [&[2, 0, 1, 0, 0, 0, 0][..], &OUTSIDE.v6.octets()].concat();
        packet.extensions = vec![(43, route)];
        w.ep_out(&A, &packet)
    }

    fn an_option_without_a_length_is_refused(w) => BadHeader {
        w.ep_out(&A, &with_options(&[148, 0, 0, 0]))
    }

    fn a_crowd_of_options_is_refused(w) => BadHeader {
        w.ep_out(&A, &with_options(&[1; 12]))
    }

    fn a_router_advertisement_behind_extension_headers_is_refused(w) => SpoofedNd {
        w.ep_out(&A, &router_advertisement(vec![(0, padding()), (60, padding())]))
    }

    fn a_router_advertisement_in_fragments_is_refused(w) => SpoofedNd {
        w.ep_out(&A, &router_advertisement(vec![(44, vec![0, 0, 1, 0, 0, 0, 9])]))
    }

    fn loopback_addresses_inside_the_segment_are_refused(w, family) => Martian {
        w.ep_out(&A, &to(match family { Family::V4 => "127.0.0.1", Family::V6 => "::1" }))
    }

    fn an_address_that_is_never_sent_is_not_routed(w, family) => Martian {
        let dst = match family { Family::V4 => "240.0.0.1", Family::V6 => "::ffff:192.0.2.1" };
        w.ep_out(&A, &to(dst).to_gateway())
    }
}

/// What stands between the MACs and the `EtherType` of a wrapped frame.
fn wrappings() -> Vec<Vec<u8>> {
    let vlan = |tpid: u16, id: u16| [tpid.to_be_bytes(), id.to_be_bytes()].concat();
    let mut wrappings: Vec<Vec<u8>> = [0, 1, 4095]
        .into_iter()
        .flat_map(|id| [0x8100, 0x88a8, 0x9100].map(|tpid| vlan(tpid, id)))
        .collect();
    wrappings.push([vlan(0x8100, 0), vlan(0x8100, 0)].concat());
    wrappings.push([vlan(0x88a8, 5), vlan(0x8100, 0)].concat());
    // A length instead of a type: LLC with SNAP of either kind (IEEE 802.2).
    wrappings.push(vec![0, 60, 0xaa, 0xaa, 3, 0, 0, 0]);
    wrappings.push(vec![0, 60, 0xaa, 0xaa, 3, 0, 0, 0xf8]);
    wrappings.push([vlan(0x8100, 0), vec![0, 60, 0xaa, 0xaa, 3, 0, 0, 0]].concat());
    // PPPoE, MPLS, 802.1ah, transparent Ethernet bridging, nonsense.
    for ether_type in [
        0x8863u16, 0x8864, 0x8847, 0x8848, 0x88e7, 0x6558, 0x0600, 0xffff,
    ] {
        wrappings.push(ether_type.to_be_bytes().to_vec());
    }
    wrappings
}

#[test]
fn no_wrapping_gets_arp_advertisements_or_dhcp_past_the_guard() {
    let own = Ipv6Addr::from(link_local(A.mac));
    let wrapped = [
        arp_said(A.mac, (A.mac, GATEWAY.v4), B.v4),
        frames::router_advertisement(A.mac, own).unwrap(),
        offer(0, Family::V4).bytes(),
        offer(0, Family::V6).bytes(),
    ];
    World::run(|w| {
        for wrapping in &wrappings() {
            for frame in &wrapped {
                let bytes = [&frame[..12], wrapping, &frame[12..]].concat();
                w.ep_out_raw(&A, &bytes).dropped(DropReason::EtherType);
            }
        }
    });
}

#[test]
fn what_clients_say_and_harmless_options_pass() {
    World::both(|w, family| {
        let (client, server) = match family {
            Family::V4 => (68, 67),
            Family::V6 => (546, 547),
        };
        w.ep_out(&A, &Packet::udp(&A, client, &B, server, family))
            .redirected()
            .unchanged();
        // The bytes at the place of the port are the middle of something.
        let mut later = offer(0, family);
        match family {
            Family::V4 => later.fragment = (100, false),
            Family::V6 => later.extensions = vec![(44, vec![0, 1, 0x40, 0, 0, 0, 9])],
        }
        w.ep_out(&A, &later).redirected().unchanged();
    });
    World::run(|w| {
        // Router alert; record route; timestamp and the end of options.
        for options in [
            &[148, 4, 0, 0][..],
            &[7, 7, 4, 0, 0, 0, 0, 1],
            &[68, 8, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            w.ep_out(&A, &with_options(options))
                .redirected()
                .unchanged();
        }
        let mut done = Packet::udp(&A, 1, &B, 2, Family::V6);
        done.extensions = vec![(43, vec![0, 0, 0, 0, 0, 0, 0])];
        w.ep_out(&A, &done).redirected().unchanged();
        w.port(&A, |p| p.flags |= port_flags::FORWARDS);
        w.ep_out(&A, &offer(0, Family::V4)).redirected().unchanged();
    });
}

#[test]
fn a_network_that_asks_for_it_switches_every_ethertype() {
    World::run(|w| {
        w.port(&A, |p| p.flags |= port_flags::ANY_ETHERTYPE);
        let packet = Packet::udp(&A, 1, &B, 2, Family::V4);
        for wrapping in &wrappings() {
            let frame = packet.bytes();
            let bytes = [&frame[..12], wrapping, &frame[12..]].concat();
            w.ep_out_raw(&A, &bytes).redirected().unchanged();
            let foreign = packet.clone().from_mac(B.mac).bytes();
            let bytes = [&foreign[..12], wrapping, &foreign[12..]].concat();
            w.ep_out_raw(&A, &bytes).dropped(DropReason::SpoofedMac);
        }
        let mut pause = packet.bytes();
        pause[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 1]);
        pause[12..14].copy_from_slice(&[0x88, 0x08]);
        w.ep_out_raw(&A, &pause).dropped(DropReason::ReservedGroup);
    });
}
