//! `netd daemon` and `netd cleanup`: flags into the options of the daemon.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::{Context, Outcome};
use crate::config::{AttachChoice, DaemonOptions, XdpChoice};

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
    /// How TC programs are attached [default: auto]
    #[arg(long, value_name = "MODE")]
    attach_mode: Option<AttachChoice>,
    /// How XDP is attached on uplinks [default: auto]
    #[arg(long, value_name = "MODE")]
    xdp: Option<XdpChoice>,
}

/// Where an instance keeps its things.
#[derive(Debug, Args)]
struct Place {
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

pub fn run(verb: Daemon, ctx: &Context) -> Outcome {
    bail!("not built")
}
pub fn cleanup(verb: Cleanup, ctx: &Context) -> Outcome {
    bail!("not built")
}
