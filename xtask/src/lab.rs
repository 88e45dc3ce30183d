//! `cargo xtask demo|run|bench|clean`: builds, then becomes the lab binary, which does the work.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};

use crate::{build, root, setup, workspace};

/// Everything after the verb goes to the lab binary as it is.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Arguments of the lab binary; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds netd and the lab, then replaces this process by the lab: Ctrl-C and the exit status are
/// then the lab's own.
pub fn run(verb: &str, args: &Args) -> Result<()> {
    setup::lab_tools()?;
    build::netd_and_lab()?;
    let lab = workspace::release_binary("netd-lab");
    if !lab.is_file() {
        bail!(
            "{} was not built: is there a binary `netd-lab` in tests/?",
            lab.display()
        );
    }
    let error = root::command(&lab)?.arg(verb).args(&args.rest).exec();
    Err(error).with_context(|| format!("cannot start {}", lab.display()))
}
