//! Published ports from the outside.

use std::net::{TcpListener, UdpSocket};

use netd_common::maps::FlowKind;
use netd_common::reason::{DropReason, Hook};
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, B, Family, Flags, GATEWAY, GATEWAY2, Kind, L4, LOOPBACK, Meta, NODE, NODE_TWO, OUTSIDE,
    OUTSIDE_TWO, Packet, World, tcp_socket,
};

drop_cases! { DROPS:
    fn an_endpoints_own_address_is_not_reachable_from_outside(w, family) => Unpublished {
        w.up_in(&Packet::tcp(&OUTSIDE, 40_000, &A, 80, Flags::SYN, family))
    }

    fn publishing_does_not_open_the_endpoints_own_address(w, family) => Unpublished {
        w.publish(None, family, 6, 8080, &A, 80);
        w.up_in(&Packet::tcp(&OUTSIDE, 40_000, &A, 80, Flags::SYN, family))
    }

    fn a_ping_from_outside_straight_to_an_endpoint_is_refused(w, family) => Unpublished {
        w.up_in(&Packet::ping(&OUTSIDE, 1, &A, family))
    }

    fn a_port_published_on_loopback_is_not_reached_from_a_wire(w, family) => Martian {
        w.publish(Some(&LOOPBACK), family, 6, 8080, &A, 80);
        w.up_in(&Packet::tcp(&OUTSIDE, 40_000, &LOOPBACK, 8080, Flags::SYN, family))
    }

    fn a_published_port_is_not_reached_at_a_loopback_address(w, family) => Martian {
        w.publish(None, family, 17, 8080, &A, 80);
        w.up_in(&Packet::udp(&OUTSIDE, 40_000, &LOOPBACK, 8080, family))
    }

    fn a_loopback_source_on_a_wire_reaches_nothing(w, family) => Martian {
        w.publish(None, family, 17, 8080, &A, 80);
        w.up_in(&Packet::udp(&LOOPBACK, 40_000, &NODE, 8080, family))
    }

    fn an_ipv4_address_in_an_ipv6_header_reaches_no_ipv4_port(w) => Martian {
        w.publish(Some(&NODE), Family::V4, 6, 8080, &A, 80);
        w.publish(None, Family::V6, 6, 8080, &A, 80);
        let mut syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, Family::V6);
        syn.dst = NODE.v4.to_ipv6_mapped().into();
        w.up_in(&syn)
    }

    fn an_ipv4_source_in_an_ipv6_header_is_nobody(w) => Martian {
        w.publish(None, Family::V6, 6, 8080, &A, 80);
        let mut syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, Family::V6);
        syn.src = OUTSIDE.v4.to_ipv6_mapped().into();
        w.up_in(&syn)
    }

    fn a_source_the_port_is_not_for_is_refused(w, family) => SourceRefused {
        // Another host, the whole other family, and another publish's sources.
        let (port, own, other) = match family {
            Family::V4 => (8084, "203.0.113.10/32", "::/0"),
            Family::V6 => (8086, "2001:db8:9::10/128", "0.0.0.0/0"),
        };
        w.publish(None, family, 6, port, &A, 80);
        w.limit(port, &[own, other]);
        w.limit(9000, &["0.0.0.0/0", "::/0"]);
        w.up_in(&Packet::tcp(&OUTSIDE, 40_000, &NODE, port, Flags::SYN, family))
    }

    fn a_port_for_nobody_is_for_nobody(w, family) => SourceRefused {
        w.publish(Some(&NODE), family, 17, 8080, &A, 80);
        w.limit(8080, &[]);
        w.up_in(&Packet::udp(&OUTSIDE, 40_000, &NODE, 8080, family))
    }

    fn a_published_port_is_a_router_too(w, family) => TtlExceeded {
        w.publish(None, family, 6, 8080, &A, 80);
        w.up_in(&Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, family).ttl(1))
    }
}

const fn proto(kind: Kind) -> u8 {
    match kind {
        Kind::Tcp => 6,
        Kind::Udp | Kind::UdpUnsummed => 17,
        Kind::Echo => panic!("an echo has no port"),
    }
}

/// A packet from outside must reach port 80 of an endpoint, from the client's own socket; gives what
/// the endpoint's answer is.
#[track_caller]
fn reaches(w: &mut World, packet: &Packet, endpoint: netd_tests::packet::Host) -> Packet {
    let wanted = packet
        .clone()
        .to(&endpoint, 80)
        .delivered(&GATEWAY, &endpoint);
    w.up_in(packet).redirected().is(&wanted);
    wanted.answer()
}

#[test]
fn a_client_reaches_the_endpoint_and_gets_the_nodes_answer() {
    World::both(|w, family| {
        for kind in Kind::PORTS {
            println!("{kind:?}");
            w.publish(None, family, proto(kind), 8080, &A, 80);
            let first = Packet::first(kind, &OUTSIDE, 40_000, &NODE, 8080, family);
            let answer = reaches(w, &first, A);
            let wanted = answer.clone().hop().from_uplink(8080);
            w.ep_out(&A, &answer).redirected().is(&wanted);
            let next = if kind == Kind::Tcp {
                first.flags(Flags::ACK)
            } else {
                first
            };
            reaches(w, &next, A);
            let flows = w.datapath().flows().unwrap();
            let flow = flows.iter().find(|f| f.proto == next.proto()).unwrap();
            assert_eq!(flow.kind, FlowKind::Publish);
            assert_eq!((flow.original.0, flow.reply.0), (2, 1));
            assert_eq!(flow.nat_dst, (A.ip(family), 80));
            assert_eq!((flow.endpoint, flow.network), (A.endpoint, A.network));
            assert_eq!((flow.publish, flow.client), (8080, 0));
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_port_published_on_one_address_is_not_on_the_others() {
    World::both(|w, family| {
        w.publish(Some(&NODE_TWO), family, 6, 8080, &A, 80);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, family);
        w.up_in(&syn).passed().unchanged();
        reaches(w, &syn.to(&NODE_TWO, 8080), A);
    });
}

#[test]
fn one_address_goes_before_all_addresses() {
    World::both(|w, family| {
        w.publish(Some(&NODE_TWO), family, 6, 8080, &A, 80);
        w.publish(None, family, 6, 8080, &B, 80);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, family);
        reaches(w, &syn, B);
        let answer = reaches(w, &syn.to(&NODE_TWO, 8080), A);
        // The answer comes from the address that was asked.
        let wanted = answer.clone().hop().from(&NODE_TWO, 8080);
        w.ep_out(&A, &answer).redirected().is(&wanted);
    });
}

#[test]
fn families_and_protocols_are_published_apart() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        let datagram = Packet::udp(&OUTSIDE, 40_000, &NODE, 8080, family);
        w.up_in(&datagram).passed().unchanged();
        let other = match family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        let syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, other);
        w.up_in(&syn).passed().unchanged();
    });
}

#[test]
fn two_published_ports_of_one_endpoint_port_stay_two_conversations() {
    World::both(|w, family| {
        for kind in Kind::PORTS {
            println!("{kind:?}");
            w.publish(None, family, proto(kind), 8080, &A, 80);
            w.publish(None, family, proto(kind), 8081, &A, 80);
            let one = Packet::first(kind, &OUTSIDE, 40_000, &NODE, 8080, family);
            let two = Packet::first(kind, &OUTSIDE, 40_000, &NODE, 8081, family);
            let answer_one = reaches(w, &one, A);
            // The second must look different to the endpoint: it gets another client port.
            let out = w.up_in(&two);
            let client = out.sport();
            assert_ne!(client, 40_000);
            let seen = two.clone().from(&OUTSIDE, client).to(&A, 80);
            let seen = seen.delivered(&GATEWAY, &A);
            out.redirected().is(&seen);
            // The answers find their ways back to both published ports, and to the client's own port.
            let back = answer_one.clone().hop().from_uplink(8080);
            w.ep_out(&A, &answer_one).redirected().is(&back);
            let answer_two = seen.answer();
            let back = answer_two
                .clone()
                .hop()
                .from_uplink(8081)
                .to(&OUTSIDE, 40_000);
            w.ep_out(&A, &answer_two).redirected().is(&back);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_conversation_of_the_nodes_own_goes_before_a_published_port() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        w.publish(None, family, 17, 8080, &A, 80);
        let node = (NODE.ip(family), 8080);
        let udp = UdpSocket::bind(node).unwrap();
        udp.connect((OUTSIDE.ip(family), 40_000)).unwrap();
        let _tcp = tcp_socket(node, (OUTSIDE.ip(family), 40_000));
        for kind in Kind::PORTS {
            println!("{kind:?}");
            let own = Packet::first(kind, &OUTSIDE, 40_000, &NODE, 8080, family);
            w.up_in(&own).passed().unchanged();
            reaches(w, &own.from(&OUTSIDE_TWO, 40_000), A);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_published_port_goes_before_a_listener_of_the_node() {
    World::both(|w, family| {
        let _tcp = TcpListener::bind((NODE.ip(family), 8080)).unwrap();
        let _udp = UdpSocket::bind((NODE.ip(family), 8080)).unwrap();
        for kind in Kind::PORTS {
            w.publish(None, family, proto(kind), 8080, &A, 80);
            let first = Packet::first(kind, &OUTSIDE, 40_000, &NODE, 8080, family);
            reaches(w, &first, A);
        }
    });
}

#[test]
fn what_is_not_published_passes_to_the_node_untouched() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8081, Flags::SYN, family);
        let mut fragment = Packet::udp(&OUTSIDE, 40_000, &NODE, 8081, family);
        fragment.payload = vec![7; 24];
        match family {
            Family::V4 => fragment.fragment = (0, true),
            Family::V6 => fragment.extensions = vec![(44, vec![0, 0, 1, 0, 0, 0, 9])],
        }
        for packet in [
            syn.clone(),
            // Without a flow, a segment begins nothing: the node's stack answers it.
            syn.clone().to(&NODE, 8080).flags(Flags::ACK),
            syn.clone().to(&NODE, 8080).flags(Flags::SYN_ACK),
            syn.to(&GATEWAY, 22),
            fragment,
            Packet::ping(&OUTSIDE, 7, &NODE, family),
            Packet::new(&OUTSIDE, 0, &NODE, 0, L4::Icmp(3, 3), family),
            Packet::new(&OUTSIDE, 0, &NODE, 0, L4::Other(47), family),
        ] {
            w.up_in(&packet).passed().unchanged();
        }
    });
}

#[test]
fn a_frame_for_somebody_else_on_the_link_passes_untouched() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, family);
        let frame = syn.to_mac(B.mac).bytes();
        w.tc(Hook::UpIn, NODE.device, Meta::default(), &frame)
            .passed()
            .unchanged();
    });
}

#[test]
fn a_port_published_on_all_addresses_catches_nothing_that_passes_through() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &OUTSIDE_TWO, 8080, Flags::SYN, family);
        w.up_in(&syn).passed().unchanged();
    });
}

#[test]
fn a_port_published_on_all_addresses_is_on_every_address_of_the_node_and_no_other() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        for node in [NODE, NODE_TWO, GATEWAY, GATEWAY2] {
            let syn = Packet::tcp(&OUTSIDE, 40_000, &node, 8080, Flags::SYN, family);
            reaches(w, &syn, A);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
        // Without a route, the routing table has no better answer than "not forwarded".
        w.ip("route del default via 192.0.2.1\nroute del default via 2001:db8:1::1 dev up0\n");
        let syn = Packet::tcp(&OUTSIDE, 40_000, &OUTSIDE_TWO, 8080, Flags::SYN, family);
        w.up_in(&syn).passed().unchanged();
    });
}

#[test]
fn sources_a_port_is_for_reach_it() {
    World::both(|w, family| {
        for kind in Kind::PORTS {
            w.publish(None, family, proto(kind), 8080, &A, 80);
            w.limit(8080, &["203.0.113.9/32", "2001:db8:9::/64"]);
            let first = Packet::first(kind, &OUTSIDE, 40_000, &NODE, 8080, family);
            let answer = reaches(w, &first, A);
            let wanted = answer.clone().hop().from_uplink(8080);
            w.ep_out(&A, &answer).redirected().is(&wanted);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_conversation_goes_on_when_its_source_is_not_let_in_any_more() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &A, 80);
        let first = Packet::udp(&OUTSIDE, 40_000, &NODE, 8080, family);
        reaches(w, &first, A);
        w.limit(8080, &[]);
        reaches(w, &first, A);
    });
}

#[test]
fn a_device_that_is_no_uplink_publishes_nothing() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, family);
        let frame = syn.to_mac([2, 0, 0, 0, 3, 2]).bytes();
        w.tc(Hook::UpIn, "wan0", Meta::default(), &frame)
            .passed()
            .unchanged();
    });
}

#[test]
fn malformed_packets_are_left_to_the_nodes_stack() {
    World::both(|w, family| {
        w.publish(None, family, 6, 8080, &A, 80);
        let mut frame = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, family).bytes();
        let offset = if family == Family::V4 { 34 } else { 54 } + 12;
        frame[offset] = 0x40; // a TCP header of four words
        w.tc(Hook::UpIn, NODE.device, Meta::default(), &frame)
            .passed()
            .unchanged();
        let arp = netd_tests::packet::neighbour::arp_request(&OUTSIDE, NODE.v4);
        w.tc(Hook::UpIn, NODE.device, Meta::default(), &arp)
            .passed()
            .unchanged();
    });
}

#[test]
fn a_taken_client_port_is_no_reason_to_refuse_while_another_is_free() {
    World::both(|w, family| {
        // Client ports of the outside are nobody's on the node: a listener there does not matter.
        let _held = TcpListener::bind((NODE.ip(family), 40_000)).unwrap();
        w.publish(None, family, 6, 8080, &A, 80);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &NODE, 8080, Flags::SYN, family);
        reaches(w, &syn, A);
        let foreign = Packet::tcp(&A, 80, &OUTSIDE, 40_001, Flags::ACK, family).to_gateway();
        w.ep_out(&A, &foreign).dropped(DropReason::TcpNoFlow);
    });
}

#[test]
fn flows_are_ended_by_the_publish_they_came_in_by() {
    World::both(|w, family| {
        for kind in Kind::PORTS {
            println!("{kind:?}");
            // Two published ports of one endpoint port: to the endpoint the flows look alike.
            w.publish(None, family, proto(kind), 8080, &A, 80);
            w.publish(None, family, proto(kind), 8081, &A, 80);
            let one = Packet::first(kind, &OUTSIDE, 40_000, &NODE, 8080, family);
            let two = Packet::first(kind, &OUTSIDE_TWO, 40_000, &NODE, 8081, family);
            reaches(w, &one, A);
            let answer = reaches(w, &two, A);
            let masqueraded = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family);
            w.ep_out(&A, &masqueraded.to_gateway()).redirected();
            let ended = w.datapath().flows_remove(&|f| f.publish == 8080);
            assert_eq!(ended.unwrap(), 1);
            let flows = w.datapath().flows().unwrap();
            let left: Vec<u32> = flows.iter().map(|f| f.publish).collect();
            assert!(left.contains(&8081) && left.contains(&0) && left.len() == 2);
            w.ep_out(&A, &answer).redirected();
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}
