//! What leaves the node by its uplink, and what comes to an endpoint's device the slow way.

use std::net::UdpSocket;

use netd_common::maps::FlowKind;
use netd_common::reason::Hook;
use netd_tests::drop_cases;
use netd_tests::packet::neighbour::arp_request;
use netd_tests::packet::{
    A, B, Flags, GATEWAY, Kind, L4, Meta, NODE, NODE_TWO, OUTSIDE, OUTSIDE_TWO, Packet,
    SENT_BY_NETD, World, tcp_socket,
};

/// As netd's programs mark what they send.
const OURS: Meta = Meta {
    mark: SENT_BY_NETD,
    gso_size: 0,
};

drop_cases! { DROPS:
    fn a_foreign_frame_to_an_endpoints_device_is_refused(w, family) => NotOurs {
        let frame = Packet::udp(&GATEWAY, 1, &A, 2, family).bytes();
        w.tc(Hook::EpIn, A.device, Meta::default(), &frame)
    }

    fn a_foreign_mark_does_not_help(w, family) => NotOurs {
        let frame = Packet::udp(&GATEWAY, 1, &A, 2, family).bytes();
        w.tc(Hook::EpIn, A.device, Meta { mark: 1, ..OURS }, &frame)
    }

    fn the_node_may_not_go_on_with_a_gateways_address(w, family) => TcpNoFlow {
        w.up_out(&Packet::tcp(&GATEWAY, 20_100, &OUTSIDE, 80, Flags::ACK, family))
    }

    fn a_segment_without_a_flow_that_took_the_stack_is_refused(w, family) => TcpNoFlow {
        w.up_out(&Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::ACK, family))
    }
}

#[test]
fn what_netd_sent_to_an_endpoint_passes_without_its_mark() {
    World::both(|w, family| {
        let frame = Packet::udp(&GATEWAY, 1, &A, 2, family).bytes();
        let out = w.tc(Hook::EpIn, A.device, OURS, &frame);
        out.passed().unchanged();
        assert_eq!(out.mark, 0);
    });
}

#[test]
fn what_netd_sent_outside_passes_as_it_is_without_its_mark() {
    World::both(|w, family| {
        // Unmarked, this one would be masqueraded.
        let frame = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).bytes();
        let out = w.tc(Hook::UpOut, NODE.device, OURS, &frame);
        out.passed().unchanged();
        assert_eq!(out.mark, 0);
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn masqueraded_packets_are_marked_for_the_uplinks_program() {
    World::both(|w, family| {
        let out = w.ep_out(
            &A,
            &Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway(),
        );
        assert_eq!(out.redirected().mark, SENT_BY_NETD);
    });
}

#[test]
fn the_nodes_own_traffic_passes_untouched_and_untracked() {
    World::both(|w, family| {
        let foreign = Meta {
            mark: 0x1234,
            gso_size: 0,
        };
        for packet in [
            Packet::tcp(&NODE, 20_100, &OUTSIDE, 80, Flags::SYN, family),
            Packet::tcp(&NODE, 20_100, &OUTSIDE, 80, Flags::ACK, family),
            Packet::udp(&NODE_TWO, 20_100, &OUTSIDE, 80, family),
            Packet::ping(&NODE, 7, &OUTSIDE, family),
            Packet::new(&NODE, 0, &OUTSIDE, 7, L4::Pong, family),
            Packet::new(&NODE, 0, &OUTSIDE, 0, L4::Icmp(3, 3), family),
        ] {
            w.up_out(&packet).passed().unchanged();
            let out = w.tc(Hook::UpOut, NODE.device, foreign, &packet.bytes());
            assert_eq!(out.passed().unchanged().mark, 0x1234, "not netd's mark");
        }
        let arp = arp_request(&NODE, OUTSIDE.v4);
        w.tc(Hook::UpOut, NODE.device, Meta::default(), &arp)
            .passed()
            .unchanged();
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn endpoint_traffic_that_took_the_stack_is_masqueraded_on_its_way_out() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            println!("{kind:?}");
            let first = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).from_mac(NODE.mac);
            // The stack has counted the hop.
            w.up_out(&first)
                .passed()
                .is(&first.clone().from_uplink(20_100));
            w.up_out(&first)
                .passed()
                .is(&first.clone().from_uplink(20_100));
            let answer = first.clone().from_uplink(20_100).answer();
            let mut wanted = answer.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
            if kind == Kind::Echo {
                wanted.sport = 0;
            }
            w.up_in(&answer).redirected().is(&wanted);
            // Another endpoint's gets another port here as well.
            let other = first.from(&B, 20_100);
            let out = w.up_out(&other);
            assert_ne!(out.sport(), 20_100);
            out.passed().is(&other.clone().from_uplink(out.sport()));
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_flow_of_the_node_that_clashes_with_a_mapping_gets_another_port() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            println!("{kind:?}");
            let endpoints = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&A, &endpoints).redirected();
            let own = Packet::first(kind, &NODE, 20_100, &OUTSIDE, 80, family);
            let out = w.up_out(&own);
            let port = out.sport();
            assert_ne!(port, 20_100);
            let wanted = own.clone().from_uplink(port);
            out.passed().is(&wanted);
            // Its answer comes back to the node's own socket, untouched otherwise.
            let answer = wanted.answer();
            let mut back = answer.clone().to(&NODE, 20_100);
            if kind == Kind::Echo {
                back.sport = 0;
            }
            w.up_in(&answer).passed().is(&back);
            // And on: the same port again.
            let next = if kind == Kind::Tcp {
                own.flags(Flags::ACK)
            } else {
                own
            };
            w.up_out(&next).passed().is(&next.clone().from_uplink(port));
            // The endpoint's answers are still the endpoint's.
            let answer = endpoints.clone().from_uplink(20_100).answer();
            w.up_in(&answer).redirected();
            let flows = w.datapath().flows().unwrap();
            let kinds = |k| flows.iter().filter(|f| f.kind == k).count();
            assert_eq!((kinds(FlowKind::Masquerade), kinds(FlowKind::Node)), (1, 1));
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn the_node_leaves_by_another_port_where_a_mapping_holds_its_own() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            println!("{kind:?}");
            let endpoints = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&A, &endpoints).redirected();
            let own = Packet::first(kind, &NODE, 20_100, &OUTSIDE_TWO, 80, family);
            let out = w.up_out(&own);
            let port = out.sport();
            assert_ne!(port, 20_100);
            out.passed().is(&own.clone().from_uplink(port));
            // That one is held against mappings.
            let wanted = Packet::first(kind, &B, port, &OUTSIDE, 80, family).to_gateway();
            assert_ne!(w.ep_out(&B, &wanted).sport(), port);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn the_nodes_connected_sockets_keep_a_port_that_a_mapping_holds() {
    World::both(|w, family| {
        for proto in [6, 17] {
            let kind = if proto == 6 { Kind::Tcp } else { Kind::Udp };
            let endpoints = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&A, &endpoints).redirected();
        }
        let udp = UdpSocket::bind((NODE.ip(family), 20_100)).unwrap();
        udp.connect((OUTSIDE_TWO.ip(family), 80)).unwrap();
        let _tcp = tcp_socket((NODE.ip(family), 20_100), (OUTSIDE_TWO.ip(family), 80));
        for kind in [Kind::Tcp, Kind::Udp] {
            let own = Packet::first(kind, &NODE, 20_100, &OUTSIDE_TWO, 80, family);
            w.up_out(&own).passed().unchanged();
            w.up_in(&own.answer()).passed().unchanged();
            // Towards that remote socket the endpoint leaves by another port.
            let clash = Packet::first(kind, &A, 20_100, &OUTSIDE_TWO, 80, family).to_gateway();
            assert_ne!(w.ep_out(&A, &clash).sport(), 20_100);
        }
    });
}

#[test]
fn a_service_of_the_node_answers_from_a_port_that_a_mapping_holds() {
    World::both(|w, family| {
        let endpoints = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &endpoints).redirected();
        let _service = UdpSocket::bind((NODE.ip(family), 20_100)).unwrap();
        let request = Packet::udp(&OUTSIDE_TWO, 9, &NODE, 20_100, family);
        w.up_in(&request).passed().unchanged();
        w.up_out(&request.answer()).passed().unchanged();
        // What the mapping is for stays the endpoint's.
        let answer = endpoints.from_uplink(20_100).answer();
        w.up_in(&answer).redirected();
        // Towards the remote socket that the endpoint talks to the service has to give way.
        let own = Packet::udp(&NODE, 20_100, &OUTSIDE, 80, family);
        assert_ne!(w.up_out(&own).sport(), 20_100);
    });
}

#[test]
fn datagrams_of_the_node_from_a_published_port_get_their_answers() {
    World::both(|w, family| {
        w.publish(None, family, 17, 20_100, &A, 80);
        w.publish(Some(&NODE), family, 17, 20_101, &A, 80);
        w.publish(Some(&NODE_TWO), family, 17, 20_102, &A, 80);
        w.publish(None, family, 6, 20_103, &A, 80);
        for port in [20_100, 20_101] {
            let own = Packet::udp(&NODE, port, &OUTSIDE, 53, family);
            let out = w.up_out(&own);
            let other = out.sport();
            assert_ne!(other, port);
            let sent = own.from_uplink(other);
            out.passed().is(&sent);
            let answer = sent.answer();
            w.up_in(&answer)
                .passed()
                .is(&answer.clone().to(&NODE, port));
            // The published port is the endpoint's all the same.
            w.up_in(&Packet::udp(&OUTSIDE, 53, &NODE, port, family))
                .redirected();
        }
        // Published on another address, for TCP, or not at all: as it was sent.
        for port in [20_102, 20_103, 20_104] {
            let own = Packet::udp(&NODE, port, &OUTSIDE, 53, family);
            w.up_out(&own).passed().unchanged();
        }
        // A connection's answers are told by their socket.
        let syn = Packet::tcp(&NODE, 20_103, &OUTSIDE, 80, Flags::SYN, family);
        w.up_out(&syn).passed().unchanged();
    });
}

#[test]
fn a_device_that_is_no_uplink_masquerades_nothing() {
    World::both(|w, family| {
        let frame = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).bytes();
        w.tc(Hook::UpOut, "wan0", Meta::default(), &frame)
            .passed()
            .unchanged();
    });
}

#[test]
fn the_node_with_a_gateways_address_leaves_with_the_uplinks() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            let packet = Packet::first(kind, &GATEWAY, 20_100, &OUTSIDE, 80, family);
            let outside = packet.clone().from_mac(NODE.mac).from_uplink(20_100);
            w.up_out(&packet).passed().is(&outside);
            let answer = outside.answer();
            let mut back = answer.clone().to(&GATEWAY, 20_100);
            if kind == Kind::Echo {
                back.sport = 0;
            }
            w.up_in(&answer).passed().is(&back);
        }
        w.port(&GATEWAY, |p| p.flags = 0);
        let packet = Packet::udp(&GATEWAY, 20_200, &OUTSIDE, 80, family);
        w.up_out(&packet).passed().unchanged();
    });
}
