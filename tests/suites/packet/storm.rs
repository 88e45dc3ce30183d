//! Floods: how many a switch port may cause, and that hundreds of switch ports each get one copy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use netd_common::maps::{HostKind, Target};
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::lab::frames::BROADCAST;
use netd_tests::lab::wait;
use netd_tests::packet::{A, B, Family, GATEWAY, Packet, World};

/// The group of all IPv6 hosts.
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// A MAC that no switch port has.
const UNKNOWN: [u8; 6] = [2, 0, 0, 0, 0x77, 0x77];

/// Switch ports beyond those of the world.
const MANY: usize = 300;

drop_cases! { DROPS:
    fn a_switch_port_that_has_used_up_its_floods_has_to_wait(w, family) => Storm {
        for mac in [BROADCAST, ALL_NODES, UNKNOWN] {
            let flood = Packet::udp(&A, 1, &B, 2, family).to_mac(mac);
            w.ep_out(&A, &flood);
            w.bucket(&A, 3600);
            w.ep_out(&A, &flood).dropped(DropReason::Storm);
        }
        w.ep_out(&A, &Packet::udp(&A, 1, &B, 2, family).to_mac(BROADCAST))
    }

    fn the_node_has_to_wait_as_well(w, family) => Storm {
        let flood = Packet::udp(&GATEWAY, 1, &B, 2, family).to_mac(BROADCAST).bytes();
        w.gw_out(&GATEWAY, &flood);
        w.bucket(&GATEWAY, 3600);
        w.gw_out(&GATEWAY, &flood)
    }
}

#[test]
fn a_storm_ends_with_time_and_hurts_nobody_else() {
    World::both(|w, family| {
        let flood = |from| Packet::udp(from, 1, &B, 2, family).to_mac(BROADCAST);
        w.ep_out(&A, &flood(&A)).copied();
        w.bucket(&A, 3600);
        w.ep_out(&A, &flood(&A)).dropped(DropReason::Storm);
        // Others may, and so may the stormy one where there is no flood.
        w.ep_out(&B, &flood(&B)).copied();
        w.gw_out(&GATEWAY, &flood(&GATEWAY).bytes()).copied();
        w.ep_out(&A, &Packet::udp(&A, 1, &B, 2, family))
            .redirected();
        w.bucket(&A, -1);
        w.ep_out(&A, &flood(&A)).copied();
    });
}

#[test]
fn every_flooded_frame_takes_its_token() {
    World::both(|w, family| {
        let flood = Packet::udp(&A, 1, &B, 2, family).to_mac(BROADCAST);
        w.ep_out(&A, &flood).copied();
        w.port(&A, |p| p.storm = 1);
        w.bucket(&A, -1);
        let before = w.bucket_full(&A);
        w.ep_out(&A, &flood).copied();
        // A second's worth, from now on.
        assert!(w.bucket_full(&A) >= before + 1_900_000_000);
        w.bucket(&A, 3600);
        let before = w.bucket_full(&A);
        w.ep_out(&A, &flood).dropped(DropReason::Storm);
        assert_eq!(w.bucket_full(&A), before);
        w.port(&A, |p| p.storm = 0);
        w.ep_out(&A, &flood).copied();
    });
}

#[test]
fn three_hundred_switch_ports_get_one_copy_each() {
    World::run(|w| {
        let mut lines = String::new();
        for n in 0..MANY {
            writeln!(lines, "link add m{n} type veth peer name p{n}").expect("text");
            writeln!(lines, "link set p{n} up\nlink set m{n} up").expect("text");
        }
        w.ip(&lines);
        let names: Vec<String> = (0..MANY).map(|n| format!("p{n}")).collect();
        let endpoint = |device: &str, w: &World| Target {
            device: w.index(device),
            kind: HostKind::Endpoint.code(),
        };
        let mut segment = vec![Target {
            device: w.index(GATEWAY.peer),
            kind: HostKind::Gateway.code(),
        }];
        segment.extend([A.device, B.device].map(|d| endpoint(d, w)));
        segment.extend((0..MANY).map(|n| endpoint(&format!("m{n}"), w)));
        for (slot, target) in (0..).zip(&segment) {
            let set = w.datapath().slot_set((A.network, slot), target);
            set.expect("a switch port");
        }
        let everywhere = w.tap_all();
        for (family, mac) in [(Family::V4, BROADCAST), (Family::V6, ALL_NODES)] {
            let packet = Packet::udp(&A, 1, &B, 2, family).to_mac(mac);
            w.ep_out(&A, &packet).copied();
            let bytes = packet.bytes();
            let mut copies: BTreeMap<u32, usize> = BTreeMap::new();
            let wanted = names
                .iter()
                .map(|n| w.index(n))
                .chain([w.index(B.peer), w.index(GATEWAY.peer)]);
            let wanted: BTreeMap<u32, usize> = wanted.map(|i| (i, 1)).collect();
            wait::until("a copy at every switch port", || {
                for (device, frame) in everywhere.received() {
                    if frame == bytes {
                        *copies.entry(device).or_default() += 1;
                    }
                }
                Ok((copies.len() >= wanted.len()).then_some(()))
            })
            .expect("copies");
            for (device, frame) in everywhere.received() {
                assert_ne!(frame, bytes, "one more copy at {device}");
            }
            assert_eq!(copies, wanted, "{family:?}");
        }
    });
}
