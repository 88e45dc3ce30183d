//! Fragments of what is translated: they follow their first one, whichever comes first.

use netd_common::maps::fragment::{DATAGRAMS, LARGEST, LINE};
use netd_common::maps::port_flags;
use netd_common::reason::{DropReason, Hook};
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, Action, B, C, Family, Flags, GATEWAY, GATEWAY2, Half, Host, Kind, L4, Meta, NODE, OUTSIDE,
    OUTSIDE_TWO, Packet, Tap, World, id_of, join,
};

/// Bytes of a fragment's payload in most of these tests: short, so that many fit a datagram.
const SIZE: usize = 104;
const SPORT: u16 = 20_100;

drop_cases! { DROPS:
    fn a_fragment_without_its_whole_tcp_header_is_refused(w, family) => BadFragment {
        let syn = Packet::tcp(&A, SPORT, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        w.ep_out_raw(&A, &syn.pieces(7, 16)[0])
    }

    fn a_fragment_that_begins_inside_the_tcp_header_is_refused(w, family) => BadFragment {
        let syn = Packet::tcp(&A, SPORT, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        w.ep_out_raw(&A, &syn.piece(7, 8, false, &[0; 16]))
    }

    fn a_fragment_of_odd_length_is_refused(w, family) => BadFragment {
        let udp = udp(&A, &OUTSIDE, family).to_gateway();
        w.ep_out_raw(&A, &udp.piece(7, 0, true, &udp.content()[..100]))
    }

    fn a_fragment_beyond_the_largest_datagram_is_refused(w, family) => BadFragment {
        let udp = udp(&A, &OUTSIDE, family).to_gateway();
        w.ep_out_raw(&A, &udp.piece(7, 65_528, false, &[1; 16]))
    }

    fn a_fragment_that_overlaps_the_first_is_refused(w, family) => BadFragment {
        let udp = udp(&A, &OUTSIDE, family).to_gateway();
        w.ep_out_raw(&A, &udp.pieces(7, SIZE)[0]).redirected();
        w.ep_out_raw(&A, &udp.piece(7, SIZE - 8, true, &[1; SIZE]))
    }

    fn another_first_fragment_of_a_datagram_is_refused(w, family) => BadFragment {
        let udp = udp(&A, &OUTSIDE, family).to_gateway();
        w.ep_out_raw(&A, &udp.pieces(7, SIZE)[0]).redirected();
        w.ep_out_raw(&A, &udp.to(&OUTSIDE, 81).pieces(7, SIZE)[0])
    }

    fn another_first_fragment_of_another_length_is_refused(w, family) => BadFragment {
        let udp = udp(&A, &OUTSIDE, family).to_gateway();
        w.ep_out_raw(&A, &udp.pieces(7, SIZE)[0]).redirected();
        w.ep_out_raw(&A, &udp.pieces(7, SIZE - 8)[0])
    }

    fn a_fragment_that_is_too_large_does_not_wait(w, family) => FragLimit {
        let udp = udp(&A, &OUTSIDE, family).to_gateway();
        w.ep_out_raw(&A, &udp.piece(7, SIZE, true, &[1; LARGEST]))
    }

    fn a_fragment_whose_flow_has_ended_is_refused(w, family) => NatFragment {
        let udp = udp(&A, &OUTSIDE, family).to_gateway();
        let pieces = udp.pieces(7, SIZE);
        w.ep_out_raw(&A, &pieces[0]).redirected();
        w.table(family).remove(Half::Original);
        w.table(family).remove(Half::Reply);
        w.ep_out_raw(&A, &pieces[1])
    }

    fn a_fragment_to_another_network_is_refused(w, family) => Isolated {
        w.ep_out_raw(&A, &udp(&A, &C, family).to_gateway().pieces(7, SIZE)[1])
    }

    fn a_fragment_with_another_endpoints_address_does_not_wait(w, family) => SpoofedIp {
        let packet = udp(&B, &OUTSIDE, family).to_gateway().from_mac(A.mac);
        w.ep_out_raw(&A, &packet.pieces(7, SIZE)[1])
    }
}

/// A datagram of five fragments.
fn udp(from: &Host, to: &Host, family: Family) -> Packet {
    large(Packet::udp(from, SPORT, to, 80, family))
}

fn large(mut packet: Packet) -> Packet {
    packet.payload = (0..500_u32).map(|n| (n * 7 + n / 100) as u8).collect();
    packet
}

/// Every order of `n` things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    let put = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    shorter
        .iter()
        .flat_map(|o| (0..n).map(move |at| put(o, at)))
        .collect()
}

/// Sends frames by a hook and gives those that were sent on, what had to wait included: that comes back by
/// the device, as the kernel would hand it over once more.
fn send(w: &mut World, hook: Hook, device: &str, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let tap = w.tap(device);
    let mut out = Vec::new();
    for frame in frames {
        one(w, hook, device, &tap, frame, &mut out);
    }
    out
}

fn one(w: &mut World, hook: Hook, device: &str, tap: &Tap, frame: &[u8], out: &mut Vec<Vec<u8>>) {
    let got = w.tc(hook, device, Meta::default(), frame);
    assert_eq!(got.counted, vec![(hook, None, 1, got.bytes.len() as u64)]);
    match got.action {
        Action::Redirect => out.push(got.bytes),
        Action::Drop => {}
        // The node's own, as far as anybody can know; its stack does nothing with it.
        Action::Next => {
            got.unchanged();
        }
    }
    let back: Vec<Vec<u8>> = tap.received().into_iter().map(|(_, frame)| frame).collect();
    for frame in back {
        one(w, hook, device, tap, &frame, out);
    }
}

/// Sends a packet in fragments and checks that it leaves as `wanted`, in whichever order.
#[track_caller]
fn goes(w: &mut World, hook: Hook, device: &str, frames: &[Vec<u8>], wanted: &Packet) -> u32 {
    let out = send(w, hook, device, frames);
    assert_eq!(join(&out), wanted.bytes());
    assert_eq!(w.datagrams(), 0, "the datagram is finished");
    assert_eq!(w.waiting(), 0, "nothing is left");
    id_of(&out[0])
}

#[test]
fn datagrams_are_masqueraded_in_every_order_both_ways() {
    World::both(|w, family| {
        let first = udp(&A, &OUTSIDE, family).to_gateway();
        let there = first.clone().hop().from_uplink(SPORT);
        let answer = large(there.answer().to_mac(NODE.mac));
        let back = answer.clone().to(&A, SPORT).delivered(&GATEWAY, &A);
        let pieces = |p: &Packet, id| p.pieces(id, 2 * SIZE);
        for (n, order) in orders(3).iter().enumerate() {
            println!("{order:?}");
            let id = 100 + n as u32;
            let frames = pieces(&first, id);
            let frames: Vec<_> = order.iter().map(|n| frames[*n].clone()).collect();
            goes(w, Hook::EpOut, A.device, &frames, &there);
            let frames = pieces(&answer, id);
            let frames: Vec<_> = order.iter().map(|n| frames[*n].clone()).collect();
            let kept = goes(w, Hook::UpIn, NODE.device, &frames, &back);
            assert_eq!(kept, id, "what the outside has named keeps its name");
        }
    });
}

#[test]
fn every_kind_of_conversation_is_translated_in_fragments() {
    World::both(|w, family| {
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            println!("{kind:?}");
            let first = large(Packet::first(kind, &A, SPORT, &OUTSIDE, 80, family)).to_gateway();
            let there = first.clone().hop().from_uplink(SPORT);
            let answer = there.answer().to_mac(NODE.mac);
            let back = answer.clone().to(&A, SPORT);
            let id = 40 + n as u32;
            for reversed in [false, true] {
                let mut frames = first.pieces(id, SIZE);
                if reversed {
                    frames.reverse();
                }
                goes(w, Hook::EpOut, A.device, &frames, &there);
                let mut frames = answer.pieces(id, SIZE);
                if reversed {
                    frames.reverse();
                }
                goes(
                    w,
                    Hook::UpIn,
                    NODE.device,
                    &frames,
                    &back.clone().delivered(&GATEWAY, &A),
                );
            }
        }
    });
}

#[test]
fn published_ports_take_fragments_in_every_order() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &A, 80);
        let mut first = udp(&OUTSIDE, &NODE, family);
        first.dport = 8080;
        let delivered = first.clone().to(&A, 80).delivered(&GATEWAY, &A);
        let answer = delivered.answer().to_gateway();
        let back = answer.clone().from_uplink(8080).hop();
        for (n, order) in orders(3).iter().enumerate() {
            println!("{order:?}");
            let id = 200 + n as u32;
            let frames = first.pieces(id, 2 * SIZE);
            let frames: Vec<_> = order.iter().map(|n| frames[*n].clone()).collect();
            goes(w, Hook::UpIn, NODE.device, &frames, &delivered);
            let frames = answer.pieces(id, 2 * SIZE);
            let frames: Vec<_> = order.iter().map(|n| frames[*n].clone()).collect();
            goes(w, Hook::EpOut, A.device, &frames, &back);
        }
    });
}

#[test]
fn hairpins_take_fragments_in_every_order() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &A, 80);
        for to in [NODE, GATEWAY2] {
            let mut call = udp(&C, &to, family).to_mac(GATEWAY2.mac);
            call.dport = 8080;
            let delivered = call
                .clone()
                .from(&NODE, SPORT)
                .to(&A, 80)
                .delivered(&GATEWAY, &A);
            let answer = delivered.answer().to_gateway();
            let back = call.answer().delivered(&GATEWAY2, &C);
            for (n, order) in orders(3).iter().enumerate() {
                println!("{order:?}");
                let id = 300 + n as u32;
                let frames = call.pieces(id, 2 * SIZE);
                let frames: Vec<_> = order.iter().map(|n| frames[*n].clone()).collect();
                let out = send(w, Hook::EpOut, C.device, &frames);
                let joined = join(&out);
                let mut wanted = delivered.clone();
                wanted.sport = u16::from_be_bytes(match family {
                    Family::V4 => [joined[34], joined[35]],
                    Family::V6 => [joined[54], joined[55]],
                });
                assert_eq!(joined, wanted.bytes());
                let mut answer = answer.clone();
                answer.dport = wanted.sport;
                let frames = answer.pieces(id, 2 * SIZE);
                let frames: Vec<_> = order.iter().map(|n| frames[*n].clone()).collect();
                goes(w, Hook::EpOut, A.device, &frames, &back);
            }
        }
    });
}

#[test]
fn networks_that_may_talk_route_fragments_as_they_come() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::NO_ISOLATION);
        w.port(&C, |p| p.flags |= port_flags::NO_ISOLATION);
        let packet = udp(&A, &C, family).to_gateway();
        let mut frames = packet.pieces(7, SIZE);
        frames.reverse();
        let kept = goes(
            w,
            Hook::EpOut,
            A.device,
            &frames,
            &packet.clone().delivered(&GATEWAY2, &C),
        );
        assert_eq!(kept, 7);
    });
}

#[test]
fn a_network_without_masquerade_tracks_fragments_too() {
    World::both(|w, family| {
        w.port(&A, |p| p.flags &= !port_flags::MASQUERADE);
        let first = udp(&A, &OUTSIDE, family).to_gateway();
        let there = first.clone().hop();
        let answer = there.answer().to_mac(NODE.mac);
        let back = answer.clone().delivered(&GATEWAY, &A);
        for reversed in [false, true] {
            let (mut out, mut r#in) = (first.pieces(7, SIZE), answer.pieces(7, SIZE));
            if reversed {
                out.reverse();
                r#in.reverse();
            }
            assert_eq!(
                goes(w, Hook::EpOut, A.device, &out, &there),
                7,
                "nothing to tell apart"
            );
            assert_eq!(goes(w, Hook::UpIn, NODE.device, &r#in, &back), 7);
        }
    });
}

#[test]
fn what_took_the_nodes_stack_is_masqueraded_in_fragments() {
    World::both(|w, family| {
        for from in [A, GATEWAY] {
            let packet = udp(&from, &OUTSIDE, family).from_mac(NODE.mac);
            for reversed in [false, true] {
                let mut frames = packet.pieces(7, SIZE);
                if reversed {
                    frames.reverse();
                }
                // What waited goes out of the uplink once more: the other end receives it, and the
                // program that would have met it there is run on it here.
                let tap = w.tap(NODE.peer);
                let mut out = Vec::new();
                for frame in frames {
                    let got = w.tc(Hook::UpOut, NODE.device, Meta::default(), &frame);
                    if got.action == Action::Next {
                        out.push(got.bytes);
                    }
                }
                for (_, frame) in tap.received() {
                    let got = w.tc(Hook::UpOut, NODE.device, Meta::default(), &frame);
                    got.passed();
                    out.push(got.bytes);
                }
                let joined = join(&out);
                let port = match family {
                    Family::V4 => u16::from_be_bytes([joined[34], joined[35]]),
                    Family::V6 => u16::from_be_bytes([joined[54], joined[55]]),
                };
                assert_eq!(joined, packet.clone().from_uplink(port).bytes());
                assert_eq!(w.datagrams(), 0);
            }
        }
    });
}

#[test]
fn the_nodes_own_fragments_pass_untouched() {
    World::both(|w, family| {
        w.publish(None, family, 17, 8080, &A, 80);
        let r#in = udp(&OUTSIDE, &NODE, family);
        let other = udp(&OUTSIDE, &OUTSIDE_TWO, family).to_mac(NODE.mac);
        let out = udp(&NODE, &OUTSIDE, family).from_mac(NODE.mac);
        for packet in [r#in, other, out] {
            let (hook, mac) = if packet.src_mac == NODE.mac {
                (Hook::UpOut, OUTSIDE.mac)
            } else {
                (Hook::UpIn, NODE.mac)
            };
            let packet = packet.to_mac(mac);
            for reversed in [false, true] {
                let tap = w.tap(NODE.device);
                let mut frames = packet.pieces(7, SIZE);
                if reversed {
                    frames.reverse();
                }
                for frame in frames {
                    w.tc(hook, NODE.device, Meta::default(), &frame)
                        .passed()
                        .unchanged();
                }
                tap.nothing();
                assert_eq!(w.waiting(), 0, "nothing is left");
                w.age_fragments();
            }
        }
    });
}

#[test]
fn malformed_fragments_are_the_nodes_business_unless_they_are_for_an_endpoint() {
    World::both(|w, family| {
        let packet = udp(&OUTSIDE, &NODE, family);
        w.tc(
            Hook::UpIn,
            NODE.device,
            Meta::default(),
            &packet.piece(7, 0, true, &[0; 100]),
        )
        .passed()
        .unchanged();
        let packet = udp(&OUTSIDE, &A, family).to_mac(NODE.mac);
        w.tc(
            Hook::UpIn,
            NODE.device,
            Meta::default(),
            &packet.piece(7, 0, true, &[0; 100]),
        )
        .dropped(DropReason::BadFragment);
        let first = &packet.pieces(7, SIZE)[0];
        w.tc(Hook::UpIn, NODE.device, Meta::default(), first)
            .dropped(DropReason::Unpublished);
    });
}

#[test]
fn senders_that_use_one_identification_are_told_apart() {
    World::both(|w, family| {
        let mut ids = Vec::new();
        for from in [A, B] {
            let packet = udp(&from, &OUTSIDE, family).to_gateway();
            let out = send(w, Hook::EpOut, from.device, &packet.pieces(7, SIZE));
            assert_eq!(out.len(), 5);
            ids.push(id_of(&out[0]));
        }
        assert_ne!(ids[0], ids[1]);
        // And to a server that sees both with the node's address.
        w.publish(None, family, 17, 8080, &A, 80);
        let mut ids = Vec::new();
        for from in [B, C] {
            let mut call = udp(&from, &NODE, family);
            call.dport = 8080;
            let gateway = if from == B { GATEWAY } else { GATEWAY2 };
            let frames = call.to_mac(gateway.mac).pieces(7, SIZE);
            let out = send(w, Hook::EpOut, from.device, &frames);
            ids.push(id_of(&join_ids(&out)));
        }
        assert_ne!(ids[0], ids[1]);
    });
}

/// The first of some fragments, all of which have one identification.
#[track_caller]
fn join_ids(frames: &[Vec<u8>]) -> Vec<u8> {
    let _ = join(frames);
    frames[0].clone()
}

#[test]
fn an_identification_that_is_used_again_is_another_datagram() {
    World::both(|w, family| {
        let one = udp(&A, &OUTSIDE, family).to_gateway();
        let mut two = one.clone().to(&OUTSIDE, 81);
        two.payload.reverse();
        let mut reversed = two.pieces(7, SIZE);
        reversed.reverse();
        goes(
            w,
            Hook::EpOut,
            A.device,
            &one.pieces(7, SIZE),
            &one.clone().hop().from_uplink(SPORT),
        );
        goes(
            w,
            Hook::EpOut,
            A.device,
            &reversed,
            &two.clone().hop().from_uplink(SPORT),
        );
        // One that was never finished stands in nobody's way for longer than it may.
        w.ep_out_raw(&A, &one.pieces(7, SIZE)[0]).redirected();
        w.age_fragments();
        goes(
            w,
            Hook::EpOut,
            A.device,
            &reversed,
            &two.clone().hop().from_uplink(SPORT),
        );
        w.ep_out_raw(&A, &one.pieces(7, SIZE)[1]).copied();
        w.age_fragments();
        let out = send(w, Hook::EpOut, A.device, &two.pieces(7, SIZE));
        assert_eq!(join(&out), two.hop().from_uplink(SPORT).bytes());
    });
}

#[test]
fn a_fragment_that_comes_twice_does_no_harm() {
    World::both(|w, family| {
        let packet = udp(&A, &OUTSIDE, family).to_gateway();
        let pieces = packet.pieces(7, SIZE);
        let mut ids = std::collections::BTreeSet::new();
        for n in [0, 0, 1, 1, 2, 3] {
            let out = w.ep_out_raw(&A, &pieces[n]);
            out.redirected();
            ids.insert(id_of(&out.bytes));
        }
        assert_eq!(ids.len(), 1, "one datagram still");
    });
}

#[test]
fn an_endpoint_has_its_oldest_datagram_given_up_for_its_newest() {
    World::both(|w, family| {
        let packet = udp(&A, &OUTSIDE, family).to_gateway();
        let others = udp(&B, &OUTSIDE, family).to_gateway();
        w.ep_out_raw(&B, &others.pieces(7, SIZE)[0]).redirected();
        for id in 0..=DATAGRAMS as u32 {
            w.ep_out_raw(&A, &packet.pieces(id, SIZE)[0]).redirected();
        }
        assert_eq!(w.datagrams(), DATAGRAMS as usize + 1);
        w.keep_fragments();
        w.ep_out_raw(&A, &packet.pieces(0, SIZE)[1]).copied();
        w.ep_out_raw(&A, &packet.pieces(2, SIZE)[1]).redirected();
        w.ep_out_raw(&B, &others.pieces(7, SIZE)[1]).redirected();
    });
}

#[test]
fn an_endpoint_has_its_oldest_fragment_given_up_for_its_newest() {
    World::both(|w, family| {
        let packet = udp(&A, &OUTSIDE, family).to_gateway();
        let others = udp(&B, &OUTSIDE, family).to_gateway();
        let theirs = others.pieces(7, SIZE);
        w.ep_out_raw(&B, &theirs[1]).copied();
        let piece = |id| packet.pieces(id, SIZE).swap_remove(1);
        for id in 0..LINE as u32 {
            w.ep_out_raw(&A, &piece(id)).copied();
        }
        w.keep_fragments();
        // One dies for it, and is counted as such; the newcomer waits.
        let frame = piece(100);
        let len = frame.len() as u64;
        let out = w.ep_out_raw(&A, &frame);
        let died = (Hook::EpOut, Some(DropReason::FragLimit), 1, len);
        assert_eq!(out.counted, [(Hook::EpOut, None, 1, len), died]);
        assert_eq!(w.waiting(), LINE as usize + 1);
        w.age_fragments();
        let out = w.ep_out_raw(&A, &piece(101));
        let died = (Hook::EpOut, Some(DropReason::FragTimeout), 1, len);
        assert_eq!(out.counted, [(Hook::EpOut, None, 1, len), died]);
    });
}

#[test]
fn a_packet_with_an_idle_fragment_header_is_whole() {
    World::run(|w| {
        let mut packet = Packet::udp(&A, SPORT, &OUTSIDE, 80, Family::V6).to_gateway();
        packet.extensions = vec![(44, vec![0, 0, 0, 0, 0, 0, 9])];
        let out = w.ep_out(&A, &packet);
        out.is(&packet.hop().from_uplink(SPORT)).redirected();
        assert_eq!(w.datagrams(), 0);
    });
}

#[test]
fn a_frame_as_large_as_may_wait_does() {
    World::both(|w, family| {
        w.publish(None, family, 17, 80, &A, 80);
        w.ip("link set epa mtu 3000");
        let mut packet = udp(&OUTSIDE, &NODE, family);
        packet.payload = vec![7; 3_000];
        let head = if family == Family::V4 { 34 } else { 62 };
        let size = (LARGEST - head) / 8 * 8;
        let mut frames = packet.pieces(7, size);
        frames.reverse();
        let delivered = packet.to(&A, 80).delivered(&GATEWAY, &A);
        goes(w, Hook::UpIn, NODE.device, &frames, &delivered);
    });
}

#[test]
fn an_answer_to_nobody_in_fragments_does_not_reach_an_endpoint() {
    World::both(|w, family| {
        let packet = udp(&OUTSIDE, &A, family).to_mac(NODE.mac);
        let tap = w.tap(NODE.device);
        for frame in packet.pieces(7, SIZE) {
            w.tc(Hook::UpIn, NODE.device, Meta::default(), &frame)
                .dropped(DropReason::Unpublished);
        }
        // Where the outside may know the address, a later one could be an answer.
        w.port(&A, |p| p.flags &= !port_flags::MASQUERADE);
        let mut frames = packet.pieces(7, SIZE);
        frames.reverse();
        for frame in &frames[..4] {
            w.tc(Hook::UpIn, NODE.device, Meta::default(), frame)
                .copied();
        }
        w.tc(Hook::UpIn, NODE.device, Meta::default(), &frames[4])
            .dropped(DropReason::Unpublished);
        tap.nothing();
    });
}

#[test]
fn a_message_masquerade_cannot_translate_is_not_in_fragments_either() {
    World::both(|w, family| {
        let packet = large(Packet::new(&A, 0, &OUTSIDE, 0, L4::Icmp(3, 3), family)).to_gateway();
        w.ep_out_raw(&A, &packet.pieces(7, SIZE)[0])
            .dropped(DropReason::NatIcmp);
    });
}

#[test]
fn new_programs_go_on_with_the_datagrams_that_those_before_have_begun() {
    World::both(|w, family| {
        let packet = udp(&A, &OUTSIDE, family).to_gateway();
        let begun = packet.pieces(7, SIZE);
        let waits = packet.pieces(8, SIZE);
        w.ep_out_raw(&A, &begun[0]).redirected();
        w.ep_out_raw(&A, &waits[1]);
        assert_eq!((w.datagrams(), w.waiting()), (2, 1));
        w.keep_fragments();
        w.reload();
        assert_eq!((w.datagrams(), w.waiting()), (2, 1));
        w.ep_out_raw(&A, &begun[1]).redirected();
    });
}
