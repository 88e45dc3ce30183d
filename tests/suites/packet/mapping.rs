//! Mappings: one outside port for an inside socket, whoever it talks to (RFC 4787 section 4), and who may
//! come in by it (section 5).

use std::collections::BTreeSet;
use std::net::UdpSocket;

use netd_common::addr::Be16;
use netd_common::maps::{FlowKind, port_flags};
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, GATEWAY2, Host, Kind, L4, NODE, OUTSIDE, OUTSIDE_TWO,
    PORT_MAX, PORT_MIN, Packet, World,
};

drop_cases! { DROPS:
    fn a_stranger_is_kept_out_of_a_mapping(w, family) => Filtered {
        call(w, &A, 20_100, &OUTSIDE, family);
        w.up_in(&Packet::udp(&OUTSIDE_TWO, 80, &NODE, 20_100, family))
    }

    fn another_port_of_the_same_remote_is_kept_out_by_default(w, family) => Filtered {
        call(w, &A, 20_100, &OUTSIDE, family);
        w.up_in(&Packet::udp(&OUTSIDE, 81, &NODE, 20_100, family))
    }

    fn a_connection_from_a_stranger_is_kept_out(w, family) => Filtered {
        w.ep_out(&A, &Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway());
        w.up_in(&Packet::tcp(&OUTSIDE_TWO, 80, &NODE, 20_100, Flags::SYN, family))
    }

    fn nobody_comes_in_by_a_port_in_quarantine(w, family) => Filtered {
        options(w, &A, port_flags::STRICT | port_flags::FILTER_ANY);
        call(w, &A, 20_100, &OUTSIDE, family);
        w.datapath().flows_remove(&|_| true).unwrap();
        w.up_in(&Packet::udp(&OUTSIDE, 80, &NODE, 20_100, family))
    }

    fn a_syn_nobody_has_asked_for_is_met_with_silence(w, family) => UnsolicitedSyn {
        w.silent(PORT_MIN, PORT_MAX);
        w.up_in(&Packet::tcp(&OUTSIDE, 80, &NODE, 20_100, Flags::SYN, family))
    }

    fn a_strict_network_refuses_when_its_ports_are_used_up(w, family) => NoPortFree {
        options(w, &A, port_flags::STRICT);
        w.port(&A, |p| (p.masq_min, p.masq_max) = (20_100, 20_103));
        for n in 0..4 {
            call(w, &A, 20_100 + n, &OUTSIDE, family);
        }
        w.ep_out(&A, &Packet::udp(&A, 30_000, &OUTSIDE_TWO, 80, family).to_gateway())
    }

    fn a_second_endpoint_cannot_speak_gre_with_the_same_remote(w, family) => NatAmbiguous {
        w.ep_out(&A, &gre(&A, &OUTSIDE, family)).redirected();
        w.ep_out(&B, &gre(&B, &OUTSIDE, family))
    }
}

fn gre(from: &Host, to: &Host, family: Family) -> Packet {
    Packet::new(from, 0, to, 0, L4::Other(47), family).to_gateway()
}

/// Masquerade options of an endpoint's network.
fn options(w: &mut World, who: &Host, flags: u32) {
    w.port(who, |p| p.flags |= flags);
}

/// A conversation of a kind to port 80 of a remote host; gives the outside port it got.
#[track_caller]
fn start(w: &mut World, kind: Kind, from: &Host, sport: u16, to: &Host, family: Family) -> u16 {
    let packet = Packet::first(kind, from, sport, to, 80, family);
    let packet = if from.network == C.network {
        packet.to_mac(GATEWAY2.mac)
    } else {
        packet.to_gateway()
    };
    let out = w.ep_out(from, &packet);
    let port = out.sport();
    out.redirected().is(&packet.clone().hop().from_uplink(port));
    port
}

/// The same of UDP.
#[track_caller]
fn call(w: &mut World, from: &Host, sport: u16, to: &Host, family: Family) -> u16 {
    start(w, Kind::Udp, from, sport, to, family)
}

/// Rows in the table of mappings.
fn rows(w: &World) -> usize {
    w.mapping_rows(Family::V4) + w.mapping_rows(Family::V6)
}

#[test]
fn a_socket_has_one_outside_port_whoever_came_first() {
    World::both(|w, family| {
        for strict in [0, port_flags::STRICT] {
            for kind in Kind::ALL {
                println!("{kind:?} {strict}");
                for who in [A, B] {
                    options(w, &who, strict);
                }
                // B is first with the port that A wants as well; A goes to somebody else first.
                assert_eq!(start(w, kind, &B, 20_100, &OUTSIDE_TWO, family), 20_100);
                let port = start(w, kind, &A, 20_100, &OUTSIDE, family);
                assert_ne!(port, 20_100, "never two sockets on one port");
                assert_eq!(start(w, kind, &A, 20_100, &OUTSIDE_TWO, family), port);
                assert_eq!(start(w, kind, &B, 20_100, &OUTSIDE, family), 20_100);
                assert_eq!(rows(w), 4, "two mappings");
                w.forget_mappings(family);
                assert_eq!(rows(w), 0);
            }
        }
    });
}

#[test]
fn class_and_parity_of_ports_are_kept() {
    World::both(|w, family| {
        w.port(&A, |p| (p.masq_min, p.masq_max) = (1, 65_535));
        w.port(&B, |p| (p.masq_min, p.masq_max) = (1, 65_535));
        for wanted in [700, 701, 20_100, 20_101] {
            assert_eq!(call(w, &A, wanted, &OUTSIDE, family), wanted);
            let other = call(w, &B, wanted, &OUTSIDE, family);
            assert_ne!(other, wanted);
            assert_eq!(
                (other < 1024, other % 2),
                (wanted < 1024, wanted % 2),
                "{other}"
            );
        }
    });
}

#[test]
fn ports_are_never_shared_while_there_are_some_and_shared_or_refused_after() {
    World::both(|w, family| {
        for who in [A, B] {
            w.port(&who, |p| (p.masq_min, p.masq_max) = (20_100, 20_107));
        }
        for kind in [Kind::Udp, Kind::Tcp] {
            let ports: BTreeSet<u16> = (0..8)
                .map(|n| start(w, kind, &A, 30_000 + n, &OUTSIDE, family))
                .collect();
            assert_eq!(ports, (20_100..=20_107).collect(), "all are used");
            assert_eq!(rows(w), 16);
            // Balanced: towards another remote socket a port is used once more, without a mapping.
            let shared = start(w, kind, &B, 30_000, &OUTSIDE_TWO, family);
            assert!(ports.contains(&shared));
            assert_eq!(rows(w), 16);
            let there = Packet::first(kind, &NODE, shared, &OUTSIDE_TWO, 80, family);
            let answer = there.answer();
            let wanted = answer.clone().to(&B, 30_000).delivered(&GATEWAY, &B);
            w.up_in(&answer).redirected().is(&wanted);
            // Towards the same one there is none.
            let refused = Packet::first(kind, &B, 30_000, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&B, &refused).dropped(DropReason::NoPortFree);
            // Existing ones go on.
            assert_eq!(rows(w), 16);
            start(w, kind, &A, 30_000, &OUTSIDE, family);
            w.forget_mappings(family);
        }
    });
}

#[test]
fn a_balanced_network_does_not_share_the_ports_of_a_strict_one() {
    World::both(|w, family| {
        options(w, &A, port_flags::STRICT);
        for who in [A, B] {
            w.port(&who, |p| (p.masq_min, p.masq_max) = (20_100, 20_101));
        }
        call(w, &A, 20_100, &OUTSIDE, family);
        call(w, &B, 20_101, &OUTSIDE, family);
        assert_eq!(call(w, &B, 20_103, &OUTSIDE_TWO, family), 20_101);
        let none = Packet::udp(&B, 20_105, &OUTSIDE_TWO, 80, family).to_gateway();
        w.ep_out(&B, &none).dropped(DropReason::NoPortFree);
    });
}

#[test]
fn a_flow_that_gives_way_to_the_nodes_has_a_port_to_itself() {
    World::both(|w, family| {
        for (strict, stay) in [(0, 0), (port_flags::STRICT, 4)] {
            println!("strict: {}", strict != 0);
            for who in [A, B] {
                let filter = port_flags::FILTER_ANY;
                w.port(&who, |p| p.flags = port_flags::MASQUERADE | filter | strict);
            }
            assert_eq!(call(w, &A, 20_100, &OUTSIDE, family), 20_100);
            let own = UdpSocket::bind((NODE.ip(family), 20_100)).unwrap();
            own.connect((OUTSIDE_TWO.ip(family), 80)).unwrap();
            let port = call(w, &A, 20_100, &OUTSIDE_TWO, family);
            assert_ne!(port, 20_100);
            assert_eq!(rows(w), 4, "the socket's, and that flow's");
            // It is as taken as any other, and no way in, whatever the filter of the network.
            let b = call(w, &B, port, &OUTSIDE, family);
            assert!(b != port && b != 20_100, "{b}");
            let stranger = |port| Packet::udp(&OUTSIDE, 9, &NODE, port, family);
            w.up_in(&stranger(port)).dropped(DropReason::Filtered);
            w.up_in(&stranger(b)).redirected();
            let there = Packet::udp(&NODE, port, &OUTSIDE_TWO, 80, family);
            let answer = there.answer();
            let wanted = answer.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
            w.up_in(&answer).redirected().is(&wanted);
            // Looked at twice, it is still held.
            w.datapath()
                .flows_remove(&|f| f.endpoint == B.endpoint)
                .unwrap();
            if strict != 0 {
                w.age_mappings(family, 120);
            }
            let mut collector = w.datapath().collector().unwrap();
            collector.collect(true).unwrap();
            collector.collect(true).unwrap();
            assert_eq!(rows(w), 4);
            w.datapath().flows_remove(&|_| true).unwrap();
            assert_eq!(rows(w), stay, "let go");
            if strict != 0 {
                assert_eq!(
                    call(w, &A, 20_100, &OUTSIDE_TWO, family),
                    port,
                    "its own again"
                );
            }
            w.forget_mappings(family);
        }
    });
}

#[test]
fn a_mapping_ends_with_its_last_flow_and_rests_where_it_is_strict() {
    World::both(|w, family| {
        let gone = |w: &mut World, to: &Host| {
            let to = to.ip(family);
            w.datapath().flows_remove(&|f| f.dst.0 == to).unwrap()
        };
        call(w, &A, 20_100, &OUTSIDE, family);
        call(w, &A, 20_100, &OUTSIDE_TWO, family);
        assert_eq!((gone(w, &OUTSIDE), rows(w)), (1, 2), "it has a flow");
        assert_eq!((gone(w, &OUTSIDE_TWO), rows(w)), (1, 0));
        assert_eq!(
            call(w, &B, 20_100, &OUTSIDE, family),
            20_100,
            "free at once"
        );
        w.forget_mappings(family);

        options(w, &A, port_flags::STRICT);
        call(w, &A, 20_100, &OUTSIDE, family);
        assert_eq!((gone(w, &OUTSIDE), rows(w)), (1, 2), "in quarantine");
        w.datapath().flows_collect().unwrap();
        assert_ne!(call(w, &B, 20_100, &OUTSIDE, family), 20_100);
        assert_eq!(
            call(w, &A, 20_100, &OUTSIDE_TWO, family),
            20_100,
            "its own again"
        );
        assert_eq!(gone(w, &OUTSIDE_TWO), 1);
        w.age_mappings(family, 119);
        w.datapath().flows_collect().unwrap();
        assert_eq!(rows(w), 4);
        w.age_mappings(family, 1);
        w.datapath().flows_collect().unwrap();
        assert_eq!(rows(w), 2, "B's is left");
        gone(w, &OUTSIDE);
        assert_eq!(call(w, &B, 20_100, &OUTSIDE, family), 20_100);
    });
}

#[test]
fn the_data_path_itself_frees_what_has_rested_when_there_is_no_port() {
    World::both(|w, family| {
        options(w, &A, port_flags::STRICT);
        options(w, &B, port_flags::STRICT);
        w.uplink(|u| (u.port_min, u.port_max) = (Be16::new(20_100), Be16::new(20_100)));
        call(w, &A, 20_100, &OUTSIDE, family);
        w.datapath().flows_remove(&|_| true).unwrap();
        let other = Packet::udp(&B, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.forget_sweep();
        w.ep_out(&B, &other).dropped(DropReason::NoPortFree);
        w.age_mappings(family, 120);
        w.forget_sweep();
        w.ep_out(&B, &other).dropped(DropReason::NoPortFree);
        w.ep_out(&B, &other).redirected();
    });
}

#[test]
fn a_row_that_lost_its_other_half_is_collected() {
    World::both(|w, family| {
        call(w, &A, 20_100, &OUTSIDE, family);
        w.lose_inside_row(family);
        w.datapath().flows_collect().unwrap();
        assert_eq!(rows(w), 1, "it may be in the making");
        w.age_mappings(family, 6);
        w.datapath().flows_collect().unwrap();
        assert_eq!(rows(w), 0);
    });
}

#[test]
fn a_mapping_whose_flows_were_lost_is_freed_when_that_was_seen_twice() {
    World::both(|w, family| {
        call(w, &A, 20_100, &OUTSIDE, family);
        w.forget_flows(family);
        let mut collector = w.datapath().collector().unwrap();
        collector.collect(true).unwrap();
        assert_eq!(rows(w), 2, "a flow may be in the making");
        collector.collect(true).unwrap();
        assert_eq!(rows(w), 0);
    });
}

/// Whether somebody outside gets through to A's socket 20100 by its mapping.
fn comes_in(w: &mut World, kind: Kind, from: &Host, sport: u16, family: Family) -> bool {
    let packet = Packet::first(kind, from, sport, &NODE, 20_100, family);
    let out = w.up_in(&packet);
    if out.counted[0].1.is_some() {
        out.dropped(DropReason::Filtered);
        return false;
    }
    let wanted = packet.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
    out.redirected().is(&wanted);
    // A answers by its mapping.
    let answer = packet
        .answer()
        .from(&A, 20_100)
        .from_mac(A.mac)
        .to_gateway();
    let answer = if kind == Kind::Tcp {
        answer.flags(Flags::SYN_ACK)
    } else {
        answer
    };
    w.ep_out(&A, &answer)
        .redirected()
        .is(&answer.clone().hop().from_uplink(20_100));
    true
}

#[test]
fn a_mapping_admits_whom_its_filter_names() {
    const EI: u32 = port_flags::FILTER_ANY;
    const AD: u32 = port_flags::FILTER_ADDRESS;
    World::both(|w, family| {
        for kind in [Kind::Tcp, Kind::Udp] {
            for strict in [0, port_flags::STRICT] {
                for (filter, same, other) in
                    [(0, false, false), (AD, true, false), (EI, true, true)]
                {
                    println!("{kind:?} {filter:#x} {strict}");
                    w.port(&A, |p| p.flags = port_flags::MASQUERADE | filter | strict);
                    assert_eq!(start(w, kind, &A, 20_100, &OUTSIDE, family), 20_100);
                    assert_eq!(comes_in(w, kind, &OUTSIDE, 81, family), same);
                    assert_eq!(comes_in(w, kind, &OUTSIDE_TWO, 80, family), other);
                    let flows = w.datapath().flows().unwrap();
                    let inbound = flows.iter().filter(|f| f.kind == FlowKind::Inbound).count();
                    assert_eq!(inbound, usize::from(same) + usize::from(other));
                    // Spoken to, the second address is as good as the first.
                    if !other {
                        start(w, kind, &A, 20_100, &OUTSIDE_TWO, family);
                        assert_eq!(comes_in(w, kind, &OUTSIDE_TWO, 81, family), same);
                    }
                    w.forget_mappings(family);
                    // The next life of the port owes nothing to this one.
                    if filter == AD {
                        start(w, kind, &A, 20_100, &OUTSIDE, family);
                        assert!(!comes_in(w, kind, &OUTSIDE_TWO, 81, family));
                        w.forget_mappings(family);
                    }
                }
            }
        }
    });
}

#[test]
fn what_came_in_keeps_the_mapping_alive_as_its_own_flow() {
    World::both(|w, family| {
        options(w, &A, port_flags::FILTER_ANY);
        call(w, &A, 20_100, &OUTSIDE, family);
        assert!(comes_in(w, Kind::Udp, &OUTSIDE_TWO, 9, family));
        w.datapath()
            .flows_remove(&|f| f.kind == FlowKind::Masquerade)
            .unwrap();
        assert_eq!(rows(w), 2);
        assert!(comes_in(w, Kind::Udp, &OUTSIDE_TWO, 10, family));
        w.datapath().flows_remove(&|_| true).unwrap();
        assert_eq!(rows(w), 0);
    });
}

#[test]
fn endpoints_call_each_other_by_their_mappings_when_both_have_sent() {
    World::both(|w, family| {
        for who in [A, C] {
            assert_eq!(
                call(w, &who, 20_100 + who.network as u16, &OUTSIDE, family),
                20_100 + who.network as u16
            );
        }
        // A is 20101 outside, C on another network 20102. C has not sent to A, so A is kept out ...
        let there = Packet::udp(&A, 20_101, &NODE, 20_102, family).to_gateway();
        w.ep_out(&A, &there).dropped(DropReason::Filtered);
        // ... but that has opened A's own filter for C, and C's packet opens C's for A.
        let back = Packet::udp(&C, 20_102, &NODE, 20_101, family).to_mac(GATEWAY2.mac);
        let wanted = back
            .clone()
            .from(&NODE, 20_102)
            .to(&A, 20_101)
            .delivered(&GATEWAY, &A);
        w.ep_out(&C, &back).redirected().is(&wanted);
        let wanted = there
            .clone()
            .from(&NODE, 20_101)
            .to(&C, 20_102)
            .delivered(&GATEWAY2, &C);
        w.ep_out(&A, &there).redirected().is(&wanted);
        // A third one is not let in by either.
        let third = Packet::udp(&B, 20_103, &NODE, 20_102, family).to_gateway();
        w.ep_out(&B, &third).dropped(DropReason::Filtered);
    });
}

#[test]
fn an_open_mapping_is_called_by_endpoints_that_are_seen_with_theirs() {
    World::both(|w, family| {
        options(w, &A, port_flags::FILTER_ANY);
        for kind in [Kind::Tcp, Kind::Udp] {
            start(w, kind, &A, 20_100, &OUTSIDE, family);
            let b = start(w, kind, &B, 20_100, &OUTSIDE, family);
            let there = Packet::first(kind, &B, 20_100, &NODE, 20_100, family).to_gateway();
            let seen = there
                .clone()
                .from(&NODE, b)
                .to(&A, 20_100)
                .delivered(&GATEWAY, &A);
            w.ep_out(&B, &there).redirected().is(&seen);
            let back = seen.answer().from_mac(A.mac).to_gateway();
            let wanted = back
                .clone()
                .from(&NODE, 20_100)
                .to(&B, 20_100)
                .delivered(&GATEWAY, &B);
            w.ep_out(&A, &back).redirected().is(&wanted);
            w.datapath().flows_remove(&|_| true).unwrap();
            assert_eq!(rows(w), 0, "both were let go");
        }
        // A network without an outside has no business there.
        call(w, &A, 20_100, &OUTSIDE, family);
        options(w, &B, port_flags::INTERNAL);
        let there = Packet::udp(&B, 20_100, &NODE, 20_100, family).to_gateway();
        w.ep_out(&B, &there).dropped(DropReason::Internal);
    });
}

#[test]
fn a_service_of_the_node_is_not_shadowed_by_an_endpoints_port() {
    World::both(|w, family| {
        // CVE-2021-3773: an endpoint sends from the port of a service to the client, so that the client's
        // next request looks like an answer.
        let _service = UdpSocket::bind((NODE.ip(family), 20_100)).unwrap();
        let port = call(w, &A, 20_100, &OUTSIDE, family);
        assert_ne!(port, 20_100);
        let request = Packet::udp(&OUTSIDE, 80, &NODE, 20_100, family);
        w.up_in(&request).passed().unchanged();
        // The service comes later, and the endpoint's mapping is open to all.
        options(w, &A, port_flags::FILTER_ANY);
        assert_eq!(call(w, &A, 20_300, &OUTSIDE, family), 20_300);
        let _younger = UdpSocket::bind((NODE.ip(family), 20_300)).unwrap();
        let request = Packet::udp(&OUTSIDE_TWO, 80, &NODE, 20_300, family);
        w.up_in(&request).passed().unchanged();
        // Nor can the endpoint attract that client from now on.
        assert_ne!(call(w, &A, 20_300, &OUTSIDE_TWO, family), 20_300);
        w.up_in(&request).passed().unchanged();
        // Nor can another endpoint take the answers of a mapping.
        let b = call(w, &B, 20_300, &OUTSIDE, family);
        assert_ne!(b, 20_300);
    });
}

#[test]
fn silence_is_for_syns_to_ports_that_nobody_has() {
    World::both(|w, family| {
        w.silent(PORT_MIN, PORT_MAX);
        let syn = |port| Packet::tcp(&OUTSIDE, 80, &NODE, port, Flags::SYN, family);
        w.up_in(&syn(20_100)).dropped(DropReason::UnsolicitedSyn);
        w.up_in(&syn(PORT_MAX + 1)).passed().unchanged();
        w.up_in(&syn(20_100).flags(Flags::ACK)).passed().unchanged();
        w.up_in(&Packet::udp(&OUTSIDE, 80, &NODE, 20_100, family))
            .passed()
            .unchanged();
        let _listener = std::net::TcpListener::bind((NODE.ip(family), 20_100)).unwrap();
        w.up_in(&syn(20_100)).passed().unchanged();
        w.publish(None, family, 6, 20_200, &A, 80);
        w.up_in(&syn(20_200)).redirected();
    });
}

#[test]
fn protocols_without_ports_are_masqueraded_by_address() {
    World::both(|w, family| {
        for proto in [47, 50, 4, 132] {
            let out = Packet::new(&A, 0, &OUTSIDE, 0, L4::Other(proto), family).to_gateway();
            let mut seen = out.clone().hop().from_uplink(0);
            seen.sport = 0;
            w.ep_out(&A, &out).redirected().is(&seen);
            let back = seen.answer();
            let wanted = back.clone().to(&A, 0).delivered(&GATEWAY, &A);
            w.up_in(&back).redirected().is(&wanted);
            // Another remote address is unambiguous.
            let other = Packet::new(&B, 0, &OUTSIDE_TWO, 0, L4::Other(proto), family).to_gateway();
            w.ep_out(&B, &other).redirected();
        }
        assert_eq!(rows(w), 0);
        for proto in [33, 51, 136] {
            let out = Packet::new(&A, 0, &OUTSIDE, 0, L4::Other(proto), family).to_gateway();
            if (proto, family) != (51, Family::V6) {
                w.ep_out(&A, &out).dropped(DropReason::NatProtocol);
            }
        }
        // Without masquerade nothing has to be translated.
        w.port(&A, |p| p.flags = 0);
        let out = Packet::new(&A, 0, &OUTSIDE_TWO, 0, L4::Other(136), family).to_gateway();
        w.ep_out(&A, &out).redirected().is(&out.clone().hop());
    });
}
