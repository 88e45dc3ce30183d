//! No drop reason without its proof.

use std::collections::BTreeSet;

use netd_common::reason::DropReason;
use netd_tests::packet::DropCase;

/// What no packet of this suite can produce, and why.
const UNPROVEN: &[(DropReason, &str)] = &[
    (
        DropReason::Helper,
        "a helper of the kernel fails for want of memory or on an skb that cannot be written: neither \
         can be brought about from outside",
    ),
    (
        DropReason::FragTimeout,
        "no packet's own end: it is counted for one that waited, when another takes its place \
         (fragments::an_endpoint_has_its_oldest_fragment_given_up_for_its_newest)",
    ),
];

fn cases() -> impl Iterator<Item = &'static DropCase> {
    [
        super::floating::DROPS,
        super::fragments::DROPS,
        super::guard::DROPS,
        super::hairpin::DROPS,
        super::hygiene::DROPS,
        super::icmp::DROPS,
        super::learning::DROPS,
        super::limits::DROPS,
        super::mapping::DROPS,
        super::masquerade::DROPS,
        super::published::DROPS,
        super::route::DROPS,
        super::stack::DROPS,
        super::state::DROPS,
        super::state::FULL,
        super::storm::DROPS,
        super::switch::DROPS,
        super::wire::DROPS,
    ]
    .into_iter()
    .flatten()
}

#[test]
fn every_drop_reason_is_produced_by_a_packet_or_says_why_not() {
    let produced: BTreeSet<DropReason> = cases().map(|case| case.reason).collect();
    let excused: BTreeSet<DropReason> = UNPROVEN.iter().map(|(reason, _)| *reason).collect();
    let all: BTreeSet<DropReason> = DropReason::ALL.iter().copied().collect();
    let known: BTreeSet<DropReason> = produced.union(&excused).copied().collect();
    assert_eq!(
        all.difference(&known).collect::<Vec<_>>(),
        Vec::<&DropReason>::new()
    );
    assert_eq!(
        produced.intersection(&excused).collect::<Vec<_>>(),
        Vec::<&DropReason>::new(),
        "what a case produces needs no excuse"
    );
}
