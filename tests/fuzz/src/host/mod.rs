//! Targets that need no kernel: `netd-common` on any bytes. Each takes an input and says what does not hold.
//!
//! | target | what must hold |
//! |---|---|
//! | `parse` | nothing panics; what is accepted is what [`read`](crate::read) reads; bytes behind a packet's end change nothing |
//! | `guard` | what passes carries the endpoint's own MAC and addresses and no router's, server's or chooser's words |
//! | `rewrite` | a translated packet is as right or as wrong as it was, and translating back gives the same bytes |
//! | `numbers` | checksums, flow states, time-outs, outside ports: the arithmetic, against the plainest form of it |

mod guard;
mod numbers;
mod parse;
mod rewrite;

pub use self::guard::allowed;
pub use self::rewrite::as_right;

use fastrand::Rng;
use netd_common::addr::{V4, V6};
use netd_common::checksum::Delta;
use netd_common::guard::{self as netd_guard, Guarded, Source};
use netd_common::maps::Port;
use netd_common::reason::DropReason;
use netd_common::wire::{Family, Ip};

use crate::case::{At, Case, hex};
use crate::cast::Cast;
use crate::corpus;
use crate::minimise::minimise;
use crate::mutate;
use crate::run::{Budget, caught};

/// What is under test. The real thing is [`Real`]; a test of the fuzzer itself puts a mistake in its place.
pub trait Subject {
    /// Reads an IPv4 header.
    fn v4(&self, frame: &[u8]) -> Result<Ip<V4>, DropReason> {
        V4::parse(frame, 14)
    }
    /// Reads an IPv6 header.
    fn v6(&self, frame: &[u8]) -> Result<Ip<V6>, DropReason> {
        V6::parse(frame, 14)
    }
    /// Whose a source address is.
    fn source<A: Guarded>(&self, port: &Port, ip: &Ip<A>) -> Source {
        netd_guard::source(port, ip.src, ip.dst)
    }
    /// Changes a checksum.
    fn apply(&self, delta: Delta, field: [u8; 2]) -> [u8; 2] {
        delta.apply(field)
    }
}

/// netd's own functions.
pub struct Real;

impl Subject for Real {}

/// A target: input to failure.
pub type Target<S> = fn(&S, &[u8]) -> Result<(), String>;

/// Those that take frames, by name.
fn of_frames<S: Subject>() -> [(&'static str, Target<S>); 3] {
    [
        ("parse", parse::check),
        ("guard", guard::check),
        ("rewrite", rewrite::check),
    ]
}

/// What a run met.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Met {
    /// Cases.
    pub cases: u64,
    /// Frames whose IP header was accepted.
    pub packets: u64,
}

/// The first input that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Target.
    pub target: &'static str,
    /// Number of the case; the corpus has none.
    pub case: Option<u64>,
    /// The input, as small as it could be made.
    pub input: Vec<u8>,
    /// What does not hold of it.
    pub what: String,
}

/// Runs the corpus, then the cases of a budget, on every target.
pub fn run<S: Subject>(subject: &S, budget: Budget) -> Result<Met, Failure> {
    let kept = corpus::load().unwrap_or_else(|e| panic!("{e}"));
    let cast = Cast::new();
    let mut met = Met::default();
    for k in &kept {
        each(subject, &k.case.frame, None)?;
    }
    for n in budget.cases() {
        let mut rng = budget.rng(n);
        let frame = frame(&mut rng, &cast);
        each(subject, &frame, Some(n))?;
        one(subject, ("numbers", numbers), &bytes(&mut rng), Some(n))?;
        met.cases += 1;
        met.packets += u64::from(crate::read::ip(&frame).is_some());
    }
    Ok(met)
}

fn numbers<S: Subject>(_: &S, input: &[u8]) -> Result<(), String> {
    numbers::check(input)
}

/// A frame, or now and then bytes that were never one.
fn frame(rng: &mut Rng, cast: &Cast) -> Vec<u8> {
    if rng.u8(..16) == 0 {
        bytes(rng)
    } else {
        mutate::case(rng, cast).frame
    }
}

/// Any bytes, some of them runs of zeros or ones.
fn bytes(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.usize(..192)];
    rng.fill(&mut bytes);
    if bytes.len() > 8 && rng.bool() {
        let at = rng.usize(..bytes.len() - 8);
        let value = if rng.bool() { 0 } else { 0xff };
        bytes[at..at + 8].fill(value);
    }
    bytes
}

fn each<S: Subject>(subject: &S, input: &[u8], case: Option<u64>) -> Result<(), Failure> {
    of_frames::<S>()
        .into_iter()
        .try_for_each(|target| one(subject, target, input, case))
}

fn one<S: Subject>(
    subject: &S,
    (target, check): (&'static str, Target<S>),
    input: &[u8],
    case: Option<u64>,
) -> Result<(), Failure> {
    let fails = |bytes: &[u8]| caught(|| check(subject, bytes)).err();
    let Some(first) = fails(input) else {
        return Ok(());
    };
    let input = minimise(input, |bytes| fails(bytes).is_some(), 20_000);
    let what = fails(&input).unwrap_or(first);
    Err(Failure {
        target,
        case,
        input,
        what,
    })
}

impl Failure {
    /// What a person reads: how to see it again, and where the input was written.
    pub fn report(&self, seed: u64) -> String {
        let case = Case {
            at: At::Xdp,
            gso: 0,
            frame: self.input.clone(),
        };
        let name = format!("{}-{seed}-{}", self.target, self.case.unwrap_or(0));
        let why = format!("Target {} of the host: {}", self.target, self.what);
        let written = corpus::write(&name, &why, &case.to_string());
        format!(
            "{}: {}\n  seed {seed}, case {:?}\n  {}\n  {written}",
            self.target,
            self.what,
            self.case,
            hex(&self.input)
        )
    }
}
