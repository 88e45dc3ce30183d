//! `cargo xtask`: the developer commands of netd. One file (or folder) per verb; this one only
//! parses the command line and calls them.
//!
//! Must stay light: it is the first thing a bare machine compiles.

mod build;
mod check;
mod exec;
mod fuzz;
mod lab;
mod progress;
mod record;
mod root;
mod setup;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand, error::ErrorKind};

/// Developer commands of netd. Every verb first makes sure that the tools it needs are there.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing to build netd and run its lab; does nothing when all is there
    Setup,
    /// Build target/release/netd
    Build,
    /// Formatting, lints for the host and the eBPF target, docs, promises, lock file, file sizes
    Check,
    /// Write what is committed and compared with the code later
    Record {
        #[command(subcommand)]
        what: record::What,
    },
    /// Run all tests: on the host, then the packet and lab suites as root
    Test {
        /// Only tests whose name contains one of these; further libtest options are passed on
        #[arg(last = true, value_name = "FILTER")]
        filter: Vec<String>,
    },
    /// Run the fuzzer longer than the tests do: netd's functions, then the loaded programs as root
    Fuzz(fuzz::Args),
    /// Start netd in a temporary lab node (`--host`: on this machine itself) until Ctrl-C
    Run(lab::Args),
    /// Show netd's main job on real traffic in a lab on this machine, then clean up
    Demo(lab::Args),
    /// Measure netd side by side with the kernel bridge and iptables
    Bench(lab::Args),
    /// Remove what a killed lab left on this machine
    Clean(lab::Args),
    /// Run the demo's checks and the packet suite under other kernels, in an emulated machine
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.verb {
        Verb::Setup => setup::run(),
        Verb::Build => build::run(),
        Verb::Check => check::run(),
        Verb::Record { what } => record::run(what),
        Verb::Test { filter } => test::run(&filter),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Run(args) => lab::run("run", &args),
        Verb::Demo(args) => lab::run("demo", &args),
        Verb::Bench(args) => lab::run("bench", &args),
        Verb::Clean(args) => lab::run("clean", &args),
        Verb::Vm(args) => vm::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Help goes out whole; a usage error is one line, as everywhere in netd.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            let text = error.to_string();
            let what = text.lines().next().unwrap_or_default();
            let what = what.strip_prefix("error: ").unwrap_or(what);
            eprintln!("xtask: {what}; `cargo xtask help` lists the verbs");
            ExitCode::from(2)
        }
    }
}
