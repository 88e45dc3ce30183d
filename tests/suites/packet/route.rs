//! What an endpoint sends to its gateway: to the node, to other endpoints, or on to the outside.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use netd_common::maps::port_flags;
use netd_common::reason::Hook;
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, GATEWAY2, L4, Meta, NODE, OUTSIDE, Packet, World,
};

/// A datagram to an address outside of all hosts, by the gateway of network 1.
fn to(family: Family, v4: [u8; 4], v6: &str) -> Packet {
    let mut packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
    packet.dst = match family {
        Family::V4 => Ipv4Addr::from(v4).into(),
        Family::V6 => v6.parse::<Ipv6Addr>().unwrap().into(),
    };
    packet
}

drop_cases! { DROPS:
    fn the_last_hop_is_used_up_on_the_way_outside(w, family) => TtlExceeded {
        w.ep_out(&A, &Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway().ttl(1))
    }

    fn the_last_hop_is_used_up_between_endpoints(w, family) => TtlExceeded {
        w.ep_out(&A, &Packet::udp(&A, 20_100, &B, 80, family).to_gateway().ttl(1))
    }

    fn a_hop_count_of_zero_dies_as_well(w, family) => TtlExceeded {
        w.ep_out(&A, &Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway().ttl(0))
    }

    fn a_packet_larger_than_the_uplink_takes_is_refused(w, family) => TooBig {
        let mut packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        packet.payload = vec![7; 1_500];
        w.ep_out(&A, &packet)
    }

    fn a_destination_without_a_route_is_refused(w, family) => NoRoute {
        w.ep_out(&A, &to(family, [198, 18, 1, 9], "2001:db8:1801::9"))
    }

    fn a_route_by_a_device_that_is_no_uplink_is_refused(w, family) => NotUplink {
        w.ep_out(&A, &to(family, [198, 18, 0, 9], "2001:db8:1800::9"))
    }

    fn an_address_of_the_network_that_nobody_has_is_refused_at_the_gateway(w, family) => UnknownHost {
        w.ep_out(&A, &to(family, [10, 1, 0, 199], "fd00:1::199"))
    }

    fn endpoints_of_different_networks_do_not_talk(w, family) => Isolated {
        w.ep_out(&A, &Packet::udp(&A, 1, &C, 2, family).to_gateway())
    }

    fn one_network_alone_cannot_lift_isolation(w, family) => Isolated {
        w.port(&A, |p| p.flags |= port_flags::NO_ISOLATION);
        w.ep_out(&A, &Packet::udp(&A, 1, &C, 2, family).to_gateway())
    }

    fn nor_can_the_other(w, family) => Isolated {
        w.port(&C, |p| p.flags |= port_flags::NO_ISOLATION);
        w.ep_out(&A, &Packet::udp(&A, 1, &C, 2, family).to_gateway())
    }

    fn an_internal_network_has_no_outside(w, family) => Internal {
        w.port(&A, |p| p.flags |= port_flags::INTERNAL);
        w.ep_out(&A, &Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway())
    }

    fn loopback_is_not_routed(w, family) => Martian {
        w.ep_out(&A, &to(family, [127, 0, 0, 1], "::1"))
    }

    fn the_unspecified_address_is_not_routed(w, family) => Martian {
        w.ep_out(&A, &to(family, [0, 0, 0, 0], "::"))
    }

    fn a_multicast_source_is_not_routed(w, family) => Martian {
        w.port(&A, |p| p.flags |= port_flags::FORWARDS);
        let mut packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        packet.src = match family {
            Family::V4 => Ipv4Addr::new(224, 0, 0, 9).into(),
            Family::V6 => "ff02::9".parse::<Ipv6Addr>().unwrap().into(),
        };
        w.ep_out(&A, &packet)
    }

    fn more_extension_headers_than_netd_follows_are_refused(w) => ExtHeaders {
        let mut packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, Family::V6).to_gateway();
        packet.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0]); 5];
        w.ep_out(&A, &packet)
    }

    fn a_masqueraded_flow_cannot_move_to_another_uplink(w, family) => NotUplink {
        let packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &packet).redirected();
        w.second_uplink();
        w.ip(match family {
            Family::V4 => "route add 203.0.113.0/24 via 192.0.3.1 dev wan0",
            Family::V6 => "route add 2001:db8:9::/64 via 2001:db8:3::1 dev wan0",
        });
        w.ep_out(&A, &packet)
    }

    fn a_remote_address_that_has_become_the_nodes_ends_the_way_outside(w, family) => NoRoute {
        let packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &packet).redirected();
        w.ip(match family {
            Family::V4 => "route add local 203.0.113.9/32 dev lo table local",
            Family::V6 => "route add local 2001:db8:9::9/128 dev lo table local",
        });
        w.ep_out(&A, &packet)
    }

    fn a_malformed_packet_of_an_endpoint_is_refused(w, family) => BadL4 {
        let mut frame = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway().bytes();
        frame[if family == Family::V4 { 34 } else { 54 } + 12] = 0x40;
        w.ep_out_raw(&A, &frame)
    }
}

#[test]
fn the_node_gets_what_is_for_any_of_its_addresses() {
    World::both(|w, family| {
        for node in [GATEWAY, GATEWAY2, NODE] {
            let packets = [
                Packet::tcp(&A, 1, &node, 22, Flags::SYN, family),
                Packet::udp(&A, 1, &node, 53, family),
                Packet::ping(&A, 1, &node, family),
                Packet::new(&A, 0, &node, 0, L4::Other(47), family),
                // The node is no hop.
                Packet::udp(&A, 1, &node, 53, family).ttl(1),
            ];
            for packet in packets {
                w.ep_out(&A, &packet.to_gateway()).redirected().unchanged();
            }
        }
        assert!(w.datapath().flows().unwrap().is_empty(), "nothing to track");
    });
}

#[test]
fn a_link_local_address_behind_the_gateways_mac_is_the_nodes() {
    World::run(|w| {
        let mut packet = Packet::ping(&A, 1, &GATEWAY, Family::V6).to_gateway();
        packet.dst = "fe80::1234".parse::<Ipv6Addr>().unwrap().into();
        w.ep_out(&A, &packet).redirected().unchanged();
    });
}

#[test]
fn an_internal_network_reaches_the_node() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::INTERNAL);
        for node in [GATEWAY, NODE] {
            let packet = Packet::udp(&A, 1, &node, 53, family).to_gateway();
            w.ep_out(&A, &packet).redirected().unchanged();
        }
    });
}

#[test]
fn a_neighbour_on_the_same_network_is_reached_by_the_gateway_too() {
    World::both(|w, family| {
        for packet in [
            Packet::udp(&A, 1, &B, 2, family),
            Packet::new(&A, 0, &B, 0, L4::Other(47), family),
            Packet::new(&A, 0, &B, 0, L4::Icmp(3, 3), family),
        ] {
            let packet = packet.to_gateway();
            let wanted = packet.clone().delivered(&GATEWAY, &B);
            w.ep_out(&A, &packet).redirected().is(&wanted);
        }
        assert!(w.datapath().flows().unwrap().is_empty(), "no state inside");
    });
}

#[test]
fn networks_that_both_lift_isolation_talk() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::NO_ISOLATION);
        w.port(&C, |p| p.flags |= port_flags::NO_ISOLATION);
        let packet = Packet::udp(&A, 1, &C, 2, family).to_gateway();
        let wanted = packet.clone().delivered(&GATEWAY2, &C);
        w.ep_out(&A, &packet).redirected().is(&wanted);
        let packet = Packet::udp(&C, 2, &A, 1, family).to_mac(GATEWAY2.mac);
        let wanted = packet.clone().delivered(&GATEWAY, &A);
        w.ep_out(&C, &packet).redirected().is(&wanted);
    });
}

#[test]
fn a_new_flow_leaves_by_the_uplink_of_its_route_with_that_uplinks_address() {
    World::both(|w, family| {
        w.second_uplink();
        let packet = to(family, [198, 18, 0, 9], "2001:db8:1800::9");
        let mut wanted = packet.clone().hop();
        wanted.src = match family {
            Family::V4 => Ipv4Addr::new(192, 0, 3, 2).into(),
            Family::V6 => "2001:db8:3::2".parse::<Ipv6Addr>().unwrap().into(),
        };
        w.ep_out(&A, &packet).redirected().is(&wanted);
    });
}

#[test]
fn every_packet_of_a_flow_is_routed_as_its_first_was() {
    World::both(|w, family| {
        w.second_uplink();
        let (ip, from, via) = match family {
            Family::V4 => ("-4", "10.1.0.0/16", "192.0.3.1"),
            Family::V6 => ("-6", "fd00::/16", "2001:db8:3::1"),
        };
        w.ip(&format!("route add default via {via} dev wan0 table 100"));
        let rule = |verb| {
            let rule = ["rule", verb, "from", from, "lookup", "100"];
            let done = Command::new("ip").arg(ip).args(rule).status().unwrap();
            assert!(done.success());
        };
        rule("add");
        let packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        let first = w.ep_out(&A, &packet).redirected().bytes.clone();
        let second = w.ep_out(&A, &packet).redirected().bytes.clone();
        rule("del");
        assert_eq!(first, second);
    });
}

#[test]
fn many_segments_in_one_packet_are_measured_one_by_one() {
    World::both(|w, family| {
        let mut packet = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        w.ep_out(&A, &packet).redirected();
        packet = packet.flags(Flags::ACK);
        packet.payload = vec![7; 2_000];
        let gso = Meta {
            gso_size: 1_000,
            ..Meta::default()
        };
        let out = w.tc(Hook::EpOut, A.device, gso, &packet.bytes());
        out.redirected().is(&packet.hop().from_uplink(20_100));
    });
}

#[test]
fn a_full_size_packet_goes_out() {
    World::both(|w, family| {
        let mut packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        let headers = if family == Family::V4 { 28 } else { 48 };
        packet.payload = vec![7; 1_500 - headers];
        let out = w.ep_out(&A, &packet);
        out.redirected().is(&packet.hop().from_uplink(20_100));
    });
}
