//! Switch ports with more than one MAC behind them: what is learned, for how long, and what is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_common::addr::link_local;
use netd_common::maps::{FdbEntry, FdbKey, HostKind};
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::lab::frames;
use netd_tests::packet::neighbour::{advertisement_to, arp_request, arp_said, solicitation};
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, Host, NODE, OUTSIDE, Outcome, Packet, World,
};

/// Somebody behind an endpoint, with addresses of network 1 that netd gave to nobody.
const GUEST: Host = Host {
    mac: [2, 0, 0, 0, 0x66, 1],
    v4: Ipv4Addr::new(10, 1, 0, 201),
    v6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x201),
    ..A
};
/// Somebody else.
const OTHER: Host = Host {
    mac: [2, 0, 0, 0, 0x66, 2],
    v4: Ipv4Addr::new(10, 1, 0, 202),
    v6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x202),
    ..A
};
/// Where bridges send their spanning tree messages.
const BRIDGES: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];

fn may_have(w: &mut World, who: &Host, others: u32) {
    w.port(who, |p| p.macs = others);
}

/// A datagram of a guest behind an endpoint, to B.
fn speaks(w: &mut World, behind: &Host, guest: &Host, family: Family) -> Outcome {
    w.ep_out(behind, &Packet::udp(guest, 1, &B, 2, family).to_mac(C.mac))
}

/// A datagram of an endpoint to a guest, wherever it is.
fn to_guest(w: &mut World, from: &Host, guest: &Host, family: Family) -> Outcome {
    w.ep_out(from, &Packet::udp(from, 1, guest, 2, family))
}

/// The device a guest is known to be behind.
fn known(w: &mut World, guest: &Host) -> Option<u32> {
    let learned = w.datapath().learned().expect("learned MACs");
    let mut mine = learned
        .iter()
        .filter(|l| l.mac == guest.mac && l.network == 1);
    mine.next().map(|l| l.device)
}

/// A spanning tree message.
fn bpdu(from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    let body = [&[0x42, 0x42, 3][..], &[0; 43]].concat();
    frames::ethernet(from, to, 38u16.into(), &body)
}

drop_cases! { DROPS:
    fn one_mac_more_than_there_may_be_is_refused(w, family) => MacLimit {
        may_have(w, &A, 1);
        speaks(w, &A, &GUEST, family).copied();
        speaks(w, &A, &OTHER, family)
    }

    fn a_group_is_no_source(w, family) => InvalidMac {
        may_have(w, &A, 9);
        let group = Host { mac: [3, 0, 0, 0, 0, 9], ..GUEST };
        speaks(w, &A, &group, family)
    }

    fn zero_is_no_source(w, family) => InvalidMac {
        may_have(w, &A, 9);
        let zero = Host { mac: [0; 6], ..GUEST };
        speaks(w, &A, &zero, family)
    }

    fn a_switch_port_with_one_mac_learns_nothing(w, family) => SpoofedMac {
        let refused = speaks(w, &A, &GUEST, family);
        assert_eq!(known(w, &GUEST), None);
        refused
    }

    fn another_endpoints_mac_is_never_learned(w, family) => SpoofedMac {
        may_have(w, &A, 9);
        let refused = speaks(w, &A, &Host { mac: B.mac, ..GUEST }, family);
        to_guest(w, &A, &B, family).redirected();
        refused
    }

    fn the_gateways_mac_is_never_learned(w, family) => SpoofedMac {
        may_have(w, &A, 9);
        speaks(w, &A, &Host { mac: GATEWAY.mac, ..GUEST }, family)
    }

    fn a_frame_to_a_mac_behind_its_own_switch_port_is_not_sent_back(w, family) => Reflected {
        may_have(w, &A, 9);
        speaks(w, &A, &GUEST, family).copied();
        to_guest(w, &A, &GUEST, family)
    }

    fn another_endpoints_address_is_nobodys_behind(w, family) => SpoofedIp {
        may_have(w, &A, 9);
        w.ep_out(&A, &Packet::udp(&B, 1, &GATEWAY, 2, family).from_mac(GUEST.mac))
    }

    fn the_gateways_address_is_nobodys_behind(w, family) => SpoofedIp {
        may_have(w, &A, 9);
        w.ep_out(&A, &Packet::udp(&GATEWAY, 1, &B, 2, family).from_mac(GUEST.mac))
    }

    fn an_address_of_another_link_is_nobodys_behind(w, family) => SpoofedIp {
        may_have(w, &A, 9);
        w.ep_out(&A, &Packet::udp(&OUTSIDE, 1, &B, 2, family).from_mac(GUEST.mac))
    }

    fn the_unspecified_address_is_nobodys_behind(w, family) => SpoofedIp {
        may_have(w, &A, 9);
        let mut packet = Packet::udp(&GUEST, 1, &B, 2, family);
        packet.src = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        w.ep_out(&A, &packet)
    }

    fn the_gateways_link_local_address_is_nobodys_behind(w) => SpoofedIp {
        may_have(w, &A, 9);
        let mut packet = Packet::udp(&GUEST, 1, &B, 2, Family::V6);
        packet.src = IpAddr::from(link_local(GATEWAY.mac));
        w.ep_out(&A, &packet)
    }

    fn arp_for_another_endpoints_address_is_refused_behind(w) => SpoofedArp {
        may_have(w, &A, 9);
        w.ep_out_raw(&A, &arp_said(GUEST.mac, (GUEST.mac, B.v4), GATEWAY.v4))
    }

    fn arp_that_names_another_mac_than_its_frames_is_refused(w) => SpoofedArp {
        may_have(w, &A, 9);
        w.ep_out_raw(&A, &arp_said(GUEST.mac, (OTHER.mac, GUEST.v4), GATEWAY.v4))
    }

    fn an_advertisement_for_another_endpoints_address_is_refused_behind(w) => SpoofedNd {
        may_have(w, &A, 9);
        w.ep_out_raw(&A, &frames::advertisement(GUEST.mac, GUEST.v6, B.v6, GUEST.mac).unwrap())
    }

    fn a_solicitation_that_names_another_mac_than_its_frames_is_refused(w) => SpoofedNd {
        may_have(w, &A, 9);
        w.ep_out_raw(&A, &solicitation(GUEST.mac, GUEST.v6, B.v6, Some(OTHER.mac)))
    }

    fn a_router_advertisement_is_refused_behind(w) => SpoofedNd {
        may_have(w, &A, 9);
        let own = Ipv6Addr::from(link_local(GUEST.mac));
        w.ep_out_raw(&A, &frames::router_advertisement(GUEST.mac, own).unwrap())
    }

    fn a_group_that_stays_on_its_link_is_not_passed_on(w, family) => ReservedGroup {
        for last in 2..=15 {
            let packet = Packet::udp(&A, 1, &B, 2, family).to_mac([0x01, 0x80, 0xc2, 0, 0, last]);
            w.ep_out(&A, &packet).dropped(DropReason::ReservedGroup);
        }
        let lldp = Packet::udp(&GATEWAY, 1, &B, 2, family).to_mac([0x01, 0x80, 0xc2, 0, 0, 14]);
        w.gw_out(&GATEWAY, &lldp.bytes()).dropped(DropReason::ReservedGroup);
        may_have(w, &A, 1);
        w.ep_out_raw(&A, &bpdu(A.mac, [0x01, 0x80, 0xc2, 0, 0, 1]))
    }

    fn spanning_tree_from_where_no_bridge_can_be_is_refused(w) => EtherType {
        w.ep_out_raw(&A, &bpdu(A.mac, BRIDGES))
    }

    fn other_frames_without_an_ether_type_are_refused(w) => EtherType {
        may_have(w, &A, 9);
        let snap = frames::ethernet(A.mac, BRIDGES, 38u16.into(), &[0xaa; 46]);
        w.ep_out_raw(&A, &snap).dropped(DropReason::EtherType);
        w.ep_out_raw(&A, &bpdu(A.mac, B.mac))
    }
}

#[test]
fn who_has_spoken_is_found_and_who_has_not_is_looked_for_everywhere() {
    World::both(|w, family| {
        may_have(w, &A, 9);
        to_guest(w, &B, &GUEST, family).copied();
        speaks(w, &A, &GUEST, family).copied();
        to_guest(w, &B, &GUEST, family).redirected().unchanged();
        let packet = Packet::udp(&GATEWAY, 1, &GUEST, 2, family);
        w.gw_out(&GATEWAY, &packet.bytes()).redirected().unchanged();
        assert_eq!(known(w, &GUEST), Some(w.index(A.device)));
        // On its own network only.
        let packet = Packet::udp(&C, 1, &C, 2, family).to_mac(GUEST.mac);
        w.ep_out(&C, &packet).copied();
    });
}

#[test]
fn a_learned_frame_reaches_its_switch_port_and_no_other() {
    World::both(|w, family| {
        may_have(w, &A, 9);
        speaks(w, &A, &GUEST, family).copied();
        let (a, node) = (w.tap(A.peer), w.tap(GATEWAY.peer));
        to_guest(w, &B, &GUEST, family).redirected();
        for tap in [&a, &node] {
            // A redirect of a test run is not carried out; a flood's copies would have come.
            tap.nothing();
        }
    });
}

#[test]
fn a_mac_moves_with_its_first_frame() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        may_have(w, &B, 1);
        speaks(w, &A, &GUEST, family).copied();
        to_guest(w, &B, &GUEST, family).redirected();
        w.ep_out(&B, &Packet::udp(&GUEST, 1, &A, 2, family).to_mac(C.mac))
            .copied();
        assert_eq!(known(w, &GUEST), Some(w.index(B.device)));
        to_guest(w, &A, &GUEST, family).redirected();
        to_guest(w, &B, &GUEST, family).dropped(DropReason::Reflected);
        // The place it has left is free, the one it has taken is not.
        speaks(w, &A, &OTHER, family).copied();
        w.ep_out(&B, &Packet::udp(&OTHER, 1, &A, 2, family).to_mac(C.mac))
            .dropped(DropReason::MacLimit);
        // And back.
        w.datapath().learned_collect().expect("collected");
        speaks(w, &A, &GUEST, family).dropped(DropReason::MacLimit);
        may_have(w, &A, 2);
        speaks(w, &A, &GUEST, family).copied();
        w.ep_out(&B, &Packet::udp(&OTHER, 1, &A, 2, family).to_mac(C.mac))
            .copied();
        assert_eq!(known(w, &OTHER), Some(w.index(B.device)));
    });
}

/// An aging time that a machine which has just been started has seen pass.
fn ages_in_twenty_seconds(w: &mut World) {
    for host in [&A, &B] {
        w.port(host, |p| p.aging = 20);
    }
}

#[test]
fn who_is_silent_for_the_aging_time_is_forgotten_daemon_or_not() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        ages_in_twenty_seconds(w);
        speaks(w, &A, &GUEST, family).copied();
        w.last_heard(5);
        to_guest(w, &B, &GUEST, family).redirected();
        w.last_heard(21);
        to_guest(w, &B, &GUEST, family).copied();
        assert_eq!(known(w, &GUEST), None);
        // Its next word makes it known again, in its old place.
        speaks(w, &A, &GUEST, family).copied();
        to_guest(w, &B, &GUEST, family).redirected();
        // The aging time is the network's.
        w.last_heard(11);
        to_guest(w, &B, &GUEST, family).redirected();
        w.port(&B, |p| p.aging = 10);
        to_guest(w, &B, &GUEST, family).copied();
    });
}

#[test]
fn the_daemon_gives_the_places_of_the_silent_back() {
    World::both(|w, family| {
        may_have(w, &A, 2);
        ages_in_twenty_seconds(w);
        speaks(w, &A, &GUEST, family).copied();
        w.last_heard(21);
        speaks(w, &A, &OTHER, family).copied();
        let third = Host {
            mac: [2, 0, 0, 0, 0x66, 3],
            ..OTHER
        };
        speaks(w, &A, &third, family).dropped(DropReason::MacLimit);
        assert_eq!(w.datapath().learned_collect().expect("collected"), 1);
        speaks(w, &A, &third, family).copied();
        speaks(w, &A, &GUEST, family).dropped(DropReason::MacLimit);
        assert_eq!(w.datapath().learned_collect().expect("collected"), 0);
        to_guest(w, &B, &OTHER, family).redirected();
    });
}

#[test]
fn a_wrong_count_does_not_last() {
    World::both(|w, family| {
        may_have(w, &A, 2);
        speaks(w, &A, &GUEST, family).copied();
        for wrong in [50, u64::MAX - 50] {
            w.miscount(&A, wrong);
            w.datapath().learned_collect().expect("collected");
            speaks(w, &A, &OTHER, family).copied();
            let third = Host {
                mac: [2, 0, 0, 0, 0x66, 3],
                ..OTHER
            };
            speaks(w, &A, &third, family).dropped(DropReason::MacLimit);
        }
    });
}

#[test]
fn hearing_a_mac_is_noted_seldom() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        speaks(w, &A, &GUEST, family).copied();
        // Just now, or on a CPU whose clock is ahead: not noted again.
        let ahead = w.last_heard(-100);
        speaks(w, &A, &GUEST, family).copied();
        assert_eq!(w.heard(), [ahead]);
        let old = w.last_heard(2);
        speaks(w, &A, &GUEST, family).copied();
        assert!(w.heard()[0] > old);
    });
}

#[test]
fn a_full_table_learns_no_more_and_passes_all_the_same() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        w.fill_learned();
        speaks(w, &A, &GUEST, family).copied();
        assert_eq!(known(w, &GUEST), None);
        to_guest(w, &B, &GUEST, family).copied();
        // It holds no place either.
        speaks(w, &A, &OTHER, family).copied();
        // The daemon removes what nobody has: then there is room again.
        assert!(w.datapath().learned_collect().expect("collected") > 10_000);
        speaks(w, &A, &GUEST, family).copied();
        to_guest(w, &B, &GUEST, family).redirected();
    });
}

#[test]
fn an_entry_of_the_control_planes_takes_the_mac_away_from_whoever_was_learned() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        speaks(w, &A, &GUEST, family).copied();
        let entry = FdbEntry {
            device: w.index(B.device),
            kind: HostKind::Endpoint.code(),
            endpoint: B.endpoint,
        };
        let key = FdbKey::new(1, GUEST.mac);
        w.datapath().fdb_set(key, &entry).expect("the entry");
        assert_eq!(known(w, &GUEST), None);
        speaks(w, &A, &GUEST, family).dropped(DropReason::SpoofedMac);
        to_guest(w, &A, &GUEST, family).redirected();
        to_guest(w, &B, &GUEST, family).dropped(DropReason::Reflected);
    });
}

#[test]
fn what_was_learned_goes_with_its_switch_port() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        speaks(w, &A, &GUEST, family).copied();
        let index = w.index(A.device);
        let row = w.datapath().ports().expect("rows");
        let (_, row) = *row.iter().find(|(i, _)| *i == index).expect("its row");
        w.datapath().port_remove(index).expect("removed");
        assert!(w.datapath().learned().expect("learned").is_empty());
        to_guest(w, &B, &GUEST, family).copied();
        // Back again, with all its places.
        w.datapath().port_set(index, &row).expect("the row");
        to_guest(w, &B, &GUEST, family).copied();
        speaks(w, &A, &OTHER, family).copied();
    });
}

#[test]
fn a_switch_port_that_learns_no_more_knows_nobody() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        speaks(w, &A, &GUEST, family).copied();
        may_have(w, &A, 0);
        to_guest(w, &B, &GUEST, family).copied();
        speaks(w, &A, &GUEST, family).dropped(DropReason::SpoofedMac);
        assert_eq!(w.datapath().learned_collect().expect("collected"), 1);
    });
}

#[test]
fn guests_ask_and_are_answered() {
    World::run(|w| {
        may_have(w, &A, 1);
        let reply = w.ep_out_raw(&A, &arp_request(&GUEST, B.v4));
        reply.redirected();
        assert_eq!(reply.bytes[..6], GUEST.mac);
        assert_eq!(reply.bytes[6..12], B.mac);
        let question = solicitation(GUEST.mac, GUEST.v6, GATEWAY.v6, Some(GUEST.mac));
        let answer = advertisement_to((GUEST.mac, GUEST.v6), &GATEWAY, 0xe0);
        w.ep_out_raw(&A, &question).redirected().is_bytes(&answer);
        // And asked: nobody but they themselves can answer.
        let b = w.tap(B.peer);
        let question = arp_request(&A, GUEST.v4);
        w.ep_out_raw(&A, &question).copied();
        assert_eq!(b.frame(), question);
        let own = frames::advertisement(GUEST.mac, GUEST.v6, GUEST.v6, GUEST.mac).unwrap();
        w.ep_out_raw(&A, &own).copied();
    });
}

#[test]
fn guests_use_any_free_address_of_the_link_and_so_does_their_host() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        speaks(w, &A, &GUEST, family).copied();
        let own = Packet::udp(&OTHER, 1, &B, 2, family).from_mac(A.mac);
        w.ep_out(&A, &own).redirected().unchanged();
        if family == Family::V6 {
            let mut packet = Packet::udp(&GUEST, 1, &B, 2, family);
            packet.src = IpAddr::from(link_local(GUEST.mac));
            w.ep_out(&A, &packet).redirected().unchanged();
        }
    });
}

#[test]
fn replies_from_outside_find_the_guest() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        let syn = Packet::tcp(&GUEST, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        let out = w.ep_out(&A, &syn);
        out.redirected().is(&syn.clone().hop().from_uplink(20_100));
        let mut answer = syn.clone().from_uplink(20_100).answer();
        answer.ttl = 60;
        let back = answer
            .clone()
            .to(&GUEST, 20_100)
            .delivered(&GATEWAY, &GUEST);
        w.up_in(&answer).redirected().is(&back);
    });
}

#[test]
fn guests_call_published_ports_and_get_the_answers() {
    World::both(|w, family| {
        may_have(w, &A, 1);
        w.publish(None, family, 6, 8080, &B, 80);
        let call = Packet::tcp(&GUEST, 20_500, &NODE, 8080, Flags::SYN, family).to_gateway();
        let inside = call.clone().from(&NODE, 20_500).to(&B, 80);
        let inside = inside.delivered(&GATEWAY, &B);
        w.ep_out(&A, &call).redirected().is(&inside);
        let answer = inside.answer();
        let back = Packet {
            src: call.dst,
            sport: call.dport,
            ..answer.clone()
        };
        let back = back.to(&GUEST, 20_500).delivered(&GATEWAY, &GUEST);
        w.ep_out(&B, &answer).redirected().is(&back);
    });
}

#[test]
fn spanning_tree_of_bridges_inside_is_passed_on_as_by_a_wire() {
    World::run(|w| {
        may_have(w, &A, 1);
        let (b, c) = (w.tap(B.peer), w.tap(C.peer));
        for from in [A.mac, GUEST.mac] {
            let frame = bpdu(from, BRIDGES);
            w.ep_out_raw(&A, &frame).copied();
            assert_eq!(b.frame(), frame);
        }
        b.nothing();
        c.nothing();
    });
}
