//! `netd-lab bench`: netd beside the kernel's own ways, in one run, on one machine.
//!
//! The method is in `docs/bench.md`. `load` is the load generator and `worker` the processes it
//! runs in, `udp` that of one-way packets; `peers`, `node` and `scale` build what is compared; `schedule` interleaves the cells;
//! `attach` measures attaching, `programs` what the programs cost by themselves; `stats` and `compare` turn cells into ratios; `report` keeps
//! them, `table` and `plot` show them.

mod attach;
mod canvas;
mod compare;
mod floor;
mod load;
mod machine;
mod node;
mod options;
mod peers;
mod plot;
mod probe;
mod programs;
mod report;
mod scale;
mod scenario;
mod schedule;
mod stats;
mod table;
mod udp;
mod worker;

use std::ffi::OsString;

use anyhow::{Result, ensure};
use clap::Parser as _;

use crate::lab::cleanup;
use crate::lab::names::LabId;
use crate::lab::signals;
use options::Options;
use report::Report;
use scenario::Bed;

/// Runs the benchmark with the arguments that follow `bench`.
///
/// True: it was measured, whether or not a target was met; with `--strict` a missed target is false.
/// Wrong usage ends the process with exit status 2, as clap does it.
pub fn main<I, T>(args: I) -> Result<bool>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.first().is_some_and(|a| a == worker::VERB) {
        return worker::main().map(|()| true);
    }
    bench(&Options::parse_from(
        std::iter::once(OsString::from("bench")).chain(args),
    ))
}

/// The namespaces of the peers; gone when this is dropped.
struct Peers(LabId);

impl Peers {
    fn reserve() -> Result<Self> {
        let id = LabId::reserve()?;
        signals::watch(&id)?;
        Ok(Self(id))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        if let Err(e) = cleanup::remove(&self.0) {
            eprintln!("bench: {e:#}");
        }
        signals::forget(&self.0);
    }
}

fn bench(options: &Options) -> Result<bool> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the bench makes network namespaces: run it as root"
    );
    let mut report = Report::begin(options);
    // Declared first, dropped last: the load processes end before their namespaces go.
    let peers = Peers::reserve()?;
    let lab = node::lab(options)?;
    let nodes = scale::nodes(options)?;
    {
        let mut bed = Bed::build(&peers.0, lab.as_ref(), &nodes, options)?;
        for lab in nodes.iter().map(|n| &n.lab).chain(&lab) {
            node::settled(lab)?;
        }
        report.cells = schedule::run(&mut bed, options)?;
        if options.attach > 0 {
            report.attach = Some(attach::measure(&peers.0, lab.as_ref(), options)?);
            report.attach_scale = attach::at_scale(&nodes, options)?;
        }
    }
    if options.wants_programs() {
        report.programs = Some(programs::measure(options));
    }
    report.finish();
    println!("{}", table::show(&report));
    for path in report.save(&options.out_dir()?)? {
        println!("wrote {}", path.display());
    }
    Ok(!options.strict || report.all_met())
}
