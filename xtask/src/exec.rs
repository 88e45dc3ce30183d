//! Starting other programs: with which search path, in which directory, and what a failure says.

use std::{
    env,
    ffi::OsStr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A command that runs in the workspace's root and finds tools in `sbin` and cargo's bin too.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    if let Ok(path) = env::join_paths(workspace::search_path()) {
        command.env("PATH", path);
    }
    command
}

/// The cargo that runs this xtask.
pub fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The same command under a time limit that ends it with all its children. Not for terminals: it
/// gets a process group of its own, which Ctrl-C does not reach.
pub fn limited(inner: &Command, seconds: u32) -> Command {
    let mut command = command("timeout");
    command
        .arg("--kill-after=30")
        .arg(seconds.to_string())
        .arg(inner.get_program())
        .args(inner.get_args());
    for (key, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command
}

/// Runs with the terminal's own input and output.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", name(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", name(command));
    }
    Ok(())
}

/// Runs and returns standard output; on failure the error carries what it said on standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        // A backtrace of rustup's would hide what it says.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", name(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said.lines().find(|line| line.starts_with("error"));
        let last = error.or_else(|| said.lines().rfind(|line| !line.trim().is_empty()));
        bail!(
            "`{}` failed ({}): {}",
            name(command),
            output.status,
            last.unwrap_or("no output").trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it, cut to a length that fits an error line.
pub fn name(command: &Command) -> String {
    const LONGEST: usize = 100;
    let program = std::path::Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        if text.len() > LONGEST {
            text.push_str(" ..");
            break;
        }
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
