//! What an endpoint may send, and what it may not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_common::addr::link_local;
use netd_common::maps::port_flags;
use netd_tests::drop_cases;
use netd_tests::lab::frames;
use netd_tests::packet::neighbour::{NOBODY6, arp_said, solicitation};
use netd_tests::packet::{A, B, Family, GATEWAY, OUTSIDE, Packet, World};

drop_cases! { DROPS:
    fn a_foreign_source_mac_is_refused(w, family) => SpoofedMac {
        w.ep_out(&A, &Packet::udp(&A, 1, &B, 2, family).from_mac(B.mac))
    }

    fn another_endpoints_address_is_refused(w, family) => SpoofedIp {
        w.ep_out(&A, &Packet::udp(&A, 1, &B, 2, family).from(&B, 1))
    }

    fn the_gateways_address_is_refused(w, family) => SpoofedIp {
        w.ep_out(&A, &Packet::udp(&A, 1, &OUTSIDE, 2, family).from(&GATEWAY, 1).to_gateway())
    }

    fn an_address_that_nobody_has_is_refused(w, family) => SpoofedIp {
        w.ep_out(&A, &Packet::udp(&A, 1, &OUTSIDE, 2, family).from(&OUTSIDE, 1).to_gateway())
    }

    fn an_unspecified_source_may_not_speak_to_one_host(w, family) => SpoofedIp {
        let mut packet = Packet::udp(&A, 68, &B, 67, family);
        packet.src = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => NOBODY6.into(),
        };
        w.ep_out(&A, &packet)
    }

    fn a_link_local_address_of_another_mac_is_refused(w) => SpoofedIp {
        let mut packet = Packet::udp(&A, 1, &B, 2, Family::V6);
        packet.src = IpAddr::from(link_local(B.mac));
        w.ep_out(&A, &packet)
    }

    fn arp_for_another_endpoints_address_is_refused(w) => SpoofedArp {
        w.ep_out_raw(&A, &arp_said(A.mac, (A.mac, B.v4), GATEWAY.v4))
    }

    fn arp_that_names_another_mac_is_refused(w) => SpoofedArp {
        w.ep_out_raw(&A, &arp_said(A.mac, (B.mac, A.v4), GATEWAY.v4))
    }

    fn arp_for_other_hardware_is_refused(w) => SpoofedArp {
        let mut frame = arp_said(A.mac, (A.mac, A.v4), GATEWAY.v4);
        frame[15] = 6;
        w.ep_out_raw(&A, &frame)
    }

    fn an_advertisement_for_another_address_is_refused(w) => SpoofedNd {
        w.ep_out_raw(&A, &frames::advertisement(A.mac, A.v6, B.v6, A.mac).unwrap())
    }

    fn an_advertisement_that_names_another_mac_is_refused(w) => SpoofedNd {
        w.ep_out_raw(&A, &frames::advertisement(A.mac, A.v6, A.v6, B.mac).unwrap())
    }

    fn a_solicitation_that_names_another_mac_is_refused(w) => SpoofedNd {
        w.ep_out_raw(&A, &solicitation(A.mac, A.v6, B.v6, Some(B.mac)))
    }

    fn a_solicitation_from_another_address_is_refused(w) => SpoofedIp {
        w.ep_out_raw(&A, &solicitation(A.mac, B.v6, GATEWAY.v6, Some(A.mac)))
    }

    fn a_router_advertisement_is_refused(w) => SpoofedNd {
        let own = Ipv6Addr::from(link_local(A.mac));
        w.ep_out_raw(&A, &frames::router_advertisement(A.mac, own).unwrap())
    }

    fn a_redirect_is_refused(w) => SpoofedNd {
        let own = Ipv6Addr::from(link_local(A.mac));
        w.ep_out_raw(&A, &frames::icmpv6(A.mac, B.mac, (own, B.v6), 137, [0; 4], &[0; 32]).unwrap())
    }

    fn neighbour_discovery_from_another_link_is_refused(w) => SpoofedNd {
        let mut frame = solicitation(A.mac, A.v6, B.v6, Some(A.mac));
        frame[21] = 254; // the hop limit: a router was on the way
        w.ep_out_raw(&A, &frame)
    }

    fn other_ether_types_are_refused(w) => EtherType {
        w.ep_out_raw(&A, &frames::ethernet(A.mac, B.mac, 0x88ccu16.into(), &[0; 46]))
    }

    fn tagged_frames_are_refused(w) => EtherType {
        w.ep_out_raw(&A, &frames::ethernet(A.mac, B.mac, 0x8100u16.into(), &[0; 46]))
    }
}

#[test]
fn its_first_address_may_be_used() {
    World::both(|w, family| {
        w.ep_out(&A, &Packet::udp(&A, 1, &B, 2, family))
            .redirected()
            .unchanged();
    });
}

#[test]
fn its_further_addresses_may_be_used() {
    World::both(|w, family| {
        let second: IpAddr = match family {
            Family::V4 => Ipv4Addr::new(10, 1, 0, 99).into(),
            Family::V6 => "fd00:1::99".parse().unwrap(),
        };
        let mut packet = Packet::udp(&A, 1, &B, 2, family);
        packet.src = second;
        w.second_address(&A, second);
        w.ep_out(&A, &packet).redirected().unchanged();
    });
}

#[test]
fn the_link_local_address_of_its_own_mac_may_be_used() {
    World::run(|w| {
        let mut packet = Packet::udp(&A, 1, &B, 2, Family::V6);
        packet.src = IpAddr::from(link_local(A.mac));
        w.ep_out(&A, &packet).redirected().unchanged();
    });
}

#[test]
fn a_dhcp_client_may_ask_everybody() {
    World::run(|w| {
        let mut packet = Packet::udp(&A, 68, &B, 67, Family::V4).to_mac(frames::BROADCAST);
        packet.src = Ipv4Addr::UNSPECIFIED.into();
        packet.dst = Ipv4Addr::BROADCAST.into();
        w.ep_out(&A, &packet).copied();
    });
}

#[test]
fn a_router_solicitation_and_own_advertisements_go_to_all() {
    World::run(|w| {
        let own = Ipv6Addr::from(link_local(A.mac));
        let routers: Ipv6Addr = "ff02::2".parse().unwrap();
        let mac = [0x33, 0x33, 0, 0, 0, 2];
        let frame = frames::icmpv6(A.mac, mac, (own, routers), 133, [0; 4], &[]).unwrap();
        w.ep_out_raw(&A, &frame).copied();
        let frame = frames::advertisement(A.mac, A.v6, A.v6, A.mac).unwrap();
        w.ep_out_raw(&A, &frame).copied();
    });
}

#[test]
fn a_forwarding_endpoint_may_use_any_source() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::FORWARDS);
        let packet = Packet::udp(&OUTSIDE, 1, &B, 2, family);
        w.ep_out(&A, &packet).redirected().unchanged();
        if family == Family::V6 {
            let frame = frames::router_advertisement(A.mac, A.v6).unwrap();
            w.ep_out_raw(&A, &frame).copied();
        }
    });
}
