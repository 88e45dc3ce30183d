//! From a file of `netd capture` to a test, and what is no such file.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netd_tests::lab::process::Running;
use netd_tests::lab::{Endpoint, Lab};
use netd_tests::packet::repro;

/// Captures one packet of `a`, its ping to `to`, and gives the file.
fn captured(lab: &Lab, a: &Endpoint, to: IpAddr, more: &[&str]) -> Result<PathBuf> {
    let file = lab.dir().join(format!("{}.pcapng", more.concat()));
    let path = file.to_str().context("a path")?;
    let host = to.to_string();
    let args = [
        &["capture", "a", "-w", path, "--count", "1"],
        more,
        &["dst", "host", &host],
    ];
    let mut command = lab.node.netd_command(&args.concat());
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command)?;
    let said = running.child().stderr.take().context("no stderr")?;
    let mut said = BufReader::new(said);
    let mut line = String::new();
    said.read_line(&mut line)?;
    ensure!(line.contains("capturing"), "{line}");
    a.ping_fails(to)?;
    let status = running.wait()?;
    ensure!(status.success(), "{status}");
    Ok(file)
}

/// Runs `netd repro`, which fails with this exit status and one line with these words.
fn refused(lab: &Lab, args: &[&str], status: i32, part: &str) -> Result<()> {
    let out = lab.node.netd(&[&["repro"], args].concat())?;
    let error = out.stderr;
    assert_eq!(out.code, Some(status), "{args:?}: {error}");
    ensure!(
        error.lines().count() == 1 && error.contains(part) && out.stdout.is_empty(),
        "{args:?}: {error}"
    );
    Ok(())
}

#[test]
fn a_captured_drop_becomes_a_test_that_runs_elsewhere() -> Result<()> {
    let lab = Lab::new("repro-captured")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    for to in [b.v4(), b.v6()] {
        let more = if to.is_ipv4() { "icmp" } else { "icmp6" };
        let file = captured(&lab, &a, to, &[more])?;
        let (pcap, test) = (
            file.to_str().context("a path")?,
            lab.dir().join("dropped.rs"),
        );
        let test = test.to_str().context("a path")?;
        let said = lab.node.netd_ok(&["repro", "--pcap", pcap, "-w", test])?;
        // The one that the packet suite has: see docs/testing.md.
        if to.is_ipv4()
            && let Some(kept) = std::env::var_os("NETD_KEEP_REPRO")
        {
            std::fs::copy(test, kept)?;
        }
        ensure!(said.contains("isolated") && said.contains(test), "{said}");
        let case = super::const_of(&std::fs::read_to_string(test)?)?;
        ensure!(
            case.contains("\nrun ep_out ") && case.contains("\nends dropped isolated\n"),
            "{case}"
        );
        repro::check(&case).context(case)?;
        // By its number it is the same, and so it is by the endpoint that sent it.
        let to_stdout = lab
            .node
            .netd_ok(&["repro", "--pcap", pcap, "--frame", "1"])?;
        ensure!(to_stdout.contains("fn a_packet_"), "{to_stdout}");
        let at = lab.node.netd_ok(&["repro", "a", "--pcap", pcap])?;
        ensure!(at.contains("_is_dropped_at_ep_out_as_isolated() {"), "{at}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_reproduced_is_refused_in_one_line() -> Result<()> {
    let lab = Lab::new("repro-refused")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    let short = captured(&lab, &a, b.v4(), &["--snaplen", "40"])?;
    let short = short.to_str().context("a path")?;
    refused(&lab, &["--pcap", short], 1, "larger --snaplen")?;
    let drop = captured(&lab, &a, b.v4(), &[])?;
    let drop = drop.to_str().context("a path")?;
    refused(&lab, &["--pcap", drop, "--frame", "9"], 1, "no number 9")?;
    refused(&lab, &["--pcap", drop, "--frame", "0"], 2, "--frame")?;
    refused(&lab, &["--frame", "1", "a", "icmp 1.1.1.1"], 2, "--pcap")?;
    let twice = [&format!("{drop}:1")[..], "--frame", "1"];
    refused(&lab, &[&["--pcap"], &twice[..]].concat(), 2, "one of them")?;
    // A file of others does not say where a packet was seen, or whether it was dropped.
    let plain = lab.dir().join("plain.pcap");
    let n = |v: u32| v.to_le_bytes();
    let file = [n(0xa1b2_c3d4), n(0x0004_0002), n(0), n(0), n(65_535), n(1)];
    let frame = [n(0), n(0), n(60), n(60)];
    std::fs::write(
        &plain,
        [file.concat(), frame.concat(), vec![0; 60]].concat(),
    )?;
    let plain = plain.to_str().context("a path")?;
    refused(&lab, &["--pcap", plain], 1, "saw dropped")?;
    refused(&lab, &["--pcap", plain, "--frame", "1"], 1, "at which hook")?;
    refused(
        &lab,
        &["--pcap", "/nonexistent"],
        1,
        "cannot read /nonexistent",
    )?;
    refused(&lab, &["nobody", "icmp 1.1.1.1"], 1, "no endpoint")?;
    refused(&lab, &["a"], 2, "PACKET")?;
    refused(&lab, &["a", "sctp 1.1.1.1:1"], 2, "no protocol")?;
    let nowhere = ["a", "icmp 1.1.1.1", "-w", "/nonexistent/x.rs"];
    refused(&lab, &nowhere, 1, "cannot write /nonexistent/x.rs")?;
    // What would not be dropped now, and what has no device now.
    lab.node.netd_ok(&["detach", "b"])?;
    let test = lab.dir().join("gone.rs");
    let to = test.to_str().context("a path")?;
    let gone = "was dropped as isolated when";
    refused(&lab, &["--pcap", drop, "-w", to], 1, gone)?;
    ensure!(!test.exists(), "a test of nothing was written");
    lab.node.netd_ok(&["detach", "a"])?;
    refused(&lab, &["--pcap", drop], 1, "any more")?;
    lab.node.stop(nix::sys::signal::Signal::SIGTERM)?;
    refused(&lab, &["--pcap", drop], 1, "daemon")?;
    Ok(())
}
