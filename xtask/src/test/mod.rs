//! `cargo xtask test`: everything, in the order of cost. Host tests run as this user; then the
//! packet and lab suites, of which only the test binaries are raised to root.

pub mod binaries;
mod leftovers;
mod report;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write, pipe, stdout},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{build, check::promises, exec, progress, root, setup};
use leftovers::Leftovers;
use report::Report;

/// Nobody watches a run without a terminal: one that hangs ends after so many seconds.
const LIMIT: u32 = 50 * 60;

/// The verb. `filter` goes to every test binary.
pub fn run(filter: &[String]) -> Result<()> {
    let start = Instant::now();
    setup::lab_tools()?;
    let raise = root::prefix()?;

    println!("== host tests");
    let mut report = Report::default();
    libtest(&mut exec::cargo(), &[], filter, &mut report)?;

    println!("== building netd and the suites");
    build::netd_and_lab()?;
    exec::run(exec::cargo().args(["test", "--locked", "-p", "netd-tests", "--no-run"]))?;

    println!("== packet and lab suites, as root");
    let before = Leftovers::find()?;
    let mut suites = exec::cargo();
    if !raise.is_empty() {
        suites.env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
            raise.join(" "),
        );
    }
    libtest(&mut suites, &["-p", "netd-tests"], filter, &mut report)?;
    let left = Leftovers::find()?.beyond(&before);

    for (test, reason) in &report.skipped {
        println!("skipped: {test}: {reason}");
    }
    println!("== finished in {}", progress::seconds(start.elapsed()));
    println!("{}", report.totals());
    if report.failed > 0 || !report.broken.is_empty() {
        let mut all = report.failures.clone();
        all.extend(report.broken.iter().cloned());
        bail!("tests failed: {}", all.join(", "));
    }
    if !left.is_empty() {
        bail!("the suites left behind: {left}; `cargo xtask clean` removes it");
    }
    if report.passed == 0 && !report.skipped.is_empty() {
        bail!("nothing was proven: every test that ran was skipped");
    }
    if report.passed == 0 {
        bail!(
            "no test ran: no test's name contains `{}`",
            filter.join("` or `")
        );
    }
    unproven(&report)
}

/// Runs `cargo test` and shows its output as it comes, without what passing tests print.
fn libtest(
    cargo: &mut Command,
    what: &[&str],
    filter: &[String],
    report: &mut Report,
) -> Result<()> {
    let (reader, writer) = pipe().context("cannot make a pipe")?;
    cargo
        .args(["test", "--locked", "--no-fail-fast"])
        .args(what)
        // Passing tests' output is where a skipped test says so.
        .args(["--", "--show-output"])
        .args(filter);
    let mut limited;
    let command = if progress::interactive() {
        cargo
    } else {
        limited = exec::limited(cargo, LIMIT);
        &mut limited
    };
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot copy a pipe end")?)
        .stderr(writer);
    let mut child = command.spawn().context("cannot start cargo test")?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    report.begin();
    let mut out = stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("lost the output of cargo test")?;
        let line = String::from_utf8_lossy(&line);
        if report.line(&line) {
            writeln!(out, "{line}").context("cannot write to standard output")?;
        }
    }
    let status = child.wait().context("lost cargo test")?;
    if !status.success() && report.failed_since_begin() == 0 {
        // A binary that did not compile, or died before it could say which test it was in.
        report
            .broken
            .push(format!("`cargo test {}` ({status})", what.join(" ")));
    }
    Ok(())
}

/// A promise whose test was skipped on this machine is not proven here.
fn unproven(report: &Report) -> Result<()> {
    if report.skipped.is_empty() {
        return Ok(());
    }
    let skipped: HashMap<&str, &str> = report
        .skipped
        .iter()
        .map(|(test, reason)| (test.as_str(), reason.as_str()))
        .collect();
    let mut unproven = Vec::new();
    for promise in promises::load()? {
        for test in promise.tests() {
            if let Some(reason) = skipped.get(test.as_str()) {
                unproven.push(format!("{} ({test}: {reason})", promise.id));
            }
        }
    }
    if !unproven.is_empty() {
        bail!(
            "promises that this machine cannot prove: {}",
            unproven.join(", ")
        );
    }
    Ok(())
}
