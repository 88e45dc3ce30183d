//! `netd daemon` and `netd cleanup`: flags into the options of the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::masquerade::Flags;
use super::output::list;
use super::{Context, Outcome, wait};
use crate::config::{AttachChoice, DaemonOptions, XdpChoice};
use crate::daemon::{self, cleanup};

/// `netd daemon`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netd daemon\n  \
    netd daemon --config /etc/netd.toml --uplink eth1 -v\n\n\
    Flags beat the configuration file. SIGTERM ends the daemon and leaves traffic running;\n\
    `netd cleanup` removes every trace. Another instance is reached with --socket.")]
pub struct Daemon {
    /// Configuration file (TOML)
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Device that leads outside, repeatable [default: those of the default routes]
    #[arg(long = "uplink", value_name = "IF")]
    uplinks: Vec<String>,
    /// Cgroup whose processes may use published ports on the node itself
    #[arg(long, value_name = "P")]
    cgroup: Option<PathBuf>,
    #[command(flatten)]
    masquerade: Flags,
    /// How TC programs are attached [default: auto]
    #[arg(long, value_name = "MODE")]
    attach_mode: Option<AttachChoice>,
    /// How XDP is attached on uplinks [default: auto]
    #[arg(long, value_name = "MODE")]
    xdp: Option<XdpChoice>,
    /// What to log: error, warn, info, debug, trace, or MODULE=LEVEL with commas [default: info]
    #[arg(long, value_name = "FILTER", env = "NETD_LOG")]
    log: Option<String>,
}

/// Where an instance keeps its things.
#[derive(Debug, Args)]
pub struct Place {
    /// Instance name [default: default]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// State directory [default: /var/lib/netd, of another instance /var/lib/netd-NAME]
    #[arg(long, value_name = "D")]
    state_dir: Option<PathBuf>,
    /// Run directory with the socket [default: /run/netd, of another instance /run/netd-NAME]
    #[arg(long, value_name = "D")]
    run_dir: Option<PathBuf>,
    /// Directory of BPF pins [default: /sys/fs/bpf/netd, of another instance /sys/fs/bpf/netd-NAME]
    #[arg(long, value_name = "D")]
    bpf_dir: Option<PathBuf>,
}

/// `netd cleanup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd cleanup\n  netd cleanup --instance test --force\n\n\
    Stops a running daemon first. Refused while endpoints exist, without --force."
)]
pub struct Cleanup {
    #[command(flatten)]
    place: Place,
    /// Also when endpoints exist: they lose their network
    #[arg(long)]
    force: bool,
}

impl Place {
    /// As options of a daemon.
    pub fn options(self) -> DaemonOptions {
        DaemonOptions {
            instance: self.instance,
            state_dir: self.state_dir,
            run_dir: self.run_dir,
            bpf_dir: self.bpf_dir,
            ..DaemonOptions::default()
        }
    }
}

impl Daemon {
    fn options(self, verbose: bool) -> DaemonOptions {
        DaemonOptions {
            config: self.config,
            uplinks: self.uplinks,
            cgroup: self.cgroup,
            attach_mode: self.attach_mode,
            xdp: self.xdp,
            log: self.log,
            masquerade: self.masquerade.options(),
            verbose,
            ..self.place.options()
        }
    }
}

/// What `netd cleanup` did, as JSON.
#[derive(Serialize)]
struct Cleaned {
    stopped: Option<i32>,
    endpoints: Vec<String>,
    devices: Vec<String>,
    paths: Vec<String>,
}

/// Runs the daemon until a signal ends it.
pub fn run(verb: Daemon, ctx: &Context) -> Outcome {
    wait(daemon::run(verb.options(ctx.verbose)))?;
    Ok(ExitCode::SUCCESS)
}

/// Removes every trace of an instance, and says what there was.
pub fn cleanup(verb: Cleanup, ctx: &Context) -> Outcome {
    let report = cleanup::run(&verb.place.options(), verb.force)?;
    let cleaned = Cleaned {
        stopped: report.stopped,
        endpoints: report.endpoints,
        devices: report.devices,
        paths: report.paths,
    };
    ctx.out.show(&cleaned, summary)?;
    Ok(ExitCode::SUCCESS)
}

fn summary(cleaned: &Cleaned) -> String {
    let stopped = cleaned
        .stopped
        .map(|pid| format!("daemon stopped: pid {pid}"));
    let removed = [
        ("endpoints removed", &cleaned.endpoints),
        ("devices removed", &cleaned.devices),
        ("files removed", &cleaned.paths),
    ];
    let removed = removed
        .into_iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(what, items)| format!("{what}: {}", list(items)));
    let lines: Vec<String> = stopped.into_iter().chain(removed).collect();
    if lines.is_empty() {
        "nothing to clean up".into()
    } else {
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleanup_says_what_there_was_and_nothing_else() {
        let nothing = || Cleaned {
            stopped: None,
            endpoints: vec![],
            devices: vec![],
            paths: vec![],
        };
        assert_eq!(summary(&nothing()), "nothing to clean up");
        let some = Cleaned {
            stopped: Some(7),
            devices: vec!["nd-a".into(), "nd-b".into()],
            ..nothing()
        };
        assert_eq!(
            summary(&some),
            "daemon stopped: pid 7\ndevices removed: nd-a, nd-b"
        );
    }
}
