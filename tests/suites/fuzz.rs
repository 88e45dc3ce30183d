//! Random frames through the loaded programs; and the fuzzer itself, which must find mistakes that the
//! programs make when they are asked to.

use std::collections::BTreeSet;

use netd_common::planted;
use netd_common::reason::{DropReason, Hook};
use netd_fuzz::run::Budget;
use netd_tests::packet::World;
use netd_tests::packet::fuzz::{self, Failure};

/// Cases of the ordinary suite.
const CASES: u64 = 100_000;

/// Reasons that no single frame at these hooks need die of, and why.
const UNMET: &[(DropReason, &str)] = &[
    (DropReason::NoPort, "every device of the world has its row"),
    (DropReason::Helper, "a helper fails for want of memory only"),
    (DropReason::FlowRace, "takes two CPUs"),
    (
        DropReason::NatFragment,
        "takes a fragment whose first one began a flow that is gone",
    ),
    (
        DropReason::FragTimeout,
        "is never the end of the packet at hand",
    ),
    (
        DropReason::NotOurs,
        "is of netd_ep_in, which reads nothing of a packet but its mark",
    ),
];

#[test]
fn a_hundred_thousand_frames_break_no_promise() {
    World::with_mistakes(0, |w| {
        let budget = Budget::of(CASES);
        let tally = fuzz::kept(w).and_then(|_| fuzz::random(w, budget));
        let tally = tally.unwrap_or_else(|f| panic!("{}", f.report(budget.seed)));
        println!("seed {}: {tally}", budget.seed);
        // Rare ones are met by the suite's own seed, not by any.
        if budget != Budget::fixed(CASES) {
            return;
        }
        assert!(
            tally.refused() * 10 < tally.cases(),
            "most frames are packets"
        );
        for hook in [Hook::EpOut, Hook::GwOut, Hook::UpIn, Hook::UpOut, Hook::Xdp] {
            let (passed, at) = (tally.passed(hook), tally.at(hook));
            assert!(passed * 4 > at, "{}: {passed} of {at} passed", hook.name());
        }
        let excused: BTreeSet<DropReason> = UNMET.iter().map(|(reason, _)| *reason).collect();
        let met: BTreeSet<DropReason> = DropReason::ALL
            .iter()
            .copied()
            .filter(|r| tally.has(*r))
            .collect();
        let all: BTreeSet<DropReason> = DropReason::ALL.iter().copied().collect();
        let wanted: BTreeSet<DropReason> = all.difference(&excused).copied().collect();
        assert_eq!(
            wanted.difference(&met).collect::<Vec<_>>(),
            Vec::<&DropReason>::new(),
            "each reason is met, or says why not"
        );
    });
}

/// What the fuzzer says of programs with a mistake, within the suite's budget.
fn found(mistake: u32) -> Failure {
    let mut found = None;
    World::with_mistakes(mistake, |w| {
        found = fuzz::random(w, Budget::fixed(CASES)).err();
    });
    *found.expect("the mistake is found")
}

#[test]
fn a_guard_that_skips_a_check_is_found() {
    let failure = found(planted::SOURCE);
    assert!(failure.alone, "{failure:?}");
    assert!(
        failure.what.starts_with("an endpoint sent from ["),
        "{failure:?}"
    );
}

#[test]
fn what_nobody_can_read_and_a_stack_would_route_is_found() {
    let failure = found(planted::UNREAD);
    assert_eq!(failure.what, "the stack may route it to an endpoint");
}
