//! Floating IPs: both ways, from everywhere, and the questions about them on the uplink.

use std::net::{Ipv4Addr, Ipv6Addr};

use netd_common::maps::{FlowKind, port_flags};
use netd_common::reason::{DropReason, Hook};
use netd_tests::drop_cases;
use netd_tests::packet::neighbour::{
    NOBODY6, advertisement_to, arp_reply, arp_request, arp_said, solicitation,
};
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, GATEWAY2, Host, Kind, L4, Meta, NODE, OUTSIDE, OUTSIDE_TWO,
    Packet, SENT_BY_NETD, World,
};

/// A's address outside, on the uplink's link.
const FLOAT: Host = Host {
    v4: Ipv4Addr::new(192, 0, 2, 77),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77),
    ..NODE
};
/// Another one.
const OTHER: Host = Host {
    v4: Ipv4Addr::new(192, 0, 2, 78),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x78),
    ..NODE
};
/// A neighbour on the uplink's link.
const NEIGHBOUR: Host = Host {
    mac: [2, 0, 0, 0, 0, 7],
    v4: Ipv4Addr::new(192, 0, 2, 7),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7),
    ..NODE
};

drop_cases! { DROPS:
    fn a_connection_must_begin_with_a_syn(w, family) => TcpNoFlow {
        w.float(&FLOAT, family, &A);
        w.up_in(&Packet::tcp(&OUTSIDE, 40_000, &FLOAT, 80, Flags::ACK, family))
    }

    fn its_endpoint_needs_a_syn_too(w, family) => TcpNoFlow {
        w.float(&FLOAT, family, &A);
        w.ep_out(&A, &Packet::tcp(&A, 40_000, &OUTSIDE, 80, Flags::ACK, family).to_gateway())
    }

    fn an_echo_reply_to_nothing_is_refused(w, family) => NatIcmp {
        w.float(&FLOAT, family, &A);
        w.up_in(&Packet::new(&OUTSIDE, 0, &FLOAT, 5, L4::Pong, family))
    }

    fn a_protocol_whose_checksum_covers_addresses_is_refused(w, family) => NatProtocol {
        w.float(&FLOAT, family, &A);
        w.up_in(&Packet::new(&OUTSIDE, 0, &FLOAT, 0, L4::Other(136), family))
    }

    fn a_floating_address_is_a_router_away(w, family) => TtlExceeded {
        w.float(&FLOAT, family, &A);
        w.up_in(&Packet::udp(&OUTSIDE, 40_000, &FLOAT, 80, family).ttl(1))
    }

    fn an_internal_network_does_not_get_out_by_one(w, family) => Internal {
        w.float(&FLOAT, family, &A);
        w.port(&C, |port| port.flags |= port_flags::INTERNAL);
        w.ep_out(&C, &Packet::udp(&C, 40_000, &FLOAT, 80, family).to_mac(GATEWAY2.mac))
    }

    fn a_published_port_on_one_asks_who_comes(w, family) => SourceRefused {
        w.float(&FLOAT, family, &A);
        w.publish(Some(&FLOAT), family, 17, 8080, &B, 80);
        w.limit(8080, &[]);
        w.up_in(&Packet::udp(&OUTSIDE, 40_000, &FLOAT, 8080, family))
    }

    fn its_endpoint_is_counted_with_what_comes(w, family) => FlowLimit {
        w.float(&FLOAT, family, &A);
        w.limits(|limits| limits.per_endpoint = 0);
        w.up_in(&Packet::udp(&OUTSIDE, 40_000, &FLOAT, 80, family))
    }
}

/// What stands in the flow table: kind, and the number of the endpoint.
#[track_caller]
fn one_flow(w: &mut World) -> netd::datapath::FlowRecord {
    let flows = w.datapath().flows().expect("flows");
    let [flow] = flows.as_slice() else {
        panic!("{flows:?}")
    };
    flow.clone()
}

#[test]
fn packets_from_outside_reach_the_endpoint_and_its_answers_come_from_the_address() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        for kind in Kind::ALL {
            println!("{kind:?}");
            let first = Packet::first(kind, &OUTSIDE, 40_000, &FLOAT, 80, family);
            let dport = first.dport;
            let inside = first.clone().to(&A, dport).delivered(&GATEWAY, &A);
            w.up_in(&first).redirected().is(&inside);
            let answer = inside.answer();
            let sport = answer.sport;
            w.ep_out(&A, &answer)
                .redirected()
                .is(&answer.clone().hop().from(&FLOAT, sport));
            w.up_in(&first.clone().ttl(33))
                .redirected()
                .is(&inside.clone().ttl(32));
            let flow = one_flow(w);
            assert_eq!((flow.kind, flow.endpoint), (FlowKind::Floating, A.endpoint));
            assert_eq!((flow.original.0, flow.reply.0), (2, 1));
            assert_eq!(flow.dst.0, FLOAT.ip(family));
            assert_eq!(flow.nat_dst.0, A.ip(family));
            w.datapath().flows_remove(&|_| true).expect("flows end");
        }
    });
}

#[test]
fn what_the_endpoint_sends_leaves_with_the_address_and_its_own_port() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        for kind in Kind::ALL {
            // A low port, which masquerade would not take.
            let first = Packet::first(kind, &A, 999, &OUTSIDE, 80, family).to_gateway();
            let outside = first.clone().hop().from(&FLOAT, 999);
            w.ep_out(&A, &first).redirected().is(&outside);
            let answer = outside.answer();
            let (src, sport) = (answer.dport, answer.sport);
            assert_eq!(answer.dst, FLOAT.ip(family));
            let inside = answer.clone().to(&A, src).delivered(&GATEWAY, &A);
            assert_eq!(inside.sport, sport);
            w.up_in(&answer).redirected().is(&inside);
            let flow = one_flow(w);
            assert_eq!((flow.kind, flow.endpoint), (FlowKind::Floating, A.endpoint));
            w.datapath().flows_remove(&|_| true).expect("flows end");
        }
        // Its neighbour is masqueraded as ever, and so is an address of A that is not its first.
        let first = Packet::udp(&B, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&B, &first)
            .redirected()
            .is(&first.clone().hop().from_uplink(20_100));
        let second = Host {
            v4: Ipv4Addr::new(10, 1, 0, 99),
            v6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x99),
            ..A
        };
        w.second_address(&A, second.ip(family));
        let first = Packet::udp(&second, 20_101, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &first)
            .redirected()
            .is(&first.clone().hop().from_uplink(20_101));
    });
}

#[test]
fn protocols_without_ports_pass_both_ways() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        let gre = Packet::new(&OUTSIDE, 0, &FLOAT, 0, L4::Other(47), family);
        let inside = gre.clone().to(&A, 0).delivered(&GATEWAY, &A);
        w.up_in(&gre).redirected().is(&inside);
        let answer = inside.answer();
        w.ep_out(&A, &answer)
            .redirected()
            .is(&answer.clone().hop().from(&FLOAT, 0));
        let esp = Packet::new(&A, 0, &OUTSIDE, 0, L4::Other(50), family).to_gateway();
        w.ep_out(&A, &esp)
            .redirected()
            .is(&esp.clone().hop().from(&FLOAT, 0));
    });
}

#[test]
fn a_port_published_on_the_address_comes_first() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        w.publish(Some(&FLOAT), family, 6, 8080, &B, 80);
        // Published on all addresses is on those of the node: a floating one is none.
        w.publish(None, family, 6, 8081, &B, 80);
        for (port, server, to) in [(8080, B, 80), (8081, A, 8081), (8082, A, 8082)] {
            let syn = Packet::tcp(&OUTSIDE, 40_000, &FLOAT, port, Flags::SYN, family);
            let inside = syn.clone().to(&server, to).delivered(&GATEWAY, &server);
            w.up_in(&syn).redirected().is(&inside);
            let answer = inside.answer();
            w.ep_out(&server, &answer)
                .redirected()
                .is(&answer.clone().hop().from(&FLOAT, port));
        }
    });
}

/// A call must reach the server, seen with `seen`, and the answer the caller, from where it called.
#[track_caller]
fn reaches(w: &mut World, caller: &Host, call: &Packet, server: &Host, seen: &Host) {
    let gateway = |of: &Host| if of.network == 2 { GATEWAY2 } else { GATEWAY };
    let (sport, dport) = (call.sport, call.dport);
    let inside = call.clone().from(seen, sport).to(server, dport);
    let inside = inside.delivered(&gateway(server), server);
    w.ep_out(caller, call).redirected().is(&inside);
    let answer = inside.answer();
    let back = Packet {
        src: call.dst,
        ..answer.clone()
    };
    let back = back
        .to(caller, answer.dport)
        .delivered(&gateway(caller), caller);
    w.ep_out(server, &answer).redirected().is(&back);
}

#[test]
fn endpoints_reach_it_from_every_network_and_from_itself() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        let to = |caller: &Host, kind| {
            let gateway = if caller.network == 2 {
                GATEWAY2
            } else {
                GATEWAY
            };
            Packet::first(kind, caller, 20_100, &FLOAT, 80, family).to_mac(gateway.mac)
        };
        for kind in Kind::ALL {
            for (caller, seen) in [(B, NODE), (C, NODE), (A, FLOAT)] {
                println!("{kind:?} from {:?}", caller.v4);
                let first = to(&caller, kind);
                reaches(w, &caller, &first, &A, &seen);
                let flow = one_flow(w);
                assert_eq!(flow.kind, FlowKind::Hairpin);
                assert_eq!((flow.endpoint, flow.client), (A.endpoint, caller.endpoint));
                w.datapath().flows_remove(&|_| true).expect("flows end");
            }
        }
        // Who has an address of its own outside is seen with that one.
        w.float(&OTHER, family, &C);
        reaches(w, &C, &to(&C, Kind::Tcp), &A, &OTHER);
        // A protocol without ports is told by its addresses.
        let gre = Packet::new(&B, 0, &FLOAT, 0, L4::Other(47), family).to_gateway();
        reaches(w, &B, &gre, &A, &NODE);
    });
}

#[test]
fn its_traffic_takes_no_port_of_the_node_and_asks_no_filter() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        for who in [A, B] {
            w.port(&who, |p| {
                p.flags |= port_flags::STRICT;
                (p.masq_min, p.masq_max) = (20_100, 20_100);
            });
        }
        for kind in Kind::ALL {
            // The only port there is, before its neighbour wants it; out, and in from a stranger.
            let first = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&A, &first)
                .redirected()
                .is(&first.clone().hop().from(&FLOAT, 20_100));
            let called = Packet::first(kind, &OUTSIDE_TWO, 81, &FLOAT, 20_100, family);
            w.up_in(&called).redirected();
            assert_eq!(w.mapping_rows(family), 0, "{kind:?}");
            let first = Packet::first(kind, &B, 20_100, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&B, &first)
                .redirected()
                .is(&first.clone().hop().from_uplink(20_100));
            assert_eq!(w.mapping_rows(family), 2, "its neighbour's mapping");
            w.forget_mappings(family);
        }
    });
}

#[test]
fn callers_leave_its_endpoint_a_quarter_of_its_flows() {
    World::both(|w, family| {
        w.limits(|limits| limits.per_endpoint = 4);
        w.float(&FLOAT, family, &A);
        let call = |port| Packet::udp(&OUTSIDE, port, &FLOAT, 80, family);
        let own = |port| Packet::udp(&A, port, &OUTSIDE, 53, family).to_gateway();
        for port in 1..=3 {
            w.up_in(&call(port)).redirected();
        }
        w.up_in(&call(4)).dropped(DropReason::FlowLimit);
        w.ep_out(&A, &own(1)).redirected();
        w.ep_out(&A, &own(2)).dropped(DropReason::FlowLimit);
        // Each is given back to where it was taken from.
        let ended = w.datapath().flows_remove(&|f| f.src.1 <= 2).expect("ended");
        assert_eq!(ended, 3);
        for port in 2..=4 {
            w.ep_out(&A, &own(port)).redirected();
        }
        w.datapath().flows_remove(&|_| true).expect("ended");
        for port in 1..=3 {
            w.up_in(&call(port)).redirected();
        }
    });
}

#[test]
fn its_endpoint_calls_others_of_the_node_with_the_address() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        w.port(&B, |port| port.flags |= port_flags::FILTER_ANY);
        // A published port, and two of one endpoint port: two conversations all the same.
        w.publish(None, family, 17, 8080, &B, 80);
        w.publish(None, family, 17, 8081, &B, 80);
        let seen = |w: &mut World, port, sport: u16, inside: u16| {
            let call = Packet::udp(&A, 20_100, &NODE, port, family).to_gateway();
            let there = call.clone().from(&FLOAT, sport).to(&B, inside);
            w.ep_out(&A, &call)
                .redirected()
                .is(&there.delivered(&GATEWAY, &B));
        };
        seen(w, 8080, 20_100, 80);
        let second = Packet::udp(&A, 20_100, &NODE, 8081, family).to_gateway();
        let sport = w.ep_out(&A, &second).sport();
        assert_ne!(sport, 20_100);
        seen(w, 8081, sport, 80);
        // Somebody's mapping, by which everybody may come in.
        let first = Packet::udp(&B, 20_200, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&B, &first).redirected();
        seen(w, 20_200, 20_100, 20_200);
        assert_eq!(w.mapping_rows(family), 2, "none of its own");
    });
}

#[test]
fn the_node_reaches_it_and_gets_the_answers() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        for kind in Kind::ALL {
            let first = Packet::first(kind, &NODE, 40_000, &FLOAT, 80, family);
            let dport = first.dport;
            let mut inside = first.clone().to(&A, dport);
            (inside.src_mac, inside.dst_mac) = (GATEWAY.mac, A.mac);
            for _ in 0..2 {
                let out = w.up_out(&first);
                out.redirected().is(&inside);
                assert_eq!(out.mark, SENT_BY_NETD);
            }
            let answer = inside.answer();
            let sport = answer.sport;
            w.ep_out(&A, &answer)
                .redirected()
                .is(&answer.clone().from(&FLOAT, sport));
            let flow = one_flow(w);
            assert_eq!((flow.kind, flow.endpoint), (FlowKind::Floating, A.endpoint));
            assert_eq!((flow.original.0, flow.reply.0), (2, 1));
            w.datapath().flows_remove(&|_| true).expect("flows end");
        }
    });
}

#[test]
fn errors_about_the_nodes_calls_reach_it_and_its_own_reach_the_endpoint() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        let first = Packet::udp(&NODE, 40_000, &FLOAT, 80, family);
        let mut inside = first.clone().to(&A, 80);
        (inside.src_mac, inside.dst_mac) = (GATEWAY.mac, A.mac);
        w.up_out(&first).redirected().is(&inside);
        // The endpoint refuses it.
        let unreachable = if family == Family::V4 { (3, 3) } else { (1, 4) };
        let error = Packet::error(&A, unreachable, &inside)
            .from_mac(A.mac)
            .to_gateway();
        let out = w.ep_out(&A, &error);
        out.redirected();
        let wanted = Packet::error(&FLOAT, unreachable, &first);
        assert_eq!(
            out.bytes[14..],
            wanted.bytes()[14..],
            "about the packet as the node sent it"
        );
        // The node refuses an answer.
        let answer = inside.answer().to_gateway();
        let sport = answer.sport;
        let seen = answer.clone().from(&FLOAT, sport);
        w.ep_out(&A, &answer).redirected().is(&seen);
        let error = Packet::error(&NODE, unreachable, &seen);
        let out = w.up_out(&error);
        out.redirected();
        assert_eq!(out.mark, SENT_BY_NETD, "by a redirect that egress can do");
        let wanted = Packet::error(&NODE, unreachable, &answer);
        assert_eq!(out.bytes[14..], wanted.bytes()[14..]);
    });
}

#[test]
fn the_node_may_call_whatever_is_published_on_it_and_nothing_too_big() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        w.publish(Some(&FLOAT), family, 17, 8080, &B, 80);
        w.limit(8080, &[]);
        let call = Packet::udp(&NODE, 40_000, &FLOAT, 8080, family);
        w.up_out(&call).redirected();
        let mut large = Packet::udp(&NODE, 40_000, &FLOAT, 80, family);
        large.payload = vec![7; 1_600];
        for dont_fragment in [true, false] {
            large.dont_fragment = dont_fragment;
            w.up_out(&large).dropped(DropReason::TooBig);
        }
    });
}

#[test]
fn questions_on_the_link_are_answered_with_the_uplinks_mac() {
    World::run(|w| {
        for family in [Family::V4, Family::V6] {
            w.float(&FLOAT, family, &A);
        }
        let has = Host {
            mac: NODE.mac,
            ..FLOAT
        };
        let frame =
            |w: &mut World, frame: &[u8]| w.tc(Hook::UpIn, NODE.device, Meta::default(), frame);
        let answered = |w: &mut World, ask: &[u8], answer: &[u8]| {
            let out = frame(w, ask);
            out.redirected().is_bytes(answer);
            assert_eq!(out.mark, SENT_BY_NETD);
        };
        answered(
            w,
            &arp_request(&NEIGHBOUR, FLOAT.v4),
            &arp_reply(&has, &NEIGHBOUR),
        );
        let nobody = Host {
            v4: Ipv4Addr::UNSPECIFIED,
            ..NEIGHBOUR
        };
        let probe = arp_said(NEIGHBOUR.mac, (NEIGHBOUR.mac, nobody.v4), FLOAT.v4);
        answered(w, &probe, &arp_reply(&has, &nobody));
        let ask = solicitation(NEIGHBOUR.mac, NEIGHBOUR.v6, FLOAT.v6, Some(NEIGHBOUR.mac));
        let reply = advertisement_to((NEIGHBOUR.mac, NEIGHBOUR.v6), &has, 0x60);
        answered(w, &ask, &reply);
        // A neighbour that checks whether it is still there asks the uplink itself.
        let mut check = arp_request(&NEIGHBOUR, FLOAT.v4);
        check[..6].copy_from_slice(&NODE.mac);
        answered(w, &check, &arp_reply(&has, &NEIGHBOUR));

        // Not a question, not the address, not the uplink: the node's.
        for (ask, why) in [
            (arp_request(&FLOAT, FLOAT.v4), "an announcement"),
            (arp_reply(&NEIGHBOUR, &has), "a reply"),
            (arp_request(&NEIGHBOUR, OTHER.v4), "another address"),
            (
                solicitation(NEIGHBOUR.mac, NEIGHBOUR.v6, OTHER.v6, None),
                "another address",
            ),
        ] {
            println!("{why}");
            frame(w, &ask).passed().unchanged();
        }
        w.second_uplink();
        w.tc(
            Hook::UpIn,
            "wan0",
            Meta::default(),
            &arp_request(&NEIGHBOUR, FLOAT.v4),
        )
        .passed()
        .unchanged();
        // Without any, nothing is looked at.
        for family in [Family::V4, Family::V6] {
            let gone = FLOAT.ip(family);
            w.datapath().float_remove(gone).expect("removed");
        }
        frame(w, &arp_request(&NEIGHBOUR, FLOAT.v4))
            .passed()
            .unchanged();
    });
}

#[test]
fn the_nodes_own_questions_are_answered_on_their_way_out() {
    World::run(|w| {
        for family in [Family::V4, Family::V6] {
            w.float(&FLOAT, family, &A);
        }
        let has = Host {
            mac: GATEWAY.mac,
            ..FLOAT
        };
        let out =
            |w: &mut World, frame: &[u8]| w.tc(Hook::UpOut, NODE.device, Meta::default(), frame);
        out(w, &arp_request(&NODE, FLOAT.v4))
            .redirected()
            .is_bytes(&arp_reply(&has, &NODE));
        let ask = solicitation(NODE.mac, NODE.v6, FLOAT.v6, Some(NODE.mac));
        out(w, &ask)
            .redirected()
            .is_bytes(&advertisement_to((NODE.mac, NODE.v6), &has, 0x60));
        out(w, &arp_request(&NODE, OTHER.v4)).passed().unchanged();
        out(w, &arp_request(&FLOAT, FLOAT.v4)).passed().unchanged();
        let dad = solicitation(NODE.mac, NOBODY6, OTHER.v6, None);
        out(w, &dad).passed().unchanged();
    });
}

#[test]
fn what_cannot_be_translated_says_so_at_the_uplink_too() {
    World::both(|w, family| {
        w.float(&FLOAT, family, &A);
        let stray = Packet::tcp(&NODE, 40_000, &FLOAT, 80, Flags::ACK, family);
        w.up_out(&stray).dropped(DropReason::TcpNoFlow);
    });
}
