//! The benchmark measures what it says it measures. No figure is judged here: only that every path
//! carried its load and that the result is complete.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Runs the smallest benchmark there is; its result as JSON.
fn bench(out: &Path, args: &[&str]) -> Result<Value> {
    let run = Command::new(env!("CARGO_BIN_EXE_netd-lab"))
        .args([
            "bench",
            "--rounds",
            "1",
            "--cell-ms",
            "20",
            "--attach",
            "2",
            "--out",
        ])
        .arg(out)
        .args(args)
        .output()?;
    let stdout = String::from_utf8_lossy(&run.stdout);
    ensure!(
        run.status.success(),
        "{stdout}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let find = |suffix: &str| {
        let lines = stdout.lines().filter_map(|l| l.strip_prefix("wrote "));
        lines
            .map(Path::new)
            .find(|p| p.extension().is_some_and(|e| e == suffix))
            .map(Path::to_path_buf)
    };
    let svg = std::fs::read_to_string(find("svg").context("no picture was written")?)?;
    ensure!(
        svg.starts_with("<svg") && svg.contains("TCP_CRR"),
        "not a picture: {svg:.80}"
    );
    let json = std::fs::read(find("json").context("no JSON was written")?)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Path, load and contender (with its level) of each one-CPU figure; all must have measured something.
fn figures(report: &Value) -> Result<Vec<String>> {
    let figures = report["figures"].as_array().context("no figures")?;
    let mut names = Vec::new();
    for figure in figures {
        let text = |key: &str| figure[key].as_str().unwrap_or_default().to_owned();
        let name = format!(
            "{} {} {} {}",
            text("scenario"),
            text("placement"),
            text("kind"),
            text("variant")
        );
        let udp = text("kind") == "udp";
        ensure!(
            figure["p50_us"].as_f64() > Some(0.0) || udp,
            "{name} has no latency"
        );
        ensure!(
            !udp || (figure["cpu_ns"].is_f64() && figure["lost_pct"].is_f64()),
            "{name} does not say what a packet cost and how many were lost"
        );
        ensure!(figure["rate"].as_f64() > Some(0.0), "{name} has no rate");
        ensure!(figure["failures"] == 0, "{name} had failures");
        if text("placement") == "one" {
            names.push(format!(
                "{} {} {}{}",
                text("scenario"),
                text("kind"),
                text("variant"),
                figure["level"]
                    .as_u64()
                    .map(|level| format!(" {level}"))
                    .unwrap_or_default()
            ));
        }
    }
    Ok(names)
}

/// Who is compared with whom on the scale paths.
fn pairs(report: &Value) -> Vec<String> {
    let all = report["comparisons"].as_array().into_iter().flatten();
    all.filter(|c| !c["a_level"].is_null())
        .map(|c| {
            format!(
                "{} {} {} over {} {}",
                c["scenario"], c["a"], c["a_level"], c["b"], c["b_level"]
            )
            .replace('"', "")
        })
        .collect()
}

#[test]
fn ten_thousand_published_ports_are_held_against_one() -> Result<()> {
    let out = tempfile::tempdir()?;
    let args = ["--path", "published-scale", "--largest", "10000"];
    let report = bench(out.path(), &args)?;
    let names = figures(&report)?;
    for level in ["1", "100", "1000", "10000"] {
        for who in ["netd", "iptables"] {
            let expected = format!("published-scale crr {who} {level}");
            assert!(
                names.contains(&expected),
                "{expected} is missing in {names:?}"
            );
        }
    }
    assert_eq!(names.len(), 8);
    let all = report["comparisons"].as_array().into_iter().flatten();
    let targets: Vec<_> = all
        .filter(|c| !c["target"].is_null())
        .map(|c| (&c["a_level"], &c["b_level"], &c["target"]["at-least"]))
        .collect();
    assert_eq!(targets, [(&10_000.into(), &1.into(), &0.95.into())]);
    Ok(())
}

#[test]
fn every_peer_carries_its_load_over_both_ip_versions() -> Result<()> {
    let out = tempfile::tempdir()?;
    for ip in ["v4", "v6"] {
        let report = bench(
            out.path(),
            &["--peers-only", "--largest", "100", "--ip", ip],
        )?;
        let names = figures(&report)?;
        for expected in [
            "same-node rr bridge",
            "same-node crr veth",
            "same-node crr bridge-again",
            "outside rr iptables",
            "outside crr bridge-iptables",
            "published rr iptables",
            "published crr bridge-iptables",
            "published-scale crr iptables 1",
            "published-scale crr iptables 100",
            "udp-same-node udp bridge",
            "udp-same-node udp veth",
            "udp-outside udp iptables",
            "udp-outside udp bridge-iptables",
        ] {
            assert!(
                names.iter().any(|n| n == expected),
                "{expected} is missing in {names:?}"
            );
        }
        assert!(!names.iter().any(|n| n.contains("netd")));
        assert_eq!(
            report["attach"]["floor_ms"].as_array().map(Vec::len),
            Some(2)
        );
    }
    Ok(())
}

#[test]
fn netd_is_measured_beside_its_peers_on_every_path() -> Result<()> {
    let out = tempfile::tempdir()?;
    for ip in ["v4", "v6"] {
        let report = bench(out.path(), &["--largest", "100", "--ip", ip])?;
        let names = figures(&report)?;
        for path in ["same-node", "outside", "published"] {
            for kind in ["rr", "crr"] {
                let expected = format!("{path} {kind} netd");
                assert!(
                    names.contains(&expected),
                    "{expected} is missing in {names:?}"
                );
            }
        }
        for expected in [
            "published-scale crr netd 1",
            "published-scale crr netd 100",
            "endpoint-scale rr netd 2",
            "endpoint-scale crr netd 100",
            "udp-same-node udp netd",
            "udp-outside udp netd",
        ] {
            assert!(
                names.iter().any(|n| n == expected),
                "{expected} is missing in {names:?}"
            );
        }
        let pairs = pairs(&report);
        for expected in [
            "published-scale netd 100 over netd 1",
            "published-scale netd 100 over iptables 100",
            "published-scale iptables 100 over iptables 1",
            "endpoint-scale netd 100 over netd 2",
        ] {
            assert!(
                pairs.iter().any(|p| p == expected),
                "{expected} is missing in {pairs:?}"
            );
        }
        let more = report["attach_scale"].as_array().into_iter().flatten();
        let more: Vec<_> = more
            .map(|at| (&at["endpoints"], at["traffic_ms"].as_array().map(Vec::len)))
            .collect();
        assert_eq!(more, [(&2.into(), Some(1)), (&100.into(), Some(1))]);
        let targets = report["comparisons"].as_array().into_iter().flatten();
        let main = targets
            .filter(|c| !c["target"].is_null() && (c["b"] == "bridge" || c["b"] == "iptables"));
        assert_eq!(main.count(), 4);
        assert_eq!(
            report["attach"]["traffic_ms"].as_array().map(Vec::len),
            Some(2)
        );
        assert!(report["attach"]["rss_mib"].as_f64() > Some(1.0));
    }
    Ok(())
}

#[test]
fn every_program_is_measured_by_itself() -> Result<()> {
    let out = tempfile::tempdir()?;
    let run = Command::new(env!("CARGO_BIN_EXE_netd-lab"))
        .args(["bench", "--quick", "--path", "programs", "--attach", "0"])
        .arg("--out")
        .arg(out.path())
        .output()?;
    ensure!(run.status.success(), "{run:?}");
    let shown = String::from_utf8(run.stdout)?;
    let mut written = shown.lines().filter_map(|l| l.strip_prefix("wrote "));
    let json = written.next_back().context("no JSON was written")?;
    let report: Value = serde_json::from_slice(&std::fs::read(json)?)?;
    let programs = &report["programs"];
    let ways = programs["ways"].as_array().context("no ways")?;
    assert_eq!(ways.len(), 9);
    // A look-up takes some time anywhere; a packet that dies at once takes next to none.
    let switched = ways
        .iter()
        .find(|way| way["what"] == "switched inside a network");
    assert!(switched.is_some_and(|way| way["v4_ns"].as_f64() > Some(1.0)));
    let sizes = programs["sizes"].as_array().context("no sizes")?;
    for program in ["netd_ep_out", "netd_ep_new", "netd_xdp"] {
        let size = sizes.iter().find(|size| size["program"] == program);
        let instructions = size.and_then(|size| size["instructions"].as_u64());
        assert!(instructions > Some(100), "{program}: {instructions:?}");
        assert!(shown.contains(program), "the table has no {program}");
    }
    Ok(())
}

#[test]
fn wrong_usage_is_refused_before_anything_is_made() -> Result<()> {
    for args in [
        &["--rounds", "0"][..],
        &["--ip", "v5"],
        &["--path", "nowhere"],
        &["--faster"],
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_netd-lab"))
            .arg("bench")
            .args(args)
            .output()?;
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        assert!(run.stdout.is_empty(), "{args:?}");
    }
    Ok(())
}
