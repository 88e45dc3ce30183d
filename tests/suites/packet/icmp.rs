//! ICMP errors through everything that translates: the error and the packet it quotes.

use netd_common::maps::port_flags;
use netd_common::reason::Hook;
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, GATEWAY2, Half, Kind, L4, Meta, NODE, NODE_TWO, OUTSIDE,
    OUTSIDE_TWO, Outcome, Packet, World,
};

drop_cases! { DROPS:
    fn an_error_with_a_wrong_checksum_is_refused(w, family) => BadIcmp {
        let (_, error, _) = from_a_router(w, Kind::Udp, family);
        damaged(w, &error, 14 + error.ip_header() + 2)
    }

    fn an_error_with_a_damaged_tail_is_refused(w, family) => BadIcmp {
        let (_, error, _) = from_a_router(w, Kind::Tcp, family);
        let last = error.bytes().len() - 1;
        damaged(w, &error, last)
    }

    fn an_error_that_quotes_a_damaged_header_is_refused(w) => BadIcmp {
        let (_, mut error, _) = from_a_router(w, Kind::Udp, Family::V4);
        error.payload[4] ^= 1;
        w.up_in(&error)
    }

    fn an_error_for_somebody_who_did_not_send_the_packet_is_refused(w, family) => BadIcmp {
        let (_, error, _) = from_a_router(w, Kind::Udp, family);
        w.up_in(&error.to(&NODE_TWO, 0))
    }

    fn an_endpoint_does_not_end_conversations_of_another(w, family) => SpoofedIcmp {
        let (first, _, _) = from_a_router(w, Kind::Udp, family);
        let answer = first.from_mac(GATEWAY.mac).from_uplink(20_100).answer().to(&A, 20_100);
        w.ep_out(&B, &Packet::error(&B, unreachable(family), &answer).from_mac(B.mac).to_gateway())
    }

    fn an_error_of_an_endpoint_about_nothing_does_not_leave(w, family) => NatIcmp {
        let nothing = Packet::udp(&OUTSIDE, 80, &A, 20_100, family).from_mac(GATEWAY.mac).to_mac(A.mac);
        w.ep_out(&A, &Packet::error(&A, unreachable(family), &nothing))
    }

    fn an_error_whose_hops_are_used_up_dies(w, family) => TtlExceeded {
        let (_, error, _) = from_a_router(w, Kind::Udp, family);
        w.up_in(&error.ttl(1))
    }

    fn an_error_from_outside_about_nothing_does_not_reach_an_endpoint(w, family) => Unpublished {
        let nothing = Packet::udp(&A, 20_100, &OUTSIDE, 80, family);
        w.up_in(&Packet::error(&OUTSIDE_TWO, unreachable(family), &nothing))
    }
}

/// "Port unreachable".
const fn unreachable(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    }
}

/// Every error, with each code that means something of its own.
const fn errors(family: Family) -> &'static [(u8, u8)] {
    match family {
        Family::V4 => &[
            (3, 0),
            (3, 1),
            (3, 3),
            (3, 4),
            (3, 13),
            (11, 0),
            (11, 1),
            (12, 0),
        ],
        Family::V6 => &[(1, 0), (1, 3), (1, 4), (2, 0), (3, 0), (3, 1), (4, 1)],
    }
}

/// Runs `netd_up_in` on a packet of which one byte is another.
fn damaged(w: &mut World, packet: &Packet, at: usize) -> Outcome {
    let mut frame = packet.clone().to_mac(NODE.mac).bytes();
    frame[at] ^= 0x10;
    w.tc(Hook::UpIn, NODE.device, Meta::default(), &frame)
}

/// A masqueraded flow of `A`, an error of a router outside about its first packet, and what `A` must get.
fn from_a_router(w: &mut World, kind: Kind, family: Family) -> (Packet, Packet, Packet) {
    let first = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
    w.ep_out(&A, &first).redirected();
    let sent = first.clone().hop();
    let error = Packet::error(
        &OUTSIDE_TWO,
        unreachable(family),
        &sent.clone().from_uplink(20_100),
    );
    let wanted = Packet::error(&OUTSIDE_TWO, unreachable(family), &sent).delivered(&GATEWAY, &A);
    (first, error, wanted)
}

/// The same error with another type.
fn of_type(packet: &Packet, (kind, code): (u8, u8), rest: [u8; 4]) -> Packet {
    Packet {
        l4: L4::Icmp(kind, code),
        rest,
        ..packet.clone()
    }
}

#[test]
fn errors_from_routers_outside_reach_the_endpoint_that_is_masqueraded() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            let (_, error, wanted) = from_a_router(w, kind, family);
            for error_type in errors(family) {
                println!("{kind:?} {error_type:?}");
                let rest = [0, 0, 5, 0xdc];
                w.up_in(&of_type(&error, *error_type, rest))
                    .redirected()
                    .is(&of_type(&wanted, *error_type, rest));
            }
        }
    });
}

#[test]
fn the_peer_itself_may_answer_with_an_error() {
    World::both(|w, family| {
        let (_, error, wanted) = from_a_router(w, Kind::Udp, family);
        w.up_in(&error.from(&OUTSIDE, 0))
            .redirected()
            .is(&wanted.from(&OUTSIDE, 0));
    });
}

#[test]
fn eight_bytes_behind_the_quoted_header_are_enough() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            let (first, error, wanted) = from_a_router(w, kind, family);
            // To the ports and no more; before, in and behind TCP's checksum; an odd length.
            for more in [8, 16, 17, 18, 20, 21] {
                println!("{kind:?} {more}");
                let len = first.ip_header() + more;
                let (error, mut wanted) = (error.clone().cut(len), wanted.clone().cut(len));
                if kind == Kind::Tcp && more == 17 {
                    // Half a checksum is none.
                    wanted.payload[len - 1] = error.payload[len - 1];
                }
                w.up_in(&error).redirected().is(&wanted);
            }
        }
    });
}

#[test]
fn long_errors_are_translated_like_short_ones() {
    World::both(|w, family| {
        for len in [400u32, 511, 512, 513, 1_200] {
            let mut first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
            first.payload = (0..len).map(|n| n as u8).collect();
            w.ep_out(&A, &first).redirected();
            let sent = first.hop();
            let error = |about| Packet::error(&OUTSIDE_TWO, unreachable(family), about);
            w.up_in(&error(&sent.clone().from_uplink(20_100)))
                .redirected()
                .is(&error(&sent).delivered(&GATEWAY, &A));
        }
    });
}

#[test]
fn extensions_behind_the_quote_stay_as_they_are() {
    World::both(|w, family| {
        // RFC 4884: 128 bytes of the packet, padded with zeros, then what routers add; here an MPLS label
        // that looks like anything.
        let extended = |error: &Packet, kind: (u8, u8)| {
            let mut error = of_type(
                error,
                kind,
                match family {
                    Family::V4 => [0, 128 / 4, 0, 0],
                    Family::V6 => [128 / 8, 0, 0, 0],
                },
            );
            error.payload.resize(128, 0);
            error
                .payload
                .extend([0x20, 0, 0xab, 0xcd, 0, 8, 1, 1, 0x4e, 0x84, 0x01, 0xff]);
            error
        };
        let kinds: &[(u8, u8)] = match family {
            Family::V4 => &[(3, 0), (11, 0), (12, 0)],
            Family::V6 => &[(1, 0), (3, 0)],
        };
        for kind in kinds {
            for conversation in Kind::ALL {
                let (_, error, wanted) = from_a_router(w, conversation, family);
                w.up_in(&extended(&error, *kind))
                    .redirected()
                    .is(&extended(&wanted, *kind));
            }
        }
        // A quote that ends before TCP's checksum: what is there is no checksum.
        let (first, error, wanted) = from_a_router(w, Kind::Tcp, family);
        let short = |error: &Packet| {
            let len = first.ip_header() + 12;
            let mut error = of_type(
                error,
                errors(family)[0],
                match family {
                    Family::V4 => [0, len as u8 / 4, 0, 0],
                    // 52 bytes are no multiple of eight.
                    Family::V6 => [(len as u8).div_ceil(8), 0, 0, 0],
                },
            )
            .cut(len);
            error.payload.resize(len.next_multiple_of(8), 0);
            error
                .payload
                .extend([0x20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
            error
        };
        w.up_in(&short(&error)).redirected().is(&short(&wanted));
    });
}

#[test]
fn options_and_extension_headers_of_the_quoted_packet_are_skipped() {
    World::both(|w, family| {
        let (first, _, _) = from_a_router(w, Kind::Udp, family);
        for count in [1, 2] {
            let mut sent = first.clone().hop();
            match family {
                Family::V4 => sent.options = [7, 11, 4, 10, 0, 0, 1, 0].repeat(count),
                Family::V6 => sent.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0]); count],
            }
            let error = |about| Packet::error(&OUTSIDE_TWO, unreachable(family), about);
            w.up_in(&error(&sent.clone().from_uplink(20_100)))
                .redirected()
                .is(&error(&sent).delivered(&GATEWAY, &A));
        }
    });
}

#[test]
fn a_quoted_first_fragment_has_its_ports() {
    World::both(|w, family| {
        let (first, _, _) = from_a_router(w, Kind::Udp, family);
        let mut sent = first.hop();
        match family {
            Family::V4 => sent.fragment = (0, true),
            Family::V6 => sent.extensions = vec![(44, vec![0, 0, 1, 0, 0, 0, 9])],
        }
        let error = |about| Packet::error(&OUTSIDE_TWO, unreachable(family), about);
        w.up_in(&error(&sent.clone().from_uplink(20_100)))
            .redirected()
            .is(&error(&sent).delivered(&GATEWAY, &A));
    });
}

#[test]
fn an_endpoint_answers_what_it_was_answered_with_an_error_from_the_uplinks_address() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            println!("{kind:?}");
            let (first, _, _) = from_a_router(w, kind, family);
            let outside = first.clone().from_uplink(20_100).answer();
            let mut inside = outside.clone().to(&A, 20_100).delivered(&GATEWAY, &A);
            if kind == Kind::Echo {
                inside.sport = 0;
            }
            w.up_in(&outside).redirected().is(&inside);
            let error = Packet::error(&A, unreachable(family), &inside);
            let wanted = Packet::error(&NODE, unreachable(family), &outside.hop())
                .hop()
                .from_mac(A.mac)
                .to_gateway();
            w.ep_out(&A, &error).redirected().is(&wanted);
        }
    });
}

#[test]
fn an_error_of_a_published_server_speaks_of_the_published_port() {
    World::both(|w, family| {
        for (kind, proto) in [(Kind::Udp, 17), (Kind::Tcp, 6)] {
            w.publish(None, family, proto, 8080, &B, 80);
            let call = Packet::first(kind, &OUTSIDE, 5_000, &NODE, 8080, family);
            let inside = call.clone().to(&B, 80).delivered(&GATEWAY, &B);
            w.up_in(&call).redirected().is(&inside);
            let error = Packet::error(&B, unreachable(family), &inside);
            let wanted = Packet::error(&NODE, unreachable(family), &call.clone().hop())
                .hop()
                .from_mac(B.mac)
                .to_gateway();
            w.ep_out(&B, &error).redirected().is(&wanted);
            // And the other way: about the server's answer.
            let answer = inside.answer();
            let left = answer.clone().from(&NODE, 8080).hop();
            w.ep_out(&B, &answer).redirected().is(&left);
            let error = |about| Packet::error(&OUTSIDE_TWO, unreachable(family), about);
            w.up_in(&error(&left))
                .redirected()
                .is(&error(&answer.hop()).delivered(&GATEWAY, &B));
        }
    });
}

#[test]
fn errors_between_endpoints_that_meet_at_a_published_port_come_from_it() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &B, 80);
        for (caller, gateway) in [(A, GATEWAY), (C, GATEWAY2)] {
            for node in [NODE, GATEWAY, GATEWAY2] {
                println!("{:?} by {:?}", caller.v4, node.v4);
                let call = Packet::udp(&caller, 20_400, &node, 8080, family).to_mac(gateway.mac);
                let inside = call
                    .clone()
                    .from(&NODE, 20_400)
                    .to(&B, 80)
                    .delivered(&GATEWAY, &B);
                w.ep_out(&caller, &call).redirected().is(&inside);
                // The server's port is closed.
                let error = Packet::error(&B, unreachable(family), &inside);
                let wanted = Packet::error(&node, unreachable(family), &call.clone().hop())
                    .delivered(&gateway, &caller);
                w.ep_out(&B, &error).redirected().is(&wanted);
                // The caller's is, when the answer comes.
                let answer = inside.answer();
                let back = call.answer().delivered(&gateway, &caller);
                w.ep_out(&B, &answer).redirected().is(&back);
                let error = Packet::error(&caller, unreachable(family), &back);
                let wanted = Packet::error(&NODE, unreachable(family), &answer.hop())
                    .delivered(&GATEWAY, &B);
                w.ep_out(&caller, &error).redirected().is(&wanted);
                w.datapath().flows_remove(&|_| true).unwrap();
            }
        }
    });
}

#[test]
fn errors_about_flows_of_the_node_that_changed_their_port_reach_its_socket() {
    World::both(|w, family| {
        from_a_router(w, Kind::Udp, family);
        let own = Packet::udp(&NODE, 20_100, &OUTSIDE, 80, family).to_mac(OUTSIDE.mac);
        let out = w.up_out(&own);
        let port = out.sport();
        let left = own.clone().from_uplink(port);
        out.passed().is(&left);
        let error = |about: &Packet| Packet::error(&OUTSIDE_TWO, unreachable(family), about);
        w.up_in(&error(&left))
            .passed()
            .is(&error(&own).to_mac(NODE.mac));
        // The node about what it was answered.
        let answer = left.answer();
        let known = own.answer();
        w.up_in(&answer)
            .passed()
            .is(&known.clone().to_mac(NODE.mac));
        let error =
            |about: &Packet| Packet::error(&NODE, unreachable(family), about).from_mac(NODE.mac);
        w.up_out(&error(&known)).passed().is(&error(&answer));
    });
}

#[test]
fn a_network_without_masquerade_gets_its_errors_and_sends_them_from_its_own_address() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags &= !port_flags::MASQUERADE);
        let first = Packet::udp(&A, 5_000, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &first).redirected();
        let error = Packet::error(&OUTSIDE_TWO, unreachable(family), &first.clone().hop());
        w.up_in(&error)
            .redirected()
            .is(&error.clone().delivered(&GATEWAY, &A));
        let answer = first.answer().delivered(&GATEWAY, &A);
        let error = Packet::error(&A, unreachable(family), &answer);
        w.ep_out(&A, &error).redirected().is(&error.clone().hop());
    });
}

#[test]
fn an_error_neither_refreshes_nor_ends_nor_counts_on_a_flow() {
    World::both(|w, family| {
        for kind in [Kind::Tcp, Kind::Echo] {
            let (first, error, _) = from_a_router(w, kind, family);
            let age = |w: &World| {
                w.table(family)
                    .change_all(|e| *e.last_seen -= 1_000_000_000);
            };
            age(w);
            let look = |w: &World| {
                let seen = std::cell::RefCell::new(Vec::new());
                for half in [Half::Original, Half::Reply] {
                    w.table(family).change(half, |e| {
                        seen.borrow_mut()
                            .push((*e.last_seen, *e.packets, *e.bytes, *e.seen));
                    });
                }
                seen.into_inner()
            };
            let before = look(w);
            w.up_in(&error).redirected();
            let inside = first
                .from_uplink(20_100)
                .answer()
                .to(&A, 20_100)
                .delivered(&GATEWAY, &A);
            let mut inside = inside;
            if kind == Kind::Echo {
                inside.sport = 0;
            }
            w.ep_out(&A, &Packet::error(&A, unreachable(family), &inside))
                .redirected();
            assert_eq!(look(w), before);
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn what_is_about_no_flow_is_the_nodes_own() {
    World::both(|w, family| {
        let (first, error, _) = from_a_router(w, Kind::Udp, family);
        let sent = first.clone().hop().from_uplink(20_100);
        let about = |packet: &Packet| Packet::error(&OUTSIDE_TWO, unreachable(family), packet);
        // Another port, another remote port, another protocol.
        for other in [
            sent.clone().from_uplink(20_101),
            sent.clone().to(&OUTSIDE, 81),
            Packet {
                l4: L4::Tcp(Flags::SYN),
                ..sent.clone()
            },
        ] {
            w.up_in(&about(&other)).passed().unchanged();
        }
        // Cut before the ports; an error about an error; a message that is none.
        w.up_in(&error.clone().cut(first.ip_header() + 7))
            .passed()
            .unchanged();
        w.up_in(&about(&about(&sent).from_uplink(0)))
            .passed()
            .unchanged();
        let redirect = match family {
            Family::V4 => 5,
            Family::V6 => 137,
        };
        w.up_in(&of_type(&error, (redirect, 0), [0; 4]))
            .passed()
            .unchanged();
        // A later fragment has no ports, even if its bytes look like some.
        let mut later = sent;
        match family {
            Family::V4 => later.fragment = (1, true),
            Family::V6 => later.extensions = vec![(44, vec![0, 0, 9, 0, 0, 0, 9])],
        }
        w.up_in(&about(&later)).passed().unchanged();
    });
}

#[test]
fn an_error_is_not_taken_for_an_echo_with_the_identifier_zero() {
    World::both(|w, family| {
        let ping = Packet::ping(&A, 0, &OUTSIDE, family).to_gateway();
        w.ep_out(&A, &ping).redirected();
        let nothing = Packet::udp(&NODE, 9, &OUTSIDE, 9, family);
        w.up_in(&Packet::error(&OUTSIDE, unreachable(family), &nothing))
            .passed()
            .unchanged();
        let flows = w.datapath().flows().unwrap();
        assert_eq!(flows[0].reply.0, 0, "{flows:?}");
    });
}

#[test]
fn errors_where_nothing_is_translated_pass_as_packets() {
    World::both(|w, family| {
        // To the node.
        let call = Packet::udp(&GATEWAY, 40_000, &A, 80, family).to_mac(A.mac);
        let error = Packet::error(&A, unreachable(family), &call);
        w.ep_out(&A, &error).redirected().unchanged();
        // Within the segment.
        let call = Packet::udp(&B, 40_000, &A, 80, family);
        let error = Packet::error(&A, unreachable(family), &call);
        w.ep_out(&A, &error).redirected().unchanged();
        // Between networks.
        for host in [A, C] {
            w.port(&host, |p| p.flags |= port_flags::NO_ISOLATION);
        }
        let call = Packet::udp(&C, 40_000, &A, 80, family).delivered(&GATEWAY, &A);
        let error = Packet::error(&A, unreachable(family), &call);
        w.ep_out(&A, &error)
            .redirected()
            .is(&error.clone().delivered(&GATEWAY2, &C));
    });
}
