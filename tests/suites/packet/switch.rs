//! Frames inside a segment, by MAC.

use netd_common::reason::Hook;
use netd_tests::drop_cases;
use netd_tests::lab::frames::BROADCAST;
use netd_tests::packet::neighbour::arp_request;
use netd_tests::packet::{A, B, C, GATEWAY, Meta, Packet, World};

/// A MAC that no switch port has.
const UNKNOWN: [u8; 6] = [2, 0, 0, 0, 0x77, 0x77];
/// A group that has nothing to do with IP.
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0x77, 0x77];

drop_cases! { DROPS:
    fn a_frame_to_its_own_switch_port_is_not_sent_back(w, family) => Reflected {
        w.ep_out(&A, &Packet::udp(&A, 1, &B, 2, family).to_mac(A.mac))
    }

    fn a_device_that_netd_does_not_know_sends_nothing(w, family) => NoPort {
        let frame = Packet::udp(&A, 1, &B, 2, family).bytes();
        w.tc(Hook::EpOut, "wan0", Meta::default(), &frame)
    }

    fn a_gateway_that_netd_does_not_know_sends_nothing(w, family) => NoPort {
        let frame = Packet::udp(&GATEWAY, 1, &B, 2, family).bytes();
        w.tc(Hook::GwOut, "wan0", Meta::default(), &frame)
    }
}

#[test]
fn a_known_mac_gets_the_frame_unchanged() {
    World::both(|w, family| {
        let packet = Packet::udp(&A, 1, &B, 2, family);
        w.ep_out(&A, &packet).redirected().unchanged();
        // From the node as well, and a time to live of 1 is no matter inside a segment.
        let packet = Packet::udp(&GATEWAY, 1, &B, 2, family).ttl(1);
        w.gw_out(&GATEWAY, &packet.bytes()).redirected().unchanged();
    });
}

#[test]
fn an_endpoints_flood_reaches_every_other_switch_port_once() {
    World::both(|w, family| {
        let (b, node) = (w.tap(B.peer), w.tap(GATEWAY.peer));
        let (back, other) = (w.tap(A.peer), w.tap(C.peer));
        for mac in [UNKNOWN, GROUP, BROADCAST] {
            let packet = Packet::udp(&A, 1, &B, 2, family).to_mac(mac);
            w.ep_out(&A, &packet).copied();
            for tap in [&b, &node] {
                assert_eq!(tap.frame(), packet.bytes(), "{mac:02x?}");
            }
        }
        for tap in [&b, &node, &back, &other] {
            tap.nothing();
        }
    });
}

#[test]
fn the_nodes_flood_reaches_every_endpoint_of_the_network_once() {
    World::both(|w, family| {
        let (a, b) = (w.tap(A.peer), w.tap(B.peer));
        let (back, other) = (w.tap(GATEWAY.peer), w.tap(C.peer));
        for mac in [UNKNOWN, GROUP, BROADCAST] {
            let frame = Packet::udp(&GATEWAY, 1, &B, 2, family).to_mac(mac).bytes();
            w.gw_out(&GATEWAY, &frame).copied();
            for tap in [&a, &b] {
                assert_eq!(tap.frame(), frame, "{mac:02x?}");
            }
        }
        for tap in [&a, &b, &back, &other] {
            tap.nothing();
        }
    });
}

#[test]
fn an_unanswered_question_is_flooded_as_it_came() {
    World::run(|w| {
        let b = w.tap(B.peer);
        let question = arp_request(&A, "10.1.0.200".parse().unwrap());
        w.ep_out_raw(&A, &question).copied();
        assert_eq!(b.frame(), question);
    });
}

#[test]
fn networks_have_forwarding_entries_of_their_own() {
    World::both(|w, family| {
        // C's MAC is known, but on network 2.
        let (b, c) = (w.tap(B.peer), w.tap(C.peer));
        let packet = Packet::udp(&A, 1, &B, 2, family).to_mac(C.mac);
        w.ep_out(&A, &packet).copied();
        assert_eq!(b.frame(), packet.bytes());
        c.nothing();
    });
}
