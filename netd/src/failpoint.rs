//! Dying on purpose. Every place where netd is about to change something outside of its own memory is a
//! step, and a test may have the process killed before the nth.
//!
//! [`VARIABLE`] names a file that holds how many steps are left. Each step counts it down, and the one that
//! finds 1 there kills the process as `kill -9` does. Without the variable steps do nothing; without the
//! file, or with 0 in it, none is counted, so that a test arms a process that runs.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The environment variable with the path of the file. For tests alone.
pub const VARIABLE: &str = "NETD_FAILPOINT";

/// The file, one step at a time: several threads make them.
static FILE: OnceLock<Option<Mutex<PathBuf>>> = OnceLock::new();

/// What comes now changes something outside of the process; `what` in words, for the test.
pub fn step(what: &str) {
    let file = FILE.get_or_init(|| std::env::var_os(VARIABLE).map(|path| Mutex::new(path.into())));
    let Some(file) = file else { return };
    // A path is whole whatever happened to the thread that held it.
    let path = file.lock().unwrap_or_else(PoisonError::into_inner);
    if count_down(&path, what).is_ok_and(|last| last) {
        // SAFETY: plain system calls without pointers.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        // The signal may be on its way to another thread yet: nothing is done any more.
        std::process::abort();
    }
}

/// Counts a step; whether it is the one to die at, whose name is then in the file.
fn count_down(path: &std::path::Path, what: &str) -> std::io::Result<bool> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let left: u64 = text.trim().parse().unwrap_or(0);
    let Some(after) = left.checked_sub(1) else {
        return Ok(false);
    };
    let name = if after == 0 { what } else { "" };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{after} {name}").trim().as_bytes())?;
    Ok(after == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_is_asked_for_is_the_one_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("left");
        assert!(count_down(&path, "unarmed").is_err());
        std::fs::write(&path, "3").unwrap();
        let died: Vec<bool> = ["a", "b", "c", "d"]
            .iter()
            .map(|what| count_down(&path, what).unwrap())
            .collect();
        assert_eq!(died, [false, false, true, false]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0 c");
    }

    #[test]
    fn without_the_variable_a_step_is_nothing() {
        assert!(std::env::var_os(VARIABLE).is_none());
        step("this would be the end");
    }
}
