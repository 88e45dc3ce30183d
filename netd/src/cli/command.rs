//! Commands that netd executes for a person: their arguments, and what is said when they cannot run.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::unistd::execvp;

use super::error::Exit;

/// Arguments as the kernel takes them.
pub fn arguments(command: &[OsString]) -> anyhow::Result<Vec<CString>> {
    command
        .iter()
        .map(|a| CString::new(a.clone().into_vec()).context("an argument has a NUL byte"))
        .collect()
}

/// Becomes the command; says why not.
pub fn execute(command: &[CString]) -> Errno {
    match execvp(&command[0], command) {
        Ok(never) => match never {},
        Err(e) => e,
    }
}

/// The error of a command that could not be executed, with the status `env` and shells give it.
pub fn not_executed(command: &CString, why: Errno) -> Exit {
    let shown = command.to_string_lossy();
    match why {
        Errno::ENOENT => Exit {
            text: format!("cannot execute {shown:?}: no such command"),
            status: 127,
        },
        e => Exit {
            text: format!("cannot execute {shown:?}: {}", e.desc()),
            status: 126,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_run_ends_as_in_a_shell() {
        let command = arguments(&["/nonexistent/command".into()]).unwrap();
        let why = execute(&command);
        let exit = not_executed(&command[0], why);
        assert_eq!(exit.status, 127);
        assert!(exit.text.contains("/nonexistent/command"), "{}", exit.text);
        let command = arguments(&["/etc".into()]).unwrap();
        assert_eq!(not_executed(&command[0], execute(&command)).status, 126);
    }
}
