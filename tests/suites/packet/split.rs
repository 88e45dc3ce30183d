//! IPv4 packets that are too big for their exit and may be cut leave in fragments.

use etherparse::{Ipv4Header, Ipv4Options};
use netd_common::reason::{DropReason, Hook};
use netd_tests::packet::{
    A, Action, B, Family, Flags, GATEWAY, Meta, NODE, OUTSIDE, Packet, Tap, World, id_of, join,
};

const SPORT: u16 = 20_100;
const MTU: usize = 1_400;

/// A datagram to the outside that may be cut.
fn large(len: usize) -> Packet {
    let mut packet = Packet::udp(&A, SPORT, &OUTSIDE, 80, Family::V4).to_gateway();
    packet.payload = (0..len as u32).map(|n| (n * 7 + n / 100) as u8).collect();
    packet.dont_fragment = false;
    packet
}

/// Sends frames by an endpoint's hook, those that come in there again for it as well, and gives what left.
fn send(w: &mut World, tap: &Tap, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for frame in frames {
        let got = w.tc(Hook::EpOut, A.device, Meta::default(), frame);
        assert_eq!(
            got.counted,
            vec![(Hook::EpOut, None, 1, frame.len() as u64)]
        );
        if got.action == Action::Redirect {
            out.push(got.bytes);
        } else {
            let again: Vec<_> = tap.received().into_iter().map(|(_, f)| f).collect();
            assert!(again.len() > 1, "it is in pieces");
            out.extend(send(w, tap, &again));
        }
    }
    out
}

/// The frames leave as `wanted` in fragments that fit, with one identification.
#[track_caller]
fn leaves(w: &mut World, frames: &[Vec<u8>], wanted: &Packet) -> Vec<Vec<u8>> {
    let tap = w.tap(A.device);
    let out = send(w, &tap, frames);
    assert!(out.iter().all(|f| f.len() <= 14 + MTU), "all fit");
    let mut wanted = wanted.clone();
    wanted.dont_fragment = true;
    assert_eq!(join(&out), wanted.bytes());
    assert_eq!(w.datagrams(), 0, "the datagram is finished");
    out
}

fn small_uplink(case: impl FnOnce(&mut World) + Send) {
    World::run(|w| {
        w.ip(&format!("link set up0 mtu {MTU}"));
        case(w);
    });
}

#[test]
fn a_datagram_that_may_be_cut_leaves_in_fragments() {
    small_uplink(|w| {
        for len in [1_373, 1_374, 1_472, 2_752, 2_753, 3_000] {
            let packet = large(len);
            let there = packet.clone().hop().from_uplink(SPORT);
            let out = leaves(w, &[packet.bytes()], &there);
            assert_eq!(out.len(), (len + 8).div_ceil(1_376), "{len}");
        }
        // What fits is not touched.
        let fits = large(MTU - 28);
        let there = fits.clone().hop().from_uplink(SPORT);
        w.ep_out(&A, &fits).redirected().is(&there);
    });
}

#[test]
fn fragments_that_are_too_big_are_cut_again() {
    small_uplink(|w| {
        let packet = large(3_000);
        let there = packet.clone().hop().from_uplink(SPORT);
        let frames = packet.pieces(7, 1_480);
        let out = leaves(w, &frames, &there);
        assert_eq!(out.len(), 5, "each of the first two in two");
        assert!(out.iter().all(|f| id_of(f) == id_of(&out[0])));
    });
}

#[test]
fn checksums_that_a_device_was_to_finish_are_finished() {
    small_uplink(|w| {
        let udp = large(1_473);
        let mut tcp = Packet::tcp(&A, SPORT, &OUTSIDE, 80, Flags::SYN, Family::V4).to_gateway();
        tcp.payload = vec![9; 1_441];
        tcp.dont_fragment = false;
        for (packet, field, proto) in [(udp, 40, 17), (tcp, 50, 6)] {
            let mut frame = packet.bytes();
            let len = (frame.len() - 34) as u16;
            // The sum of the pseudo-header alone, as the kernel leaves it there.
            let words = frame[26..34].chunks(2);
            let words = words.map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
            let sum: u32 = words.sum::<u32>() + proto + u32::from(len);
            let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            leaves(w, &[frame], &packet.clone().hop().from_uplink(SPORT));
        }
    });
}

/// The options of a frame, and the frame without them; its header was right.
fn bare(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
    id_of(frame);
    let l4 = 14 + usize::from(frame[14] & 0xf) * 4;
    let mut head = Ipv4Header::from_slice(&frame[14..]).expect("a header").0;
    head.total_len -= (l4 - 34) as u16;
    head.options = Ipv4Options::new();
    head.header_checksum = head.calc_header_checksum();
    let bare = [&frame[..14], &head.to_bytes(), &frame[l4..]].concat();
    (frame[34..l4].to_vec(), bare)
}

#[test]
fn fragments_behind_the_first_have_the_options_that_are_to_be_copied() {
    // Record route is for the first one, router alert and security for all.
    let given = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1, 130, 3, 5, 0];
    let copied = [148, 4, 0, 0, 130, 3, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let longest = [&[68, 36, 5, 0][..], &[9; 32], &[148, 4, 0, 0]].concat();
    let mut of_longest = vec![0; 40];
    of_longest[0] = 148;
    of_longest[1] = 4;
    for (given, copied) in [(&given[..], &copied[..]), (&longest, &of_longest)] {
        small_uplink(|w| {
            let mut packet = large(3_000);
            packet.options = given.to_vec();
            let tap = w.tap(A.device);
            let out = send(w, &tap, &[packet.bytes()]);
            assert!(out.len() > 2 && out.iter().all(|f| f.len() <= 14 + MTU));
            let (options, out): (Vec<_>, Vec<_>) = out.iter().map(|f| bare(f)).unzip();
            assert_eq!(options[0], given, "the first one");
            assert!(options[1..].iter().all(|o| o == copied), "{options:?}");
            let mut wanted = packet.hop().from_uplink(SPORT);
            wanted.options.clear();
            wanted.dont_fragment = true;
            assert_eq!(join(&out), wanted.bytes());
            assert_eq!(w.datagrams(), 0, "the datagram is finished");
        });
    }
}

#[test]
fn datagrams_in_one_are_not_cut_and_dropped_in_silence() {
    small_uplink(|w| {
        let segments = Meta {
            mark: 0,
            gso_size: 1_450,
        };
        let out = w.tc(Hook::EpOut, A.device, segments, &large(2_900).bytes());
        out.silent(DropReason::TooBig);
    });
}

#[test]
fn ipv6_is_never_cut_on_its_way() {
    small_uplink(|w| {
        let mut packet = Packet::udp(&A, SPORT, &OUTSIDE, 80, Family::V6).to_gateway();
        packet.payload = vec![7; 1_450];
        w.ep_out(&A, &packet).answered(DropReason::TooBig);
        assert!(w.datapath().flows().unwrap().is_empty());
    });
}

#[test]
fn what_may_be_cut_reaches_an_endpoint_whole() {
    World::run(|w| {
        w.ip("link set epb mtu 1300");
        w.publish(None, Family::V4, 17, 8080, &B, 80);
        let mut call = Packet::udp(&OUTSIDE, 5_000, &NODE, 8080, Family::V4).to_mac(NODE.mac);
        call.payload = vec![7; 1_400];
        call.dont_fragment = false;
        let wanted = call.clone().to(&B, 80).delivered(&GATEWAY, &B);
        w.up_in(&call).redirected().is(&wanted);
    });
}
