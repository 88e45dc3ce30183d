//! How long flows may be silent, in each state and profile, and what makes them young again (RFC 4787 REQ-5
//! and 6, RFC 5382 REQ-5, RFC 5508 REQ-2, RFC 7857 sections 2.1, 2.2 and 7).

use netd_common::flow::SECOND;
use netd_common::maps::{FlowKind, port_flags};
use netd_common::reason::DropReason;
use netd_tests::packet::{
    A, Family, Flags, Kind, NODE, OUTSIDE, OUTSIDE_TWO, Packet, World, uptime,
};

const PORT: u16 = 20_100;

/// Whether rows can be made so many seconds old: none is older than the machine.
fn can_age(seconds: u64) -> bool {
    let can = uptime() > (seconds + 1) * SECOND;
    if !can {
        println!("SKIP: this machine has not been up for {seconds} seconds");
    }
    can
}

fn first(kind: Kind, family: Family) -> Packet {
    Packet::first(kind, &A, PORT, &OUTSIDE, 80, family).to_gateway()
}

/// The other side's word on the flow of a packet of A's.
fn reply(first: &Packet) -> Packet {
    first.clone().from_uplink(PORT).answer()
}

/// One state of a flow: its name, how it is come to (the segments of both sides in turn), and how long it may
/// be silent, balanced and strict.
type Case = (&'static str, Kind, &'static [(bool, Flags)], (u64, u64));

const OUT: bool = true;
const BACK: bool = false;

const CASES: [Case; 10] = [
    ("new", Kind::Udp, &[], (300, 300)),
    ("replied", Kind::Udp, &[(BACK, Flags::ACK)], (300, 300)),
    ("new", Kind::Echo, &[], (60, 60)),
    ("replied", Kind::Echo, &[(BACK, Flags::ACK)], (60, 60)),
    ("syn_sent", Kind::Tcp, &[], (240, 240)),
    (
        "syn_received",
        Kind::Tcp,
        &[(BACK, Flags::SYN_ACK)],
        (240, 240),
    ),
    (
        "established",
        Kind::Tcp,
        &[(BACK, Flags::SYN_ACK), (OUT, Flags::ACK)],
        (7_440, 7_440),
    ),
    (
        "closing",
        Kind::Tcp,
        &[(BACK, Flags::SYN_ACK), (OUT, Flags::FIN)],
        (240, 240),
    ),
    (
        "closed",
        Kind::Tcp,
        &[
            (BACK, Flags::SYN_ACK),
            (OUT, Flags::FIN),
            (BACK, Flags::FIN),
        ],
        (10, 240),
    ),
    (
        "closed",
        Kind::Tcp,
        &[(BACK, Flags::SYN_ACK), (OUT, Flags::ACK), (OUT, Flags::RST)],
        (10, 240),
    ),
];

/// Begins a flow and brings it to a state.
fn bring_to(w: &mut World, case: &Case, family: Family) {
    let (state, kind, steps, _) = case;
    let first = first(*kind, family);
    w.ep_out(&A, &first).redirected();
    for (out, flags) in *steps {
        let with = |p: Packet| match kind {
            Kind::Tcp => p.flags(*flags),
            Kind::Udp | Kind::UdpUnsummed | Kind::Echo => p,
        };
        if *out {
            w.ep_out(&A, &with(first.clone())).redirected();
        } else {
            w.up_in(&with(reply(&first))).redirected();
        }
    }
    let flows = w.datapath().flows().unwrap();
    let states: Vec<&str> = flows.iter().map(|f| f.state).collect();
    assert_eq!(states, [*state]);
}

#[test]
fn each_state_of_each_profile_has_its_time_out() {
    World::both(|w, family| {
        for strict in [false, true] {
            let profile = if strict { port_flags::STRICT } else { 0 };
            w.port(&A, |p| p.flags = port_flags::MASQUERADE | profile);
            for case in &CASES {
                let (balanced_seconds, strict_seconds) = case.3;
                let seconds = if strict {
                    strict_seconds
                } else {
                    balanced_seconds
                };
                println!("{} {:?} strict {strict}: {seconds}", case.0, case.1);
                bring_to(w, case, family);
                let flow = &w.datapath().flows().unwrap()[0];
                assert_eq!(flow.idle_ns + flow.expires_ns, seconds * SECOND);
                if can_age(seconds) {
                    let mut older = |by: u64| {
                        let by = by * SECOND / 2;
                        w.table(family).change_all(|e| *e.last_seen -= by);
                        w.datapath().flows_collect().unwrap()
                    };
                    assert_eq!((older(seconds), older(seconds)), (0, 1));
                }
                w.forget_mappings(family);
            }
        }
    });
}

#[test]
fn packets_of_either_side_keep_a_flow_that_was_begun_inside() {
    const PART: u64 = 200;
    if !can_age(600) {
        return;
    }
    World::both(|w, family| {
        let first = first(Kind::Udp, family);
        let silent = |w: &mut World| {
            w.table(family)
                .change_all(|e| *e.last_seen -= PART * SECOND);
            w.datapath().flows_collect().unwrap()
        };
        w.ep_out(&A, &first).redirected();
        assert_eq!(silent(w), 0);
        w.ep_out(&A, &first).redirected();
        assert_eq!(silent(w), 0, "refreshed from inside");
        w.up_in(&reply(&first)).redirected();
        assert_eq!(silent(w), 0, "refreshed from outside");
        assert_eq!(silent(w), 1, "nobody spoke for 400 seconds");
    });
}

/// How long the flows have been silent, in seconds.
fn silence(w: &mut World) -> Vec<u64> {
    let flows = w.datapath().flows().unwrap();
    flows.iter().map(|f| f.idle_ns / SECOND).collect()
}

#[test]
fn what_the_filter_keeps_out_refreshes_nothing() {
    World::both(|w, family| {
        for kind in [Kind::Tcp, Kind::Udp] {
            w.ep_out(&A, &first(kind, family)).redirected();
            w.table(family).change_all(|e| *e.last_seen -= 30 * SECOND);
            let stranger = Packet::first(kind, &OUTSIDE_TWO, 80, &NODE, PORT, family);
            w.up_in(&stranger).dropped(DropReason::Filtered);
            let idle = silence(w);
            assert!(idle.len() == 1 && idle[0] >= 30, "{idle:?}");
            w.datapath().flows_remove(&|_| true).unwrap();
            assert_eq!(w.mapping_rows(family), 0, "it holds no mapping either");
        }
    });
}

/// Makes every flow so many seconds older; how many of them are over.
fn older(w: &mut World, seconds: u64, family: Family) -> u32 {
    w.table(family).change_all(|e| {
        *e.last_seen -= seconds * SECOND;
        *e.created -= seconds * SECOND;
    });
    w.datapath().flows_collect().unwrap()
}

/// Somebody whom the filter of A's mapping admits, and A's flow that made it gone: what came in has it alone.
fn come_in(w: &mut World, kind: Kind, family: Family) -> Packet {
    w.port(&A, |p| p.flags |= port_flags::FILTER_ANY);
    w.ep_out(&A, &first(kind, family)).redirected();
    let stranger = Packet::first(kind, &OUTSIDE_TWO, 9, &NODE, PORT, family);
    w.up_in(&stranger).redirected();
    w.datapath()
        .flows_remove(&|f| f.kind == FlowKind::Masquerade)
        .unwrap();
    assert_eq!(w.mapping_rows(family), 2);
    stranger
}

/// What A says to a packet that has come in.
fn to_stranger(stranger: &Packet) -> Packet {
    let answer = stranger.answer().from(&A, PORT);
    answer.from_mac(A.mac).to_gateway()
}

#[test]
fn who_comes_in_by_a_filter_does_not_keep_the_mapping_alone() {
    if !can_age(600) {
        return;
    }
    World::both(|w, family| {
        let stranger = come_in(w, Kind::Udp, family);
        assert_eq!(older(w, 200, family), 0);
        w.up_in(&stranger).redirected();
        assert_eq!(older(w, 101, family), 1, "A has never answered");
        assert_eq!(w.mapping_rows(family), 0);
        w.up_in(&stranger).passed();
        // While A answers it lasts.
        let stranger = come_in(w, Kind::Udp, family);
        for _ in 0..3 {
            assert_eq!(older(w, 200, family), 0);
            w.ep_out(&A, &to_stranger(&stranger)).redirected();
        }
        assert_eq!(older(w, 200, family), 0);
        w.up_in(&stranger).redirected();
        assert_eq!(older(w, 101, family), 1, "A has said nothing since");
    });
}

#[test]
fn a_connection_that_is_refused_again_and_again_does_not_keep_the_mapping() {
    if !can_age(600) {
        return;
    }
    World::both(|w, family| {
        w.port(&A, |p| p.flags |= port_flags::STRICT);
        let syn = come_in(w, Kind::Tcp, family);
        let refusal = to_stranger(&syn).flags(Flags(0x14));
        let refusal = refusal.numbers(0, syn.numbers.0 + 1 + syn.payload.len() as u32);
        w.ep_out(&A, &refusal).redirected();
        assert_eq!(older(w, 200, family), 0);
        w.up_in(&syn).redirected();
        w.ep_out(&A, &refusal).redirected();
        assert_eq!(older(w, 41, family), 1, "four minutes after it came");
        // One that A takes stays as long as others.
        let syn = come_in(w, Kind::Tcp, family);
        w.ep_out(&A, &to_stranger(&syn)).redirected();
        w.up_in(&syn.flags(Flags::ACK)).redirected();
        assert_eq!(older(w, 600, family), 0);
    });
}
