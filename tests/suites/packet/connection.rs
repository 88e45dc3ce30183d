//! TCP through masquerade: connections that both sides open, and which resets end one (RFC 5382 REQ-2,
//! RFC 7857 sections 2 and 2.2).

use netd_common::flow::SECOND;
use netd_common::maps::port_flags;
use netd_common::reason::DropReason;
use netd_tests::packet::{A, Family, Flags, GATEWAY, NODE, OUTSIDE, Packet, World};

const PORT: u16 = 20_100;
const RST_ACK: Flags = Flags(0x14);

/// Both profiles, both families, each without a flow or a mapping from the one before.
fn profiles(case: impl Fn(&mut World, Family) + Sync) {
    World::both(|w, family| {
        for strict in [0, port_flags::STRICT] {
            println!("strict: {}", strict != 0);
            w.port(&A, |p| p.flags = port_flags::MASQUERADE | strict);
            case(w, family);
            w.forget_mappings(family);
        }
    });
}

/// A segment of A's, and how it leaves.
#[track_caller]
fn says(w: &mut World, flags: Flags, (seq, ack): (u32, u32), family: Family) {
    let packet = Packet::tcp(&A, PORT, &OUTSIDE, 80, flags, family).numbers(seq, ack);
    let packet = packet.to_gateway();
    w.ep_out(&A, &packet)
        .redirected()
        .is(&packet.clone().hop().from_uplink(PORT));
}

/// A segment from outside with so many bytes, and how it reaches A.
#[track_caller]
fn hears(w: &mut World, flags: Flags, (seq, ack): (u32, u32), bytes: usize, family: Family) {
    let mut packet = Packet::tcp(&OUTSIDE, 80, &NODE, PORT, flags, family).numbers(seq, ack);
    packet.payload = vec![7; bytes];
    let wanted = packet.clone().to(&A, PORT).delivered(&GATEWAY, &A);
    w.up_in(&packet).redirected().is(&wanted);
}

#[track_caller]
fn state(w: &mut World, wanted: &str) {
    let flows = w.datapath().flows().unwrap();
    let states: Vec<&str> = flows.iter().map(|f| f.state).collect();
    assert_eq!(states, [wanted]);
}

/// An open connection. A has sent up to 1001, all of it acknowledged; 100 bytes from 5001 on have come, of
/// which A has acknowledged the first half.
fn open(w: &mut World, family: Family) {
    says(w, Flags::SYN, (1_000, 0), family);
    hears(w, Flags::SYN_ACK, (5_000, 1_001), 0, family);
    says(w, Flags::ACK, (1_001, 5_001), family);
    hears(w, Flags::ACK, (5_001, 1_001), 100, family);
    says(w, Flags::ACK, (1_001, 5_051), family);
    state(w, "established");
}

#[test]
fn both_sides_may_open_a_connection_at_once() {
    profiles(|w, family| {
        w.silent(PORT, PORT);
        // The other side is first: nobody answers, and it tries again.
        let syn = Packet::tcp(&OUTSIDE, 80, &NODE, PORT, Flags::SYN, family).numbers(5_000, 0);
        w.up_in(&syn).dropped(DropReason::UnsolicitedSyn);
        says(w, Flags::SYN, (1_000, 0), family);
        state(w, "syn_sent");
        hears(w, Flags::SYN, (5_000, 0), 0, family);
        state(w, "syn_received");
        says(w, Flags::SYN_ACK, (1_000, 5_001), family);
        hears(w, Flags::SYN_ACK, (5_000, 1_001), 0, family);
        says(w, Flags::ACK, (1_001, 5_001), family);
        hears(w, Flags::ACK, (5_001, 1_001), 10, family);
        state(w, "established");
        assert_eq!(w.mapping_rows(family), 2, "one mapping");
    });
}

#[test]
fn only_a_reset_in_the_window_ends_a_connection_and_every_one_is_passed_on() {
    profiles(|w, family| {
        for seq in [5_050, 5_102, 0, 0x7000_0000, 0xf000_0000] {
            open(w, family);
            w.table(family).change_all(|e| *e.last_seen -= 10 * SECOND);
            hears(w, Flags::RST, (seq, 0), 0, family);
            says(w, Flags::RST, (seq.wrapping_add(9), 0), family);
            state(w, "established");
            let idle = w.datapath().flows().unwrap()[0].idle_ns;
            assert!(idle >= 10 * SECOND, "it refreshed the flow");
            w.forget_mappings(family);
        }
        for seq in [5_051, 5_100, 5_101] {
            open(w, family);
            hears(w, Flags::RST, (seq, 0), 0, family);
            state(w, "closed");
            w.forget_mappings(family);
        }
        open(w, family);
        says(w, Flags::RST, (1_001, 0), family);
        state(w, "closed");
    });
}

#[test]
fn a_forged_segment_does_not_let_a_forged_end_count() {
    profiles(|w, family| {
        for ahead in [1 << 24, 1 << 30, 0x7fff_0000] {
            let forged = 5_101 + ahead;
            for end in [Flags::RST, Flags(0x11)] {
                open(w, family);
                hears(w, Flags::ACK, (forged, 1_001), 0, family);
                hears(w, end, (forged, 1_001), 0, family);
                state(w, "established");
                w.forget_mappings(family);
            }
        }
    });
}

#[test]
fn a_syn_is_refused_by_a_reset_that_acknowledges_it() {
    profiles(|w, family| {
        says(w, Flags::SYN, (1_000, 0), family);
        for (flags, ack) in [(RST_ACK, 1_000), (RST_ACK, 1_002), (Flags::RST, 1_001)] {
            hears(w, flags, (0, ack), 0, family);
            state(w, "syn_sent");
        }
        hears(w, RST_ACK, (0, 1_001), 0, family);
        state(w, "closed");
    });
}

#[test]
fn a_side_that_goes_on_after_its_reset_has_not_sent_it() {
    profiles(|w, family| {
        open(w, family);
        hears(w, Flags::RST, (5_101, 0), 0, family);
        state(w, "closed");
        says(w, Flags::ACK, (1_001, 5_101), family);
        state(w, "closed");
        hears(w, Flags::ACK, (5_101, 1_001), 50, family);
        state(w, "established");
    });
}
