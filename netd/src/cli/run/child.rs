//! The process that becomes the command: forked, alone in a fresh network namespace, waiting on a pipe
//! until it may begin. It never outlives this process.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pipe2};

use super::signals::Blocked;
use crate::cli::command::{execute, not_executed};
use crate::cli::loopback;
use crate::cli::output::default_sigpipe;

/// The child, as its parent sees it.
pub struct Child {
    pid: Pid,
    command: CString,
    /// One byte lets it begin; closing it ends it.
    go: Option<File>,
    /// Its errors as an errno each: 0 when the namespace is ready, then end of file once executed.
    errors: File,
    /// Keeps the namespace until the endpoints are detached, however early the command ends.
    _namespace: File,
    ended: bool,
}

impl Child {
    /// Forks the child and waits until its namespace is there.
    pub fn spawn(command: &[CString], blocked: &Blocked) -> anyhow::Result<Self> {
        let (errors, error_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (go_in, go) = pipe2(OFlag::O_CLOEXEC)?;
        let parent = getpid();
        // SAFETY: this process has one thread until here (`wait` starts no others), so no lock can be
        // held by a thread the child lacks.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Child => {
                // The child must not hold the parent's ends: they tell it that the parent is gone.
                drop((errors, go));
                become_command(command, parent, blocked, go_in.into(), error_out.into())
            }
            ForkResult::Parent { child: pid } => {
                drop((error_out, go_in));
                Self::wait_ready(pid, command[0].clone(), go, errors.into())
            }
        }
    }

    fn wait_ready(
        pid: Pid,
        command: CString,
        go: OwnedFd,
        mut errors: File,
    ) -> anyhow::Result<Self> {
        let ready = match read_errno(&mut errors) {
            Some(Errno::UnknownErrno) => {
                File::open(format!("/proc/{pid}/ns/net")).map_err(Into::into)
            }
            Some(Errno::EPERM) => Err(anyhow::anyhow!(
                "cannot make a network namespace: run this as root"
            )),
            Some(e) => Err(anyhow::anyhow!(
                "cannot make a network namespace: {}",
                e.desc()
            )),
            None => Err(anyhow::anyhow!(
                "the process that makes the network namespace died"
            )),
        };
        match ready {
            Ok(namespace) => Ok(Self {
                pid,
                command,
                go: Some(go.into()),
                errors,
                _namespace: namespace,
                ended: false,
            }),
            Err(e) => {
                drop(go);
                let _ = waitpid(pid, None);
                Err(e)
            }
        }
    }

    /// Its process id.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it become the command.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        let Some(mut go) = self.go.take() else {
            bail!("the command has begun already")
        };
        go.write_all(&[1])
            .context("the process that becomes the command died")?;
        match read_errno(&mut self.errors) {
            None => Ok(()),
            Some(why) => Err(not_executed(&self.command, why).into()),
        }
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<u8>> {
        let status = exit_status(waitpid(self.pid, Some(WaitPidFlag::WNOHANG))?);
        self.ended |= status.is_some();
        Ok(status)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // ESRCH: it has just ended, which `ended` will say.
        let _ = kill(self.pid, signal);
    }

    /// Ends it if it has not ended.
    pub fn end(&mut self) {
        if !self.ended {
            self.signal(Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
            self.ended = true;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// The status to exit with when a process ended so; none: it has not ended.
fn exit_status(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => Some(code.to_le_bytes()[0]),
        WaitStatus::Signaled(_, signal, _) => Some(killed_by(signal)),
        WaitStatus::Stopped(..)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(_)
        | WaitStatus::Continued(_)
        | WaitStatus::StillAlive => None,
    }
}

/// The exit status of a process that a signal killed, as shells count.
pub const fn killed_by(signal: Signal) -> u8 {
    128 + signal as u8
}

/// In the child: makes the namespace, waits, becomes the command. On any error it says which and ends.
fn become_command(
    command: &[CString],
    parent: Pid,
    blocked: &Blocked,
    mut go: File,
    mut errors: File,
) -> ! {
    // Killed when the parent dies; if it died before this took effect, nobody waits for us.
    let _ = set_pdeathsig(Signal::SIGKILL);
    if getppid() == parent {
        let made = unshare(CloneFlags::CLONE_NEWNET).and_then(|()| loopback::up());
        write_errno(&mut errors, made.err());
        let mut begin = [0];
        if made.is_ok() && matches!(go.read(&mut begin), Ok(1)) {
            default_sigpipe();
            blocked.restore();
            write_errno(&mut errors, Some(execute(command)));
        }
    }
    // SAFETY: ends this process at once; `exit` would run the parent's exit handlers a second time.
    unsafe { libc::_exit(127) }
}

fn write_errno(to: &mut File, errno: Option<Errno>) {
    // If the parent is gone, nobody reads it.
    let _ = to.write_all(&errno.map_or(0, |e| e as i32).to_ne_bytes());
}

/// The next errno; `UnknownErrno` is 0, no error. None: the other end was closed.
fn read_errno(from: &mut File) -> Option<Errno> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes).ok()?;
    Some(Errno::from_raw(i32::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_the_command_s_or_128_and_the_signal() {
        let pid = Pid::from_raw(1);
        assert_eq!(exit_status(WaitStatus::Exited(pid, 0)), Some(0));
        assert_eq!(exit_status(WaitStatus::Exited(pid, 255)), Some(255));
        assert_eq!(
            exit_status(WaitStatus::Signaled(pid, Signal::SIGKILL, false)),
            Some(137)
        );
        assert_eq!(
            exit_status(WaitStatus::Signaled(pid, Signal::SIGTERM, true)),
            Some(143)
        );
        assert_eq!(exit_status(WaitStatus::Stopped(pid, Signal::SIGSTOP)), None);
        assert_eq!(exit_status(WaitStatus::StillAlive), None);
    }

    #[test]
    fn an_errno_goes_through_a_pipe_and_a_closed_pipe_is_none() {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (mut read, mut write) = (File::from(read), File::from(write));
        write_errno(&mut write, None);
        write_errno(&mut write, Some(Errno::ENOENT));
        drop(write);
        assert_eq!(read_errno(&mut read), Some(Errno::UnknownErrno));
        assert_eq!(read_errno(&mut read), Some(Errno::ENOENT));
        assert_eq!(read_errno(&mut read), None);
    }
}
