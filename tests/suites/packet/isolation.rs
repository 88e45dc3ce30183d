//! Networks do not reach each other, and the outside reaches no endpoint by its own address: whatever
//! the packet is, and whichever way it takes.

use netd_common::reason::DropReason;
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, GATEWAY2, Host, L4, NODE, NODE_TWO, OUTSIDE, Packet, World,
};

/// One packet of every kind from one host to another, to be routed by the sender's gateway.
fn every_kind(from: &Host, to: &Host, family: Family) -> Vec<Packet> {
    let tcp = |flags| Packet::tcp(from, 40_000, to, 80, flags, family);
    let new = |l4| Packet::new(from, 7, to, 7, l4, family);
    let mut fragment = Packet::udp(from, 40_000, to, 80, family);
    fragment.payload = vec![7; 24];
    match family {
        Family::V4 => fragment.fragment = (3, true),
        Family::V6 => fragment.extensions = vec![(44, vec![0, 0, 1, 0, 0, 0, 9])],
    }
    vec![
        tcp(Flags::SYN),
        tcp(Flags::SYN_ACK),
        tcp(Flags::ACK),
        tcp(Flags::RST),
        Packet::udp(from, 40_000, to, 80, family),
        Packet::ping(from, 7, to, family),
        new(L4::Pong),
        new(L4::Icmp(3, 3)),
        new(L4::Other(47)),
        fragment,
    ]
}

#[test]
fn another_networks_endpoint_is_not_reached_by_any_kind_of_packet() {
    World::both(|w, family| {
        for packet in every_kind(&C, &A, family) {
            println!("{:?}", packet.l4);
            let out = w.ep_out(&C, &packet.to_mac(GATEWAY2.mac));
            out.dropped(DropReason::Isolated);
        }
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn another_networks_endpoint_is_not_reached_by_its_mac_nor_its_gateways() {
    World::both(|w, family| {
        let tap = w.tap(A.peer);
        for mac in [A.mac, GATEWAY.mac] {
            let packet = Packet::udp(&C, 40_000, &A, 80, family).to_mac(mac);
            // Nobody on the sender's own segment has it: copies to the others there, of which A is none.
            w.ep_out(&C, &packet).copied();
        }
        tap.nothing();
    });
}

#[test]
fn an_endpoint_is_not_reached_from_outside_by_any_kind_of_packet() {
    World::both(|w, family| {
        // Published it is, but that is at the node's address.
        w.publish(None, family, 6, 80, &A, 80);
        for packet in every_kind(&OUTSIDE, &A, family) {
            println!("{:?}", packet.l4);
            w.up_in(&packet).dropped(DropReason::Unpublished);
        }
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn an_address_that_node_and_endpoint_have_is_the_nodes_outside() {
    World::both(|w, family| {
        for own in [NODE, NODE_TWO] {
            w.second_address(&A, own.ip(family));
            for packet in every_kind(&OUTSIDE, &own, family) {
                println!("{:?}", packet.l4);
                w.up_in(&packet).passed().unchanged();
            }
            for packet in every_kind(&own, &OUTSIDE, family) {
                println!("{:?}", packet.l4);
                w.up_out(&packet).passed().unchanged();
            }
        }
        let flows = w.datapath().flows().unwrap();
        assert!(flows.iter().all(|f| f.endpoint == 0), "{flows:?}");
    });
}

#[test]
fn extension_headers_that_netd_does_not_follow_hide_no_destination() {
    World::run(|w| {
        let mut packet = Packet::udp(&OUTSIDE, 40_000, &A, 80, Family::V6);
        packet.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0]); 6];
        w.up_in(&packet).dropped(DropReason::Unpublished);
        // The node's own it passes, as it is.
        w.up_in(&packet.to(&NODE, 80)).passed().unchanged();
    });
}

#[test]
fn a_servers_answers_open_no_way_to_the_caller() {
    World::both(|w, family| {
        // C called A: A's answers reach C from the socket C called, and nothing else of A does.
        w.publish(None, family, 17, 8080, &A, 80);
        let call = Packet::udp(&C, 20_500, &NODE, 8080, family).to_mac(GATEWAY2.mac);
        let inside = call.clone().from(&NODE, 20_500).to(&A, 80);
        let inside = inside.delivered(&GATEWAY, &A);
        w.ep_out(&C, &call).redirected().is(&inside);
        let direct = Packet::udp(&A, 80, &C, 40_000, family).to_gateway();
        w.ep_out(&A, &direct).dropped(DropReason::Isolated);
        // Another port of the server, or another server, does not get through the caller's filter.
        for (host, port) in [(A, 81), (B, 80)] {
            let stray = Packet::udp(&host, port, &NODE, 20_500, family).to_gateway();
            w.ep_out(&host, &stray).dropped(DropReason::Filtered);
        }
    });
}
