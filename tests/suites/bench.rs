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

/// `path/variant` of each figure of both loads, each of which must have measured something.
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
        ensure!(
            figure["p50_us"].as_f64() > Some(0.0),
            "{name} has no latency"
        );
        ensure!(figure["rate"].as_f64() > Some(0.0), "{name} has no rate");
        ensure!(figure["failures"] == 0, "{name} had failures");
        if text("placement") == "one" {
            names.push(format!(
                "{} {} {}",
                text("scenario"),
                text("kind"),
                text("variant")
            ));
        }
    }
    Ok(names)
}

#[test]
fn every_peer_carries_its_load_over_both_ip_versions() -> Result<()> {
    let out = tempfile::tempdir()?;
    for ip in ["v4", "v6"] {
        let report = bench(out.path(), &["--peers-only", "--ip", ip])?;
        let names = figures(&report)?;
        for expected in [
            "same-node rr bridge",
            "same-node crr veth",
            "same-node crr bridge-again",
            "outside rr iptables",
            "outside crr bridge-iptables",
            "published rr iptables",
            "published crr bridge-iptables",
        ] {
            assert!(
                names.iter().any(|n| n == expected),
                "{expected} is missing in {names:?}"
            );
        }
        assert!(!names.iter().any(|n| n.ends_with("netd")));
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
        let report = bench(out.path(), &["--ip", ip])?;
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
