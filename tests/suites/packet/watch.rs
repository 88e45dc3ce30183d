//! Watching: nothing of it is in the programs while nobody does, and what they tell is what happened.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use aya::maps::MapInfo;
use netd::datapath::{CLASSIFIERS, Events, XDP};
use netd_common::addr::{Addr, V4, V6};
use netd_common::maps::{Closed, Event, EventKind, FlowKind, HEADERS, Outcome, event_flags, name};
use netd_common::reason::{DropReason, Hook};
use netd_common::stage::Stage;
use netd_tests::packet::{
    A, B, Family, Flags, GATEWAY, Kind, L4, NODE, OUTSIDE, Packet, World, code, maps_of,
};

/// What is only of use to a watcher.
const TOLD_BY: [&str; 4] = [name::EVENTS, name::WATCHED, name::SEEN, name::LOST];

fn programs() -> Vec<&'static str> {
    let stages = Stage::ALL.iter().map(|stage| stage.program());
    let hooked = CLASSIFIERS.into_iter().chain([XDP]);
    hooked.chain(stages).chain(["netd_flow_end"]).collect()
}

/// Instructions of each program that is hooked, and whether they touch a map of the watcher's.
fn codes(w: &mut World) -> BTreeMap<&'static str, (usize, bool)> {
    let ebpf = w.datapath().ebpf();
    let code_of = |name: &'static str| {
        let program = ebpf.program(name).expect("the program");
        let fd = program.fd().expect("it is loaded");
        let code = code(fd.as_fd());
        let names = maps_of(&code).into_iter().map(|id| {
            let info = MapInfo::from_id(id).expect("the map");
            info.name_as_str().unwrap_or_default().to_owned()
        });
        let tells = names.into_iter().any(|n| TOLD_BY.contains(&n.as_str()));
        (name, (code.len(), tells))
    };
    programs().into_iter().map(code_of).collect()
}

#[test]
fn no_instruction_for_a_watcher_is_left_while_nobody_watches() {
    World::fresh(|w| {
        let silent = codes(w);
        let events = w.datapath().watch().expect("the programs that tell load");
        let telling = codes(w);
        w.datapath().unwatch().expect("they go");
        drop(events);
        assert_eq!(codes(w), silent, "the same programs as before");
        for (name, (instructions, tells)) in &silent {
            let (more, told) = telling[name];
            println!("{name}: {instructions} instructions, {more} while somebody watches");
            assert!(!tells, "{name} has instructions for a watcher");
            assert!(told && more > *instructions, "{name} tells nothing");
        }
    });
}

fn read(events: &mut Events) -> Vec<(Event, Vec<u8>)> {
    let mut all = Vec::new();
    events.read(usize::MAX, |event, bytes| {
        all.push((*event, bytes.to_vec()));
    });
    all
}

fn only(events: &mut Events) -> (Event, Vec<u8>) {
    let mut all = read(events);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn no_more_records_are_read_at_a_time_than_asked_for() {
    World::fresh(|w| {
        let mut events = w.datapath().watch().expect("watch");
        let packet = Packet::tcp(&A, 1, &OUTSIDE, 80, Flags::ACK, Family::V4).to_gateway();
        for _ in 0..5 {
            w.ep_out(&A, &packet).dropped(DropReason::TcpNoFlow);
        }
        let turn = |most| {
            let mut count = 0;
            events.read(most, |_, _| count += 1);
            count
        };
        assert_eq!([2, 0, 2, 2, 2].map(turn), [2, 0, 2, 1, 0]);
    });
}

fn addr(family: Family, host: &netd_tests::packet::Host) -> V6 {
    match family {
        Family::V4 => Addr::to_16(V4::from(host.v4.octets())),
        Family::V6 => host.v6.octets(),
    }
}

#[test]
fn a_drop_is_told_with_its_reason_and_the_headers_as_they_came() {
    World::fresh(|w| {
        let mut events = w.datapath().watch().expect("watch");
        for family in [Family::V4, Family::V6] {
            let packet = Packet::tcp(&A, 1, &OUTSIDE, 80, Flags::ACK, family).to_gateway();
            w.ep_out(&A, &packet).dropped(DropReason::TcpNoFlow);
            let (event, bytes) = only(&mut events);
            assert_eq!(event.kind, EventKind::Packet.code());
            assert_eq!(event.hook, Hook::EpOut as u8);
            assert_eq!(event.outcome, Outcome::Dropped.code());
            assert_eq!(event.reason, DropReason::TcpNoFlow as u8);
            assert_eq!(event.ifindex, w.index(A.device));
            assert_eq!(bytes, packet.bytes());
            let mut long = Packet::tcp(&A, 1, &OUTSIDE, 80, Flags::ACK, family).to_gateway();
            long.payload = vec![7; 600];
            w.ep_out(&A, &long).dropped(DropReason::TcpNoFlow);
            let (event, bytes) = only(&mut events);
            assert_eq!(event.len as usize, long.bytes().len());
            assert_eq!(bytes, long.bytes()[..HEADERS]);
            // At the first hook of all, and at the last.
            let mut short = Packet::udp(&OUTSIDE, 1, &NODE, 2, family).bytes();
            short.truncate(30);
            w.xdp(&short).dropped(DropReason::Truncated);
            let (event, bytes) = only(&mut events);
            assert_eq!(
                (event.hook, event.reason),
                (Hook::Xdp as u8, DropReason::Truncated as u8)
            );
            assert_eq!(bytes, short);
        }
        assert_eq!(events.lost(), 0);
    });
}

#[test]
fn passing_packets_are_told_only_at_devices_that_are_captured() {
    World::fresh(|w| {
        let mut events = w.datapath().watch().expect("watch");
        for family in [Family::V4, Family::V6] {
            let packet = Packet::udp(&A, 5, &B, 6, family);
            w.ep_out(&A, &packet).redirected();
            assert_eq!(read(&mut events), [], "nobody captures");
            for (device, told) in [(A, 1), (B, 1), (GATEWAY, 0)] {
                let devices = BTreeMap::from([(w.index(device.device), 60)]);
                w.datapath().capture(devices).expect("capture");
                w.ep_out(&A, &packet).redirected();
                let all = read(&mut events);
                assert_eq!(all.len(), told, "{}", device.device);
                for (event, bytes) in all {
                    assert_eq!(event.outcome, Outcome::Redirected.code());
                    assert_eq!(
                        (event.ifindex, event.device),
                        (w.index(A.device), w.index(B.device))
                    );
                    assert_eq!(bytes, packet.bytes()[..60.min(packet.bytes().len())]);
                    assert_eq!(event.flags & event_flags::REWRITTEN, 0);
                }
            }
            w.datapath().capture(BTreeMap::new()).expect("capture");
        }
    });
}

#[test]
fn a_masqueraded_packet_is_told_as_it_came_with_both_of_its_tuples() {
    World::fresh(|w| {
        let mut events = w.datapath().watch().expect("watch");
        for family in [Family::V4, Family::V6] {
            let devices = BTreeMap::from([(w.index(A.device), 256)]);
            w.datapath().capture(devices).expect("capture");
            let packet = Packet::first(Kind::Udp, &A, 4321, &OUTSIDE, 53, family).to_gateway();
            let out = w.ep_out(&A, &packet);
            let port = out.redirected().sport();
            let all = read(&mut events);
            let (opened, told) = (all[0].0, &all[1]);
            assert_eq!(all.len(), 2);
            assert_eq!(opened.kind, EventKind::FlowOpened.code());
            assert_eq!(opened.flow_kind, FlowKind::Masquerade.code());
            assert_eq!((opened.endpoint, opened.network), (A.endpoint, A.network));
            for event in [opened, told.0] {
                assert_eq!(event.tuple.src, addr(family, &A));
                assert_eq!(event.tuple.sport.get(), 4321);
                assert_eq!(event.to.src, addr(family, &NODE));
                assert_eq!(event.to.sport.get(), port);
                assert_eq!(event.to.dst, addr(family, &OUTSIDE));
                assert_eq!(event.flags & event_flags::V4 != 0, family == Family::V4);
            }
            assert_ne!(told.0.flags & event_flags::REWRITTEN, 0);
            assert_eq!(told.0.device, w.index(NODE.device));
            assert_eq!(told.1, packet.bytes(), "as it came, not as it left");
            // The answer, at the uplink: it goes to the endpoint, which is captured.
            let answer = Packet::udp(&OUTSIDE, 53, &NODE, port, family);
            w.up_in(&answer).redirected();
            let (event, bytes) = only(&mut events);
            assert_eq!(event.hook, Hook::UpIn as u8);
            assert_eq!(event.device, w.index(A.device));
            assert_eq!(event.to.dst, addr(family, &A));
            assert_eq!(bytes, answer.to_mac(NODE.mac).bytes());
        }
    });
}

#[test]
fn a_flow_that_ends_is_told_with_what_it_carried_and_why() {
    World::fresh(|w| {
        let mut events = w.datapath().watch().expect("watch");
        for family in [Family::V4, Family::V6] {
            let packet = Packet::new(&A, 77, &OUTSIDE, 0, L4::Ping, family).to_gateway();
            let out = w.ep_out(&A, &packet);
            let port = out.redirected().sport();
            w.up_in(&Packet::new(&OUTSIDE, 0, &NODE, port, L4::Pong, family))
                .redirected();
            read(&mut events);
            assert_eq!(w.datapath().flows_remove(&|_| true).expect("flush"), 1);
            let (event, _) = only(&mut events);
            assert_eq!(event.kind, EventKind::FlowClosed.code());
            assert_eq!(event.closed, Closed::Ended.code());
            assert_eq!((event.packets, event.reply_packets), (1, 1));
            assert_eq!(event.bytes, packet.bytes().len() as u64);
            assert_eq!(event.tuple.src, addr(family, &A));
        }
    });
}

#[test]
fn what_finds_no_room_is_counted() {
    World::fresh(|w| {
        let mut events = w.datapath().watch().expect("watch");
        let mut packet = Packet::tcp(&A, 1, &OUTSIDE, 80, Flags::ACK, Family::V4).to_gateway();
        packet.payload = vec![7; 1400];
        let devices = BTreeMap::from([(w.index(A.device), 4096)]);
        w.datapath().capture(devices).expect("capture");
        let mut sent = 0;
        while events.lost() == 0 {
            w.ep_out(&A, &packet).dropped(DropReason::TcpNoFlow);
            sent += 1;
            assert!(sent < 100_000, "the ring buffer never fills");
        }
        assert_eq!(read(&mut events).len() as u64 + events.lost(), sent);
        w.ep_out(&A, &packet).dropped(DropReason::TcpNoFlow);
        only(&mut events);
    });
}
