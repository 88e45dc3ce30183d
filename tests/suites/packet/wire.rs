//! Frames from the outside in `netd_xdp`: malformed ones and denied sources die, the rest passes; and
//! the kernel's verdict on any frame is the host's.

use netd_common::addr::{V4, V6};
use netd_common::reason::{DropReason, Hook};
use netd_common::wire::{self, ethertype};
use netd_tests::drop_cases;
use netd_tests::packet::neighbour::arp_request;
use netd_tests::packet::{
    Action, DENIED, Family, Flags, Kind, L4, NODE, OUTSIDE, Outcome, Packet, World,
};

/// A UDP datagram from outside.
fn udp(family: Family) -> Packet {
    Packet::udp(&OUTSIDE, 80, &NODE, 20_100, family)
}

/// Offset of the L4 header, without options and extension headers.
const fn l4(family: Family) -> usize {
    match family {
        Family::V4 => 34,
        Family::V6 => 54,
    }
}

/// Runs `netd_xdp` on a packet whose bytes are changed.
fn broken(w: &mut World, packet: &Packet, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let mut frame = packet.bytes();
    change(&mut frame);
    w.xdp(&frame)
}

/// Puts a number in network order at an offset.
fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// An extension header of eight bytes without its first byte.
fn extension() -> Vec<u8> {
    vec![0, 1, 4, 0, 0, 0, 0]
}

drop_cases! { DROPS:
    fn the_ip_header_is_cut_off(w, family) => Truncated {
        broken(w, &udp(family), |f| f.truncate(l4(family) - 1))
    }

    fn a_wrong_ip_version(w, family) => BadHeader {
        broken(w, &udp(family), |f| f[14] = 0x75)
    }

    fn the_other_familys_version(w, family) => BadHeader {
        broken(w, &udp(family), |f| f[14] ^= 0x20)
    }

    fn an_ipv4_header_of_four_words(w) => BadHeader {
        broken(w, &udp(Family::V4), |f| f[14] = 0x44)
    }

    fn an_ipv4_packet_shorter_than_its_header(w) => BadLength {
        broken(w, &udp(Family::V4), |f| put(f, 16, 19))
    }

    fn an_ipv4_packet_shorter_than_its_options(w) => BadLength {
        broken(w, &udp(Family::V4), |f| {
            f[14] = 0x4f;
            put(f, 16, 59);
        })
    }

    fn a_packet_longer_than_its_frame(w, family) => BadLength {
        broken(w, &udp(family), |f| {
            let at = if family == Family::V4 { 16 } else { 18 };
            let length = u16::from_be_bytes([f[at], f[at + 1]]);
            put(f, at, length + 1);
        })
    }

    fn an_extension_header_longer_than_the_packet(w) => BadLength {
        let mut packet = udp(Family::V6);
        packet.extensions = vec![(0, extension())];
        broken(w, &packet, |f| f[55] = 200)
    }

    fn an_extension_header_is_cut_off(w) => Truncated {
        let mut packet = udp(Family::V6);
        packet.extensions = vec![(60, extension())];
        packet.payload.clear();
        broken(w, &packet, |f| {
            f.truncate(54 + 7);
            put(f, 18, 7);
        })
    }

    fn a_tcp_header_is_cut_off(w, family) => Truncated {
        let mut packet = Packet::tcp(&OUTSIDE, 80, &NODE, 20_100, Flags::ACK, family);
        packet.payload.clear();
        broken(w, &packet, |f| {
            f.truncate(l4(family) + 13);
            put(f, if family == Family::V4 { 16 } else { 18 }, if family == Family::V4 { 33 } else { 13 });
        })
    }

    fn a_tcp_header_of_four_words(w, family) => BadL4 {
        let packet = Packet::tcp(&OUTSIDE, 80, &NODE, 20_100, Flags::ACK, family);
        broken(w, &packet, |f| f[l4(family) + 12] = 0x40)
    }

    fn a_tcp_header_longer_than_the_packet(w, family) => BadL4 {
        let packet = Packet::tcp(&OUTSIDE, 80, &NODE, 20_100, Flags::ACK, family);
        broken(w, &packet, |f| f[l4(family) + 12] = 0xf0)
    }

    fn a_udp_header_is_cut_off(w, family) => Truncated {
        let mut packet = udp(family);
        packet.payload.clear();
        broken(w, &packet, |f| {
            f.truncate(l4(family) + 7);
            put(f, if family == Family::V4 { 16 } else { 18 }, if family == Family::V4 { 27 } else { 7 });
        })
    }

    fn a_udp_length_below_its_header(w, family) => BadL4 {
        broken(w, &udp(family), |f| put(f, l4(family) + 4, 7))
    }

    fn a_udp_length_beyond_the_packet(w, family) => BadL4 {
        broken(w, &udp(family), |f| {
            let at = l4(family) + 4;
            let length = u16::from_be_bytes([f[at], f[at + 1]]);
            put(f, at, length + 1);
        })
    }

    fn an_icmp_header_is_cut_off(w, family) => Truncated {
        let mut packet = Packet::ping(&OUTSIDE, 7, &NODE, family);
        packet.payload.clear();
        broken(w, &packet, |f| {
            f.truncate(l4(family) + 7);
            put(f, if family == Family::V4 { 16 } else { 18 }, if family == Family::V4 { 27 } else { 7 });
        })
    }

    fn padding_does_not_stand_in_for_a_missing_icmp_header(w, family) => BadL4 {
        let mut packet = Packet::ping(&OUTSIDE, 7, &NODE, family);
        packet.padding = 40;
        broken(w, &packet, |f| {
            put(f, if family == Family::V4 { 16 } else { 18 }, if family == Family::V4 { 27 } else { 7 });
        })
    }

    fn a_denied_address(w, family) => Denied {
        deny(w, &["198.51.100.66/32", "2001:db8:66::6/128"]);
        w.xdp(&Packet::udp(&DENIED, 80, &NODE, 20_100, family).bytes())
    }

    fn a_denied_prefix(w, family) => Denied {
        deny(w, &["198.51.100.0/24", "2001:db8:66::/48"]);
        w.xdp(&Packet::tcp(&DENIED, 80, &NODE, 20_100, Flags::SYN, family).bytes())
    }

    fn a_denied_source_dies_of_that_first(w, family) => Denied {
        deny(w, &["198.51.100.0/24", "2001:db8:66::/48"]);
        let malformed = Packet::udp(&DENIED, 80, &NODE, 20_100, family);
        broken(w, &malformed, |f| put(f, l4(family) + 4, 7))
    }

    fn everybody_is_denied(w, family) => Denied {
        deny(w, match family {
            Family::V4 => &["0.0.0.0/0"],
            Family::V6 => &["::/0"],
        });
        w.xdp(&udp(family).bytes())
    }
}

fn deny(w: &mut World, prefixes: &[&str]) {
    let prefixes: Vec<_> = prefixes.iter().map(|p| p.parse().unwrap()).collect();
    w.datapath().deny_set(&prefixes).unwrap();
}

#[test]
fn well_formed_frames_pass_xdp_untouched() {
    World::both(|w, family| {
        for kind in Kind::ALL {
            let packet = Packet::first(kind, &OUTSIDE, 80, &NODE, 20_100, family);
            w.xdp(&packet.bytes()).passed().unchanged();
        }
        for l4 in [L4::Icmp(3, 3), L4::Other(47), L4::Other(132)] {
            let packet = Packet::new(&OUTSIDE, 0, &NODE, 0, l4, family);
            w.xdp(&packet.bytes()).passed().unchanged();
        }
        let mut packet = udp(family);
        packet.padding = 40;
        w.xdp(&packet.bytes()).passed().unchanged();
        match family {
            Family::V4 => packet.fragment = (100, false),
            Family::V6 => packet.extensions = vec![(60, extension()); 4],
        }
        w.xdp(&packet.bytes()).passed().unchanged();
    });
}

#[test]
fn more_extension_headers_than_netd_follows_are_the_nodes_business() {
    World::run(|w| {
        let mut packet = udp(Family::V6);
        packet.extensions = vec![(60, extension()); 5];
        w.xdp(&packet.bytes()).passed().unchanged();
    });
}

#[test]
fn what_is_neither_ipv4_nor_ipv6_passes_xdp() {
    World::run(|w| {
        w.xdp(&arp_request(&OUTSIDE, NODE.v4)).passed().unchanged();
        let mut other = udp(Family::V4).bytes();
        put(&mut other, 12, 0x88cc);
        w.xdp(&other).passed().unchanged();
    });
}

#[test]
fn the_deny_list_spares_everybody_else_and_can_be_taken_back() {
    World::both(|w, family| {
        let bad = Packet::udp(&DENIED, 80, &NODE, 20_100, family).bytes();
        deny(
            w,
            &["198.51.100.0/26", "198.51.100.67/32", "2001:db8:67::/48"],
        );
        w.xdp(&udp(family).bytes()).passed();
        w.xdp(&bad).passed();
        deny(w, &["198.51.100.0/24", "2001:db8:66::/48"]);
        w.xdp(&bad).dropped(DropReason::Denied);
        w.xdp(&udp(family).bytes()).passed();
        // As a destination it is no matter.
        let to = Packet::udp(&NODE, 80, &DENIED, 20_100, family);
        w.xdp(&to.bytes()).passed();
        deny(w, &[]);
        w.xdp(&bad).passed();
    });
}

#[test]
fn denying_one_family_whole_spares_the_other() {
    World::run(|w| {
        deny(w, &["0.0.0.0/0"]);
        w.xdp(&udp(Family::V6).bytes()).passed();
        w.xdp(&udp(Family::V4).bytes()).dropped(DropReason::Denied);
    });
}

/// What `netd_common::wire` finds on the host, by the stages `netd_xdp` has.
fn on_the_host(frame: &[u8]) -> Option<DropReason> {
    use netd_common::wire::Family as _;
    let judge = || match wire::Eth::parse(frame)?.ethertype {
        ethertype::IPV4 => {
            let ip = V4::parse(frame, wire::ETH_LEN)?;
            wire::Packet::parse(frame, ip).map(drop)
        }
        ethertype::IPV6 => {
            let ip = V6::parse(frame, wire::ETH_LEN)?;
            wire::Packet::parse(frame, ip).map(drop)
        }
        _ => Ok(()),
    };
    judge().err()
}

/// A packet with anything in it, then some bytes broken, then perhaps cut.
fn random_frame(rng: &mut fastrand::Rng) -> Vec<u8> {
    let family = rng.choice([Family::V4, Family::V6]).unwrap();
    let l4s = [
        L4::Tcp(Flags(rng.u8(..))),
        L4::Udp,
        L4::Ping,
        L4::Pong,
        L4::Icmp(rng.u8(..), rng.u8(..)),
        L4::Other(rng.u8(..)),
    ];
    let mut packet = Packet::new(
        &OUTSIDE,
        rng.u16(..),
        &NODE,
        rng.u16(..),
        rng.choice(l4s).unwrap(),
        family,
    );
    packet.payload = (0..rng.usize(..60)).map(|_| rng.u8(..)).collect();
    packet.padding = rng.usize(..20);
    match family {
        Family::V4 => packet.options = vec![1; rng.usize(..=10) * 4],
        Family::V6 => {
            for _ in 0..rng.usize(..6) {
                let number = rng.choice([0, 43, 44, 60]).unwrap();
                let more = if number == 44 { 0 } else { rng.u8(..3) };
                let mut bytes = vec![0; 7 + usize::from(more) * 8];
                bytes[0] = more;
                packet.extensions.push((number, bytes));
            }
        }
    }
    let mut frame = packet.bytes();
    // Mostly in the headers, where it matters: the IP header, the L4 header, anywhere.
    let body = frame.len() - packet.padding - packet.payload.len();
    for _ in 0..rng.usize(..4) {
        let zones = [14..34, body - 20..body, 14..frame.len()];
        let zone = rng.choice(zones).unwrap();
        let at = rng.usize(zone).min(frame.len() - 1);
        let any = rng.u8(..);
        frame[at] = rng.choice([any, 0, 0xff, 0x40, 0x60, 5]).unwrap();
    }
    if rng.u8(..4) == 0 {
        frame.truncate(rng.usize(34..=frame.len()));
    }
    frame
}

#[test]
fn the_kernel_judges_random_frames_as_the_host_does() {
    const SEED: u64 = 0x6e65_7464;
    const FRAMES: u32 = 4_000;
    World::run(|w| {
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut seen = std::collections::BTreeMap::new();
        for n in 0..FRAMES {
            let frame = random_frame(&mut rng);
            let parsed = on_the_host(&frame);
            // Odd, not malformed: what `netd_xdp` lets through.
            let odd = [DropReason::ExtHeaders, DropReason::SourceRoute];
            let host = parsed.filter(|reason| !odd.contains(reason));
            let kernel = w.xdp(&frame);
            let action = if host.is_some() {
                Action::Drop
            } else {
                Action::Next
            };
            let counted = vec![(Hook::Xdp, host, 1, frame.len() as u64)];
            assert_eq!(
                (kernel.action, &kernel.counted),
                (action, &counted),
                "frame {n} of seed {SEED:#x}: {frame:02x?}"
            );
            *seen.entry(parsed).or_insert(0) += 1;
        }
        println!("{seen:?}");
        for reason in [
            None,
            Some(DropReason::Truncated),
            Some(DropReason::BadHeader),
            Some(DropReason::BadLength),
            Some(DropReason::BadL4),
            Some(DropReason::ExtHeaders),
        ] {
            let n = seen.get(&reason).copied().unwrap_or(0);
            assert!(n >= 20, "{reason:?} came up {n} times only");
        }
    });
}
