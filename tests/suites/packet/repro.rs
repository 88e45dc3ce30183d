//! What `netd repro` picks for a packet decides about it as all there is does, over programs that are used
//! again.

use netd::datapath::{At, Copies, Tables};
use netd::repro::{Run, pick};
use netd::trace::{End, end};
use netd_common::flow::Timeouts;
use netd_common::maps::{name, port_flags};
use netd_common::reason::{DropReason, Hook};
use netd_common::tuple::proto::UDP;
use netd_tests::packet::{A, B, Family, Flags, NODE, OUTSIDE, OUTSIDE_TWO, Packet, World};

use super::trace::every_way;

fn copies(w: &mut World) -> Copies {
    let tracer = w.datapath().tracer();
    tracer.copy(&[], None).expect("copies of the maps")
}

fn tables(w: &mut World) -> Tables {
    w.datapath().tracer().tables().expect("rows")
}

/// Runs a packet, and gives how that ended and the frame after it.
fn run(copies: &mut Copies, w: &World, hook: Hook, device: &str, frame: &[u8]) -> Run {
    let ifindex = w.index(device);
    let at = At {
        hook,
        ifindex,
        mark: 0,
        frame,
    };
    let seen = copies.run(at).expect("the run");
    Run {
        hook,
        ifindex,
        mark: 0,
        end: end(&seen),
        out: Some(seen.frame),
        frame: frame.to_vec(),
    }
}

fn again(copies: Copies, rows: &Tables) -> Copies {
    copies.again(rows).expect("the same programs")
}

fn len(tables: &Tables) -> usize {
    tables.values().map(|table| table.rows.len()).sum()
}

#[test]
fn the_rows_picked_for_a_packet_decide_as_all_of_them_do() {
    World::both(|w, family| {
        w.publish(None, family, UDP, 8080, &B, 80);
        w.limit(8080, &["0.0.0.0/0", "::/0"]);
        w.port(&A, |p| {
            p.flags = port_flags::MASQUERADE | port_flags::FILTER_ADDRESS;
        });
        let mut ways = every_way(family);
        // Of the second one the mapping knows by another map.
        for to in [&OUTSIDE, &OUTSIDE_TWO] {
            let out = Packet::udp(&A, 20_200, to, 53, family).to_gateway();
            w.ep_out(&A, &out).redirected();
            let back = Packet::udp(to, 99, &NODE, 20_200, family).to_mac(NODE.mac);
            ways.push((Hook::UpIn, &NODE, back));
        }
        let all = tables(w);
        let mut used = copies(w);
        for (hook, who, packet) in ways {
            println!("{hook:?}: {packet:?}");
            used = again(used, &all);
            let whole = run(&mut used, w, hook, who.device, &packet.bytes());
            let picked = pick(&all, std::slice::from_ref(&whole));
            assert!(len(&picked) < len(&all), "nothing is left out");
            used = again(used, &picked);
            let part = run(&mut used, w, hook, who.device, &packet.bytes());
            assert_eq!(part, whole);
        }
    });
}

#[test]
fn of_what_ran_before_programs_that_are_used_again_know_nothing() {
    World::both(|w, family| {
        let rows = tables(w);
        let mut used = copies(w);
        let tcp = |flags| Packet::tcp(&A, 20_100, &OUTSIDE, 80, flags, family).to_gateway();
        let sent = run(
            &mut used,
            w,
            Hook::EpOut,
            A.device,
            &tcp(Flags::SYN).bytes(),
        );
        let passes = |used: &mut Copies, w: &World| {
            run(used, w, Hook::EpOut, A.device, &tcp(Flags::ACK).bytes()).end
        };
        assert_eq!(passes(&mut used, w), sent.end, "the flow is open");
        let mut used = again(used, &rows);
        let end = passes(&mut used, w);
        assert_eq!(end, End::Dropped(DropReason::TcpNoFlow));

        // Nor of the first fragment of a datagram.
        let whole = Packet::udp(&A, 20_100, &OUTSIDE, 53, family).to_gateway();
        let pieces = whole.pieces(9, 24);
        let (first, later) = (&pieces[0], &pieces[1]);
        run(&mut used, w, Hook::EpOut, A.device, first);
        let end = |used: &mut Copies, w: &World| run(used, w, Hook::EpOut, A.device, later).end;
        assert_ne!(
            end(&mut used, w),
            End::Waits,
            "it goes where the first one went"
        );
        let mut used = again(used, &rows);
        assert_eq!(end(&mut used, w), End::Waits);

        // Nor of a published port, which no mapping may have.
        w.publish(None, family, UDP, 20_300, &B, 80);
        let published = tables(w);
        let own = Packet::udp(&A, 20_300, &OUTSIDE, 53, family).to_gateway();
        let kept = own.clone().hop().from_uplink(20_300).bytes();
        for (rows, keeps) in [(&published, false), (&rows, true), (&published, false)] {
            used = again(used, rows);
            let out = run(&mut used, w, Hook::EpOut, A.device, &own.bytes()).out;
            assert_eq!(out.as_ref() == Some(&kept), keeps);
        }
    });
}

#[test]
fn a_table_that_was_full_is_full_for_programs_that_are_used_again() {
    World::with_flow_entries(2, |w| {
        let first = |port| Packet::udp(&A, port, &OUTSIDE, 53, Family::V4).to_gateway();
        w.ep_out(&A, &first(20_100)).redirected();
        let full = tables(w);
        assert_eq!(full[name::FLOW4].free, Some(0));
        let mut roomy = full.clone();
        roomy.get_mut(name::FLOW4).expect("the table").free = Some(64);
        let mut used = Copies::of(&roomy, Timeouts::DEFAULT).expect("copies of the rows");
        let frame = first(20_101).bytes();
        let sent = run(&mut used, w, Hook::EpOut, A.device, &frame);
        assert!(matches!(sent.end, End::Sent(_)), "{sent:?}");
        let mut used = again(used, &full);
        let refused = run(&mut used, w, Hook::EpOut, A.device, &frame);
        assert_eq!(refused.end, End::Dropped(DropReason::FlowTableFull));
    });
}
