//! How many flows there may be: for one endpoint, and in the whole table, the daemon running or not.

use netd_common::flow::SECOND;
use netd_common::maps::port_flags;
use netd_common::reason::DropReason;
use netd_tests::drop_cases;
use netd_tests::packet::{
    A, B, Ending, Family, Flags, GATEWAY, Half, Host, NODE, OUTSIDE, OUTSIDE_TWO, Packet, World,
    uptime,
};

drop_cases! { DROPS:
    fn an_endpoint_has_as_many_flows_as_it_may(w, family) => FlowLimit {
        w.limits(|limits| limits.per_endpoint = 1 + used(w, &A));
        begin(w, &A, 1, family);
        w.ep_out(&A, &datagram(&A, 2, family))
    }

    fn flows_from_outside_are_counted_for_the_endpoint_they_call(w, family) => FlowLimit {
        w.publish(None, family, 17, 8080, &A, 80);
        w.limits(|limits| limits.per_endpoint = 1 + used(w, &A));
        w.up_in(&Packet::udp(&OUTSIDE, 1, &NODE, 8080, family)).redirected();
        w.up_in(&Packet::udp(&OUTSIDE, 2, &NODE, 8080, family))
    }

    fn a_call_from_one_endpoint_to_another_is_counted_for_the_one_that_calls(w, family) => FlowLimit {
        w.publish(None, family, 17, 8080, &A, 80);
        w.limits(|limits| limits.per_endpoint = 1 + used(w, &B));
        w.ep_out(&B, &Packet::udp(&B, 98, &NODE, 8080, family).to_gateway()).redirected();
        assert_eq!(used(w, &A), 0, "it is called");
        w.ep_out(&B, &Packet::udp(&B, 99, &NODE, 8080, family).to_gateway())
    }
}

/// Flows an endpoint is counted with.
fn used(w: &World, who: &Host) -> u64 {
    w.flows_used(who)
}

/// The first datagram of a flow.
fn datagram(from: &Host, sport: u16, family: Family) -> Packet {
    Packet::udp(from, 20_000 + sport, &OUTSIDE, 80, family).to_mac(GATEWAY.mac)
}

fn begin(w: &mut World, from: &Host, sport: u16, family: Family) {
    w.ep_out(from, &datagram(from, sport, family)).redirected();
}

#[test]
fn the_limit_of_one_endpoint_is_not_anothers_and_ends_no_flow() {
    World::both(|w, family| {
        w.limits(|limits| limits.per_endpoint = 3);
        for n in 0..3 {
            begin(w, &A, n, family);
        }
        for n in 3..9 {
            let out = w.ep_out(&A, &datagram(&A, n, family));
            out.dropped(DropReason::FlowLimit);
        }
        assert_eq!((used(w, &A), used(w, &B)), (3, 0));
        // B has all of its own, A keeps what it has, both ways.
        for n in 0..3 {
            begin(w, &B, 100 + n, family);
            begin(w, &A, n, family);
            let answer = datagram(&A, n, family).from_uplink(20_000 + n).answer();
            w.up_in(&answer).redirected();
        }
        assert_eq!((used(w, &A), used(w, &B)), (3, 3));
        // One goes, one comes.
        assert_eq!(
            w.datapath().flows_remove(&|f| f.src.1 == 20_001).unwrap(),
            1
        );
        assert_eq!(used(w, &A), 2);
        begin(w, &A, 3, family);
        w.ep_out(&A, &datagram(&A, 4, family))
            .dropped(DropReason::FlowLimit);
    });
}

#[test]
fn callers_from_outside_leave_an_endpoint_a_quarter_of_its_flows() {
    World::both(|w, family| {
        w.limits(|limits| limits.per_endpoint = 8);
        w.port(&A, |p| p.flags |= port_flags::FILTER_ANY);
        w.publish(None, family, 17, 8080, &A, 80);
        begin(w, &A, 0, family);
        // By a published port and by the mapping, as they come.
        let call = |n: u16| {
            let port = if n.is_multiple_of(2) { 8080 } else { 20_000 };
            Packet::udp(&OUTSIDE_TWO, n, &NODE, port, family)
        };
        for n in 1..=6 {
            w.up_in(&call(n)).redirected();
        }
        for n in 7..20 {
            w.up_in(&call(n)).dropped(DropReason::FlowLimit);
        }
        begin(w, &A, 1, family);
        assert_eq!(used(w, &A), 8);
        w.ep_out(&A, &datagram(&A, 2, family))
            .dropped(DropReason::FlowLimit);
        // One of them goes, one comes; what the endpoint does not use itself they do not get.
        let ended = w.datapath().flows_remove(&|f| f.src.1 == 5).unwrap();
        assert_eq!(ended, 1);
        w.up_in(&call(7)).redirected();
        let ended = w.datapath().flows_remove(&|f| f.src.1 == 20_001);
        assert_eq!(ended.unwrap(), 1);
        w.up_in(&call(8)).dropped(DropReason::FlowLimit);
        begin(w, &A, 2, family);
        w.datapath().flows_remove(&|_| true).unwrap();
        assert_eq!(used(w, &A), 0);
        for n in 10..16 {
            let by_port = Packet::udp(&OUTSIDE_TWO, n, &NODE, 8080, family);
            w.up_in(&by_port).redirected();
        }
    });
}

#[test]
fn both_families_of_an_endpoint_are_counted_together() {
    World::run(|w| {
        w.limits(|limits| limits.per_endpoint = 2);
        begin(w, &A, 1, Family::V4);
        begin(w, &A, 1, Family::V6);
        for family in [Family::V4, Family::V6] {
            w.ep_out(&A, &datagram(&A, 2, family))
                .dropped(DropReason::FlowLimit);
        }
    });
}

#[test]
fn a_flow_is_counted_once_however_it_goes_on() {
    World::both(|w, family| {
        let syn = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
        for flags in [Flags::SYN, Flags::SYN, Flags::RST, Flags::SYN] {
            w.ep_out(&A, &syn.clone().flags(flags)).redirected();
            assert_eq!(used(w, &A), 1, "{flags:?}");
        }
        // What could not be made is not counted.
        w.ep_out(&A, &syn.clone().to(&OUTSIDE, 81).flags(Flags::ACK))
            .dropped(DropReason::TcpNoFlow);
        w.uplink(|u| u.port_max = u.port_min);
        begin(w, &B, 0, family);
        w.ep_out(&A, &datagram(&A, 0, family))
            .dropped(DropReason::NoPortFree);
        assert_eq!((used(w, &A), used(w, &B)), (1, 1));
        w.datapath().flows_remove(&|_| true).unwrap();
        assert_eq!((used(w, &A), used(w, &B)), (0, 0));
    });
}

#[test]
fn an_expired_flow_is_no_longer_counted() {
    const TIMEOUT: u64 = 300 * SECOND;
    if uptime() < 2 * TIMEOUT {
        println!("SKIP: this machine has not been up long enough to have entries that old");
        return;
    }
    World::both(|w, family| {
        begin(w, &A, 1, family);
        w.table(family).change_all(|e| *e.last_seen -= TIMEOUT);
        begin(w, &A, 2, family);
        assert_eq!(used(w, &A), 2);
        assert_eq!(w.datapath().flows_collect().unwrap(), 1);
        assert_eq!(used(w, &A), 1);
    });
}

#[test]
fn a_count_that_went_wrong_is_put_right_by_the_table() {
    World::both(|w, family| {
        begin(w, &A, 1, family);
        let mut collector = w.datapath().collector().unwrap();
        for wrong in [0, 7] {
            w.set_flows_used(&A, wrong);
            collector.collect(false).unwrap();
            assert_eq!(used(w, &A), wrong, "once may be chance");
            collector.collect(false).unwrap();
            assert_eq!(used(w, &A), 1);
        }
        collector.collect(false).unwrap();
        assert_eq!(used(w, &A), 1);
    });
}

#[test]
fn time_outs_are_those_of_the_limits() {
    World::both(|w, family| {
        begin(w, &A, 1, family);
        w.table(family).change_all(|e| *e.last_seen -= 20 * SECOND);
        assert_eq!(w.flow_end(family, Ending::IfOver, |_| {}), 0);
        w.limits(|limits| limits.timeouts.udp = 20 * SECOND);
        assert_eq!(w.flow_end(family, Ending::IfOver, |_| {}), 1);
        assert_eq!(w.table(family).entries(), 0);
    });
}

#[test]
fn a_flow_that_began_since_it_was_picked_is_not_ended() {
    World::both(|w, family| {
        begin(w, &A, 1, family);
        for how in [Ending::Always, Ending::IfOver] {
            assert_eq!(w.flow_end(family, how, |created| *created -= 1), 0);
        }
        assert_eq!(w.table(family).entries(), 2);
        assert_eq!(used(w, &A), 1);
        assert_eq!(w.flow_end(family, Ending::IfOver, |_| {}), 0, "it lives");
        assert_eq!(w.flow_end(family, Ending::Always, |_| {}), 1);
        assert_eq!((w.table(family).entries(), used(w, &A)), (0, 0));
    });
}

/// Fills a table of 16 entries with eight flows; the last but one and the third get an answer.
fn full(w: &mut World, family: Family) {
    for n in 0..8 {
        begin(w, &A, n, family);
    }
    w.ep_out(&A, &datagram(&A, 8, family))
        .dropped(DropReason::FlowTableFull);
}

#[test]
fn without_a_daemon_a_full_table_gets_room_as_soon_as_flows_are_over_and_keeps_the_others() {
    const TIMEOUT: u64 = 300 * SECOND;
    if uptime() < 2 * TIMEOUT {
        println!("SKIP: this machine has not been up long enough to have entries that old");
        return;
    }
    for family in [Family::V4, Family::V6] {
        World::with_flow_entries(16, |w| {
            full(w, family);
            w.table(family).change_all(|e| *e.last_seen -= TIMEOUT);
            // Three go on, one of them by answers alone.
            for n in [0, 3] {
                begin(w, &A, n, family);
            }
            let answer = datagram(&A, 6, family).from_uplink(20_006).answer();
            w.up_in(&answer).redirected();
            w.forget_sweep();
            // The packet that finds no room makes some, for the next one.
            w.ep_out(&A, &datagram(&A, 8, family))
                .dropped(DropReason::FlowTableFull);
            assert_eq!(w.table(family).entries(), 6);
            assert_eq!(used(w, &A), 3);
            for n in [0, 3, 6, 8, 9, 10, 11, 12] {
                begin(w, &A, n, family);
            }
            w.ep_out(&A, &datagram(&A, 13, family))
                .dropped(DropReason::FlowTableFull);
        });
    }
}

#[test]
fn without_a_daemon_an_endpoint_at_its_limit_gets_room_of_either_family() {
    const TIMEOUT: u64 = 300 * SECOND;
    if uptime() < 2 * TIMEOUT {
        println!("SKIP: this machine has not been up long enough to have entries that old");
        return;
    }
    World::both(|w, family| {
        let other = if family == Family::V4 {
            Family::V6
        } else {
            Family::V4
        };
        w.limits(|limits| limits.per_endpoint = 2);
        begin(w, &A, 1, family);
        begin(w, &A, 2, family);
        w.ep_out(&A, &datagram(&A, 3, other))
            .dropped(DropReason::FlowLimit);
        w.table(family)
            .change(Half::Original, |e| *e.last_seen -= TIMEOUT);
        w.forget_sweep();
        w.ep_out(&A, &datagram(&A, 3, other))
            .dropped(DropReason::FlowLimit);
        assert_eq!(used(w, &A), 2, "the other half of each is young");
        w.table(family)
            .change(Half::Reply, |e| *e.last_seen -= TIMEOUT);
        w.ep_out(&A, &datagram(&A, 3, other))
            .dropped(DropReason::FlowLimit);
        assert_eq!(used(w, &A), 2, "the table was walked a moment ago");
        w.forget_sweep();
        w.ep_out(&A, &datagram(&A, 3, other))
            .dropped(DropReason::FlowLimit);
        assert_eq!(used(w, &A), 0);
        begin(w, &A, 3, other);
    });
}
