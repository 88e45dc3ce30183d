//! The search for an outside port by the loaded programs, in ranges that fill up. Its figures under all sorts of
//! fill are `netd-common`'s to tell (`netd-common/tests/allocator.rs`); here it is seen that the programs search
//! as that says.

use std::collections::BTreeSet;

use netd_common::maps::port_flags;
use netd_common::reason::DropReason;
use netd_tests::packet::{A, B, Family, Host, NODE, OUTSIDE, OUTSIDE_TWO, Packet, World};

/// Entries of the flow tables: room for five hundred flows.
const ENTRIES: u32 = 1_024;

/// The outside port a new flow gets; `None`: none was free.
fn call(w: &mut World, from: &Host, sport: u16, to: &Host, family: Family) -> Option<u16> {
    let packet = Packet::udp(from, sport, to, 80, family).to_gateway();
    let out = w.ep_out(from, &packet);
    if out.counted[0].1.is_some() {
        out.dropped(DropReason::NoPortFree);
        return None;
    }
    let port = out.sport();
    out.redirected().is(&packet.clone().hop().from_uplink(port));
    Some(port)
}

/// Fills a range by sockets with ports outside it; the ports they got, and how many got none.
fn fill(w: &mut World, (min, max): (u16, u16), sockets: u16, family: Family) -> (Vec<u16>, u16) {
    for who in [A, B] {
        w.port(&who, |p| {
            (p.masq_min, p.masq_max) = (min, max);
        });
    }
    let ports: Vec<Option<u16>> = (0..sockets)
        .map(|n| call(w, &A, 40_000 + n, &OUTSIDE, family))
        .collect();
    let got: Vec<u16> = ports.iter().flatten().copied().collect();
    let refused = sockets - got.len() as u16;
    assert!(got.iter().all(|port| (min..=max).contains(port)));
    let different: BTreeSet<u16> = got.iter().copied().collect();
    assert_eq!(different.len(), got.len(), "a port was given twice");
    (got, refused)
}

/// Runs a case for each family with room for its flows.
fn both(case: impl Fn(&mut World, Family) + Sync) {
    for family in [Family::V4, Family::V6] {
        World::with_flow_entries(ENTRIES, |w| case(w, family));
    }
}

#[test]
fn a_small_range_is_used_up_to_its_last_port() {
    both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::STRICT);
        let (got, refused) = fill(w, (20_000, 20_099), 100, family);
        assert_eq!((got.len(), refused), (100, 0));
        assert_eq!(call(w, &A, 41_000, &OUTSIDE_TWO, family), None);
        w.forget_mappings(family);

        w.port(&A, |p| p.flags &= !port_flags::STRICT);
        let (got, refused) = fill(w, (20_000, 20_099), 100, family);
        assert_eq!((got.len(), refused), (100, 0));
        for n in 0..20 {
            let shared = call(w, &A, 41_000 + n, &OUTSIDE_TWO, family);
            assert!(
                shared.is_some(),
                "towards another remote socket all are free"
            );
        }
        assert_eq!(
            call(w, &A, 42_000, &OUTSIDE, family),
            None,
            "all talk to that one"
        );
    });
}

#[test]
fn a_large_range_is_used_up_to_the_last_hundredth_almost_without_refusal() {
    both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::STRICT);
        let (got, refused) = fill(w, (20_000, 20_499), 495, family);
        // A tenth of a refusal is to be expected; more than four come once in ten million runs.
        println!("{refused} of 495 refused");
        assert!(refused <= 4, "{refused}");
        // Nobody can tell the next port from the last ones: neighbours are rare, half are above their
        // predecessor, and each quarter of the range is met as often.
        let pairs = || got.iter().zip(&got[1..]);
        let beside = pairs().filter(|(a, b)| a.abs_diff(**b) <= 2).count();
        let above = pairs().filter(|(a, b)| a < b).count();
        println!("{beside} beside, {above} above the one before");
        assert!(beside < 25, "{beside} beside the one before");
        assert!((190..300).contains(&above), "{above} above the one before");
        let early = &got[..200];
        for quarter in 0..4 {
            let part = 20_000 + quarter * 125..20_125 + quarter * 125;
            let n = early.iter().filter(|p| part.contains(*p)).count();
            assert!((20..90).contains(&n), "{n} of 200 in {part:?}");
        }
        // Parity is kept while three in four ports of each are free.
        let kept = |(n, port): (usize, &u16)| n % 2 == usize::from(port % 2);
        let early = got[..125].iter().enumerate().filter(|e| kept(*e)).count();
        assert_eq!(early, 125, "of 125 kept their parity");
    });
}

#[test]
fn what_was_given_back_is_found_again() {
    both(|w, family| {
        fill(w, (20_000, 20_099), 100, family);
        for round in 0..3 {
            let ended = w.datapath().flows_remove(&|f| f.src.1 == 40_000 + round);
            assert_eq!(ended.unwrap(), 1);
            let port = call(w, &B, 43_000 + round, &OUTSIDE, family);
            assert!(port.is_some(), "one was free");
            assert_eq!(call(w, &B, 44_000, &OUTSIDE, family), None);
        }
        let flows = w.datapath().flows().unwrap();
        assert!(flows.iter().all(|f| f.nat_src.0 == NODE.ip(family)));
    });
}
