//! Flows that would meet another one, or a socket of the node: who goes first, and what is left behind by
//! who is refused.

use std::net::{Ipv4Addr, UdpSocket};

use netd_common::maps::port_flags;
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, B, C, Family, GATEWAY, GATEWAY2, Host, L4, NODE, OUTSIDE, OUTSIDE_TWO, Packet, World,
};

drop_cases! { DROPS:
    fn the_nodes_tunnel_is_not_an_endpoints_too(w, family) => NatAmbiguous {
        w.up_out(&tunnel(&NODE, &OUTSIDE, family)).passed().unchanged();
        w.ep_out(&A, &tunnel(&A, &OUTSIDE, family).to_gateway())
    }

    fn an_endpoint_without_a_mapping_is_kept_out_by_a_filter(w, family) => Filtered {
        // B has sent to A's mapping. C has the same port, but is known by none.
        w.ep_out(&A, &udp(&A, 20_101, &OUTSIDE, 80, family)).redirected();
        w.ep_out(&B, &udp(&B, 20_102, &OUTSIDE, 80, family)).redirected();
        w.ep_out(&B, &udp(&B, 20_102, &NODE, 20_101, family));
        w.port(&C, |p| p.flags &= !port_flags::MASQUERADE);
        w.ep_out(&C, &udp(&C, 20_101, &NODE, 20_102, family))
    }
}

fn tunnel(from: &Host, to: &Host, family: Family) -> Packet {
    Packet::new(from, 0, to, 0, L4::Other(50), family)
}

/// A datagram on its way to a network's gateway.
fn udp(from: &Host, sport: u16, to: &Host, dport: u16, family: Family) -> Packet {
    let gateway = if from.network == C.network {
        GATEWAY2
    } else {
        GATEWAY
    };
    Packet::udp(from, sport, to, dport, family).to_mac(gateway.mac)
}

#[test]
fn the_nodes_tunnel_goes_before_an_endpoints() {
    World::both(|w, family| {
        w.ep_out(&A, &tunnel(&A, &OUTSIDE, family).to_gateway())
            .redirected();
        let out = tunnel(&NODE, &OUTSIDE, family);
        w.up_out(&out).passed().unchanged();
        for _ in 0..2 {
            w.up_in(&out.answer()).passed().unchanged();
            w.ep_out(&A, &tunnel(&A, &OUTSIDE, family).to_gateway())
                .dropped(DropReason::NatAmbiguous);
            w.up_out(&out).passed().unchanged();
        }
        assert_eq!(w.flows_used(&A), 0, "the flow that ended is not counted");
        // Another remote is not concerned.
        let other = tunnel(&A, &OUTSIDE_TWO, family).to_gateway();
        w.ep_out(&A, &other).redirected();
    });
}

#[test]
fn what_the_node_says_to_a_group_is_not_tracked() {
    World::run(|w| {
        let mut hello = tunnel(&NODE, &OUTSIDE, Family::V4);
        hello.dst = Ipv4Addr::new(224, 0, 0, 5).into();
        hello.l4 = L4::Other(89);
        w.up_out(&hello).passed().unchanged();
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn a_service_that_came_after_a_mapping_answers_from_its_own_port() {
    World::both(|w, family| {
        w.ep_out(&A, &udp(&A, 20_100, &OUTSIDE, 80, family))
            .redirected();
        let _service = UdpSocket::bind((NODE.ip(family), 20_100)).unwrap();
        let request = Packet::udp(&OUTSIDE_TWO, 80, &NODE, 20_100, family);
        w.up_in(&request).passed().unchanged();
        w.up_out(&request.answer()).passed().unchanged();
    });
}

#[test]
fn an_endpoint_without_a_mapping_is_seen_with_a_port_that_no_mapping_has() {
    World::both(|w, family| {
        w.ep_out(&A, &udp(&A, 20_101, &OUTSIDE, 80, family))
            .redirected();
        w.publish(None, family, 17, 8080, &B, 80);
        w.port(&C, |p| p.flags &= !port_flags::MASQUERADE);
        let out = w.ep_out(&C, &udp(&C, 20_101, &NODE, 8080, family));
        assert_ne!(out.redirected().sport(), 20_101, "that is A's");
        // What B says to A's port goes to A, if A lets it in.
        let to_a = udp(&B, 80, &NODE, 20_101, family);
        w.ep_out(&B, &to_a).dropped(DropReason::Filtered);
    });
}

#[test]
fn a_socket_can_call_itself_by_its_mapping() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::FILTER_ANY);
        w.ep_out(&A, &udp(&A, 20_100, &OUTSIDE, 80, family))
            .redirected();
        let call = udp(&A, 20_100, &NODE, 20_100, family);
        let port = w.ep_out(&A, &call).redirected().sport();
        assert_ne!(port, 20_100);
        let seen = call
            .clone()
            .from(&NODE, port)
            .to(&A, 20_100)
            .delivered(&GATEWAY, &A);
        w.ep_out(&A, &call).redirected().is(&seen);
    });
}

#[test]
fn who_may_have_no_more_flows_takes_no_ports_either() {
    World::both(|w, family| {
        for strict in [0, port_flags::STRICT] {
            w.port(&A, |p| p.flags = port_flags::MASQUERADE | strict);
            w.limits(|limits| limits.per_endpoint = 1);
            w.ep_out(&A, &udp(&A, 20_100, &OUTSIDE, 80, family))
                .redirected();
            for port in 20_101..20_104 {
                w.ep_out(&A, &udp(&A, port, &OUTSIDE, 80, family))
                    .dropped(DropReason::FlowLimit);
            }
            assert_eq!(w.mapping_rows(family), 2, "that of the one flow");
            w.forget_mappings(family);
        }
    });
}

#[test]
fn who_is_refused_by_a_filter_keeps_no_port() {
    World::both(|w, family| {
        w.port(&B, |p| p.flags |= port_flags::STRICT);
        w.ep_out(&A, &udp(&A, 20_100, &OUTSIDE, 80, family))
            .redirected();
        for port in 20_201..20_204 {
            w.ep_out(&B, &udp(&B, port, &NODE, 20_100, family))
                .dropped(DropReason::Filtered);
        }
        assert_eq!(w.mapping_rows(family), 2, "A's alone");
    });
}
