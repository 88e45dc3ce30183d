//! Masquerade: endpoints reach the outside from the uplink's address, by ports that are nobody else's.

use std::net::{TcpListener, UdpSocket};

use netd_common::addr::Be16;
use netd_common::maps::{FlowKind, port_flags};
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, Action, B, Family, Flags, GATEWAY, Kind, L4, NODE, NODE_TWO, OUTSIDE, OUTSIDE_TWO, PORT_MAX,
    PORT_MIN, Packet, World, tcp_socket,
};

drop_cases! { DROPS:
    fn a_segment_without_a_flow_is_refused(w, family) => TcpNoFlow {
        w.ep_out(&A, &Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::ACK, family).to_gateway())
    }

    fn an_answer_without_a_flow_is_refused(w, family) => TcpNoFlow {
        w.ep_out(&A, &Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN_ACK, family).to_gateway())
    }

    fn an_echo_reply_without_a_flow_is_refused(w, family) => NatIcmp {
        w.ep_out(&A, &Packet::new(&A, 0, &OUTSIDE, 7, L4::Pong, family).to_gateway())
    }

    fn other_icmp_messages_are_refused(w, family) => NatIcmp {
        w.ep_out(&A, &Packet::new(&A, 0, &OUTSIDE, 0, L4::Icmp(3, 3), family).to_gateway())
    }

    fn protocols_whose_checksum_covers_the_addresses_are_refused(w, family) => NatProtocol {
        w.ep_out(&A, &Packet::new(&A, 0, &OUTSIDE, 0, L4::Other(136), family).to_gateway())
    }

    fn an_uplink_without_an_address_refuses_new_flows(w, family) => NoUplinkAddress {
        w.uplink(|u| (u.v4, u.v6) = ([0; 4], [0; 16]));
        w.ep_out(&A, &Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway())
    }

    fn a_flow_for_which_no_port_is_left_is_refused(w, family) => NoPortFree {
        w.uplink(|u| (u.port_min, u.port_max) = (Be16::new(20_100), Be16::new(20_100)));
        let first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &first).redirected().is(&first.clone().hop().from_uplink(20_100));
        let other = Packet::udp(&A, 20_100, &OUTSIDE_TWO, 80, family).to_gateway();
        w.ep_out(&A, &other).redirected();
        w.ep_out(&B, &Packet::udp(&B, 20_100, &OUTSIDE, 80, family).to_gateway())
    }
}

/// A new flow of an endpoint; gives the outside port it got.
#[track_caller]
fn begin(w: &mut World, packet: &Packet) -> u16 {
    let from = if packet.src_mac == A.mac { A } else { B };
    let out = w.ep_out(&from, packet);
    let port = out.sport();
    out.redirected().is(&packet.clone().hop().from_uplink(port));
    port
}

#[track_caller]
fn in_range(port: u16) {
    assert!((PORT_MIN..=PORT_MAX).contains(&port), "port {port}");
}

#[test]
fn a_conversation_keeps_its_port_both_ways() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            println!("{kind:?}");
            let first = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            assert_eq!(begin(w, &first), 20_100, "it is free");
            // The answer, and on.
            let answer = first.clone().from_uplink(20_100).answer();
            let wanted = answer.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
            let wanted = if kind == Kind::Echo {
                Packet { sport: 0, ..wanted }
            } else {
                wanted
            };
            w.up_in(&answer).redirected().is(&wanted);
            let next = if kind == Kind::Tcp {
                first.flags(Flags::ACK)
            } else {
                first
            };
            w.ep_out(&A, &next)
                .redirected()
                .is(&next.clone().hop().from_uplink(20_100));

            let flows = w.datapath().flows().unwrap();
            let flow = flows.iter().find(|f| f.proto == next.proto()).unwrap();
            assert_eq!(flow.kind, FlowKind::Masquerade);
            assert_eq!((flow.original.0, flow.reply.0), (2, 1));
            assert_eq!(flow.original.1, 2 * next.bytes().len() as u64);
            assert_eq!(flow.nat_src, (NODE.ip(family), 20_100));
            assert_eq!((flow.endpoint, flow.network), (A.endpoint, A.network));
            let state = if kind == Kind::Tcp {
                "established"
            } else {
                "replied"
            };
            assert_eq!(flow.state, state);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_port_outside_the_range_is_exchanged_for_one_inside() {
    World::both(|w, family| {
        for kind in Kind::PORTS {
            println!("{kind:?}");
            let first = Packet::first(kind, &A, 5_000, &OUTSIDE, 80, family).to_gateway();
            let port = begin(w, &first);
            in_range(port);
            let answer = first.clone().from_uplink(port).answer();
            let wanted = answer.clone().to(&A, 5_000).delivered(&GATEWAY, &A);
            w.up_in(&answer).redirected().is(&wanted);
            assert_eq!(begin(w, &first), port, "the same flow again");
            w.datapath().flows_remove(&|_| true).unwrap();
        }
        // Identifiers of echoes are no ports.
        let ping = Packet::ping(&A, 5_000, &OUTSIDE, family).to_gateway();
        assert_eq!(begin(w, &ping), 5_000);
    });
}

#[test]
fn two_flows_never_share_an_outside_port_towards_one_remote_socket() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            println!("{kind:?}");
            let a = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            let b = Packet::first(kind, &B, 20_100, &OUTSIDE, 80, family).to_gateway();
            assert_eq!(begin(w, &a), 20_100);
            let other = begin(w, &b);
            assert_ne!(other, 20_100);
            // Each gets its own answers.
            for (packet, host, port) in [(a, A, 20_100), (b, B, other)] {
                let answer = packet.clone().from_uplink(port).answer();
                let out = w.up_in(&answer);
                let mut wanted = answer.to(&host, 20_100).delivered(&GATEWAY, &host);
                if kind == Kind::Echo {
                    wanted.sport = 0;
                }
                out.redirected().is(&wanted);
            }
            // Towards another remote socket it is the same port again.
            let elsewhere = Packet::first(kind, &B, 20_100, &OUTSIDE_TWO, 80, family).to_gateway();
            assert_eq!(begin(w, &elsewhere), other);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn published_ports_are_not_taken() {
    World::both(|w, family| {
        w.publish(None, family, 6, 20_100, &B, 80);
        w.publish(Some(&NODE), family, 17, 20_200, &B, 80);
        let port = begin(
            w,
            &Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway(),
        );
        assert_ne!(port, 20_100);
        let port = begin(
            w,
            &Packet::udp(&A, 20_200, &OUTSIDE, 80, family).to_gateway(),
        );
        assert_ne!(port, 20_200);
        // The other protocol's are free.
        let port = begin(
            w,
            &Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway(),
        );
        assert_eq!(port, 20_100);
    });
}

#[test]
fn ports_the_node_listens_on_are_not_taken() {
    World::both(|w, family| {
        let tcp = TcpListener::bind((NODE.ip(family), 20_100)).unwrap();
        let udp = UdpSocket::bind((NODE.ip(family), 20_200)).unwrap();
        let syn = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        let datagram = Packet::udp(&A, 20_200, &OUTSIDE, 80, family).to_gateway();
        let port = begin(w, &syn);
        assert_ne!(port, 20_100);
        in_range(port);
        let port = begin(w, &datagram);
        assert_ne!(port, 20_200);
        in_range(port);
        drop((tcp, udp));
        w.datapath().flows_remove(&|_| true).unwrap();
        assert_eq!(
            (begin(w, &syn), begin(w, &datagram)),
            (20_100, 20_200),
            "free again"
        );
    });
}

#[test]
fn ports_of_the_nodes_connections_are_not_taken_towards_their_remote_sockets() {
    World::both(|w, family| {
        let udp = UdpSocket::bind((NODE.ip(family), 20_200)).unwrap();
        udp.connect((OUTSIDE.ip(family), 80)).unwrap();
        let _tcp = tcp_socket((NODE.ip(family), 20_100), (OUTSIDE.ip(family), 80));
        let syn = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        assert_ne!(begin(w, &syn), 20_100);
        let datagram = Packet::udp(&A, 20_200, &OUTSIDE, 80, family).to_gateway();
        assert_ne!(begin(w, &datagram), 20_200);
        // Another remote socket is another conversation.
        let syn = Packet::tcp(&B, 20_100, &OUTSIDE_TWO, 80, Flags::SYN, family).to_gateway();
        assert_eq!(begin(w, &syn), 20_100);
        let datagram = Packet::udp(&B, 20_200, &OUTSIDE_TWO, 80, family).to_gateway();
        assert_eq!(begin(w, &datagram), 20_200);
    });
}

#[test]
fn a_network_without_masquerade_keeps_its_addresses_and_gets_its_replies() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags &= !port_flags::MASQUERADE);
        for kind in Kind::ALL {
            println!("{kind:?}");
            let first = Packet::first(kind, &A, 5_000, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&A, &first).redirected().is(&first.clone().hop());
            let answer = first.answer();
            let wanted = answer.clone().delivered(&GATEWAY, &A);
            w.up_in(&answer).redirected().is(&wanted);
        }
        let flows = w.datapath().flows().unwrap();
        assert!(
            flows.iter().all(|f| f.kind == FlowKind::Forward),
            "{flows:?}"
        );
    });
}

#[test]
fn an_answer_whose_hops_are_used_up_dies() {
    World::both(|w, family| {
        let first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        begin(w, &first);
        let answer = first.from_uplink(20_100).answer().ttl(1);
        w.up_in(&answer).dropped(DropReason::TtlExceeded);
    });
}

#[test]
fn an_outside_packet_that_answers_nothing_passes_to_the_node() {
    World::both(|w, family| {
        let first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        begin(w, &first);
        for packet in [
            Packet::udp(&OUTSIDE, 80, &NODE, 20_101, family),
            Packet::udp(&OUTSIDE, 80, &NODE_TWO, 20_100, family),
            Packet::tcp(&OUTSIDE, 80, &NODE, 20_100, Flags::SYN, family),
        ] {
            w.up_in(&packet).passed().unchanged();
        }
    });
}

#[test]
fn an_echo_with_identifier_0_lets_no_other_message_and_no_fragment_in() {
    World::both(|w, family| {
        let ping = Packet::ping(&A, 0, &OUTSIDE, family).to_gateway();
        w.ep_out(&A, &ping)
            .redirected()
            .is(&ping.clone().hop().from_uplink(0));
        let pong = ping.clone().from_uplink(0).answer();
        w.up_in(&pong).redirected();
        let kind = if family == Family::V4 { 3 } else { 1 };
        let other = Packet {
            l4: L4::Icmp(kind, 0),
            ..pong.clone()
        };
        w.up_in(&other).passed().unchanged();
        let piece = match family {
            Family::V4 => Packet {
                fragment: (2, false),
                ..pong
            },
            Family::V6 => Packet {
                extensions: vec![(44, vec![0, 0, 16, 0, 0, 0, 9])],
                ..pong
            },
        };
        assert_ne!(w.up_in(&piece).action, Action::Redirect);
    });
}
