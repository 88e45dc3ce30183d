//! `netd-lab`: the demo, a lab to play in, the benchmark, and the removal of what killed runs left.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use netd_tests::lab::{AttachMode, Lab, cleanup, node, signals};
use netd_tests::{bench, demo};

/// The lab: simulated nodes on this machine, made of network namespaces.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Auto,
    Tcx,
    Clsact,
}

impl From<Mode> for AttachMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Tcx => Self::Tcx,
            Mode::Clsact => Self::Clsact,
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Show netd's main job: a node, three endpoints, an outside host, a published port.
    Demo {
        /// Leave the lab up, and say how to enter and how to remove it.
        #[arg(long)]
        keep: bool,
        /// No colours.
        #[arg(long)]
        plain: bool,
        /// How netd hooks its TC programs.
        #[arg(long, value_enum, default_value = "auto")]
        attach_mode: Mode,
        /// The netd binary to run.
        #[arg(long, value_name = "PATH")]
        netd: Option<PathBuf>,
    },
    /// Start a node with an outside host and wait; Ctrl-C cleans up.
    Run {
        /// Run the daemon on this machine itself, with its default directories.
        #[arg(long)]
        host: bool,
        /// How netd hooks its TC programs.
        #[arg(long, value_enum, default_value = "auto")]
        attach_mode: Mode,
        /// The netd binary to run.
        #[arg(long, value_name = "PATH")]
        netd: Option<PathBuf>,
    },
    /// Measure netd beside a veth pair, the kernel bridge and iptables.
    #[command(disable_help_flag = true)]
    Bench {
        /// See `bench --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Write the eBPF object that the daemon is built with to a file.
    Programs {
        /// The file.
        path: PathBuf,
    },
    /// Remove what killed runs left.
    Clean {
        /// Remove kept and running labs too.
        #[arg(long)]
        all: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Demo {
            keep,
            plain,
            attach_mode,
            netd,
        } => demo::run(&demo::Options {
            keep,
            plain,
            attach_mode: attach_mode.into(),
            netd,
        }),
        Verb::Run {
            host: true,
            attach_mode,
            netd,
        } => run_on_host(attach_mode.into(), netd),
        Verb::Run {
            host: false,
            attach_mode,
            netd,
        } => run_in_lab(attach_mode.into(), netd),
        Verb::Bench { args } => bench::main(args),
        Verb::Programs { path } => fs::write(&path, netd::datapath::OBJECT)
            .with_context(|| path.display().to_string())
            .map(|()| true),
        Verb::Clean { all } => clean(all),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("netd-lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn clean(all: bool) -> Result<bool> {
    let gone = cleanup::clean(all)?;
    for what in &gone {
        println!("removed {what}");
    }
    if gone.is_empty() {
        println!("nothing was left");
    }
    Ok(true)
}

fn run_in_lab(mode: AttachMode, netd: Option<PathBuf>) -> Result<bool> {
    let mut builder = Lab::builder("run").quiet().attach_mode(mode);
    if let Some(netd) = netd {
        builder = builder.netd(netd);
    }
    let lab = builder.build()?;
    let (node, outside) = (&lab.node, &lab.outside);
    let netd = fs::canonicalize(node::find_netd()?)?;
    let (netd, socket) = (netd.display(), node.socket().display().to_string());
    println!(
        "A node runs netd; behind its uplink {} is a host {}.",
        node.device,
        outside.v4()
    );
    println!("\nEnter the node, and tell netd's command line where its daemon is:");
    println!(
        "  nsenter --net={} env NETD_SOCKET={socket} PATH={}:$PATH sh",
        node.ns.path().display(),
        netd_dir(&netd.to_string())
    );
    println!("\nIn there:");
    println!("  netd network create web");
    println!("  netd ns add {}", lab.id().ns("a"));
    println!("  netd attach {} --network web --name a", lab.id().ns("a"));
    println!(
        "  netd ns exec {} ping -c 1 {}",
        lab.id().ns("a"),
        outside.v4()
    );
    println!("  netd publish a 8080:80 && netd stats");
    println!(
        "\nThe outside host: nsenter --net={} sh",
        outside.ns.path().display()
    );
    println!(
        "The daemon's log: {}\n\nCtrl-C ends it and removes everything.",
        node.log_path().display()
    );
    signals::wait_forever()
}

fn netd_dir(netd: &str) -> String {
    PathBuf::from(netd)
        .parent()
        .map(|p| p.display().to_string())
        .unwrap_or_default()
}

fn run_on_host(mode: AttachMode, netd: Option<PathBuf>) -> Result<bool> {
    let netd = match netd {
        Some(path) => path,
        None => node::find_netd()?,
    };
    println!(
        "netd runs on this machine itself; Ctrl-C stops the daemon, `netd cleanup` removes every trace."
    );
    // In this process's place: signals and exit status are the daemon's own.
    let error = Command::new(&netd)
        .args(["daemon", "--attach-mode", mode.name()])
        .exec();
    Err(error).with_context(|| format!("cannot run {}", netd.display()))
}
