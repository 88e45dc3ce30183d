//! Traced packets end as real ones do, and leave no trace themselves.

use std::sync::Mutex;

use netd::datapath::{At, Copies, Seen};
use netd_common::maps::port_flags;
use netd_common::reason::{DropReason, Hook};
use netd_common::trace::Point;
use netd_tests::packet::{
    A, B, C, Family, Flags, GATEWAY, GATEWAY2, Host, L4, NODE, OUTSIDE, OUTSIDE_TWO, Packet, World,
};

/// Loaded programs that no case has now: loading them is most of what a trace costs.
static IDLE: Mutex<Vec<Copies>> = Mutex::new(Vec::new());

fn copies(w: &mut World, packet: &Packet) -> Copies {
    let used = IDLE.lock().expect("nobody panics who takes one").pop();
    let tracer = w.datapath().tracer();
    tracer
        .copy(&[packet.src, packet.dst], used)
        .expect("copies of the maps")
}

fn run(copies: &mut Copies, w: &World, hook: Hook, device: &str, packet: &Packet) -> Seen {
    let at = At {
        hook,
        ifindex: w.index(device),
        mark: 0,
        frame: &packet.bytes(),
    };
    copies.run(at).expect("the traced run")
}

fn traced(w: &mut World, hook: Hook, device: &str, packet: &Packet) -> Seen {
    let mut copies = copies(w, packet);
    let seen = run(&mut copies, w, hook, device, packet);
    IDLE.lock().expect("nor who gives one").push(copies);
    seen
}

fn points(seen: &Seen) -> Vec<Point> {
    let point = |code| Point::from_code(code).expect("a point there is");
    seen.notes.iter().map(|n| point(n.point)).collect()
}

fn reason(seen: &Seen) -> Option<DropReason> {
    let last = seen.notes.last().expect("at least the verdict");
    assert_eq!(last.point, Point::Verdict as u32);
    DropReason::from_code(last.b as u8)
}

/// One packet of every way through the programs: hook, whose device, packet.
pub(super) fn every_way(family: Family) -> Vec<(Hook, &'static Host, Packet)> {
    let tcp = |from: &Host, to: &Host| Packet::tcp(from, 20_100, to, 80, Flags::SYN, family);
    let in_ = |packet: Packet| packet.to_mac(NODE.mac);
    vec![
        (Hook::EpOut, &A, tcp(&A, &B)),
        (Hook::EpOut, &A, tcp(&A, &OUTSIDE).to_gateway()),
        (
            Hook::EpOut,
            &A,
            Packet::udp(&A, 20_101, &OUTSIDE, 53, family).to_gateway(),
        ),
        (
            Hook::EpOut,
            &A,
            Packet::ping(&A, 7, &OUTSIDE, family).to_gateway(),
        ),
        (Hook::EpOut, &A, tcp(&A, &OUTSIDE).to_gateway().ttl(1)),
        (
            Hook::EpOut,
            &A,
            tcp(&A, &OUTSIDE).to_gateway().flags(Flags::ACK),
        ),
        (Hook::EpOut, &A, tcp(&B, &OUTSIDE).to_gateway()),
        (Hook::EpOut, &C, tcp(&C, &A).to_mac(GATEWAY2.mac)),
        (Hook::EpOut, &A, tcp(&A, &NODE).to_gateway()),
        (
            Hook::EpOut,
            &A,
            Packet::udp(&A, 20_400, &NODE, 8080, family).to_gateway(),
        ),
        (Hook::EpOut, &B, tcp(&B, &GATEWAY)),
        (Hook::EpOut, &A, tcp(&A, &B).to_mac([0xff; 6])),
        (Hook::EpOut, &A, tcp(&A, &B).to_mac([2, 9, 9, 9, 9, 9])),
        (Hook::GwOut, &GATEWAY, tcp(&GATEWAY, &A)),
        (
            Hook::UpIn,
            &NODE,
            in_(Packet::udp(&OUTSIDE, 9, &NODE, 8080, family)),
        ),
        (Hook::UpIn, &NODE, in_(tcp(&OUTSIDE, &NODE))),
        (Hook::UpIn, &NODE, in_(tcp(&OUTSIDE, &A))),
        (
            Hook::UpOut,
            &NODE,
            tcp(&NODE, &OUTSIDE).from(&NODE, 30_000).to_mac(OUTSIDE.mac),
        ),
        (
            Hook::Xdp,
            &NODE,
            in_(Packet::new(&OUTSIDE, 1, &NODE, 2, L4::Udp, family)),
        ),
    ]
}

#[test]
fn a_traced_packet_ends_as_the_packet_itself_does() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &B, 80);
        let ways = every_way(family);
        // What the packets before have changed is the same on both sides.
        let mut copies = copies(w, &ways[0].2);
        for (hook, who, packet) in ways {
            println!("{hook:?}: {packet:?}");
            let seen = run(&mut copies, w, hook, who.device, &packet);
            let real = if hook == Hook::Xdp {
                w.xdp(&packet.bytes())
            } else {
                w.tc(
                    hook,
                    who.device,
                    netd_tests::packet::Meta::default(),
                    &packet.bytes(),
                )
            };
            assert_eq!(seen.frame, real.bytes, "the frame");
            assert_eq!(seen.mark, real.mark, "the mark");
            let counted: Vec<_> = real.counted.iter().map(|c| (c.0, c.1)).collect();
            assert_eq!(counted, [(hook, reason(&seen))], "the verdict");
        }
    });
}

#[test]
fn a_packet_of_an_open_flow_is_traced_along_it() {
    World::both(|w, family| {
        let syn = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        w.ep_out(&A, &syn).redirected();
        let answer = syn.clone().hop().from_uplink(20_100).answer();
        let seen = traced(w, Hook::UpIn, NODE.device, &answer.to_mac(NODE.mac));
        assert_eq!(
            points(&seen),
            [Point::Flow, Point::Rewrite, Point::Peer, Point::Verdict]
        );
        let flow = seen.flow.expect("its flow");
        assert_eq!((flow.src.1, flow.nat_src.0), (20_100, NODE.ip(family)));
        // Seen from the other side it is the same flow, and has not moved on.
        let seen = traced(w, Hook::EpOut, A.device, &syn);
        assert_eq!(points(&seen)[0], Point::Flow);
        let flow = seen.flow.expect("its flow");
        assert_eq!(
            (flow.original.0, flow.reply.0),
            (2, 0),
            "one real packet, one of the copy's"
        );
    });
}

#[test]
fn a_floating_address_is_named_on_the_way() {
    World::both(|w, family| {
        let float = Host {
            v4: [192, 0, 2, 77].into(),
            v6: "2001:db8:1::77".parse().expect("an address"),
            ..NODE
        };
        w.float(&float, family, &A);
        let syn = Packet::tcp(&OUTSIDE, 40_000, &float, 80, Flags::SYN, family);
        let seen = traced(w, Hook::UpIn, NODE.device, &syn.to_mac(NODE.mac));
        assert_eq!(
            points(&seen),
            [
                Point::NoFlow,
                Point::Stage,
                Point::Stage,
                Point::Float,
                Point::Begun,
                Point::Rewrite,
                Point::Peer,
                Point::Verdict
            ]
        );
        let note = seen.notes[3];
        assert_eq!((note.a, note.b), (A.endpoint, A.network));
    });
}

#[test]
fn a_fragment_before_its_first_one_is_said_to_wait() {
    for family in [Family::V4, Family::V6] {
        World::run(|w| {
            let mut later = Packet::udp(&A, 20_100, &OUTSIDE, 53, family).to_gateway();
            match family {
                Family::V4 => later.fragment = (3, false),
                Family::V6 => later.extensions = vec![(44, vec![0, 0, 0x18, 0, 0, 0, 9])],
            }
            let seen = traced(w, Hook::EpOut, A.device, &later);
            assert!(points(&seen).contains(&Point::Waits), "{:?}", points(&seen));
            assert_eq!(reason(&seen), None);
            // The copy waits, not the packet: the real one finds no other.
            w.ep_out(&A, &later).copied();
        });
    }
}

#[test]
fn whom_a_mapping_admits_is_known_to_a_traced_packet() {
    World::both(|w, family| {
        w.port(&A, |p| {
            p.flags = port_flags::MASQUERADE | port_flags::FILTER_ADDRESS;
        });
        // The first address is in the mapping, the second in a map of its own.
        for to in [&OUTSIDE, &OUTSIDE_TWO] {
            let packet = Packet::udp(&A, 20_100, to, 53, family).to_gateway();
            w.ep_out(&A, &packet).redirected();
        }
        let from = |who| Packet::udp(who, 99, &NODE, 20_100, family).to_mac(NODE.mac);
        for who in [&OUTSIDE, &OUTSIDE_TWO] {
            let seen = traced(w, Hook::UpIn, NODE.device, &from(who));
            assert_eq!(reason(&seen), None);
            assert!(points(&seen).contains(&Point::Begun), "{:?}", points(&seen));
            w.up_in(&from(who)).redirected();
        }
    });
}

#[test]
fn a_full_flow_table_is_full_for_a_traced_packet_too() {
    World::with_flow_entries(2, |w| {
        let first = |port| Packet::udp(&A, port, &OUTSIDE, 53, Family::V4).to_gateway();
        w.ep_out(&A, &first(20_100)).redirected();
        let seen = traced(w, Hook::EpOut, A.device, &first(20_101));
        assert_eq!(reason(&seen), Some(DropReason::FlowTableFull));
    });
}

#[test]
fn tracing_changes_no_row_no_counter_and_sends_nothing() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &B, 80);
        w.limit(8080, &["0.0.0.0/0", "::/0"]);
        w.port(&A, |port| port.macs = 4);
        let open = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        w.ep_out(&A, &open).redirected();
        let tracer = w.datapath().tracer();
        let (rows, stats) = (tracer.tables().unwrap(), w.datapath().stats().unwrap());
        let full: Vec<_> = rows
            .values()
            .filter(|table| !table.rows.is_empty())
            .collect();
        assert!(full.len() >= 12, "little to compare: {:?}", rows.keys());
        let taps = [w.tap(B.peer), w.tap(NODE.peer), w.tap(GATEWAY.peer)];
        let mut copied = 0;
        let ways = every_way(family);
        let mut copies = copies(w, &ways[0].2);
        for (hook, who, packet) in ways {
            let seen = run(&mut copies, w, hook, who.device, &packet);
            copied += points(&seen).iter().filter(|p| **p == Point::Copy).count();
        }
        // A guest's MAC would be learned, an ARP question answered.
        let guest = Packet::udp(&A, 1, &B, 2, family).from_mac([2, 7, 7, 7, 7, 7]);
        let seen = traced(w, Hook::EpOut, A.device, &guest);
        assert!(
            points(&seen).contains(&Point::Source),
            "{:?}",
            points(&seen)
        );
        assert!(copied >= 4, "two floods to two switch ports each: {copied}");
        assert_eq!(tracer.tables().unwrap(), rows);
        assert_eq!(w.datapath().stats().unwrap(), stats);
        for tap in taps {
            tap.nothing();
        }
        // They could have been different: one real packet changes rows and counters.
        w.ep_out(&A, &guest).redirected();
        assert_ne!(tracer.tables().unwrap(), rows);
        assert_ne!(w.datapath().stats().unwrap(), stats);
    });
}
