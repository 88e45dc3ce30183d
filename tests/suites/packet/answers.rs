//! netd as a router: what it tells the sender of a packet that it could not pass on.

use std::net::{Ipv4Addr, Ipv6Addr};

use netd_common::addr::Be16;
use netd_common::maps::port_flags;
use netd_common::reason::{DropReason, Hook};
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, Host, Kind, L4, Meta, NODE, OUTSIDE, Packet, World,
};

/// Time exceeded.
const fn exceeded(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (11, 0),
        Family::V6 => (3, 0),
    }
}

/// Packet too big.
const fn too_big(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 4),
        Family::V6 => (2, 0),
    }
}

/// The error by which the gateway, or the uplink, tells the sender of `about`.
fn told(from: &Host, kind: (u8, u8), about: &Packet, mtu: u16) -> Packet {
    let mut error = Packet::error(from, kind, about);
    let [high, low] = mtu.to_be_bytes();
    error.rest = [0, 0, high, low];
    error.id_tos = (0, 0xc0);
    error.label = 0;
    let most = match about.family() {
        Family::V4 => 576 - 28,
        Family::V6 => 1280 - 48,
    };
    error.cut(most)
}

/// A datagram to an address outside of all hosts, by the gateway of network 1.
fn to(family: Family, v4: [u8; 4], v6: &str) -> Packet {
    let mut packet = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
    packet.dst = match family {
        Family::V4 => Ipv4Addr::from(v4).into(),
        Family::V6 => v6.parse::<Ipv6Addr>().unwrap().into(),
    };
    packet
}

#[test]
fn an_endpoint_is_told_by_its_gateway_where_its_hops_ran_out() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::NO_ISOLATION);
        w.port(&C, |p| p.flags |= port_flags::NO_ISOLATION);
        for kind in Kind::ALL {
            for dst in [OUTSIDE, B, C] {
                println!("{kind:?} to {:?}", dst.v4);
                let last = Packet::first(kind, &A, 20_100, &dst, 80, family)
                    .to_gateway()
                    .ttl(1);
                let out = w.ep_out(&A, &last);
                out.answered(DropReason::TtlExceeded).is(&told(
                    &GATEWAY,
                    exceeded(family),
                    &last,
                    0,
                ));
            }
        }
        // On a flow that is there, too.
        let first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &first).redirected();
        let last = first.ttl(1);
        let out = w.ep_out(&A, &last);
        out.answered(DropReason::TtlExceeded)
            .is(&told(&GATEWAY, exceeded(family), &last, 0));
    });
}

#[test]
fn packets_of_every_length_are_quoted_as_far_as_they_fit() {
    World::both(|w, family| {
        for len in (0..140)
            .step_by(7)
            .chain([500, 519, 520, 521, 1_183, 1_184, 1_185, 1_440])
        {
            let mut last = Packet::udp(&A, 20_100, &OUTSIDE, 80, family)
                .to_gateway()
                .ttl(1);
            last.payload = (0..len).map(|n: u32| n as u8).collect();
            let out = w.ep_out(&A, &last);
            out.answered(DropReason::TtlExceeded)
                .is(&told(&GATEWAY, exceeded(family), &last, 0));
        }
    });
}

#[test]
fn many_segments_are_told_as_one_packet() {
    World::both(|w, family| {
        for len in [100, 2_800] {
            let last = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family);
            let mut last = last.to_gateway().ttl(1);
            last.payload = vec![7; len];
            let segments = Meta {
                mark: 0,
                gso_size: len as u32 / 2,
            };
            let out = w.tc(Hook::EpOut, A.device, segments, &last.bytes());
            out.answered(DropReason::TtlExceeded)
                .is(&told(&GATEWAY, exceeded(family), &last, 0));
        }
    });
}

#[test]
fn the_outside_is_told_by_the_uplinks_address() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &B, 80);
        let last = Packet::udp(&OUTSIDE, 5_000, &NODE, 8080, family)
            .to_mac(NODE.mac)
            .ttl(1);
        let out = w.up_in(&last);
        out.answered(DropReason::TtlExceeded)
            .is(&told(&NODE, exceeded(family), &last, 0));
    });
}

#[test]
fn the_mtu_of_the_real_exit_is_told() {
    World::both(|w, family| {
        let mut big = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        big.payload = vec![7; 1_473];
        let out = w.ep_out(&A, &big);
        out.answered(DropReason::TooBig)
            .is(&told(&GATEWAY, too_big(family), &big, 1_500));
        w.ip("link set up0 mtu 1400");
        big.payload = vec![7; 1_400 - big.ip_header() - 7];
        let out = w.ep_out(&A, &big);
        out.answered(DropReason::TooBig)
            .is(&told(&GATEWAY, too_big(family), &big, 1_400));
        big.payload.pop();
        w.ep_out(&A, &big).redirected();
        // That of the route: it counts for what is passed on if it is locked, as it does in the kernel.
        w.ip("route replace default via 192.0.2.1 mtu lock 1300\n\
              route replace default via 2001:db8:1::1 dev up0 mtu lock 1300");
        let out = w.ep_out(&A, &big);
        out.answered(DropReason::TooBig)
            .is(&told(&GATEWAY, too_big(family), &big, 1_300));
    });
}

#[test]
fn each_segment_has_to_fit() {
    World::both(|w, family| {
        w.ip("link set up0 mtu 1400");
        let mut many = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        many.payload = vec![7; 3_000];
        let headers = many.ip_header() as u32 + 20;
        let size = |gso_size| Meta { mark: 0, gso_size };
        let out = w.tc(Hook::EpOut, A.device, size(1_400 - headers), &many.bytes());
        out.redirected();
        let out = w.tc(Hook::EpOut, A.device, size(1_401 - headers), &many.bytes());
        out.answered(DropReason::TooBig)
            .is(&told(&GATEWAY, too_big(family), &many, 1_400));
    });
}

#[test]
fn what_is_too_big_for_an_endpoint_is_told_to_its_sender() {
    World::both(|w, family| {
        w.ip("link set epb mtu 1300\nlink set epc mtu 1300");
        w.publish(None, family, 17, 8080, &B, 80);
        let mut call = Packet::udp(&OUTSIDE, 5_000, &NODE, 8080, family).to_mac(NODE.mac);
        call.payload = vec![7; 1_400];
        let out = w.up_in(&call);
        out.answered(DropReason::TooBig)
            .is(&told(&NODE, too_big(family), &call, 1_300));
        for host in [A, C] {
            w.port(&host, |p| p.flags |= port_flags::NO_ISOLATION);
        }
        let mut packet = Packet::udp(&A, 20_100, &C, 80, family).to_gateway();
        packet.payload = vec![7; 1_300 - packet.ip_header() - 7];
        let out = w.ep_out(&A, &packet);
        out.answered(DropReason::TooBig)
            .is(&told(&GATEWAY, too_big(family), &packet, 1_300));
        packet.payload.pop();
        w.ep_out(&A, &packet).redirected();
    });
}

#[test]
fn the_routing_tables_refusals_are_told_each_by_its_code() {
    World::both(|w, family| {
        w.ip(
            "route add prohibit 198.18.2.0/24\nroute add blackhole 198.18.3.0/24\n\
              route add prohibit 2001:db8:1802::/64\nroute add blackhole 2001:db8:1803::/64\n\
              route del default via 192.0.2.1\nroute del default via 2001:db8:1::1",
        );
        let (unreachable, prohibited, no_route, unknown) = match family {
            Family::V4 => ((3, 1), (3, 13), (3, 0), (3, 1)),
            Family::V6 => ((1, 0), (1, 1), (1, 0), (1, 3)),
        };
        for (v4, v6, kind) in [
            ([198, 18, 1, 9], "2001:db8:1801::9", unreachable),
            ([198, 18, 2, 9], "2001:db8:1802::9", prohibited),
            ([203, 0, 113, 9], "2001:db8:9::9", no_route),
        ] {
            let packet = to(family, v4, v6);
            let out = w.ep_out(&A, &packet);
            out.answered(DropReason::NoRoute)
                .is(&told(&GATEWAY, kind, &packet, 0));
        }
        let packet = to(family, [198, 18, 3, 9], "2001:db8:1803::9");
        w.ep_out(&A, &packet).silent(DropReason::NoRoute);
        // An address of the network that nobody has.
        let packet = to(family, [10, 1, 0, 199], "fd00:1::199");
        let out = w.ep_out(&A, &packet);
        out.answered(DropReason::UnknownHost)
            .is(&told(&GATEWAY, unknown, &packet, 0));
    });
}

#[test]
fn a_flow_that_is_refused_is_told_as_prohibited() {
    World::both(|w, family| {
        w.uplink(|u| (u.port_min, u.port_max) = (Be16::new(20_100), Be16::new(20_100)));
        w.ep_out(
            &A,
            &Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway(),
        )
        .redirected();
        let other = Packet::udp(&B, 20_100, &OUTSIDE, 80, family).to_gateway();
        let kind = match family {
            Family::V4 => (3, 13),
            Family::V6 => (1, 1),
        };
        let out = w.ep_out(&B, &other);
        out.answered(DropReason::NoPortFree)
            .is(&told(&GATEWAY, kind, &other, 0));
    });
}

#[test]
fn nobody_is_told_about_errors_and_later_fragments() {
    World::both(|w, family| {
        let last = Packet::udp(&A, 20_100, &OUTSIDE, 80, family)
            .to_gateway()
            .ttl(1);
        w.port(&A, |p| p.flags |= port_flags::NO_ISOLATION);
        w.port(&C, |p| p.flags |= port_flags::NO_ISOLATION);
        let error = Packet::error(
            &A,
            exceeded(family),
            &Packet::udp(&C, 1, &A, 2, family).delivered(&GATEWAY, &A),
        );
        w.ep_out(&A, &error.ttl(1)).silent(DropReason::TtlExceeded);
        let other = Packet {
            l4: L4::Icmp(
                match family {
                    Family::V4 => 13,
                    Family::V6 => 139,
                },
                0,
            ),
            ..last.clone()
        };
        w.ep_out(&A, &other.to(&C, 0))
            .silent(DropReason::TtlExceeded);
        for (offset, told) in [(0u16, true), (185, false)] {
            let mut fragment = last.clone().to(&C, 80);
            match family {
                Family::V4 => fragment.fragment = (offset, true),
                Family::V6 => {
                    let [high, low] = (offset << 3 | 1).to_be_bytes();
                    fragment.extensions = vec![(44, vec![0, high, low, 0, 0, 0, 9])];
                }
            }
            let out = w.ep_out(&A, &fragment);
            if told {
                out.answered(DropReason::TtlExceeded);
            } else {
                out.silent(DropReason::TtlExceeded);
            }
        }
    });
}

#[test]
fn a_device_tells_so_much_a_second_and_no_more() {
    World::fresh(|w| {
        let last = Packet::udp(&A, 20_100, &OUTSIDE, 80, Family::V4)
            .to_gateway()
            .ttl(1);
        let mut told = 0;
        // More than the bucket gives while the slowest machine runs this.
        let started = std::time::Instant::now();
        for _ in 0..1_000 {
            let out = w.ep_out(&A, &last);
            out.dropped(DropReason::TtlExceeded);
            told += u64::from(out.action == netd_tests::packet::Action::Redirect);
        }
        let seconds = started.elapsed().as_secs() + 2;
        assert!(
            (100..=100 * seconds).contains(&told),
            "{told} in {seconds} s"
        );
        assert!(told < 1_000 || seconds > 9, "some are dropped in silence");
        // Another device has its own.
        let last = Packet::udp(&B, 20_100, &OUTSIDE, 80, Family::V4)
            .to_gateway()
            .ttl(1);
        w.ep_out(&B, &last).answered(DropReason::TtlExceeded);
    });
}
