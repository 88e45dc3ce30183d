//! `netd-common` under random frames; and the fuzzer itself, which must find mistakes that are put there.

use netd_common::addr::V6;
use netd_common::checksum::Delta;
use netd_common::guard::{self, Guarded, Source};
use netd_common::maps::Port;
use netd_common::reason::DropReason;
use netd_common::wire::{Family, Ip, Window};
use netd_fuzz::host::{self, Failure, Met, Real, Subject};
use netd_fuzz::run::Budget;

/// Cases of the ordinary suite.
const CASES: u64 = 1_000_000;

#[test]
fn a_million_frames_break_no_promise() {
    let budget = Budget::of(CASES);
    match host::run(&Real, budget) {
        Ok(Met { cases, packets }) => {
            println!(
                "{cases} cases from seed {}, {packets} of them whole IP packets",
                budget.seed
            );
            assert!(
                packets * 2 > cases,
                "most frames must come as far as the L4 header"
            );
        }
        Err(failure) => panic!("{}", failure.report(budget.seed)),
    }
}

/// What the fuzzer says of a subject with a mistake, within the suite's budget.
fn found(subject: &impl Subject) -> Failure {
    host::run(subject, Budget::fixed(CASES)).expect_err("the mistake is found")
}

/// Takes the length field for what it says, without a look at the frame's end.
struct LongerThanItIs;

/// A frame that claims to go on.
struct Longer<'a>(&'a [u8]);

impl Window for Longer<'_> {
    fn load<const N: usize>(&self, off: usize) -> Option<[u8; N]> {
        self.0.load(off)
    }

    fn len(&self) -> usize {
        self.0.len() + 1
    }
}

impl Subject for LongerThanItIs {
    fn v6(&self, frame: &[u8]) -> Result<Ip<V6>, DropReason> {
        V6::parse(&Longer(frame), 14)
    }
}

#[test]
fn a_length_that_is_one_too_large_is_found() {
    let failure = found(&LongerThanItIs);
    assert_eq!(failure.target, "parse");
    assert!(failure.input.len() <= 64, "made small: {failure:?}");
}

/// Lets fragments with options pass from any address.
struct SkipsFragments;

impl Subject for SkipsFragments {
    fn source<A: Guarded>(&self, port: &Port, ip: &Ip<A>) -> Source {
        if A::IS_V4 && ip.later && ip.l4 > 34 {
            return Source::Own;
        }
        guard::source(port, ip.src, ip.dst)
    }
}

#[test]
fn a_guard_that_skips_a_check_is_found() {
    let failure = found(&SkipsFragments);
    assert_eq!(failure.target, "guard");
    assert!(failure.what.starts_with("from ["), "{failure:?}");
}

/// Forgets the carry out of one sum in 65,536.
struct ForgetsACarry;

impl Subject for ForgetsACarry {
    fn apply(&self, delta: Delta, field: [u8; 2]) -> [u8; 2] {
        let right = delta.apply(field);
        let sum = u32::from(!u16::from_ne_bytes(field)) + delta.wsum();
        if sum == 0x1_0000 {
            return (!0u16).to_ne_bytes();
        }
        right
    }
}

#[test]
fn a_carry_forgotten_now_and_then_is_found() {
    assert_eq!(found(&ForgetsACarry).target, "rewrite");
}

/// Dies on one value of one byte.
struct Panics;

impl Subject for Panics {
    fn v6(&self, frame: &[u8]) -> Result<Ip<V6>, DropReason> {
        let ip = V6::parse(frame, 14)?;
        assert!(ip.proto != 136 || ip.ttl != 255, "UDP-Lite on the link");
        Ok(ip)
    }
}

#[test]
fn a_panic_is_found_and_said() {
    assert!(found(&Panics).what.starts_with("panicked: UDP-Lite"));
}

#[test]
fn the_same_seed_finds_the_same() {
    let (a, b) = (found(&SkipsFragments), found(&SkipsFragments));
    assert_eq!(a, b);
}
