//! The command line: reads arguments, asks the daemon through `netd-api`, prints the answer.
//!
//! One file for each group of verbs; `output` is the only one that writes to stdout, and `error`
//! decides what a failure looks like. Only `daemon`, `cleanup`, `doctor` and `openapi` call the rest of this crate; `ns`
//! does its own work, without a daemon, and looks at veths by `net`.

mod capture;
mod command;
mod daemon;
mod doctor;
mod endpoint;
mod error;
mod events;
mod file;
mod floating;
mod flow;
mod hints;
mod inspect;
mod loopback;
mod mapping;
mod masquerade;
mod monitor;
mod network;
mod ns;
mod openapi;
mod output;
mod pcap;
mod publish;
mod repro;
mod run;
mod stats;
mod status;
mod told;
mod trace;
mod until;
mod values;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use netd_api::Client;

use output::{Format, Output};

/// Networks everything on a node with eBPF: namespaces, containers, published ports.
#[derive(Debug, Parser)]
#[command(
    name = "netd",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done, 1 refused or failed, 2 wrong usage.\n\n\
        A first network, with `netd daemon` running:\n  \
        netd network create web\n  \
        netd ns add box\n  \
        netd attach box --network web --publish 8080:80\n  \
        netd ns exec box ping -c1 1.1.1.1"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options every verb takes.
#[derive(Clone, Debug, Args)]
struct Global {
    /// The daemon's Unix socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NETD_SOCKET",
        default_value = Client::DEFAULT_SOCKET,
        help_heading = "Global options"
    )]
    socket: PathBuf,
    /// A table for people, or the API's JSON for programs
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        help_heading = "Global options"
    )]
    output: Format,
    /// Say more on stderr: requests to the daemon; of the daemon, the log lines of its programs
    #[arg(short, long, global = true, help_heading = "Global options")]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon of this node (as root)
    Daemon(daemon::Daemon),
    /// Run a command in a fresh namespace on a network; all gone when it ends
    Run(run::Run),
    /// Networks: segments with subnets and a gateway
    #[command(subcommand)]
    Network(network::Network),
    /// Network namespaces, compatible with `ip netns` (no daemon needed)
    #[command(subcommand)]
    Ns(ns::Ns),
    /// Attach a namespace to a network; prints the endpoint's name
    Attach(endpoint::Attach),
    /// Detach an endpoint: its device, addresses, ports and flows go
    Detach(endpoint::Detach),
    /// Endpoints: what is attached
    #[command(subcommand)]
    Endpoint(endpoint::Endpoint),
    /// Publish ports of an endpoint on the node's addresses
    Publish(publish::Publish),
    /// Take published ports back
    Unpublish(publish::Unpublish),
    /// List published ports
    Published(publish::List),
    /// Make what a file asks for, with the smallest change
    Apply(file::Apply),
    /// Show what `apply` would do, and which live flows that would cut
    Plan(file::Make),
    /// Remove what a file made
    Delete(file::Delete),
    /// Write what is there as a file that `apply` takes
    Export(file::Export),
    /// Floating IPs: outside addresses that are an endpoint's, one to one
    #[command(subcommand)]
    Floating(floating::Floating),
    /// Flows: tracked conversations
    #[command(subcommand)]
    Flow(flow::Flow),
    /// Mappings: which outside port an inside socket has
    #[command(subcommand)]
    Mapping(mapping::Mapping),
    /// Forwarding entries: which MAC is behind which device
    #[command(subcommand)]
    Fdb(flow::Fdb),
    /// Where a packet would go, and why: nothing is sent or changed
    Trace(trace::Trace),
    /// A packet that was dropped, as a Rust test that runs on any host
    Repro(repro::Repro),
    /// Packets passed and dropped, with the reasons
    Stats(stats::Stats),
    /// Flows that open and close, and packets that are dropped, as it happens
    Monitor(monitor::Monitor),
    /// What changes on this node, what was repaired, problems; each with by whom
    Events(events::Events),
    /// Packets of an endpoint, a network or an uplink, with what became of each
    Capture(capture::Capture),
    /// The daemon at a glance, with what is not as it should be
    Status(status::Status),
    /// What this kernel, machine and configuration offer, what is missing, and how to get it
    Doctor(doctor::Doctor),
    /// Versions of this program and of the daemon
    Version(status::Version),
    /// Print the API as an OpenAPI document (no daemon needed)
    Openapi(openapi::Openapi),
    /// Print a completion script for a shell
    Completions(status::Completions),
    /// Remove every trace of netd from this node, daemon running or not (as root)
    Cleanup(daemon::Cleanup),
}

/// What the verbs work with.
struct Context {
    client: Client,
    out: Output,
    verbose: bool,
}

impl Context {
    fn new(global: &Global) -> Self {
        let client = Client::new(&global.socket);
        let client = if global.verbose {
            client.with_trace(|line| eprintln!("netd: {line}"))
        } else {
            client
        };
        Self {
            client,
            out: Output::new(global.output),
            verbose: global.verbose,
        }
    }
}

/// What a verb ends with: a status to exit with, or what went wrong.
type Outcome = anyhow::Result<ExitCode>;

/// Runs netd with these arguments (the first is the program's name) and says how to exit.
pub fn main<I>(args: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => return error::usage(&e),
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(e) => error::report(&e),
    }
}

fn dispatch(cli: Cli) -> Outcome {
    let ctx = Context::new(&cli.global);
    let ctx = &ctx;
    match cli.verb {
        Verb::Daemon(v) => daemon::run(v, ctx),
        Verb::Run(v) => run::run(&v, ctx),
        Verb::Network(v) => wait(network::run(v, ctx)),
        Verb::Ns(v) => ns::run(v, ctx),
        Verb::Attach(v) => wait(endpoint::attach(v, ctx)),
        Verb::Detach(v) => wait(endpoint::detach(v, ctx)),
        Verb::Endpoint(v) => wait(endpoint::run(v, ctx)),
        Verb::Publish(v) => wait(publish::publish(v, ctx)),
        Verb::Unpublish(v) => wait(publish::unpublish(v, ctx)),
        Verb::Published(v) => wait(publish::list(v, ctx)),
        Verb::Apply(v) => wait(file::apply(v, ctx)),
        Verb::Plan(v) => wait(file::plan(v, ctx)),
        Verb::Delete(v) => wait(file::delete(v, ctx)),
        Verb::Export(v) => wait(file::export(v, ctx)),
        Verb::Floating(v) => wait(floating::run(v, ctx)),
        Verb::Flow(v) => wait(flow::flow(v, ctx)),
        Verb::Mapping(v) => wait(mapping::mapping(v, ctx)),
        Verb::Fdb(v) => wait(flow::fdb(v, ctx)),
        Verb::Trace(v) => wait(trace::run(v, ctx)),
        Verb::Repro(v) => wait(repro::run(v, ctx)),
        Verb::Stats(_) => wait(stats::run(ctx)),
        Verb::Monitor(v) => wait(monitor::run(v, ctx)),
        Verb::Events(v) => wait(events::run(v, ctx)),
        Verb::Capture(v) => wait(capture::run(v, ctx)),
        Verb::Status(_) => wait(status::status(ctx)),
        Verb::Doctor(v) => doctor::run(v, ctx),
        Verb::Version(_) => wait(status::version(ctx)),
        Verb::Openapi(_) => openapi::run(),
        Verb::Completions(v) => status::completions(&v, &mut Cli::command()),
        Verb::Cleanup(v) => daemon::cleanup(v, ctx),
    }
}

/// Runs one asynchronous verb to its end on this thread: the process stays single-threaded.
fn wait<T>(verb: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_by_an_example() {
        fn check(command: &clap::Command, path: &str) {
            assert!(
                command.get_about().is_some(),
                "{path} says nothing about itself"
            );
            if command.has_subcommands() {
                command
                    .get_subcommands()
                    .for_each(|c| check(c, &format!("{path} {}", c.get_name())));
            } else {
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    help.contains(path),
                    "{path} has no example of itself: {help:?}"
                );
            }
        }
        check(&Cli::command(), "netd");
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        for line in [
            &["netd", "ns", "exec", "box", "ls", "-o", "-v", "--socket"][..],
            &["netd", "run", "--", "ls", "-o", "-v", "--", "--socket"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(
                !cli.global.verbose && cli.global.output == Format::Table,
                "{line:?}"
            );
        }
        assert!(
            Cli::try_parse_from(["netd", "run", "ls"]).is_err(),
            "a command comes after --"
        );
    }

    #[test]
    fn global_options_go_before_or_after_the_verb() {
        for line in [
            ["netd", "-o", "json", "network", "ls"],
            ["netd", "network", "ls", "-o", "json"],
        ] {
            assert_eq!(
                Cli::try_parse_from(line).unwrap().global.output,
                Format::Json
            );
        }
    }
}
