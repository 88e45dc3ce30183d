//! `netd ns add|del|ls|exec|adopt`: named network namespaces, compatible with `ip netns`.
//!
//! Done by this process itself, without a daemon; `ls` merely asks one, if it answers, for endpoints, and
//! reads veths by `net`.

mod exec;
mod list;
mod mounts;
mod name;
mod veths;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Context, Outcome};
use name::Name;

/// Verbs on namespaces.
#[derive(Debug, Subcommand)]
pub enum Ns {
    /// Make a network namespace; its loopback device is up
    #[command(
        after_help = "Example:\n  netd ns add box\n\nThe namespace is /run/netns/box, as for `ip netns`."
    )]
    Add {
        /// Name of the namespace
        name: Name,
    },
    /// Take a namespace's name away; it vanishes when nothing uses it any more
    #[command(alias = "delete", after_help = "Example:\n  netd ns del box")]
    Del {
        /// Name of the namespace
        name: Name,
    },
    /// List namespaces with their veths, and their endpoints if a daemon answers
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  netd ns ls -o json\n\n\
            A line for each veth, netd's or not. PEER IN is where its other end is: a name, (node) for the\n\
            node's own namespace, pid:N for one that only processes hold."
    )]
    Ls,
    /// Execute a command in a namespace
    Exec(Exec),
    /// Give the namespace of a process a name
    #[command(after_help = "Example:\n  netd ns adopt box pid:4711")]
    Adopt {
        /// Name to give
        name: Name,
        /// The process, as pid:N
        #[arg(value_name = "pid:N", value_parser = name::process)]
        process: u32,
    },
}

/// `netd ns exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd ns exec box ip address\n  netd ns exec box sh -c 'exit 7'; echo $?\n\n\
    The command takes this process's place, so its exit status is passed on (128 + signal in a shell\n\
    when it is killed); 127: no such command, 126: it cannot be executed. Files in /etc/netns/NAME are\n\
    bind-mounted over those in /etc. /sys stays as it is, so that /sys/fs/bpf is visible."
)]
pub struct Exec {
    /// Name of the namespace
    name: Name,
    /// The command and its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// Runs a verb on namespaces.
pub fn run(verb: Ns, ctx: &Context) -> Outcome {
    match verb {
        Ns::Add { name } => mounts::add(&name)?,
        Ns::Del { name } => mounts::remove(&name)?,
        Ns::Ls => list::run(ctx)?,
        Ns::Exec(exec) => return exec::run(&exec.name, &exec.command),
        Ns::Adopt { name, process } => mounts::adopt(&name, process)?,
    }
    Ok(ExitCode::SUCCESS)
}
