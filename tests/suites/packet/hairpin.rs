//! Published ports called by endpoints: of the same network, of others, by the server itself.

use std::net::UdpSocket;

use netd_common::maps::{FlowKind, port_flags};
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, GATEWAY2, Host, Kind, L4, LOOPBACK, NODE, NODE_TWO, OUTSIDE,
    Packet, World, tcp_socket,
};

drop_cases! { DROPS:
    fn an_internal_network_does_not_get_out_by_a_published_port(w, family) => Internal {
        w.publish(None, family, 6, 8080, &A, 80);
        w.port(&C, |port| port.flags |= port_flags::INTERNAL);
        w.ep_out(&C, &call(Kind::Tcp, &C, &NODE, family))
    }

    fn an_internal_network_does_not_get_out_by_its_own_gateway(w, family) => Internal {
        w.publish(None, family, 17, 8080, &A, 80);
        w.port(&C, |port| port.flags |= port_flags::INTERNAL);
        w.ep_out(&C, &call(Kind::Udp, &C, &GATEWAY2, family))
    }

    fn an_endpoint_the_port_is_not_for_is_refused(w, family) => SourceRefused {
        w.publish(None, family, 6, PORT, &A, 80);
        // The address it would be seen with does not count.
        w.limit(PORT, &["192.0.2.2/32", "2001:db8:1::2/128", "10.2.0.0/24", "fd00:2::/64"]);
        w.ep_out(&B, &call(Kind::Tcp, &B, &NODE, family))
    }

    fn a_port_published_on_loopback_is_not_reached_by_an_endpoint(w, family) => Martian {
        w.publish(Some(&LOOPBACK), family, 6, 8080, &A, 80);
        w.ep_out(&A, &call(Kind::Tcp, &A, &LOOPBACK, family))
    }

    fn a_port_published_on_loopback_is_not_reached_by_another_network(w, family) => Martian {
        w.publish(Some(&LOOPBACK), family, 17, 8080, &A, 80);
        w.ep_out(&C, &call(Kind::Udp, &C, &LOOPBACK, family))
    }
}

/// The node's port that is published in these tests, and the caller's.
const PORT: u16 = 8080;
const SPORT: u16 = 20_500;

/// The gateway of an endpoint.
fn gateway(of: &Host) -> Host {
    if of.network == C.network {
        GATEWAY2
    } else {
        GATEWAY
    }
}

/// The first packet of a call.
fn call(kind: Kind, caller: &Host, node: &Host, family: Family) -> Packet {
    Packet::first(kind, caller, SPORT, node, PORT, family).to_mac(gateway(caller).mac)
}

const fn proto(kind: Kind) -> u8 {
    match kind {
        Kind::Tcp => 6,
        Kind::Udp | Kind::UdpUnsummed => 17,
        Kind::Echo => panic!("an echo has no port"),
    }
}

/// A call must reach port 80 of the server, seen with `seen`; the answer must come back to the caller
/// from the socket it called.
#[track_caller]
fn reaches(w: &mut World, caller: &Host, call: &Packet, server: &Host, seen: (&Host, u16)) {
    let inside = call.clone().from(seen.0, seen.1).to(server, 80);
    let inside = inside.delivered(&gateway(server), server);
    w.ep_out(caller, call).redirected().is(&inside);
    let answer = inside.answer();
    let back = answer.clone();
    let back = Packet {
        src: call.dst,
        sport: call.dport,
        ..back
    };
    let back = back
        .to(caller, call.sport)
        .delivered(&gateway(caller), caller);
    w.ep_out(server, &answer).redirected().is(&back);
}

#[test]
fn endpoints_reach_a_published_port_by_any_address_of_the_node_and_are_seen_with_its_own() {
    World::both(|w, family| {
        for kind in Kind::PORTS {
            w.publish(None, family, proto(kind), PORT, &A, 80);
            // Itself, its neighbour, another network.
            for caller in [A, B, C] {
                for node in [NODE, NODE_TWO, GATEWAY, GATEWAY2] {
                    println!("{kind:?} from {:?} to {:?}", caller.v4, node.v4);
                    let first = call(kind, &caller, &node, family);
                    reaches(w, &caller, &first, &A, (&NODE, SPORT));
                    let next = if kind == Kind::Tcp {
                        first.flags(Flags::ACK)
                    } else {
                        first
                    };
                    reaches(w, &caller, &next, &A, (&NODE, SPORT));
                    let flows = w.datapath().flows().unwrap();
                    let [flow] = flows.as_slice() else {
                        panic!("{flows:?}")
                    };
                    assert_eq!(flow.kind, FlowKind::Hairpin);
                    assert_eq!((flow.original.0, flow.reply.0), (2, 2));
                    assert_eq!(
                        (flow.endpoint, flow.client, flow.publish),
                        (A.endpoint, caller.endpoint, u32::from(PORT))
                    );
                    assert_eq!(flow.src, (caller.ip(family), SPORT));
                    assert_eq!(flow.nat_src, (NODE.ip(family), SPORT));
                    assert_eq!(flow.dst, (node.ip(family), PORT));
                    assert_eq!(flow.nat_dst, (A.ip(family), 80));
                    w.datapath().flows_remove(&|_| true).unwrap();
                }
            }
        }
    });
}

#[test]
fn a_node_without_uplink_address_is_seen_with_the_address_that_was_called() {
    World::both(|w, family| {
        w.datapath().node_addresses_set([0; 4], [0; 16]).unwrap();
        for kind in Kind::PORTS {
            w.publish(None, family, proto(kind), PORT, &A, 80);
            for node in [NODE_TWO, GATEWAY, GATEWAY2] {
                for caller in [A, B, C] {
                    let first = call(kind, &caller, &node, family);
                    reaches(w, &caller, &first, &A, (&node, SPORT));
                    w.datapath().flows_remove(&|_| true).unwrap();
                }
            }
        }
    });
}

#[test]
fn a_port_for_the_endpoints_of_a_network_is_reached_by_them() {
    World::both(|w, family| {
        w.publish(None, family, 6, PORT, &A, 80);
        w.limit(PORT, &["10.2.0.0/24", "fd00:2::/64"]);
        reaches(
            w,
            &C,
            &call(Kind::Tcp, &C, &NODE, family),
            &A,
            (&NODE, SPORT),
        );
    });
}

#[test]
fn callers_with_the_same_port_are_told_apart() {
    World::both(|w, family| {
        for kind in Kind::PORTS {
            w.publish(None, family, proto(kind), PORT, &A, 80);
            reaches(w, &B, &call(kind, &B, &NODE, family), &A, (&NODE, SPORT));
            let second = call(kind, &C, &NODE, family);
            let port = w.ep_out(&C, &second).sport();
            assert_ne!(port, SPORT);
            reaches(w, &C, &second, &A, (&NODE, port));
            // And the first still has its own.
            reaches(w, &B, &call(kind, &B, &NODE, family), &A, (&NODE, SPORT));
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_callers_port_that_the_node_uses_is_not_taken() {
    World::both(|w, family| {
        w.publish(None, family, 17, PORT, &A, 80);
        let _held = UdpSocket::bind((NODE.ip(family), SPORT)).unwrap();
        let first = call(Kind::Udp, &B, &NODE, family);
        let port = w.ep_out(&B, &first).sport();
        assert_ne!(port, SPORT);
        reaches(w, &B, &first, &A, (&NODE, port));
    });
}

#[test]
fn a_conversation_with_the_nodes_own_socket_goes_on() {
    World::both(|w, family| {
        let node = (NODE.ip(family), PORT);
        let udp = UdpSocket::bind(node).unwrap();
        udp.connect((B.ip(family), SPORT)).unwrap();
        let _tcp = tcp_socket(node, (B.ip(family), SPORT));
        for kind in [Kind::Tcp, Kind::Udp] {
            w.publish(None, family, proto(kind), PORT, &A, 80);
            let own = call(kind, &B, &NODE, family);
            w.ep_out(&B, &own).redirected().unchanged();
            reaches(w, &C, &call(kind, &C, &NODE, family), &A, (&NODE, SPORT));
        }
    });
}

#[test]
fn what_begins_nothing_or_is_not_published_goes_to_the_node() {
    World::both(|w, family| {
        w.publish(None, family, 6, PORT, &A, 80);
        let syn = call(Kind::Tcp, &B, &NODE, family);
        for packet in [
            syn.clone().flags(Flags::ACK),
            syn.clone().flags(Flags::SYN_ACK),
            syn.clone().to(&NODE, PORT + 1),
            syn.to(&GATEWAY, PORT + 1),
            call(Kind::Udp, &B, &NODE, family),
            call(Kind::Udp, &B, &GATEWAY, family),
            Packet::ping(&B, 7, &GATEWAY, family).to_gateway(),
            Packet::new(&B, 0, &NODE, 0, L4::Other(47), family).to_gateway(),
        ] {
            w.ep_out(&B, &packet).redirected().unchanged();
        }
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn a_port_published_on_one_address_is_called_by_that_alone() {
    World::both(|w, family| {
        w.publish(Some(&NODE_TWO), family, 6, PORT, &A, 80);
        for node in [NODE, GATEWAY] {
            let syn = call(Kind::Tcp, &B, &node, family);
            w.ep_out(&B, &syn).redirected().unchanged();
        }
        let syn = call(Kind::Tcp, &B, &NODE_TWO, family);
        reaches(w, &B, &syn, &A, (&NODE, SPORT));
    });
}

#[test]
fn what_only_passes_through_the_node_is_not_caught() {
    World::both(|w, family| {
        w.publish(None, family, 17, PORT, &A, 80);
        let out = call(Kind::Udp, &B, &OUTSIDE, family);
        let left = w.ep_out(&B, &out);
        let wanted = out.clone().hop().from_uplink(left.sport());
        left.redirected().is(&wanted);
        w.datapath().flows_remove(&|_| true).unwrap();
        // Without any route it is no address of the node all the same.
        w.ip("route del default via 192.0.2.1\nroute del default via 2001:db8:1::1 dev up0\n");
        w.ep_out(&B, &out).answered(DropReason::NoRoute);
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn a_broadcast_to_the_nodes_link_is_not_caught() {
    World::run(|w| {
        w.publish(None, Family::V4, 17, PORT, &A, 80);
        let mut packet = call(Kind::Udp, &B, &NODE, Family::V4);
        packet.dst = std::net::Ipv4Addr::new(192, 0, 2, 255).into();
        w.ep_out(&B, &packet).redirected().unchanged();
    });
}
