//! The life of a flow in the table: TCP state, time-outs, a full table, half-made pairs.

use netd_common::flow::SECOND;
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::packet::{A, Family, Flags, Half, L4, OUTSIDE, OUTSIDE_TWO, Packet, World, uptime};

drop_cases! { DROPS:
    fn an_entry_that_changed_hands_is_not_followed(w, family) => FlowRace {
        let first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        w.ep_out(&A, &first).redirected();
        w.table(family).change_all(|entry| *entry.tag ^= 1);
        w.ep_out(&A, &first)
    }

    fn a_flow_that_ended_takes_no_more_segments(w, family) => TcpNoFlow {
        let syn = open(w, family);
        w.datapath().flows_remove(&|_| true).unwrap();
        w.ep_out(&A, &syn.flags(Flags::ACK))
    }
}

/// An open connection of A; gives its SYN.
fn open(w: &mut World, family: Family) -> Packet {
    let syn = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
    w.ep_out(&A, &syn).redirected();
    w.up_in(&reply(&syn, Flags::SYN_ACK)).redirected();
    w.ep_out(&A, &syn.clone().flags(Flags::ACK)).redirected();
    syn
}

/// What the outside sends back on a flow of port 20100.
fn reply(syn: &Packet, flags: Flags) -> Packet {
    let port = syn.sport;
    syn.clone().from_uplink(port).answer().flags(flags)
}

#[track_caller]
fn state(w: &mut World, wanted: &str) {
    let flows = w.datapath().flows().unwrap();
    let states: Vec<&str> = flows.iter().map(|f| f.state).collect();
    assert_eq!(states, [wanted]);
}

#[test]
fn a_connection_goes_through_its_states() {
    World::both(|w, family| {
        let syn = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        w.ep_out(&A, &syn).redirected();
        state(w, "syn_sent");
        w.up_in(&reply(&syn, Flags::SYN_ACK)).redirected();
        state(w, "syn_received");
        w.ep_out(&A, &syn.clone().flags(Flags::ACK)).redirected();
        state(w, "established");
        w.ep_out(&A, &syn.clone().flags(Flags::FIN)).redirected();
        state(w, "closing");
        w.up_in(&reply(&syn, Flags::ACK)).redirected();
        state(w, "closing");
        w.up_in(&reply(&syn, Flags::FIN)).redirected();
        state(w, "closed");
    });
}

#[test]
fn a_reset_of_either_side_closes() {
    World::both(|w, family| {
        for from_outside in [false, true] {
            let syn = open(w, family);
            state(w, "established");
            if from_outside {
                w.up_in(&reply(&syn, Flags::RST)).redirected();
            } else {
                w.ep_out(&A, &syn.flags(Flags::RST)).redirected();
            }
            state(w, "closed");
            w.datapath().flows_remove(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_syn_reopens_a_connection_that_is_over_and_no_other() {
    World::both(|w, family| {
        let syn = open(w, family);
        w.ep_out(&A, &syn).redirected();
        state(w, "established"); // sent twice, it changes nothing
        w.ep_out(&A, &syn.clone().flags(Flags::RST)).redirected();
        state(w, "closed");
        w.up_in(&reply(&syn, Flags::SYN)).redirected();
        state(w, "closed"); // not the side that began
        w.ep_out(&A, &syn).redirected();
        state(w, "syn_sent");
        w.up_in(&reply(&syn, Flags::SYN_ACK)).redirected();
        w.ep_out(&A, &syn.flags(Flags::ACK)).redirected();
        state(w, "established");
    });
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old() {
    // With an odd number of entries the second half of the last flow finds no room: none may stay.
    for (entries, room) in [(8, 8), (9, 8)] {
        for family in [Family::V4, Family::V6] {
            World::with_flow_entries(entries, |w| {
                let flow = |n: u16| Packet::udp(&A, 20_100 + n, &OUTSIDE, 80, family).to_gateway();
                let first_refused = (0..64).find(|n| {
                    let out = w.ep_out(&A, &flow(*n));
                    if out.counted[0].1.is_some() {
                        out.dropped(DropReason::FlowTableFull);
                        return true;
                    }
                    out.redirected();
                    false
                });
                assert_eq!(first_refused, Some(room / 2), "a flow takes two entries");
                assert_eq!(w.table(family).entries(), usize::from(room));
                for n in 0..room / 2 {
                    let packet = flow(n);
                    let out = w.ep_out(&A, &packet);
                    out.redirected()
                        .is(&packet.clone().hop().from_uplink(20_100 + n));
                    let answer = packet.from_uplink(20_100 + n).answer();
                    w.up_in(&answer).redirected();
                }
                // One goes, one comes.
                let gone = w.datapath().flows_remove(&|f| f.src.1 == 20_100).unwrap();
                assert_eq!(gone, 1);
                w.ep_out(&A, &flow(63)).redirected();
                w.ep_out(&A, &flow(62)).dropped(DropReason::FlowTableFull);
            });
        }
    }
}

drop_cases! { FULL:
    fn the_flow_table_is_full(w, family) => FlowTableFull {
        let flow = |n: u16| Packet::new(&A, n, &OUTSIDE, 0, L4::Ping, family).to_gateway();
        (0..2_000)
            .map(|n| w.ep_out(&A, &flow(n)))
            .find(|out| out.counted[0].1.is_some())
            .expect("1024 entries are full some time")
    }
}

/// Collects; says how many flows ended and how many entries are left.
fn collect(w: &mut World, family: Family) -> (u32, usize) {
    let ended = w.datapath().flows_collect().unwrap();
    (ended, w.table(family).entries())
}

#[test]
fn a_silent_flow_is_collected_when_both_directions_are_old() {
    const TIMEOUT: u64 = 300 * SECOND;
    if uptime() < 2 * TIMEOUT {
        println!("SKIP: this machine has not been up long enough to have entries that old");
        return;
    }
    World::both(|w, family| {
        let first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
        let young = Packet::udp(&A, 20_100, &OUTSIDE_TWO, 80, family).to_gateway();
        w.ep_out(&A, &first).redirected();
        assert_eq!(collect(w, family), (0, 2), "it is young");
        w.table(family)
            .change(Half::Original, |e| *e.last_seen -= TIMEOUT);
        assert_eq!(collect(w, family), (0, 2), "the reply's entry is young");
        w.table(family)
            .change(Half::Reply, |e| *e.last_seen -= TIMEOUT - SECOND * 60);
        assert_eq!(collect(w, family), (0, 2), "not yet");
        w.table(family)
            .change(Half::Reply, |e| *e.last_seen -= SECOND * 60);
        w.ep_out(&A, &young).redirected();
        assert_eq!(collect(w, family), (1, 2), "only the old one");
        // A packet makes an old flow young again.
        w.table(family).change_all(|e| *e.last_seen -= TIMEOUT);
        w.ep_out(&A, &young).redirected();
        assert_eq!(collect(w, family), (0, 2), "it spoke");
    });
}

#[test]
fn a_closed_connection_is_collected_long_before_an_open_one() {
    const A_MINUTE: u64 = 60 * SECOND;
    if uptime() < 2 * A_MINUTE {
        println!("SKIP: this machine has not been up long enough to have entries that old");
        return;
    }
    World::both(|w, family| {
        let syn = open(w, family);
        w.table(family).change_all(|e| *e.last_seen -= A_MINUTE);
        assert_eq!(collect(w, family), (0, 2));
        w.ep_out(&A, &syn.flags(Flags::RST)).redirected();
        w.table(family).change_all(|e| *e.last_seen -= A_MINUTE);
        assert_eq!(collect(w, family), (1, 0));
    });
}

#[test]
fn a_half_made_pair_is_collected_when_nobody_can_still_be_making_it() {
    World::both(|w, family| {
        for half in [Half::Original, Half::Reply] {
            let first = Packet::udp(&A, 20_100, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&A, &first).redirected();
            w.table(family).remove(half);
            assert_eq!(collect(w, family), (0, 1), "it may be in the making");
            w.table(family).change_all(|e| *e.created -= 6 * SECOND);
            assert_eq!(collect(w, family), (0, 0));
        }
    });
}
