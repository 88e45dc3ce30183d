//! `netd status`, `netd version` and `netd completions`.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use netd_api::{Status as Object, UplinkStatus};
use serde::Serialize;

use super::output::{fields, print};
use super::{Context, Outcome};

/// `netd status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd status\n  netd status -o json\n\nFails when no daemon answers."
)]
pub struct Status {}

/// `netd version`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netd version -o json")]
pub struct Version {}

/// `netd completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netd completions bash > /etc/bash_completion.d/netd")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    daemon: Option<String>,
}

/// Prints the daemon's state.
pub async fn status(ctx: &Context) -> Outcome {
    ctx.out.show(&ctx.client.status().await?, summary)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the version of this program, and the daemon's if one answers.
pub async fn version(ctx: &Context) -> Outcome {
    let daemon = ctx.client.status().await.ok().map(|s| s.version);
    let versions = Versions {
        version: env!("CARGO_PKG_VERSION"),
        daemon,
    };
    ctx.out.show(&versions, |v| match &v.daemon {
        Some(daemon) => format!("netd {}\ndaemon {daemon}", v.version),
        None => format!("netd {}", v.version),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a completion script.
pub fn completions(verb: &Completions, command: &mut Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(verb.shell, command, "netd", &mut script);
    print(&String::from_utf8(script)?);
    Ok(ExitCode::SUCCESS)
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m {}s", seconds % 60),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

fn uplink(u: &UplinkStatus) -> String {
    let address = |a: Option<std::net::IpAddr>| a.map_or_else(|| "none".into(), |a| a.to_string());
    format!(
        "{} (v4 {}, v6 {}, xdp {}, mtu {})",
        u.device,
        address(u.v4),
        address(u.v6),
        u.xdp,
        u.mtu
    )
}

fn summary(s: &Object) -> String {
    let mut rows = vec![
        (
            "daemon",
            format!("{} (pid {}, up {})", s.version, s.pid, uptime(s.uptime_s)),
        ),
        ("instance", s.instance.clone()),
        ("kernel", s.kernel.clone()),
        ("attach mode", s.attach_mode.clone()),
        ("cgroup", s.cgroup.clone().unwrap_or_else(|| "none".into())),
    ];
    if s.uplinks.is_empty() {
        rows.push(("uplink", "none".into()));
    }
    rows.extend(s.uplinks.iter().map(|u| ("uplink", uplink(u))));
    rows.extend([
        ("networks", s.networks.to_string()),
        ("endpoints", s.endpoints.to_string()),
        ("published", s.published.to_string()),
        ("flows", s.flows.to_string()),
        ("run directory", s.run_dir.clone()),
        ("state directory", s.state_dir.clone()),
        ("pins", s.bpf_dir.clone()),
    ]);
    if s.problems.is_empty() {
        rows.push(("problems", "none".into()));
    }
    rows.extend(s.problems.iter().map(|p| ("PROBLEM", p.clone())));
    fields(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Object {
        Object {
            version: "0.1.0".into(),
            instance: "default".into(),
            pid: 7,
            uptime_s: 61,
            kernel: "6.18".into(),
            attach_mode: "tcx".into(),
            cgroup: Some("/sys/fs/cgroup".into()),
            run_dir: "/run/netd".into(),
            state_dir: "/var/lib/netd".into(),
            bpf_dir: "/sys/fs/bpf/netd".into(),
            uplinks: vec![],
            networks: 1,
            endpoints: 2,
            published: 0,
            flows: 3,
            problems: vec![],
        }
    }

    #[test]
    fn problems_stand_out_and_their_absence_is_said() {
        let text = summary(&healthy());
        assert!(
            text.contains("problems:") && !text.contains("PROBLEM"),
            "{text}"
        );
        let text = summary(&Object {
            problems: vec!["a".into(), "b".into()],
            ..healthy()
        });
        assert_eq!(
            text.lines().filter(|l| l.starts_with("PROBLEM:")).count(),
            2,
            "{text}"
        );
    }

    #[test]
    fn uptime_has_two_units() {
        assert_eq!(uptime(59), "59s");
        assert_eq!(uptime(61), "1m 1s");
        assert_eq!(uptime(3600), "1h 0m");
        assert_eq!(uptime(90_000), "1d 1h");
    }
}
